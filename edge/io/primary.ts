/** A server of several workers as one: its sockets, its workers, its admin address. */
import { rm } from "node:fs/promises";
import { type Logger, systemClock } from "#kit/io";
import type { EdgeSettings } from "../config.ts";
import { Admin } from "./admin.ts";
import type { Invalidate } from "./invalidation-chain.ts";
import { bindListeners, bindMore, type EdgeSockets, type ListenHandle, portOf } from "./listening.ts";
import { EdgeMetrics } from "./metrics.ts";
import { workersDirectory } from "./run-directory.ts";
import { EdgeServer } from "./server.ts";
import type { TlsOptions } from "./tls/serve-tls.ts";
import { Workers, type WorkersOptions } from "./workers.ts";

export interface PrimaryOptions {
  readonly host: string;
  readonly port: number;
  readonly count: number;
  readonly admin: { readonly host: string; readonly port: number } | undefined;
  readonly runDirectory: string;
  readonly settings: EdgeSettings;
  readonly logger: Logger;
  /** Of a predecessor; undefined: they are bound to host and port. */
  readonly sockets: EdgeSockets | undefined;
  readonly mayOpenDisk: boolean;
  /** Where the workers speak TLS; undefined: nowhere. */
  readonly tls: Pick<TlsOptions, "host" | "port" | "ticketSecret"> | undefined;
  /** Called with the workers before the first is started. */
  readonly onMade?: ((workers: Workers) => void) | undefined;
  readonly onFork?: WorkersOptions["onFork"];
  readonly onUp?: WorkersOptions["onUp"];
}

/** A server of one or of many processes, as far as starting, ending and replacing it goes. */
export interface RunningServer {
  readonly port: number;
  readonly adminPort: number | undefined;
  readonly tlsPort?: number | undefined;
  /** Looks at the certificate files now. */
  readonly reload?: (() => void) | undefined;
  readonly sockets: EdgeSockets;
  readonly openDisk: () => Promise<void>;
  readonly closeDisk: () => Promise<void>;
  /** Marks keys as changed by an unsafe request to another process that serves this address (RFC 9111, section 4.4). */
  readonly invalidate: Invalidate;
  /** Says who is told what an unsafe request changes here, before it is answered. */
  readonly onInvalidated: (tell: Invalidate) => void;
  /** `idleMs` as in {@link EdgeServer.drain}. */
  readonly stop: (idleMs?: number) => Promise<unknown>;
}

/** Starts the workers and resolves when each serves. Rejects with IsochroneError. */
export async function startPrimary(options: PrimaryOptions): Promise<RunningServer> {
  const { settings, logger, host, count } = options;
  const main = await socketsFor(options.sockets?.main, host, options.port, count);
  const tls = options.tls
    ? await socketsFor(options.sockets?.tls, options.tls.host, options.tls.port, count)
    : [];
  // Held and not accepted from, a predecessor's would let clients wait for ever.
  if (options.tls === undefined) for (const socket of options.sockets?.tls ?? []) socket.close();
  const [first] = main;
  if (first === undefined) throw new Error("A server without a listening socket");
  const port = portOf(first);
  const directory = workersDirectory(options.runDirectory);
  const workers = new Workers({
    count,
    port,
    sockets: { main, tls },
    directory,
    mayOpenDisk: options.mayOpenDisk,
    ticketSecret: options.tls?.ticketSecret ?? new Uint8Array(),
    logger,
    onFork: options.onFork,
    onUp: options.onUp,
  });
  options.onMade?.(workers);
  const admin =
    options.admin &&
    adminOf(
      settings,
      logger,
      () => workers.metrics(),
      () => workers.isStopping,
    );
  try {
    await workers.start();
    let adminPort: number | undefined;
    if (admin !== undefined && options.admin !== undefined) {
      const socket = options.sockets?.admin;
      if (socket === undefined) adminPort = await admin.listen(options.admin.host, options.admin.port);
      else {
        await admin.listenOn(socket);
        adminPort = portOf(socket);
      }
    }
    return {
      port,
      adminPort,
      tlsPort: tls[0] && portOf(tls[0]),
      reload: () => workers.reload(),
      get sockets() {
        return { main, admin: admin?.sockets[0], tls };
      },
      openDisk: async () => await workers.openDisk(),
      closeDisk: async () => await workers.closeDisk(),
      invalidate: async (keys) => await workers.invalidate(keys),
      onInvalidated: (tell) => {
        workers.onInvalidated = tell;
      },
      stop: async (idleMs = 0) => {
        await Promise.all([workers.stop(idleMs), admin?.drain(idleMs)]);
        await rm(directory, { recursive: true, force: true });
      },
    };
  } catch (error) {
    await workers.stop(0);
    await rm(directory, { recursive: true, force: true });
    throw error;
  }
}

/** A socket for each worker: a predecessor's first. More are added where those it gave share the port. */
async function socketsFor(
  given: readonly ListenHandle[] | undefined,
  host: string,
  port: number,
  count: number,
): Promise<readonly ListenHandle[]> {
  const [first] = given ?? [];
  if (given === undefined || first === undefined) return await bindListeners(host, port, count);
  return given.length > 1 && given.length < count
    ? [...given, ...(await bindMore(host, portOf(first), count - given.length))]
    : given;
}

function adminOf(
  settings: EdgeSettings,
  logger: Logger,
  metrics: () => Promise<string>,
  isStopping: () => boolean,
): EdgeServer {
  const admin = new Admin({
    serverId: "edge",
    clock: systemClock,
    token: undefined,
    notReady: () => (isStopping() ? "draining" : undefined),
    metrics,
    report: () => undefined,
    faultOf: () => undefined,
    parts: () => undefined,
  });
  return new EdgeServer({
    handle: (inbound) => admin.answer(inbound),
    admin: undefined,
    verifier: undefined,
    settings,
    clock: systemClock,
    metrics: new EdgeMetrics(),
    logger,
    onServed: undefined,
  });
}
