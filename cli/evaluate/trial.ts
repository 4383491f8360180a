/** The production part of an evaluation: probe plan, estimates, scores, allocation, snapshot, answer, on a measured matrix. */
import {
  type ClientNetworkId,
  type ClusterId,
  type Coordinates,
  epochMs,
  type MonotonicMs,
  parseAddress,
  plusMs,
  quantile,
  Random,
  type TopologyDocument,
} from "#kit";
import {
  answerAddresses,
  type ClientNetworkInput,
  MapEngine,
  noisySample,
  ProbePlanner,
  placedSites,
  TopologyIndex,
} from "#mapping";
import {
  clientNetworkIdOf,
  clientPrefix,
  clusterIdOf,
  evaluationProperty,
  linkReports,
  START,
  topologyOfSites,
} from "./deployment.ts";
import type { RttMatrix } from "./matrix.ts";

/** Pings of one probe: what one run of `ping` sends. */
export const PINGS = 5;
const PING_INTERVAL_MS = 1_000;

export interface TrialInput {
  /** Names and places of the sites; what it says of travel times is not read here. */
  readonly matrix: RttMatrix;
  readonly sites: readonly number[];
  readonly clients: readonly number[];
  /** Where the labels say that the cities are; null when the data has no places. */
  readonly labels: readonly (Coordinates | null)[] | null;
  /** Clients that nobody measures. */
  readonly unmeasured?: ReadonlySet<number>;
}

export interface MeasureOptions {
  /** Sites that each client network is measured against. */
  readonly probes: number;
  readonly seed: number;
  /** How many of the probes go to the nearest of the sites that were measured before, 0 (default): none. */
  readonly again?: number;
}

/** One deployment with its engine, which may be measured and asked again and again as time goes by. */
export class MappingTrial {
  readonly #input: TrialInput;
  readonly #topology: TopologyDocument;
  readonly #index: TopologyIndex;
  readonly #engine = new MapEngine({ epochOf: (now) => epochMs(now) });
  readonly #networks: readonly ClientNetworkInput[];
  readonly #siteOf: ReadonlyMap<ClusterId, number>;
  /** The newest round-trip times of every pair that was ever measured; Infinity: no answer. What a plan rests on. */
  readonly #known = new Map<ClientNetworkId, Map<ClusterId, number>>();
  #hasNetworks = false;

  constructor(input: TrialInput) {
    this.#input = input;
    this.#topology = topologyOfSites(
      input.matrix,
      input.sites.map((site) => [site, "edge"] as const),
    );
    this.#index = new TopologyIndex(this.#topology);
    this.#networks = input.clients.map((client) => ({
      clientNetworkId: clientNetworkIdOf(client),
      prefixes: [clientPrefix(client)],
      coordinates: input.labels?.[client] ?? null,
      demandPerSecond: 1,
    }));
    this.#siteOf = new Map(input.sites.map((site) => [clusterIdOf(site), site]));
    this.#engine.handleTopology(this.#topology, START);
  }

  /** Client networks that were sent elsewhere than in the map before, all traffic classes, summed over all maps. */
  get moves(): number {
    return this.#engine.counters.moves;
  }

  /**
   * The servers report their links, and each client network that can be is measured against `probes` sites, in rounds: each probe
   * is chosen in the light of what everyone has measured in the rounds before, as a planner of a real deployment would.
   * Returns when the last round is over.
   */
  measure(matrix: RttMatrix, options: MeasureOptions, startAt: MonotonicMs): MonotonicMs {
    const { sites, clients, unmeasured } = this.#input;
    const engine = this.#engine;
    for (const { report, at } of linkReports(matrix, sites, options.seed, startAt))
      engine.handleReport(report, at);
    const networks = this.#networks.filter((_, n) => unmeasured?.has(clients[n] as number) !== true);
    const noise = new Random(options.seed).split("pings");
    const clusterIds = sites.map(clusterIdOf);
    const siteRttMs = (a: ClusterId, b: ClusterId): number | undefined =>
      a === b ? 0 : engine.links.measured(a, b, null, startAt)?.rttMs;
    const probeSites = placedSites(
      sites.map((site) => ({
        clusterId: clusterIdOf(site),
        coordinates: this.#input.matrix.coordinates?.[site] ?? null,
      })),
      siteRttMs,
      [],
    );
    const again = this.#again(options.again ?? 0);
    const isAll = options.probes >= sites.length;
    let now = startAt;
    for (let round = 0; round < options.probes; round++) {
      const peers = networks.map(({ clientNetworkId, coordinates }) => ({
        id: clientNetworkId,
        coordinates,
        rttMs: new Map(this.#known.get(clientNetworkId)),
      }));
      const planner = new ProbePlanner(probeSites, siteRttMs, peers);
      for (const network of networks) {
        const own = this.#known.get(network.clientNetworkId) ?? new Map<ClusterId, number>();
        this.#known.set(network.clientNetworkId, own);
        const clusterId = isAll
          ? clusterIds[round]
          : (again.get(network.clientNetworkId)?.[round] ??
            planner.next({ id: network.clientNetworkId, coordinates: network.coordinates, measured: own })
              ?.clusterId);
        if (clusterId === undefined) continue;
        const trueRttMs = matrix.rttMs(
          clientIndex(network.clientNetworkId),
          this.#siteOf.get(clusterId) as number,
        );
        const answered: number[] = [];
        for (let ping = 0; ping < PINGS; ping++) {
          const rttMs = noisySample(trueRttMs, 0, noise);
          const at = plusMs(now, ping * PING_INTERVAL_MS);
          engine.handleSample({ from: network.clientNetworkId, to: clusterId, rttMs, at });
          if (rttMs !== null) answered.push(rttMs);
        }
        answered.sort((a, b) => a - b);
        own.set(clusterId, answered.length === 0 ? Infinity : quantile(answered, 0.25));
      }
      now = plusMs(now, PINGS * PING_INTERVAL_MS);
    }
    return now;
  }

  /** For each client network the sites that it is to be measured against again, the nearest by what is known first. */
  #again(count: number): Map<ClientNetworkId, ClusterId[]> {
    const nearest = (known: ReadonlyMap<ClusterId, number>): ClusterId[] =>
      [...known]
        .sort(([a, rttMs], [b, otherMs]) => rttMs - otherMs || (a < b ? -1 : 1))
        .slice(0, count)
        .map(([clusterId]) => clusterId);
    return new Map([...this.#known].map(([id, known]) => [id, nearest(known)]));
  }

  /** Makes a map of all that was measured and asks it for each client. Client -> site, as matrix indexes. */
  decide(now: MonotonicMs): Map<number, number> {
    if (!this.#hasNetworks) this.#engine.handleClientNetworks(this.#networks, now);
    this.#hasNetworks = true;
    this.#engine.handleTimeout(now);
    const event = this.#engine.pollEvent();
    if (event?.type !== "snapshot")
      throw new RangeError(
        `the engine made no map: ${event?.problems.map((problem) => problem.detail).join("; ") ?? "nothing was due"}`,
      );
    return new Map(
      this.#input.clients.map((client) => {
        const clientAddress = parseAddress(clientPrefix(client).replace("0/24", "1"));
        if (clientAddress === undefined) throw new RangeError(`client ${client} has no address`);
        const { clusterId } = answerAddresses({
          snapshot: event.snapshot,
          topology: this.#index,
          property: evaluationProperty,
          family: 4,
          clientAddress,
          sourcePrefixLength: 24,
          isUp: () => true,
        });
        return [client, this.#siteOf.get(clusterId as ClusterId) as number];
      }),
    );
  }
}

function clientIndex(clientNetworkId: ClientNetworkId): number {
  return Number(clientNetworkId.slice("client-".length));
}
