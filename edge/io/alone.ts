/** `isochrone edge --origin URL`: a caching reverse proxy with no other process and no configuration. */
import { hostname } from "node:os";
import { type ClusterId, type OriginTarget, type ServerId, type TopologyDocument, xxh64Hex } from "#kit";
import { type Logger, systemClock } from "#kit/io";
import { Transport } from "#transport";
import type { EdgeSettings } from "../config.ts";
import { PLAIN_POLICY } from "../core/policy.ts";
import { Admin } from "./admin.ts";
import { Edge } from "./edge.ts";
import type { EdgeMetrics } from "./metrics.ts";
import { AloneRouting } from "./routing.ts";
import { EdgeServer } from "./server.ts";
import { serveTls, type TlsOptions } from "./tls/serve-tls.ts";

export interface AloneOptions {
  readonly host: string;
  readonly port: number;
  readonly origin: OriginTarget;
  readonly settings: EdgeSettings;
  readonly diskDirectory: string | undefined;
  /** Where health and metrics are served; undefined: nowhere, since any host on the main port belongs to the origin. */
  readonly admin: { readonly host: string; readonly port: number } | undefined;
  readonly logger: Logger;
  /** Where TLS is spoken too; undefined: nowhere. */
  readonly tls?: TlsOptions | undefined;
  /** Whether several workers share the port. */
  readonly isShared: boolean;
  readonly metrics?: EdgeMetrics | undefined;
}

export interface RunningEdge {
  readonly port: number;
  readonly adminPort: number | undefined;
  readonly tlsPort?: number | undefined;
  /** Looks at the certificate files now. */
  readonly reload?: (() => void) | undefined;
  /** Drains and ends everything. Resolves with the number of requests that had to be cut. */
  readonly stop: () => Promise<number>;
}

/** Starts it and resolves when it serves. Rejects with IsochroneError when an address or the disk cannot be used. */
export async function startAlone(options: AloneOptions): Promise<RunningEdge> {
  const { settings, logger, origin } = options;
  // Two proxies in a row must not take each other for a loop: the name holds the machine and the address.
  const serverId =
    `edge-${xxh64Hex(`${hostname()} ${options.host}:${options.port}`).slice(0, 8)}` as ServerId;
  const clusterId = "local" as ClusterId;
  const transport = new Transport({
    selfServerId: serverId,
    selfClusterId: clusterId,
    topology: emptyTopology(),
    peerKey: undefined,
    clock: systemClock,
    logger,
  });
  const edge = new Edge({
    settings,
    clock: systemClock,
    logger,
    cacheName: serverId,
    routing: new AloneRouting(origin, PLAIN_POLICY),
    upstream: transport,
    tier: () => 0,
    diskDirectory: options.diskDirectory,
    metrics: options.metrics,
  });
  let isDraining = false;
  const common = {
    verifier: undefined,
    settings,
    clock: systemClock,
    metrics: edge.metrics,
    logger,
    onServed: undefined,
  };
  const originHost = origin.host.includes(":") ? `[${origin.host}]` : origin.host;
  const server = new EdgeServer({
    ...common,
    handle: (inbound) => edge.handle(inbound),
    admin: undefined,
    // One origin answers for all: an HTTP/1.0 client need not name it.
    hostWhenAbsent: `${originHost}:${origin.port}`,
  });
  const admin = new Admin({
    serverId,
    clock: systemClock,
    token: process.env["ISOCHRONE_CONTROL_TOKEN"],
    notReady: () => (isDraining ? "draining" : undefined),
    metrics: () => edge.metrics.registry.metrics(),
    report: () => undefined,
    parts: () => ({
      handler: edge.handler,
      routing: edge.routing,
      upstream: transport,
      purges: edge.purges,
      tier: () => 0,
      clusterId: () => undefined,
      hostOf: () => undefined,
    }),
  });
  const adminServer =
    options.admin &&
    new EdgeServer({ ...common, handle: (inbound) => admin.answer(inbound), admin: undefined });
  try {
    await edge.open();
    transport.start();
    const port = await server.listen(options.host, options.port, options.isShared);
    const tlsPort =
      options.tls &&
      (await serveTls({
        ...options.tls,
        ...common,
        isShared: options.isShared,
        onHttp1: (socket) => server.accept(socket),
      }));
    const adminPort = options.admin && (await adminServer?.listen(options.admin.host, options.admin.port));
    return {
      port,
      adminPort,
      tlsPort: tlsPort?.port,
      reload: tlsPort?.reload,
      stop: async () => {
        isDraining = true;
        tlsPort?.close();
        const cut = await server.drain();
        await edge.close();
        await transport.close();
        await adminServer?.drain();
        return cut;
      },
    };
  } catch (error) {
    await transport.close();
    throw error;
  }
}

function emptyTopology(): TopologyDocument {
  return {
    name: "alone",
    clusters: [],
    nameService: { zones: [], hostmaster: "hostmaster.invalid", nameServers: [] },
  } as unknown as TopologyDocument;
}
