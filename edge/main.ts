/** `isochrone edge`: the process. Signals and exit codes; flags are in flags.ts, everything else is in io/. */
import { randomBytes } from "node:crypto";
import { execFile } from "node:child_process";
import { IsochroneError, ParseError, id, type ServerId } from "#kit";
import { createLogger, formatListenAddress, type Logger } from "#kit/io";
import { installWanFromEnvironment } from "#transport";
import type { EdgeSettings } from "./config.ts";
import {
  compressionOf,
  type Endpoint,
  endpointOf,
  type Flags,
  HELP,
  originOf,
  parseFlags,
  prefetchOf,
  refuseAloneFlags,
  refuseNodeFlags,
  settingsOf,
  tlsOf,
  unknownNameOf,
  UsageError,
  wholeNumberOf,
} from "./flags.ts";
import { startAlone } from "./io/alone.ts";
import { InvalidationChain } from "./io/invalidation-chain.ts";
import { startNode } from "./io/node.ts";
import { startNodeWorker, startNodeWorkers } from "./io/node-workers.ts";
import { type RunningServer, startPrimary } from "./io/primary.ts";
import {
  type Predecessor,
  predecessor,
  Replaceable,
  requestReplacement,
  wantedSockets,
} from "./io/replace.ts";
import { defaultRunDirectory } from "./io/run-directory.ts";
import { serveAsWorker, workerPlace } from "./io/worker.ts";

/** Runs until a signal ends it. Resolves with the exit code: 0 after a drain, 2 for bad usage or an address in use. */
export async function main(argv: readonly string[]): Promise<number> {
  try {
    installWanFromEnvironment();
    const { values } = parseFlags(argv);
    if (values.help === true) {
      process.stdout.write(HELP);
      return 0;
    }
    const listen = endpointOf("listen", values.listen);
    if ((values.origin === undefined) === (values.node === undefined))
      throw new UsageError("expected either --origin (alone) or --node (in a deployment); see --help");
    if (values.node === undefined) refuseNodeFlags(values);
    const settings = settingsOf(values);
    if (values.replace === true) return await replace(argv, values, listen);
    if (values.node !== undefined) return await runNode(values.node, values, listen, settings);
    return await runAlone(values, listen, settings);
  } catch (error) {
    if (
      error instanceof UsageError ||
      error instanceof ParseError ||
      (error instanceof IsochroneError && error.source === "configuration")
    ) {
      process.stderr.write(`isochrone edge: ${error.message.replaceAll("\n", " ")}\n`);
      return 2;
    }
    throw error;
  }
}

/** At SIGHUP certificate files are looked at; without TLS it means nothing, and ends nothing. */
function reloadAtHangUp(reload: (() => void) | undefined): void {
  process.on("SIGHUP", () => reload?.());
}

async function runAlone(flags: Flags, listen: Endpoint, settings: EdgeSettings): Promise<number> {
  const origin = originOf(flags.origin ?? "");
  const workers = wholeNumberOf("workers", flags.workers, { whenAbsent: 1, min: 1, max: 64 });
  const negativeTtlSeconds = wholeNumberOf("negative-ttl", flags["negative-ttl"], {
    whenAbsent: 0,
    min: 0,
    max: 3_600,
  });
  const compression = compressionOf(flags);
  const prefetch = prefetchOf(flags);
  const admin = flags.admin === undefined ? undefined : endpointOf("admin", flags.admin);
  const logger = createLogger({ role: "edge", id: "alone" });
  const signal = untilSignal();
  const at = (endpoint: Endpoint, port: number) =>
    `http://${formatListenAddress({ host: endpoint.host, port })}`;
  const place = workerPlace();
  const tls = tlsOf(flags, randomBytes(32));
  const ready = (port: number, adminPort: number | undefined, tlsPort: number | undefined): void => {
    const more =
      (tlsPort === undefined || tls === undefined
        ? ""
        : ` tls ${at(tls, tlsPort).replace("http", "https")}`) +
      (adminPort === undefined || admin === undefined ? "" : ` admin ${at(admin, adminPort)}`);
    process.stdout.write(
      `ready edge ${at(listen, port)} origin ${origin.scheme}://${origin.host}:${origin.port}${more}\n`,
    );
  };
  if (place !== undefined)
    return await serveAsWorker(
      place,
      settings,
      createLogger({ role: "edge", id: `worker-${place.number}` }),
      async (parts) => {
        const running = await startAlone({
          ...listen,
          port: place.port,
          ...parts,
          origin,
          admin: undefined,
          logger,
          diskDirectory: flags.disk,
          negativeTtlSeconds,
          compression,
          prefetch,
          accessLog: flags["access-log"] && `${flags["access-log"]}.worker-${place.number}`,
          tls: tlsOf(flags, Buffer.from(place.ticketSecret, "hex")),
          sockets: { main: [], admin: undefined, tls: [] },
        });
        reloadAtHangUp(running.reload);
        return running;
      },
    );
  const before = await predecessor(logger);
  const runDirectory = flags.run ?? defaultRunDirectory();
  const common = {
    ...listen,
    admin,
    settings,
    logger,
    sockets: before && wantedSockets(before.sockets, { admin, tls }),
    mayOpenDisk: before === undefined,
  };
  let running: RunningServer;
  try {
    running =
      workers > 1
        ? await startPrimary({ ...common, count: workers, runDirectory, tls })
        : await startAlone({
            ...common,
            origin,
            diskDirectory: flags.disk,
            negativeTtlSeconds,
            compression,
            prefetch,
            accessLog: flags["access-log"],
            tls,
          });
  } catch (error) {
    before?.abandon();
    throw error;
  }
  return await serve(running, before, { runDirectory, host: listen.host, settings, logger, signal }, () =>
    ready(running.port, running.adminPort, running.tlsPort),
  );
}

/** Serves until a signal or a successor ends it. Resolves with the exit code. */
async function serve(
  running: RunningServer,
  before: Predecessor | undefined,
  options: {
    readonly runDirectory: string;
    readonly host: string;
    readonly settings: EdgeSettings;
    readonly logger: Logger;
    readonly signal: Promise<void>;
  },
  ready: () => void,
): Promise<number> {
  const { settings, logger, signal } = options;
  reloadAtHangUp(running.reload);
  // A successor inherits it, and whoever read the first one's ready line may have gone: no reason to end.
  process.stdout.on("error", () => {});
  const invalidations = new InvalidationChain(running.invalidate, logger);
  running.onInvalidated(async (keys) => await invalidations.fromHere(keys));
  before?.link(invalidations);
  const replaceable = new Replaceable({
    ...options,
    server: running,
    port: running.port,
    readyWithinMs: settings.replaceReadyMs,
    invalidations,
    claim: async () => await notifyManager(logger),
  });
  try {
    await replaceable.listen();
  } catch (error) {
    // It serves all the same: only its next version will have to be started in another way.
    logger.warn("not-replaceable", { error });
  }
  // First the manager, which would take this server for ended when the process that it knows ends.
  await notifyManager(logger);
  await before?.succeed(running.openDisk);
  ready();
  const end = await Promise.race([
    signal.then(() => "signal" as const),
    replaceable.replaced.then(() => "replaced" as const),
  ]);
  if (end === "signal") replaceable.stop();
  // Clients of a server that was replaced find the next one at once: they may take their time to leave.
  await running.stop(end === "replaced" ? settings.drainTimeoutMs : 0);
  return 0;
}

/** How long systemd-notify may take, ms. */
const NOTIFY_TIMEOUT_MS = 2_000;

/** Tells systemd, where it started this server (sd_notify(3)), that this process is the one to watch. Never rejects. */
async function notifyManager(logger: Logger): Promise<void> {
  if (process.env["NOTIFY_SOCKET"] === undefined) return;
  await new Promise<void>((resolve) => {
    execFile(
      "systemd-notify",
      ["--ready", `--pid=${process.pid}`],
      { timeout: NOTIFY_TIMEOUT_MS },
      (error) => {
        if (error) logger.warn("manager-not-notified", { error });
        resolve();
      },
    );
  });
}

/** `--replace`: asks the running server to start this program without the flag. */
async function replace(argv: readonly string[], flags: Flags, listen: Endpoint): Promise<number> {
  if (listen.port === 0) throw new UsageError("--replace needs the port that the running server listens on");
  try {
    const pid = await requestReplacement({
      ...listen,
      runDirectory: flags.run ?? defaultRunDirectory(),
      argv: [process.argv[1] ?? "", "edge", ...argv.filter((argument) => argument !== "--replace")],
    });
    process.stdout.write(`replaced edge http://${listen.host}:${listen.port} by process ${pid}\n`);
    return 0;
  } catch (error) {
    if (!(error instanceof IsochroneError) || error.code !== "not-replaced") throw error;
    process.stderr.write(`isochrone edge: ${error.message}\n`);
    return 1;
  }
}

async function runNode(
  server: string,
  flags: Flags,
  listen: Endpoint,
  settings: EdgeSettings,
): Promise<number> {
  refuseAloneFlags(flags);
  if (flags["tls-listen"] === undefined && flags["tls-unknown-name"] !== undefined)
    throw new UsageError("--tls-unknown-name needs --tls-listen");
  // Many customers share a node: none of them is everybody's default.
  const tls = flags["tls-listen"] !== undefined && {
    ...endpointOf("tls-listen", flags["tls-listen"]),
    unknownName: unknownNameOf(flags, "refuse"),
  };
  if (flags.control === undefined || flags.state === undefined)
    throw new UsageError("--node needs --control URL and --state DIR; see --help");
  const serverId = id<ServerId>().parse(server, ["--node"]);
  const workers = wholeNumberOf("workers", flags.workers, { whenAbsent: 1, min: 1, max: 64 });
  const signal = untilSignal();
  const place = workerPlace();
  if (place !== undefined) {
    const logger = createLogger({ role: "edge", id: `${serverId} worker-${place.number}` });
    const { state } = flags;
    return await serveAsWorker(
      place,
      settings,
      logger,
      async (parts) =>
        await startNodeWorker(
          {
            ...listen,
            port: place.port,
            serverId,
            stateDirectory: state,
            diskDirectory: flags.disk,
            number: place.number,
            tls: tls === false ? undefined : tls,
            logger,
          },
          parts,
        ),
    );
  }
  const logger = createLogger({ role: "edge", id: serverId });
  const before = await predecessor(logger);
  const runDirectory = flags.run ?? defaultRunDirectory();
  const options = {
    ...listen,
    sockets:
      before && wantedSockets(before.sockets, { admin: undefined, tls: tls === false ? undefined : tls }),
    serverId,
    controlUrl: flags.control,
    stateDirectory: flags.state,
    diskDirectory: flags.disk,
    mayOpenDisk: before === undefined,
    settings,
    logger,
    stop: signal,
    ...(tls !== false && { tls }),
  };
  const running = await (workers > 1
    ? startNodeWorkers({ ...options, count: workers, runDirectory })
    : startNode(options)
  ).catch((error: unknown) => {
    before?.abandon();
    throw error;
  });
  if (running === undefined) {
    before?.abandon();
    return 0;
  }
  const secure =
    tls === false || running.tlsPort === undefined
      ? ""
      : ` tls https://${formatListenAddress({ host: tls.host, port: running.tlsPort })}`;
  return await serve(running, before, { runDirectory, host: listen.host, settings, logger, signal }, () =>
    process.stdout.write(
      `ready edge ${serverId} (${running.role}) http://${listen.host}:${running.port}${secure}\n`,
    ),
  );
}

/**
 * Signals this close together are one wish told twice: a terminal and npm both pass Ctrl-C on, a service manager signals
 * the whole group beside its main process. ms.
 */
const SAME_SIGNAL_MS = 1_000;

/**
 * Resolves at the first SIGTERM or SIGINT; one that comes later than {@link SAME_SIGNAL_MS} ends the process at once. A
 * worker hears the primary's too and leaves that to it: it ends at once when the primary has gone.
 */
function untilSignal(): Promise<void> {
  return new Promise((resolve) => {
    let firstMs: number | undefined;
    const onSignal = (): void => {
      const nowMs = performance.now();
      firstMs ??= nowMs;
      if (nowMs - firstMs > SAME_SIGNAL_MS && workerPlace() === undefined) process.exit(1);
      resolve();
    };
    process.on("SIGTERM", onSignal);
    process.on("SIGINT", onSignal);
  });
}
