/** `isochrone edge --origin URL`: a caching reverse proxy with no other process and no configuration. */
import { hostname } from "node:os";
import {
  type ClusterId,
  type CompressionPolicy,
  IsochroneError,
  NO_PREFETCH,
  type OriginTarget,
  type PrefetchPolicy,
  type ServerId,
  type TopologyDocument,
  xxh64Hex,
} from "#kit";
import { AccessLog } from "#analytics";
import { type Logger, systemClock } from "#kit/io";
import { Transport } from "#transport";
import type { EdgeSettings } from "../config.ts";
import { PLAIN_POLICY } from "../core/policy.ts";
import { AccessRecorder } from "./access-recorder.ts";
import { Admin } from "./admin.ts";
import { diskOf } from "./disk-shards.ts";
import { Diagnosis } from "./diagnosis.ts";
import { Edge } from "./edge.ts";
import type { Invalidate } from "./invalidation-chain.ts";
import { bindListeners, type EdgeSockets, portOf, type SocketKind } from "./listening.ts";
import type { EdgeMetrics } from "./metrics.ts";
import { AloneRouting } from "./routing.ts";
import { EdgeServer } from "./server.ts";
import type { Siblings } from "./siblings.ts";
import type { TlsOptions, TlsPort } from "./tls/serve-tls.ts";

export interface AloneOptions {
  readonly host: string;
  readonly port: number;
  readonly origin: OriginTarget;
  readonly settings: EdgeSettings;
  readonly diskDirectory: string | undefined;
  /** Lifetime of errors (404, 410, 5xx) that state none, seconds; by default none is stored. */
  readonly negativeTtlSeconds?: number | undefined;
  /** Undefined: compression is on, and no content becomes a dictionary but what the origin marks. */
  readonly compression?: CompressionPolicy | undefined;
  /** Undefined: nothing is asked for beforehand. */
  readonly prefetch?: PrefetchPolicy | undefined;
  /** Where health and metrics are served; undefined: nowhere, since any host on the main port belongs to the origin. */
  readonly admin: { readonly host: string; readonly port: number } | undefined;
  readonly logger: Logger;
  /** Where TLS is spoken too; undefined: nowhere. */
  readonly tls?: TlsOptions | undefined;
  readonly metrics?: EdgeMetrics | undefined;
  /** File of access records, one JSON object a line; undefined: none are kept. */
  readonly accessLog?: string | undefined;
  /** See {@link EdgeServerOptions.isFlatPathOff}. */
  readonly isFlatPathOff?: boolean | undefined;
  /** Sockets that are bound already, by the primary or by a predecessor; undefined: they are bound to host and port. */
  readonly sockets?: EdgeSockets | undefined;
  /** The other workers of this server; undefined when it is one process. */
  readonly siblings?: Siblings | undefined;
  /** Parts of the key space that this process keeps on disk; undefined: all of it in one directory. */
  readonly shards?: readonly number[] | undefined;
  /** Whether the disk store is opened before the first request; else by {@link RunningEdge.openDisk}. Default true. */
  readonly mayOpenDisk?: boolean | undefined;
}

export interface RunningEdge {
  readonly port: number;
  readonly adminPort: number | undefined;
  readonly tlsPort?: number | undefined;
  /** Looks at the certificate files now. */
  readonly reload?: (() => void) | undefined;
  readonly sockets: EdgeSockets;
  /** Who accepts from the sockets of each kind. */
  readonly fronts: Readonly<Record<SocketKind, Pick<EdgeServer, "listenOn" | "stopListening"> | undefined>>;
  readonly edge: Edge;
  readonly server: EdgeServer;
  readonly openDisk: () => Promise<void>;
  /** Ends the use of the disk store, so that a successor may have it. */
  readonly closeDisk: () => Promise<void>;
  /** As {@link RunningServer} has them. */
  readonly invalidate: Invalidate;
  readonly onInvalidated: (tell: Invalidate) => void;
  /** Takes leave of clients and goes on for the other workers; `idleMs` as in {@link EdgeServer.drain}. */
  readonly drain: (idleMs: number) => Promise<number>;
  readonly close: () => Promise<void>;
  /** Drains and ends everything; `idleMs` as in {@link EdgeServer.drain}. Resolves with the number of requests that had to be cut. */
  readonly stop: (idleMs?: number) => Promise<number>;
}

const COMPRESSED: CompressionPolicy = { isEnabled: true, dictionaries: [] };

/** Starts it and resolves when it serves. Rejects with IsochroneError when an address or the disk cannot be used. */
export async function startAlone(options: AloneOptions): Promise<RunningEdge> {
  const { settings, logger, origin } = options;
  // Where any port will do it is taken first, since the name holds it.
  const given: EdgeSockets | undefined =
    options.sockets ??
    (options.port === 0
      ? { main: await bindListeners(options.host, 0, 1), admin: undefined, tls: undefined }
      : undefined);
  const boundPort = given?.main[0] === undefined ? options.port : portOf(given.main[0]);
  // Two proxies in a row must not take each other for a loop: the name holds the machine and the address.
  const serverId = `edge-${xxh64Hex(`${hostname()} ${options.host}:${boundPort}`).slice(0, 8)}` as ServerId;
  const clusterId = "local" as ClusterId;
  const transport = new Transport({
    selfServerId: serverId,
    selfClusterId: clusterId,
    topology: emptyTopology(),
    peerKey: undefined,
    clock: systemClock,
    logger,
  });
  const disk = diskOf({
    directory: options.diskDirectory,
    shards: options.shards,
    bytesMax: settings.diskBytes,
    logger,
  });
  const secret = process.env["ISOCHRONE_CONTROL_TOKEN"];
  const diagnosis = new Diagnosis({ serverName: serverId, clock: systemClock, secret });
  const edge = new Edge({
    settings,
    clock: systemClock,
    logger,
    cacheName: serverId,
    routing: new AloneRouting(origin, {
      caching: {
        ...PLAIN_POLICY,
        negativeTtlSeconds: options.negativeTtlSeconds ?? PLAIN_POLICY.negativeTtlSeconds,
      },
      compression: options.compression ?? COMPRESSED,
      prefetch: options.prefetch ?? NO_PREFETCH,
    }),
    upstream: transport,
    disk,
    siblings: options.siblings,
    metrics: options.metrics,
    diagnosis,
  });
  transport.registerMetrics(edge.metrics.registry);
  let isDraining = false;
  const common = {
    verifier: undefined,
    settings,
    clock: systemClock,
    metrics: edge.metrics,
    logger,
    onServed: undefined,
    diagnosis,
  };
  const log =
    options.accessLog === undefined ? undefined : new AccessLog({ path: options.accessLog, logger });
  const recorder = log && new AccessRecorder({ log, serverId, clusterId: () => clusterId });
  const originHost = origin.host.includes(":") ? `[${origin.host}]` : origin.host;
  const server = new EdgeServer({
    ...common,
    handle: (inbound) => edge.handle(inbound),
    earlyHints: (inbound) => edge.prefetcher.earlyHints(inbound),
    admin: undefined,
    hot: () => edge.hot,
    onServed: recorder && ((served) => recorder.served(served)),
    onServedHot: recorder && ((hit) => recorder.hot(hit)),
    isFlatPathOff: options.isFlatPathOff,
    // One origin answers for all: an HTTP/1.0 client need not name it.
    hostWhenAbsent: `${originHost}:${origin.port}`,
  });
  const admin = new Admin({
    serverId,
    clock: systemClock,
    token: secret,
    notReady: () => (isDraining ? "draining" : undefined),
    metrics: () => edge.metrics.registry.metrics(),
    report: () => undefined,
    faultOf: (requestId) => diagnosis.faultOf(requestId),
    parts: () => ({
      handler: edge.handler,
      coder: edge.coder,
      routing: edge.routing,
      upstream: transport,
      purges: edge.purges,
      overload: edge.gate.control,
      tier: () => 0,
      clusterId: () => undefined,
      hostOf: () => undefined,
    }),
  });
  const adminServer =
    options.admin &&
    new EdgeServer({ ...common, handle: (inbound) => admin.answer(inbound), admin: undefined });
  let tls: TlsPort | undefined;
  const drain = async (idleMs: number): Promise<number> => {
    isDraining = true;
    const [cut] = await Promise.all([server.drain(idleMs), tls?.drain(idleMs), adminServer?.drain(idleMs)]);
    return cut;
  };
  const close = async (): Promise<void> => {
    await edge.close();
    await log?.close();
    await transport.close();
  };
  try {
    await log?.open().catch((cause: unknown) => {
      throw unusableLog(options.accessLog ?? "", cause);
    });
    // A successor that could not use the disk must say so while its predecessor can still go on.
    disk?.prepare();
    if (options.mayOpenDisk !== false) await disk?.open();
    transport.start();
    if (given === undefined) await server.listen(options.host, options.port);
    else for (const socket of given.main) await server.listenOn(socket);
    let adminPort: number | undefined;
    if (adminServer !== undefined && options.admin !== undefined) {
      if (given?.admin === undefined)
        adminPort = await adminServer.listen(options.admin.host, options.admin.port);
      else await adminServer.listenOn(given.admin);
    }
    // Held and not accepted from, a predecessor's would let clients wait for ever.
    if (options.tls === undefined) for (const socket of given?.tls ?? []) socket.close();
    tls =
      options.tls &&
      (await (
        await import("./tls/serve-tls.ts")
      ).serveTls({
        ...options.tls,
        ...common,
        server,
        sockets: given?.tls,
      }));
    return {
      port: boundPort,
      adminPort: given?.admin === undefined ? adminPort : portOf(given.admin),
      get sockets() {
        return { main: server.sockets, admin: adminServer?.sockets[0], tls: tls?.front.sockets };
      },
      tlsPort: tls?.port,
      reload: tls?.reload,
      fronts: { main: server, tls: tls?.front },
      edge,
      server,
      openDisk: async () => await disk?.open(),
      closeDisk: async () => await disk?.close(),
      invalidate: async (keys) => edge.invalidate(keys),
      onInvalidated: (tell) => {
        edge.onInvalidated = tell;
      },
      drain,
      close,
      stop: async (idleMs = 0) => {
        const cut = await drain(idleMs);
        await close();
        return cut;
      },
    };
  } catch (error) {
    // What listens or waits already would keep the process, and the port.
    await drain(0);
    if (options.sockets === undefined) for (const socket of given?.main ?? []) socket.close();
    await close();
    throw error;
  }
}

/** A log that cannot be written at the start is a mistake of the command line; later the disk may fail, and it is counted. */
function unusableLog(path: string, cause: unknown): IsochroneError {
  return new IsochroneError(
    `Cannot use the access log ${JSON.stringify(path)}: ${cause instanceof Error ? cause.message : String(cause)}; name a file that this process may write`,
    { code: "access-log", source: "configuration", retry: "never", cause },
  );
}

function emptyTopology(): TopologyDocument {
  return {
    name: "alone",
    clusters: [],
    nameService: { zones: [], hostmaster: "hostmaster.invalid", nameServers: [] },
  } as unknown as TopologyDocument;
}
