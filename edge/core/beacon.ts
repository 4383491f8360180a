/**
 * Real-user timings: which servers a browser is asked to time, what it may answer, and how much of it counts. Nothing that it
 * says is trusted: the client's address is that of its connection, a timing may only be of a server that it was asked
 * to time, values are bounded, and no address or network can say much in an hour.
 */
import {
  array,
  type ClusterId,
  formatAddress,
  id,
  type IpAddress,
  type MonotonicMs,
  number,
  object,
  oneOf,
  type Parsed,
  string,
} from "#kit";

/** On every host of a property with a beacon: GET tells whom to time, POST takes the timings. */
export const BEACON_PATH = "/.isochrone/beacon";
/** On every server's own address: what is timed. */
export const BEACON_PROBE_PATH = "/.isochrone/beacon/probe";

/** Clusters that one page times: the user's own, two runners-up, one of the others. */
export const CANDIDATES_MAX = 4;
export const REPORT_BYTES_MAX = 2_048;

const timing = object({
  clusterId: id<ClusterId>(),
  /**
   * What of a Resource Timing entry (W3C, Resource Timing, section 4) was taken: `tcp` is connectEnd - connectStart without TLS
   * (secureConnectionStart - connectStart with it), one round trip; `http` is responseStart - requestStart on an open connection.
   */
  method: oneOf(["tcp", "http"]),
  /** Browsers round to 0.1 ms and worse: 0 is a connection that was open already. */
  rttMs: number({ min: 0.1, max: 10_000, unit: "ms" }),
});

/** Body of the POST. `ticket` is what the GET gave. */
export const beaconReport = object({
  ticket: object({
    expiresAtEpochMs: number({ min: 0, max: 1e15 }),
    clusterIds: array(id<ClusterId>(), { min: 1, max: CANDIDATES_MAX, uniqueBy: (one) => one }),
    proof: string({ max: 64, pattern: /^[A-Za-z0-9_-]+$/, expected: "the proof of a ticket" }),
  }),
  timings: array(timing, {
    min: 1,
    max: 2 * CANDIDATES_MAX,
    uniqueBy: ({ clusterId, method }) => `${clusterId} ${method}`,
  }),
});
export type BeaconReport = Parsed<typeof beaconReport>;

/**
 * Whom a page times: where it is served from, the best others of the map, and one at random, so that what nobody uses is
 * measured too. Distinct.
 *
 * @param ranking best first; empty without a map
 * @param all clusters that serve users
 * @param random uniform in [0, 1)
 */
export function beaconCandidates(
  own: ClusterId | undefined,
  ranking: readonly ClusterId[],
  all: readonly ClusterId[],
  random: number,
): readonly ClusterId[] {
  const chosen = new Set<ClusterId>();
  if (own !== undefined && all.includes(own)) chosen.add(own);
  for (const one of ranking) {
    if (chosen.size >= CANDIDATES_MAX - 1) break;
    if (all.includes(one)) chosen.add(one);
  }
  const others = all.filter((one) => !chosen.has(one));
  const drawn = others[Math.floor(random * others.length)];
  if (drawn !== undefined) chosen.add(drawn);
  return [...chosen];
}

/** The network of an address, /24 or /48: what leaves this server, and what a user can change at will within. */
export function coarseAddress({ family, words }: IpAddress): string {
  const kept =
    family === 4
      ? [(words[0] as number) & 0xffff_ff00]
      : [words[0] as number, (words[1] as number) & 0xffff_0000, 0, 0];
  return formatAddress({ family, words: kept.map((word) => word >>> 0) });
}

export interface BeaconLimits {
  readonly windowMs: number;
  readonly perAddressMax: number;
  readonly perNetworkMax: number;
  /** Addresses and networks that are counted at once; beyond, what comes is refused: a flood must not empty the table. */
  readonly trackedMax: number;
}

export const beaconLimits: BeaconLimits = {
  windowMs: 3_600_000,
  perAddressMax: 6,
  perNetworkMax: 60,
  trackedMax: 20_000,
};

export const beaconVerdicts = ["taken", "address-rate", "network-rate", "table-full"] as const;
export type BeaconVerdict = (typeof beaconVerdicts)[number];

/** How many reports, or names, of an address and of its network count in an hour. Fixed windows: at most twice as much in any hour. */
export class BeaconGate {
  readonly #limits: BeaconLimits;
  #counts = new Map<string, number>();
  #until: MonotonicMs | undefined;

  constructor(limits: Partial<BeaconLimits> = {}) {
    this.#limits = { ...beaconLimits, ...limits };
  }

  /** Counts a report when it is taken. */
  handleReport(address: IpAddress, now: MonotonicMs): BeaconVerdict {
    const { windowMs, perAddressMax, perNetworkMax, trackedMax } = this.#limits;
    if (this.#until === undefined || now >= this.#until) {
      this.#counts = new Map();
      this.#until = (now + windowMs) as MonotonicMs;
    }
    const one = formatAddress(address);
    const network = `${coarseAddress(address)}/`;
    const [ofAddress, ofNetwork] = [this.#counts.get(one) ?? 0, this.#counts.get(network) ?? 0];
    if (ofAddress >= perAddressMax) return "address-rate";
    if (ofNetwork >= perNetworkMax) return "network-rate";
    if (ofAddress === 0 && this.#counts.size + 2 > trackedMax) return "table-full";
    this.#counts.set(one, ofAddress + 1);
    this.#counts.set(network, ofNetwork + 1);
    return "taken";
  }
}
