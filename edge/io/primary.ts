/** A server of several workers as one: its sockets, its workers, its admin address. */
import { rm } from "node:fs/promises";
import { type Logger, systemClock } from "#kit/io";
import type { EdgeSettings } from "../config.ts";
import { Admin } from "./admin.ts";
import type { EdgeSockets } from "./alone.ts";
import { bindListeners, bindMore, portOf } from "./listening.ts";
import { EdgeMetrics } from "./metrics.ts";
import { workersDirectory } from "./run-directory.ts";
import { EdgeServer } from "./server.ts";
import type { TlsOptions } from "./tls/serve-tls.ts";
import { Workers } from "./workers.ts";

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
  readonly tls: TlsOptions | undefined;
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
  /** `idleMs` as in {@link EdgeServer.drain}. */
  readonly stop: (idleMs?: number) => Promise<unknown>;
}

/** Starts the workers and resolves when each serves. Rejects with IsochroneError. */
export async function startPrimary(options: PrimaryOptions): Promise<RunningServer> {
  const { settings, logger, host, count } = options;
  const given = options.sockets?.main;
  const sockets = given ?? (await bindListeners(host, options.port, count));
  const [first] = sockets;
  if (first === undefined) throw new Error("A server without a listening socket");
  const port = portOf(first);
  // A predecessor with fewer workers: one more socket for each further one, where its sockets share the port.
  const more =
    given !== undefined && given.length > 1 && given.length < count
      ? await bindMore(host, port, count - given.length)
      : [];
  const directory = workersDirectory(options.runDirectory);
  const workers = new Workers({
    count,
    sockets: [...sockets, ...more],
    directory,
    mayOpenDisk: options.mayOpenDisk,
    ticketSecret: options.tls?.ticketSecret ?? new Uint8Array(),
    logger,
  });
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
      tlsPort: options.tls?.port,
      reload: () => workers.reload(),
      get sockets() {
        return { main: [...sockets, ...more], admin: admin?.sockets[0] };
      },
      openDisk: async () => await workers.openDisk(),
      closeDisk: async () => await workers.closeDisk(),
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
