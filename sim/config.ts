/**
 * Settings of the simulated drivers. Where a production driver has the same setting it stands in that room's `config.ts`; the
 * values are repeated here so that a simulation loads no driver, and `test/unit/sim/config.test.ts` holds them equal.
 */
import type { LivenessSettings } from "#kit";

export interface SimSettings {
  /** Name servers' probes of edges (mapping/io/dns-liveness.ts). */
  readonly nameServerLiveness: LivenessSettings;
  /** Mapper's probes of edges, parents and relays. */
  readonly mapperLiveness: LivenessSettings;
  /** Edges' and parents' probes of servers in their own cluster. */
  readonly peerLiveness: LivenessSettings;
  /** Transport's probes of parents and relays (transport/config.ts). */
  readonly upstreamLiveness: LivenessSettings;
  /** Requests of transport: tries, and limits of each, ms (transport/config.ts). */
  readonly attemptsMax: number;
  readonly connectTimeoutMs: number;
  readonly headersTimeoutMs: number;
  /** From one request to the next a connection stays warm for so long, ms. */
  readonly keepAliveMs: number;
  /** Silence after which an attempt on a path that failed is given up, ms (transport/io/target.ts). */
  readonly pathSilenceMs: number;
  /** Servers of one parent cluster, and parent clusters, that are asked before the origin (edge/config.ts). */
  readonly serversPerParentMax: number;
  readonly parentClustersMax: number;
  /** Control's stream: heartbeat, and the silence that ends it, ms (control/io/watch.ts). */
  readonly heartbeatMs: number;
  readonly watchSilenceMs: number;
  /** Reports of servers, ms. */
  readonly reportMs: number;
  /** A plan of probes this often, ms, and what agents are told to measure in all. */
  readonly feedMs: number;
  readonly probesPerMinute: number;
  /** Clients: until connected; until the answer; resolver's wait for a name server; slow from here; ms. */
  readonly clientConnectMs: number;
  readonly clientResponseMs: number;
  readonly resolverTimeoutMs: number;
  readonly slowFromMs: number;
  /** Requests a second in all, shared out by the demand of the client networks. */
  readonly requestsPerSecond: number;
  /** Different objects of a property. */
  readonly objectsPerProperty: number;
  /** When the first user comes, ms. */
  readonly usersFromMs: number;
  /** No fault before; from the end of the last fault until everything must have converged; ms. */
  readonly warmUpMs: number;
  readonly convergeMs: number;
}

const probes = { intervalMs: 500, timeoutMs: 1_000, downThreshold: 2, okThreshold: 2, jitterRatio: 0.1 };

export const simDefaults: SimSettings = {
  nameServerLiveness: probes,
  mapperLiveness: probes,
  peerLiveness: probes,
  upstreamLiveness: {
    intervalMs: 1_000,
    timeoutMs: 1_000,
    downThreshold: 2,
    okThreshold: 2,
    jitterRatio: 0.1,
  },
  attemptsMax: 3,
  connectTimeoutMs: 5_000,
  headersTimeoutMs: 30_000,
  keepAliveMs: 300_000,
  pathSilenceMs: 400,
  serversPerParentMax: 2,
  parentClustersMax: 2,
  heartbeatMs: 1_000,
  watchSilenceMs: 3_000,
  reportMs: 1_000,
  feedMs: 2_000,
  probesPerMinute: 1_200,
  clientConnectMs: 1_000,
  clientResponseMs: 5_000,
  resolverTimeoutMs: 1_000,
  slowFromMs: 2_000,
  requestsPerSecond: 40,
  objectsPerProperty: 12,
  usersFromMs: 5_000,
  warmUpMs: 15_000,
  convergeMs: 60_000,
};
