/** Who answers for a host, and whom to ask next. Two kinds: alone (one origin), and a node of a deployment. */
import type { FieldEdits, OriginAuth, OriginTarget, PropertyDocument, PropertyId, ServerId } from "#kit";
import type { TransportTarget } from "#transport";
import type { CacheKey } from "../core/cache-key.ts";
import type { Field, Fields } from "../core/headers.ts";
import type { RequestHead } from "../core/messages.ts";
import type { HopFields } from "../core/tiers.ts";

/** What the handler needs of a property. */
export type PropertyView = Pick<
  PropertyDocument,
  "caching" | "rules" | "prefetch" | "tiering" | "compression" | "access" | "beacon" | "originAuth"
> & {
  readonly propertyId: PropertyId | undefined;
  readonly hostnames: readonly string[];
};

/** One server that may be asked, with what it must be told. */
export interface Hop {
  readonly kind: "owner" | "parent" | "origin";
  readonly target: TransportTarget;
  /** For logs and records: a server id, or "origin". */
  readonly name: string;
  /** Host to state; the origin's own setting, else what was requested. */
  readonly host: string;
  /** What a server of ours is told, as it hears it. */
  readonly told?: HopFields;
  /** Told of each request that goes there (1) and that has ended (-1). */
  readonly handleLoad?: (change: 1 | -1) => void;
  /** What a rule has it asked for in another way; only of origins: servers of ours see the request as it came. */
  readonly edits?: OriginEdits;
  /** Keys that requests to it are signed with; only of origins. */
  readonly auth?: OriginAuth;
}

/** The fields that tell a server of ours on whose behalf it is asked. */
export function toldFields({ told }: Hop): Fields {
  if (told === undefined) return [];
  const tier: Field[] = told.tier === undefined ? [] : [["Isochrone-Tier", String(told.tier)]];
  const codings = (told.codings ?? []).map(([name, value]): Field => [`Isochrone-${name}`, value]);
  return told.isOwner ? [...tier, ["Isochrone-Owner", "1"], ...codings] : tier;
}

/** The servers of ours among them. */
export function serversOf(hops: readonly Hop[]): readonly ServerId[] {
  return hops.flatMap(({ target }) => (target.kind === "server" ? [target.serverId] : []));
}

/**
 * Whether who asks would wait for itself, by waiting for what may come from `servers`: while the maps of two servers differ they
 * may ask each other.
 */
export function isCircle(asker: ServerId | undefined, servers: readonly ServerId[]): boolean {
  return asker !== undefined && servers.includes(asker);
}

export interface OriginEdits {
  readonly target: string;
  readonly fields: FieldEdits | undefined;
}

export interface Routing {
  /** Grows with every change of what `propertyOf` would answer. */
  readonly propertyVersion: number;
  /** The property of a host (with or without port); undefined: not ours. `keyHost` is the host that cache keys name. */
  propertyOf(host: string): { readonly property: PropertyView; readonly keyHost: string } | undefined;
  /** Whom to ask, best first; never empty for a property with an origin. */
  hopsFor(
    property: PropertyView,
    key: CacheKey,
    keyHost: string,
    hop: HopFields,
    isBypass: boolean,
  ): readonly Hop[];
  /** The group that servers of a property or of one of its rules make; undefined: none. */
  groupOf(origins: readonly OriginTarget[]): string | undefined;
  /** Whether this server stores the key; others forward to the owner. */
  isOwner(key: CacheKey, hop: HopFields): boolean;
  /** The server that answers for the key now; undefined alone. */
  ownerOf(key: CacheKey): ServerId | undefined;
}

/** A cache in front of one origin: any host, no tiers, the origin's own words. */
export class AloneRouting implements Routing {
  readonly propertyVersion = 0;
  readonly #origin: OriginTarget;
  readonly #property: PropertyView;

  constructor(origin: OriginTarget, policies: Pick<PropertyView, "caching" | "compression" | "prefetch">) {
    this.#origin = origin;
    this.#property = {
      propertyId: undefined,
      hostnames: [],
      rules: [],
      tiering: "direct",
      ...policies,
    };
  }

  propertyOf(host: string): { readonly property: PropertyView; readonly keyHost: string } {
    return { property: this.#property, keyHost: host };
  }

  hopsFor(_property: PropertyView, _key: CacheKey, keyHost: string): readonly Hop[] {
    return originHops([this.#origin], keyHost, undefined, undefined);
  }

  groupOf(): undefined {
    return undefined;
  }

  isOwner(): boolean {
    return true;
  }

  ownerOf(): undefined {
    return undefined;
  }
}

/** `group`: whose servers they are, of which one is chosen when a request goes to them; undefined: they are asked in their order. */
export function originHops(
  origins: readonly OriginTarget[],
  keyHost: string,
  group: string | undefined,
  auth: OriginAuth | undefined,
): readonly Hop[] {
  return origins.map((origin, index) => ({
    kind: "origin",
    target: { kind: "origin", origin, ...(group !== undefined && { at: { group, index } }) },
    name: "origin",
    host: origin.hostHeader ?? keyHost,
    ...(auth !== undefined && { auth }),
  }));
}

/** The group whose servers the hop is one of. */
export function groupOf({ target }: Hop): string | undefined {
  return target.kind === "origin" ? target.at?.group : undefined;
}

/** The target of a request with the host that keys name. */
export function withKeyHost(head: RequestHead, keyHost: string): RequestHead {
  return head.host === keyHost ? head : { ...head, host: keyHost };
}
