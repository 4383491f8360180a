/**
 * Who may have bytes forwarded where. A relay serves only servers of the topology that proved themselves, and reaches
 * only the exact host:port pairs of parents, world origins and property origins: it is never an open proxy.
 */
import {
  type ClusterId,
  type IpPrefix,
  type OriginTarget,
  originsOf,
  type PropertyDocument,
  type Role,
  type ServerId,
  type TopologyDocument,
} from "#kit";

import { type AddressRefusal, privateOriginsOf, refusedAddress } from "./address-guard.ts";
import { OWN_ACCOUNT, SHARED_ACCOUNT } from "./relay-accounts.ts";

/** What is spoken within TLS to a relay: CONNECT in HTTP/1.1, and nothing else. */
export const RELAY_ALPN: readonly string[] = ["isochrone-relay/1"];

/** Why a tunnel was granted or refused: log word, metric label, and the text after the status in the answer. */
export const relayReasons = [
  "granted",
  /** 403: not over TLS with a certificate of ours. */
  "not-proven",
  /** 403: of ours by its certificate, but no server of the topology or not of a role that asks for tunnels. */
  "unknown-peer",
  "role-not-served",
  /** 400 */
  "malformed-target",
  /** 403: not in the list of permitted targets. */
  "target-not-permitted",
  /** 403: a relay that asks for a relay would make a loop. */
  "target-is-relay",
  /** 503 */
  "draining",
  "too-many-tunnels",
  "too-many-tunnels-of-peer",
  /** As many as all other customers could still have: one alone never takes the last. */
  "too-many-tunnels-of-customer",
  /** 503: no topology document has been applied yet. */
  "no-topology",
] as const;
export type RelayReason = (typeof relayReasons)[number];

export type RelayDecision =
  | {
      readonly isGranted: true;
      readonly reason: "granted";
      readonly host: string;
      readonly port: number;
      /** Whose tunnel it is: a customer, or one of the names of `relay-accounts.ts`. */
      readonly account: string;
    }
  | {
      readonly isGranted: false;
      readonly reason: Exclude<RelayReason, "granted">;
      readonly status: 400 | 403 | 503;
    };

export type RelayRequest = {
  /** Who proved itself; undefined: nobody. */
  readonly peer: ServerId | undefined;
  /** The authority of the CONNECT request, as sent. */
  readonly authority: string;
  readonly isDraining: boolean;
  readonly tunnels: number;
  readonly tunnelsOfPeer: number;
  readonly tunnelsOfAccount: (account: string) => number;
};

export type RelayLimits = { readonly tunnelsMax: number; readonly tunnelsPerPeerMax: number };

/** Tunnels that a customer may have however full the relay is. */
const TUNNELS_OF_CUSTOMER_MIN = 8;

/** Roles that open tunnels. */
const servedRoles: readonly Role[] = ["edge", "parent"];

/** "host:port" or "[v6]:port" (RFC 9112 section 3.2.3); undefined for anything else. */
export function parseAuthority(authority: string): { host: string; port: number } | undefined {
  if (authority.length > 300) return undefined;
  const parts = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+)):([1-9][0-9]{0,4})$/.exec(authority.toLowerCase());
  if (!parts) return undefined;
  // Brackets hold IPv6 only (RFC 3986 section 3.2.2): one spelling for each target.
  if (parts[1] !== undefined && !parts[1].includes(":")) return undefined;
  const host = parts[1] ?? parts[2] ?? "";
  const port = Number(parts[3]);
  return port > 65_535 ? undefined : { host, port };
}

/** The one spelling of a target, as `parseAuthority` reads it. */
export function formatAuthority(host: string, port: number): string {
  const name = host.toLowerCase();
  return name.includes(":") ? `[${name}]:${port}` : `${name}:${port}`;
}

export class RelayPolicy {
  readonly #limits: RelayLimits;
  #peers: ReadonlyMap<ServerId, { role: Role; clusterId: ClusterId }> | undefined;
  #fromTopology: ReadonlySet<string> = new Set();
  #relays: ReadonlySet<string> = new Set();
  /** Every server of ours. */
  #own: ReadonlySet<string> = new Set();
  #privateAllowed: readonly IpPrefix[] = [];
  readonly #ofProperty = new Map<
    string,
    { readonly customerId: string; readonly targets: readonly string[] }
  >();
  /** Target -> customer -> number of times that its documents name it. */
  readonly #fromProperties = new Map<string, Map<string, number>>();

  constructor(limits: RelayLimits) {
    this.#limits = limits;
  }

  /** Parents and world origins become permitted; every server becomes known. */
  setTopology(topology: TopologyDocument): void {
    const peers = new Map<ServerId, { role: Role; clusterId: ClusterId }>();
    const targets = new Set<string>();
    const relays = new Set<string>();
    const own = new Set<string>();
    for (const { role, clusterId, servers } of topology.clusters) {
      for (const { serverId, address, port } of servers) {
        peers.set(serverId, { role, clusterId });
        const authority = formatAuthority(address, port);
        own.add(authority);
        if (role === "parent" || role === "origin") targets.add(authority);
        if (role === "relay") relays.add(authority);
      }
    }
    this.#peers = peers;
    this.#fromTopology = targets;
    this.#relays = relays;
    this.#own = own;
    this.#privateAllowed = privateOriginsOf(topology);
  }

  /** Whether a server may have tunnels at all. */
  serves(serverId: ServerId): boolean {
    const peer = this.#peers?.get(serverId);
    return peer !== undefined && servedRoles.includes(peer.role);
  }

  /** The origins of a property become permitted in place of those of its earlier version; inactive: none. */
  setProperty(propertyId: string, property: PropertyDocument | undefined): void {
    const before = this.#ofProperty.get(propertyId);
    for (const target of before?.targets ?? []) this.#count(target, before?.customerId ?? "", -1);
    this.#ofProperty.delete(propertyId);
    if (property === undefined || !property.isActive) return;
    const { customerId } = property;
    const targets = originsOf(property).map((origin: OriginTarget) =>
      formatAuthority(origin.host, origin.port),
    );
    for (const target of targets) this.#count(target, customerId, 1);
    this.#ofProperty.set(propertyId, { customerId, targets });
  }

  #count(target: string, customerId: string, change: 1 | -1): void {
    const customers = this.#fromProperties.get(target) ?? new Map<string, number>();
    const count = (customers.get(customerId) ?? 0) + change;
    if (count > 0) customers.set(customerId, count);
    else customers.delete(customerId);
    if (customers.size > 0) this.#fromProperties.set(target, customers);
    else this.#fromProperties.delete(target);
  }

  #accountOf(authority: string): string {
    const customers = this.#fromProperties.get(authority);
    const [only] = customers?.keys() ?? [];
    return only === undefined ? OWN_ACCOUNT : customers?.size === 1 ? only : SHARED_ACCOUNT;
  }

  /** The cheapest refusals first; nothing about targets is told to who has not proven itself. */
  decide(request: RelayRequest): RelayDecision {
    if (request.peer === undefined) return refuse("not-proven", 403);
    if (this.#peers === undefined) return refuse("no-topology", 503);
    const peer = this.#peers.get(request.peer);
    if (peer === undefined) return refuse("unknown-peer", 403);
    if (!servedRoles.includes(peer.role)) return refuse("role-not-served", 403);
    if (request.isDraining) return refuse("draining", 503);
    const target = parseAuthority(request.authority);
    if (target === undefined) return refuse("malformed-target", 400);
    const authority = formatAuthority(target.host, target.port);
    // A property whose origin is an edge or a name server of ours would reach its admin surface from within.
    if (this.isUnlistedServer(target.host, target.port) && !this.#relays.has(authority))
      return refuse("target-not-permitted", 403);
    if (this.#relays.has(authority)) return refuse("target-is-relay", 403);
    if (!this.#fromTopology.has(authority) && !this.#fromProperties.has(authority))
      return refuse("target-not-permitted", 403);
    if (request.tunnels >= this.#limits.tunnelsMax) return refuse("too-many-tunnels", 503);
    if (request.tunnelsOfPeer >= this.#limits.tunnelsPerPeerMax)
      return refuse("too-many-tunnels-of-peer", 503);
    const account = this.#accountOf(authority);
    // Dynamic thresholds (Choudhury and Hahne, 1998): who has as much as is left gets no more, so that there is always room.
    const left = Math.max(TUNNELS_OF_CUSTOMER_MIN, this.#limits.tunnelsMax - request.tunnels);
    if (account !== OWN_ACCOUNT && request.tunnelsOfAccount(account) >= left)
      return refuse("too-many-tunnels-of-customer", 503);
    return { isGranted: true, reason: "granted", host: target.host, port: target.port, account };
  }

  /** Why an address that a permitted target leads to may not be connected to; undefined: it may. */
  refusedAddress(address: string, port: number, isNamed: boolean): AddressRefusal | undefined {
    const isOwn = this.isUnlistedServer(address, port);
    // A name is a customer's word, whatever it leads to.
    const isOperators = !isNamed && this.#fromTopology.has(formatAuthority(address, port));
    return refusedAddress({ address, isNamed, isOwn, isOperators, privateAllowed: this.#privateAllowed });
  }

  /** Whether a server of ours listens there that no tunnel may reach. */
  isUnlistedServer(address: string, port: number): boolean {
    const authority = formatAuthority(address, port);
    return this.#own.has(authority) && !this.#fromTopology.has(authority);
  }

  /** Host:port pairs, those of the topology and those of properties counted apart. */
  get permittedTargets(): number {
    return this.#fromTopology.size + this.#fromProperties.size;
  }
}

function refuse(reason: Exclude<RelayReason, "granted">, status: 400 | 403 | 503): RelayDecision {
  return { isGranted: false, reason, status };
}
