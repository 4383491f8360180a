/** A node of several processes: the primary speaks with control, its workers serve. */
import { join } from "node:path";
import Registry from "prom-client/lib/registry.js";
import {
  BARRED_ORIGINS_MAX,
  type BarredOrigin,
  type CertificateDocument,
  type PropertyCounters,
  type ServerId,
} from "#kit";
import { type Logger, systemClock } from "#kit/io";
import { diskOf } from "./disk-shards.ts";
import type { RunningEdge } from "./alone.ts";
import { controlOf, hostsOfSelf, type NodeOptions, nodeSecrets, type RunningNode } from "./node.ts";
import type { KnownState, NodeFigures } from "./node-control.ts";
import { NodeServing, type NodeTls } from "./node-serving.ts";
import { clusterOf } from "../core/tiers.ts";
import { startPrimary } from "./primary.ts";
import { registerPolicyTests } from "./metrics.ts";
import { applyCertificateDocument } from "./tls/certificate-documents.ts";
import { CertificateStore } from "./tls/certificate-store.ts";
import type { WorkerParts } from "./worker.ts";
import type { Workers } from "./workers.ts";

/** Starts a node of `count` workers; resolves as `startNode` does. */
export async function startNodeWorkers(
  options: NodeOptions & { readonly count: number; readonly runDirectory: string },
): Promise<RunningNode | undefined> {
  const { serverId, logger, settings, stop, tls } = options;
  const { token, peerKey } = nodeSecrets();
  const control = controlOf(options, { token, peerKey });
  const topology = await control.start(stop);
  if (topology === undefined) {
    await control.close();
    return undefined;
  }
  let workers: Workers | undefined;
  const certificates = new CertificateStore("id");
  const totals = new Totals();
  const own = new Registry();
  registerPolicyTests(own, () => control.testCounters);
  await control.serve(
    {
      document: (document) => {
        // One that does not fit is refused here, once, before any worker hears of it.
        if (document.kind === "certificate")
          applyCertificateDocument(
            document.body as CertificateDocument,
            certificates,
            peerKey,
            systemClock.epoch(),
            logger,
          );
        void workers?.callAll("document", document);
      },
      purge: async (entry) => {
        const counts = await workers?.callAll("purge", entry);
        return counts?.reduce((sum, count) => sum + count, 0) ?? 0;
      },
      // Each worker is told what the journal holds when it comes up.
      replay: () => {},
      lose: async (upTo) => void (await workers?.callAll("lose", upTo)),
      forget: async () => void (await workers?.callAll("forget", undefined)),
      trust: async () => void (await workers?.callAll("trust", undefined)),
      figures: async () => totals.sum((await workers?.askAll("figures", undefined)) ?? []),
    },
    stop,
  );
  const running = await startPrimary({
    host: options.host,
    port: options.port,
    count: options.count,
    admin: undefined,
    runDirectory: options.runDirectory,
    settings,
    logger,
    sockets: options.sockets,
    mayOpenDisk: options.mayOpenDisk,
    tls: tls && { ...tls, ticketSecret: new Uint8Array() },
    onMade: (made) => {
      workers = made;
    },
    onFork: (channel) => {
      channel.answer("known", () => control.known());
      channel.answer("report", async () => await control.report());
      channel.answer(
        "serverMetrics",
        async () => `${(await workers?.metrics()) ?? ""}${await own.metrics()}`,
      );
      channel.answer("faultOf", async (requestId) => {
        const found = await workers?.askAll("faultOf", requestId);
        return found?.find(({ result }) => result !== null)?.result ?? null;
      });
    },
    onUp: async (worker) => {
      await worker.call("catchUp", control.known());
    },
  }).catch(async (error: unknown) => {
    await control.close();
    throw error;
  });
  control.startReports();
  control.state = "ready";
  return {
    ...running,
    get sockets() {
      return running.sockets;
    },
    role: clusterOf(topology, serverId)?.role ?? "edge",
    stop: async (idleMs = 0) => {
      await control.leave(idleMs > 0);
      await running.stop(idleMs);
      await control.close();
    },
  };
}

/** The counters of workers that have died stay in the sum, or the server's would go back. */
class Totals {
  readonly #last = new Map<string, NodeFigures>();
  #requests = 0;
  readonly #properties = new Map<string, PropertyCounters>();

  sum(all: readonly { readonly incarnation: string; readonly result: NodeFigures }[]): NodeFigures {
    const living = new Set(all.map(({ incarnation }) => incarnation));
    for (const [incarnation, last] of this.#last) {
      if (living.has(incarnation)) continue;
      // One that was only late is added anew when it is heard again.
      this.#last.delete(incarnation);
      this.#requests += last.requests;
      add(this.#properties, last.properties);
    }
    const properties = new Map(this.#properties);
    let [requests, activeRequests, cacheBytes, cacheObjects] = [this.#requests, 0, 0, 0];
    for (const { incarnation, result } of all) {
      this.#last.set(incarnation, result);
      requests += result.requests;
      activeRequests += result.activeRequests;
      cacheBytes += result.cacheBytes;
      cacheObjects += result.cacheObjects;
      add(properties, result.properties);
    }
    return {
      requests,
      activeRequests,
      cacheBytes,
      cacheObjects,
      properties: Object.fromEntries(properties),
      // Each worker measures for itself; one speaks for the server.
      links: all[0]?.result.links ?? [],
      originsBarred: unionOf(all.map(({ result }) => result.originsBarred)),
      timings: all.flatMap(({ result }) => result.timings),
      namesUsed: all.flatMap(({ result }) => result.namesUsed),
    };
  }
}

/** Each worker asks origins for itself: what one of them does not ask is told once. */
function unionOf(lists: readonly (readonly BarredOrigin[])[]): readonly BarredOrigin[] {
  const byName = new Map(
    lists.flat().map((one) => [`${one.origin} ${one.server} ${one.reason}`, one] as const),
  );
  return [...byName.values()].slice(0, BARRED_ORIGINS_MAX);
}

function add(to: Map<string, PropertyCounters>, more: Readonly<Record<string, PropertyCounters>>): void {
  for (const [id, one] of Object.entries(more)) {
    const before = to.get(id);
    to.set(
      id,
      before === undefined
        ? one
        : {
            requests: before.requests + one.requests,
            hits: before.hits + one.hits,
            bytesDown: before.bytesDown + one.bytesDown,
            bytesUp: before.bytesUp + one.bytesUp,
            errors5xx: before.errors5xx + one.errors5xx,
          },
    );
  }
}

/** What a worker of a node is started with, beside what every worker is. */
export interface NodeWorkerOptions {
  readonly host: string;
  readonly port: number;
  readonly serverId: ServerId;
  readonly stateDirectory: string;
  readonly diskDirectory: string | undefined;
  readonly number: number;
  readonly tls: NodeTls | undefined;
  readonly logger: Logger;
}

/** Makes the part of a node that one worker is: with all documents and purges that the primary knows. */
export async function startNodeWorker(
  options: NodeWorkerOptions,
  parts: WorkerParts,
): Promise<Pick<RunningEdge, "fronts" | "edge" | "openDisk" | "closeDisk" | "drain" | "close" | "reload">> {
  const { serverId, logger, tls } = options;
  const { settings, metrics, channel } = parts;
  const { token, peerKey } = nodeSecrets();
  const disk = diskOf({
    directory: options.diskDirectory,
    shards: parts.shards,
    bytesMax: settings.diskBytes,
    logger,
  });
  const serving: NodeServing = new NodeServing({
    serverId,
    settings,
    peerKey,
    token,
    metrics,
    accessLog: join(options.stateDirectory, `access.ndjson.worker-${options.number}`),
    disk,
    siblings: parts.siblings,
    hostsOfSelf: hostsOfSelf(options.host, options.port),
    about: {
      notReady: () => undefined,
      metrics: async () => await channel.call("serverMetrics", undefined),
      report: async () => await channel.call("report", undefined),
      faultOf: async (requestId) => (await channel.call("faultOf", requestId)) ?? undefined,
    },
    logger,
  });
  if (tls !== undefined) await serving.serveTls(tls, []);
  await serving.server.openLinkUdp(options.host, options.port);
  const known = await channel.call("known", undefined);
  const topology = known.documents.find(({ kind }) => kind === "topology");
  if (topology === undefined) throw new Error("The primary knows no topology");
  disk?.prepare();
  if (parts.mayOpenDisk) await disk?.open();
  const edge = serving.begin(topology.body as Parameters<NodeServing["begin"]>[0]);
  const { purger } = serving;
  let logId = known.logId;
  const apply = async (state: KnownState): Promise<void> => {
    serving.restore(state.documents);
    // Stored under other numbers, or by nobody knows what.
    if (state.logId === null || state.logId !== logId) await purger.forget();
    logId = state.logId;
    if (state.floor > 0) purger.lose(state.floor);
    for (const entry of state.entries) purger.replay(entry);
    if (state.distrustBefore === null) edge.purges.trust();
    else edge.purges.distrust(state.distrustBefore);
  };
  await apply(known);
  let applying: Promise<unknown> = Promise.resolve();
  /** One after the other: a newer purge in force would hide the older ones that catching up still brings. */
  const inOrder = async <T>(apply: () => T | Promise<T>): Promise<T> => {
    const applied = applying.then(apply);
    applying = applied.catch(() => {});
    return await applied;
  };
  channel.answer("catchUp", async (state) => {
    await inOrder(async () => await apply(state));
    return undefined;
  });
  channel.answer("document", async (document) => {
    await inOrder(() => serving.document(document));
    return undefined;
  });
  channel.answer("purge", async (entry) => await inOrder(() => purger.apply(entry)));
  channel.answer("lose", async (upTo) => {
    await inOrder(() => purger.lose(upTo));
    return undefined;
  });
  channel.answer("forget", async () => {
    await inOrder(async () => await purger.forget());
    return undefined;
  });
  channel.answer("trust", async () => {
    await inOrder(() => edge.purges.trust());
    return undefined;
  });
  channel.answer("figures", () => serving.figures);
  channel.answer("faultOf", (requestId) => serving.diagnosis.faultOf(requestId) ?? null);
  return {
    fronts: { main: serving.server, tls: serving.tls?.front },
    edge,
    openDisk: async () => await disk?.open(),
    closeDisk: async () => await disk?.close(),
    drain: async (idleMs) => await serving.drain(idleMs),
    close: async () => await serving.close(),
    reload: undefined,
  };
}
