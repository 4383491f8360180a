/** The mapper's HTTP side: its metrics and, with the token, its state. */
import { type ClientNetworkId, formatAddress, parseAddress, parseDurationMs, quoteValue } from "#kit";
import { reportEstimates } from "../core/estimate-report.ts";
import { type PathSample, SampleReader } from "../core/measurements/sample.ts";
import type { ReadSummary } from "../core/measurements/tally.ts";
import { type ResolverPair, ResolverPairReader } from "../core/resolver-pairs.ts";
import { type AdminAnswer, AdminServer } from "./admin-server.ts";
import type { Mapper } from "./mapper.ts";
import { mapperMetrics } from "./mapper-metrics.ts";

export interface MapperAdminOptions {
  readonly host: string;
  /** 0: any. */
  readonly port: number;
  readonly token: string;
  readonly mapper: Mapper;
}

/** Listens and answers until it is closed. Throws IsochroneError with a line that says what to do. */
export function listenMapperAdmin(options: MapperAdminOptions): Promise<AdminServer> {
  const { host, port, token, mapper } = options;
  return AdminServer.listen({
    host,
    port,
    token,
    notReady: () => (mapper.isReady ? undefined : "no map yet"),
    registry: mapperMetrics(mapper),
    pages: {
      status: () => ({ status: 200, body: statusOf(mapper) }),
      measurements: (query) => showMeasurements(mapper, query),
      network: (query) => showNetwork(mapper, query),
      plan: (query) => showPlan(mapper, query),
      estimates: (query) => showEstimates(mapper, query),
    },
    receivers: {
      measurements: (body) => {
        const samples: PathSample[] = [];
        const reader = new SampleReader((sample) => samples.push(sample));
        return takeRecords(reader, body, () => mapper.handleSamples(samples));
      },
      reload: () =>
        mapper.reloadClientNetworks()
          ? { status: 202, body: mapper.clientNetworks }
          : {
              status: 409,
              body: { error: "no --client-networks file is given: there is nothing to read again" },
            },
      resolvers: (body) => {
        const pairs: ResolverPair[] = [];
        const reader = new ResolverPairReader((pair) => pairs.push(pair));
        return takeRecords(reader, body, () => mapper.handleResolverPairs(pairs));
      },
    },
  });
}

/** One JSON document a line; what is wrong or unknown is left out and counted, the rest is taken. */
function takeRecords(
  reader: Pick<SampleReader, "read" | "end" | "tally">,
  body: Uint8Array,
  take: () => ReadSummary,
): AdminAnswer {
  reader.read(body);
  reader.end();
  const read = reader.tally.summary();
  const taken = take();
  return {
    status: 200,
    body: {
      taken: taken.taken,
      skipped: { ...read.skipped, ...taken.skipped },
      examples: [...read.examples, ...taken.examples],
    },
  };
}

/** `?address=ADDRESS`: the client network that has it. */
function showNetwork(mapper: Mapper, query: URLSearchParams): AdminAnswer {
  const address = parseAddress(query.get("address") ?? "");
  if (address === undefined) return { status: 400, body: { error: "expected ?address=ADDRESS" } };
  const found = mapper.clientNetworkOf(address);
  if (found !== undefined) {
    const { asNumber = null, city: named = "/", routedPrefix = null, ...rest } = found;
    const [country, city] = [named.slice(0, named.indexOf("/")), named.slice(named.indexOf("/") + 1)];
    return {
      status: 200,
      body: { ...rest, asNumber, country: country || null, city: city || null, routedPrefix },
    };
  }
  return { status: 404, body: { error: `no client network has ${formatAddress(address)}` } };
}

/** `?cluster=ID`: what its probe agent is to measure. */
function showPlan(mapper: Mapper, query: URLSearchParams): AdminAnswer {
  const plan = mapper.planning.planOf(query.get("cluster") ?? "");
  if (plan !== undefined) return { status: 200, body: plan };
  return { status: 404, body: { error: "expected ?cluster=ID of an edge cluster of the topology" } };
}

/** `?network=ID`: what its scores rest on. */
function showEstimates(mapper: Mapper, query: URLSearchParams): AdminAnswer {
  const clientNetworkId = (query.get("network") ?? "") as ClientNetworkId;
  const estimates = mapper.estimatesOf(clientNetworkId);
  if (estimates !== undefined) return { status: 200, body: reportEstimates(clientNetworkId, estimates) };
  return {
    status: 404,
    body: { error: `no client network ${quoteValue(clientNetworkId)}, or no map of it yet` },
  };
}

const WEEK_MS = 604_800_000;

/** `?from=ID&to=ID&span=24h`: what is kept of a pair. */
function showMeasurements(mapper: Mapper, query: URLSearchParams): AdminAnswer {
  const [from, to, span] = [query.get("from") ?? "", query.get("to") ?? "", query.get("span") ?? "7d"];
  const spanMs = parseDurationMs(span);
  if (from === "" || to === "" || spanMs === undefined || !(spanMs >= 1_000 && spanMs <= WEEK_MS))
    return { status: 400, body: { error: "expected ?from=ID&to=ID, and span= from 1s to 7d" } };
  const found = mapper.measurementsOf(from, to, spanMs);
  if (found !== undefined) return { status: 200, body: found };
  return {
    status: 404,
    body: { error: `nothing was measured from ${quoteValue(from)} to ${quoteValue(to)} in ${span}` },
  };
}

function statusOf(mapper: Mapper): unknown {
  const { engine, publisher, store, lease, planning } = mapper;
  const { state, reason, term, seenTerm, publisherId, counters } = lease.election;
  return {
    role: "mapper",
    state: mapper.isReady ? "ready" : "starting",
    control: mapper.client.state,
    mapVersion: engine.snapshot?.mapVersion ?? null,
    reason: engine.snapshot?.reason ?? null,
    suspended: Object.keys(engine.snapshot?.suspended ?? {}),
    load: Object.fromEntries(engine.load),
    pairs: engine.estimator.size,
    links: engine.links.size,
    servers: mapper.prober.counts,
    engine: engine.counters,
    estimator: engine.estimator.counters,
    measurements: {
      series: store.seriesCount,
      pairs: store.pairCount,
      ...store.counters,
      file: {
        ...mapper.measurements.counters,
        bytes: mapper.measurements.bytes,
        unsaved: mapper.measurements.unsaved,
        problem: mapper.measurements.problem ?? null,
      },
    },
    probes: { agents: planning.agentsAlive, ...planning.schedule.settings, ...planning.schedule.counters },
    clientNetworks: mapper.clientNetworks,
    resolvers: { known: engine.resolvers.size, ...engine.resolvers.counters },
    election: { state, reason, term, seenTerm, publisherId, ...counters },
    inForce: inForceOf(mapper),
    publisher: publisher.counters,
    refused: Object.fromEntries(mapper.refusedByReason),
    samples: Object.fromEntries(mapper.samplesBySource),
    mapsOfServers: mapper.mapsOfServers(),
    solverCpuSeconds: mapper.solverCpuSeconds,
    documents: mapper.keeper.counters,
    applied: mapper.keeper.applied,
  };
}

function inForceOf({ inForce }: Mapper): unknown {
  if (inForce === undefined) return null;
  const { mapVersion, createdAtEpochMs, publication = null, reason } = inForce;
  return { mapVersion, createdAtEpochMs, publication, reason };
}
