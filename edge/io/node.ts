/** A node of a deployment, in one process. */
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import type { Role, ServerId } from "#kit";
import { type Logger, systemClock } from "#kit/io";
import { peerKeyFromEnvironment } from "#transport";
import type { EdgeSettings } from "../config.ts";
import { diskOf } from "./disk-shards.ts";
import { bindListeners, type EdgeSockets } from "./listening.ts";
import { EdgeMetrics, registerPolicyTests } from "./metrics.ts";
import { NodeControl } from "./node-control.ts";
import { NodeServing, type NodeTls } from "./node-serving.ts";
import { clusterOf } from "../core/tiers.ts";
import type { RunningServer } from "./primary.ts";

export interface NodeOptions {
  readonly host: string;
  readonly port: number;
  readonly serverId: ServerId;
  readonly controlUrl: string;
  readonly stateDirectory: string;
  /** Of the disk store; undefined: memory alone. */
  readonly diskDirectory: string | undefined;
  readonly settings: EdgeSettings;
  readonly logger: Logger;
  /** Where TLS is spoken too; undefined: nowhere. */
  readonly tls?: NodeTls | undefined;
  /** Of a predecessor, listened on when everything is ready to serve; undefined: they are bound to host and port at once. */
  readonly sockets?: EdgeSockets | undefined;
  /** False while a predecessor still holds the disk store. */
  readonly mayOpenDisk: boolean;
  /** Resolves when the process should end, also while it still waits for its documents. */
  readonly stop: Promise<void>;
}

export interface RunningNode extends RunningServer {
  readonly role: Role;
}

/** What a node needs from its environment. Throws IsochroneError. */
export function nodeSecrets(): { readonly token: string; readonly peerKey: Buffer } {
  return { token: process.env["ISOCHRONE_CONTROL_TOKEN"] ?? "", peerKey: peerKeyFromEnvironment() };
}

export function hostsOfSelf(host: string, port: number): ReadonlySet<string> {
  return new Set([`${host}:${port}`, ...(port === 80 ? [host] : [])]);
}

export function controlOf(
  options: Pick<NodeOptions, "serverId" | "controlUrl" | "stateDirectory" | "settings" | "tls" | "logger">,
  { token, peerKey }: ReturnType<typeof nodeSecrets>,
): NodeControl {
  const { serverId, controlUrl, stateDirectory, settings, tls, logger } = options;
  return new NodeControl({
    serverId,
    controlUrl,
    token,
    peerKey,
    stateDirectory,
    incarnation: randomUUID(),
    takesCertificates: tls !== undefined,
    scriptsDirectory: settings.testScripts,
    clock: systemClock,
    logger,
  });
}

/** Starts a node; resolves when it serves, or with undefined when it was told to end before it had a topology. */
export async function startNode(options: NodeOptions): Promise<RunningNode | undefined> {
  const { serverId, logger, settings, stop } = options;
  const { token, peerKey } = nodeSecrets();
  const control = controlOf(options, { token, peerKey });
  const metrics = new EdgeMetrics();
  registerPolicyTests(metrics.registry, () => control.testCounters);
  const disk = diskOf({
    directory: options.diskDirectory,
    shards: undefined,
    bytesMax: settings.diskBytes,
    logger,
  });
  const selves = new Set(hostsOfSelf(options.host, options.port));
  const serving: NodeServing = new NodeServing({
    serverId,
    settings,
    peerKey,
    token,
    metrics,
    accessLog: join(options.stateDirectory, "access.ndjson"),
    disk,
    siblings: undefined,
    hostsOfSelf: selves,
    about: {
      notReady: () => (control.state === "ready" ? undefined : control.state),
      metrics: () => metrics.registry.metrics(),
      report: () => control.report(),
      faultOf: (requestId) => serving.diagnosis.faultOf(requestId),
    },
    logger,
  });
  const { server } = serving;
  const given = options.sockets;
  const port = given === undefined ? await server.listen(options.host, options.port) : options.port;
  for (const self of hostsOfSelf(options.host, port)) selves.add(self);
  // Before there is a certificate by which a link could be opened, which is told of it once.
  await server.openLinkUdp(options.host, port);
  const tls = options.tls && (await serving.serveTls(options.tls, given && []));
  const topology = await control.start(stop);
  if (topology === undefined) {
    await serving.drain(0);
    await control.close();
    return undefined;
  }
  // A successor that could not use the disk must say so while its predecessor can still go on.
  disk?.prepare();
  if (options.mayOpenDisk) await disk?.open();
  const edge = serving.begin(topology);
  edge.purges.distrust(systemClock.epoch());
  serving.restore(control.documents);
  const { purger } = serving;
  await control.serve(
    {
      document: (document) => serving.document(document),
      purge: (entry) => purger.apply(entry),
      replay: (entry) => purger.replay(entry),
      lose: (upTo) => purger.lose(upTo),
      forget: async () => await purger.forget(),
      trust: () => edge.purges.trust(),
      figures: () => serving.figures,
    },
    stop,
  );
  control.startReports();
  control.state = "ready";
  for (const socket of given?.main ?? []) await server.listenOn(socket);
  const tlsSockets =
    tls && given && (given.tls ?? (await bindListeners(options.tls?.host ?? "", options.tls?.port ?? 0, 1)));
  for (const socket of tlsSockets ?? []) await tls?.front.listenOn(socket);
  return {
    port,
    tlsPort: tls?.port,
    adminPort: undefined,
    role: clusterOf(topology, serverId)?.role ?? "edge",
    get sockets() {
      return { main: server.sockets, admin: undefined, tls: tls?.front.sockets };
    },
    openDisk: async () => await disk?.open(),
    closeDisk: async () => await disk?.close(),
    invalidate: async (keys) => edge.invalidate(keys),
    onInvalidated: (tell) => {
      edge.onInvalidated = tell;
    },
    stop: async (idleMs = 0) => {
      await control.leave(idleMs > 0);
      await serving.drain(idleMs);
      await control.close();
      await serving.close();
    },
  };
}
