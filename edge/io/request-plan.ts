/** What is known of a request once its property is. */
import type { CacheKey } from "../core/cache-key.ts";
import { codingFields } from "../core/compression/accept-encoding.ts";
import { hasField } from "../core/headers.ts";
import type { RequestHead } from "../core/messages.ts";
import type { RequestPolicy } from "../core/policy.ts";
import { isForBackground } from "../core/priority.ts";
import { rewriteTarget } from "../core/rules/edits.ts";
import type { RuleOutcome } from "../core/rules/rule-set.ts";
import { type Opening, openingRange } from "../core/slices.ts";
import { nominatedValues } from "../core/vary.ts";
import type { CollapseTable } from "./collapse.ts";
import type { HopFields } from "../core/tiers.ts";
import type { Inbound } from "./exchange.ts";
import type { FillRequest } from "./filler.ts";
import type { StoredObject } from "./memory-store.ts";
import { type Hop, originHops, type PropertyView, type Routing } from "./routing.ts";

export interface RequestPlan {
  readonly head: RequestHead;
  /** With what rules say of this request in place of its own. */
  readonly property: PropertyView;
  readonly keyHost: string;
  readonly policy: RequestPolicy;
  readonly key: CacheKey;
  /** Keeps one property's tags from another's. */
  readonly purgeScope: string;
  readonly rules: RuleOutcome;
}

/** Whom to ask for a request, best first, with what its rules change of that. */
export function hopsOf(
  routing: Routing,
  plan: RequestPlan,
  hop: HopFields,
  isBypass: boolean,
): readonly Hop[] {
  const { rules, head } = plan;
  const hops = routing.hopsFor(plan.property, plan.key, plan.keyHost, hop, isBypass);
  const { origins, rewrite, requestHeaders } = rules;
  if ((origins ?? rewrite ?? requestHeaders) === undefined) return hops;
  const chosen =
    origins === undefined
      ? hops
      : [
          ...hops.filter(({ kind }) => kind !== "origin"),
          ...originHops(origins, plan.keyHost, routing.groupOf(origins), plan.property.originAuth),
        ];
  const target = rewrite === undefined ? head.target : rewriteTarget(head.target, rewrite);
  return chosen.map((one) =>
    one.kind === "origin" ? { ...one, edits: { target, fields: requestHeaders } } : one,
  );
}

/** The same hops, of which the key's owner is told what codings the client takes. */
export function tellingCodings(
  hops: readonly Hop[],
  { head, peer }: Inbound,
  plan: RequestPlan,
): readonly Hop[] {
  if (peer !== undefined || !plan.property.compression.isEnabled) return hops;
  const codings = codingFields(head.fields);
  return codings.length === 0
    ? hops
    : hops.map((hop) =>
        hop.kind === "owner" && hop.told !== undefined ? { ...hop, told: { ...hop.told, codings } } : hop,
      );
}

/** Makes of a planned request what is asked of the next hop. */
export class RequestPlanner {
  readonly #routing: Routing;
  readonly #collapse: CollapseTable;
  readonly #sliceBytes: number;
  readonly #objectBytesMax: number;

  /** `sliceBytes`: length of slices here; `objectBytesMax`: of the longest object that is stored. */
  constructor(routing: Routing, collapse: CollapseTable, sliceBytes: number, objectBytesMax: number) {
    this.#routing = routing;
    this.#collapse = collapse;
    this.#sliceBytes = sliceBytes;
    this.#objectBytesMax = objectBytesMax;
  }

  /**
   * Length of slices for a request; undefined: what it asks for is not kept in slices here. Only the owner stores; what asks
   * with credentials may not be asked for by others, who would have to fetch the missing slices.
   */
  sliceBytes(plan: RequestPlan, inbound: Pick<Inbound, "hop">): number | undefined {
    return this.#routing.isOwner(plan.key, inbound.hop) &&
      !hasField(plan.head.fields, "authorization") &&
      !this.#collapse.isUnsliceable(plan.key)
      ? this.#sliceBytes
      : undefined;
  }

  /** The longest part of what is not kept in slices that is kept here as it is; undefined: none. */
  partBytesMax(plan: RequestPlan, inbound: Pick<Inbound, "hop">): number | undefined {
    return this.#routing.isOwner(plan.key, inbound.hop) && !hasField(plan.head.fields, "authorization")
      ? this.#objectBytesMax
      : undefined;
  }

  fillRequest(
    inbound: Inbound,
    plan: RequestPlan,
    stored: StoredObject | undefined,
    opening: Opening | undefined,
  ): FillRequest {
    const names = stored?.nominatedFields ?? this.#collapse.nominatedOf(plan.key);
    // A fill is a GET, whatever began it; Authorization may change what is shareable, so it never shares a fill.
    const credentials = hasField(plan.head.fields, "authorization") ? "\nauthorization" : "";
    // Who asks for another range could do nothing with this one.
    const range = opening?.kind === "asked" ? `\n${openingRange(opening)}` : "";
    return {
      head: { ...plan.head, method: "GET" },
      httpVersion: inbound.httpVersion,
      clientAddress: inbound.peer === undefined ? inbound.remoteAddress : undefined,
      requestId: inbound.requestId,
      key: plan.key,
      collapseKey: `${plan.key}${credentials}${range}\n${JSON.stringify(nominatedValues(plan.head.fields, names))}`,
      purgeScope: plan.purgeScope,
      policy: plan.policy,
      hops: hopsOf(this.#routing, plan, inbound.hop, false),
      isOwner: this.#routing.isOwner(plan.key, inbound.hop),
      isCopy: false,
      stored,
      opening,
      sliceBytes: this.sliceBytes(plan, inbound),
      isAwaited: inbound.isBackground !== true,
      isBackground: inbound.isBackground === true || isForBackground(plan.head.fields),
      sendInterim: inbound.sendInterim,
    };
  }
}
