/** Routes as BGP collectors publish them: what their readers give out, and the tables of attributes they have in common. */
import type { EpochMs, IpPrefix } from "#kit";

/** One route of one peer. */
export interface BgpRoute {
  readonly prefix: IpPrefix;
  /**
   * AS numbers from the peer to the origin, prepended ones as often as they stand there. Of AS_SETs and confederations
   * (RFC 4271 section 5.1.2, RFC 5065) there is nothing in it: they are no order of hops.
   */
  readonly asPath: readonly number[];
  /** Who originates it: the last of the path, or the members of the AS_SET that ends it; empty within the peer's own AS. */
  readonly originAs: readonly number[];
  readonly peerAs: number;
  /** Canonical text. */
  readonly peerAddress: string;
  /** RFC 7911, when the collector speaks add-path; null otherwise. */
  readonly pathId: number | null;
  /** When the table was written, or the update was seen. */
  readonly at: EpochMs;
}

/** A peer took its route back. */
export type BgpWithdrawal = Pick<BgpRoute, "prefix" | "peerAs" | "peerAddress" | "at">;

export interface BgpSink {
  route(route: BgpRoute): void;
  withdrawal?(withdrawal: BgpWithdrawal): void;
}

/**
 * `other-type`: well-formed, and not a route of unicast (state changes, multicast, VPN); `no-peer`: names a peer that no table
 * before it has; `malformed`: refused whole, with what was wrong.
 */
export type BgpSkipReason = "too-long" | "cut-off" | "other-type" | "no-peer" | "malformed";

export const AS_NUMBER_MAX = 0xffff_ffff;

/** A record that cannot be read; becomes a count and an example, never leaves the readers. */
export class BgpRecordError extends Error {
  readonly reason: BgpSkipReason;
  constructor(reason: BgpSkipReason, message: string) {
    super(message);
    this.reason = reason;
  }
}
