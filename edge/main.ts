/** `isochrone edge`: the process. Flags, signals, exit codes; everything else is in io/. */
import { randomBytes } from "node:crypto";
import { isIP } from "node:net";
import { execFile } from "node:child_process";
import { parseArgs } from "node:util";
import { IsochroneError, type OriginTarget, ParseError, id, parseBytes, type ServerId } from "#kit";
import { createLogger, formatListenAddress, type Logger } from "#kit/io";
import { installWanFromEnvironment } from "#transport";
import { edgeDefaults, type EdgeSettings } from "./config.ts";
import { EVICTION_POLICIES, type EvictionPolicyName } from "./core/eviction/policies.ts";
import { startAlone } from "./io/alone.ts";
import { startNode } from "./io/node.ts";
import { type RunningServer, startPrimary } from "./io/primary.ts";
import {
  type Predecessor,
  predecessor,
  Replaceable,
  requestReplacement,
  wantedSockets,
} from "./io/replace.ts";
import { defaultRunDirectory } from "./io/run-directory.ts";
import type { TlsOptions } from "./io/tls/serve-tls.ts";
import type { UnknownName } from "./io/tls/tls-front.ts";
import { serveAsWorker, workerPlace } from "./io/worker.ts";

const HELP = `Usage: isochrone edge --listen ADDRESS:PORT --origin URL [options]
       isochrone edge --listen ADDRESS:PORT --node SERVER --control URL --state DIR

A caching HTTP reverse proxy. Alone it needs no configuration: any Host is served from one origin, the origin's own
Cache-Control decides what is stored, and what was stored is served when the origin is down.
As a node (edge or parent, as the topology says) it follows the documents of a deployment.

Alone:
  --origin URL         http://HOST[:PORT] or https://HOST[:PORT]
  --memory SIZE        memory store, such as 256MiB (default)
  --disk DIR           keep objects on disk too; they survive a restart
  --disk-size SIZE     disk store, such as 10GiB (default)
  --negative-ttl SECONDS  keep errors (404, 410, 5xx) that state no lifetime for so long, 0 (default) .. 3600
  --workers N          processes that share the port, 1..64 (default 1)
  --access-log FILE    one JSON object a request; client addresses cut to /24 or /48, no query strings. Each of
                       several workers writes FILE.worker-0, FILE.worker-1, ...
  --admin ADDRESS:PORT health and metrics: /livez /readyz /metrics
  --tls-certificate FILE     chain in PEM, the server's own certificate first; with --tls-key, once for each certificate.
                             Read again when changed and at SIGHUP. The first is the default
  --tls-key FILE             its private key in PEM
Node:
  --node SERVER        the server's id in the topology
  --control URL        the control process; may be away: documents are kept in DIR
  --state DIR          the process's own directory
  --memory SIZE        memory store
Both:
  --listen ADDRESS:PORT  port 0 takes a free one
  --eviction POLICY    what leaves memory first: w-tinylfu-scaled (default), w-tinylfu, s3-fifo or lru
  --tls-listen ADDRESS:PORT  speak TLS there too, HTTP/2 and HTTP/1.1; a node with the certificates of its deployment
  --alt-svc VALUE            announced in answers over TLS, such as 'h3=":443"; ma=86400' (deploy/http3)
  --trusted-proxy ADDRESS    of a proxy in front whose X-Forwarded-For tells the client; may be repeated
  --tls-unknown-name WORD    what clients get that name no server which we have a certificate of: default (the first
                             one; usual alone) or refuse (an alert; usual for a node)
  --run DIR            where the server's own sockets are (default: isochrone-UID in the system's temporary directory)
  --replace            the server that runs on --listen starts this program with these arguments and hands it its
                       sockets; it drains when the new one serves, and goes on when that fails (exit code 1)
  --help

Examples:
  isochrone edge --listen 127.0.0.1:8080 --origin http://127.0.0.1:9000
  isochrone edge --listen 127.0.0.1:8080 --origin https://www.example.com --memory 1GiB --disk /var/cache/isochrone --workers 4
  ISOCHRONE_CONTROL_TOKEN=... ISOCHRONE_PEER_KEY=... isochrone edge --listen 127.10.1.1:8080 --node fra-1 --control http://127.10.0.1:8080 --state state/fra-1
`;

/** Bad usage: one line, exit code 2. */
class UsageError extends Error {}

interface Endpoint {
  readonly host: string;
  readonly port: number;
}

function endpointOf(flag: string, value: string | undefined): Endpoint {
  const match = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+)):([0-9]{1,5})$/i.exec(value ?? "");
  const port = Number(match?.[3]);
  if (!match || port > 65_535)
    throw new UsageError(
      `--${flag}: got ${value === undefined ? "nothing" : JSON.stringify(value)}, expected ADDRESS:PORT such as 127.0.0.1:8080`,
    );
  return { host: match[1] ?? match[2] ?? "", port };
}

function originOf(value: string): OriginTarget {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (
    !url ||
    !/^https?:$/.test(url.protocol) ||
    url.pathname !== "/" ||
    url.search !== "" ||
    url.username !== ""
  )
    throw new UsageError(
      `--origin: got ${JSON.stringify(value)}, expected http://HOST[:PORT] or https://HOST[:PORT] without a path`,
    );
  const isTls = url.protocol === "https:";
  return {
    scheme: isTls ? "https" : "http",
    host: url.hostname.replace(/^\[|\]$/g, ""),
    port: url.port === "" ? (isTls ? 443 : 80) : Number(url.port),
    // A name on the Internet serves its own host only; an address serves whatever is asked.
    ...(isTls && { hostHeader: url.host }),
  };
}

function bytesOf(flag: string, value: string | undefined, whenAbsent: number, min: number): number {
  if (value === undefined) return whenAbsent;
  const bytes = parseBytes(value);
  if (bytes === undefined || bytes < min)
    throw new UsageError(
      `--${flag}: got ${JSON.stringify(value)}, expected a size of at least ${min} bytes such as 256MiB`,
    );
  return bytes;
}

function altSvcOf(value: string | undefined): string | undefined {
  // RFC 7838, section 3: at least one alternative, protocol="host:port".
  if (value === undefined || /^[a-z0-9%-]+="[^"\\]*:[0-9]{1,5}"[\x20-\x7e]*$/i.test(value)) return value;
  throw new UsageError(`--alt-svc: got ${JSON.stringify(value)}, expected such as 'h3=":443"; ma=86400'`);
}

function proxyAddressOf(value: string): string {
  if (isIP(value) !== 0) return value;
  throw new UsageError(`--trusted-proxy: got ${JSON.stringify(value)}, expected an IPv4 or IPv6 address`);
}

function evictionOf(value: string | undefined): EvictionPolicyName {
  const policy = EVICTION_POLICIES.find((name) => name === (value ?? EVICTION_POLICIES[0]));
  if (policy === undefined)
    throw new UsageError(
      `--eviction: got ${JSON.stringify(value)}, expected one of ${EVICTION_POLICIES.join(", ")}`,
    );
  return policy;
}

const MEBIBYTE = 2 ** 20;

/** Runs until a signal ends it. Resolves with the exit code: 0 after a drain, 2 for bad usage or an address in use. */
export async function main(argv: readonly string[]): Promise<number> {
  try {
    installWanFromEnvironment();
    const { values } = parse(argv);
    if (values.help === true) {
      process.stdout.write(HELP);
      return 0;
    }
    const listen = endpointOf("listen", values.listen);
    if ((values.origin === undefined) === (values.node === undefined))
      throw new UsageError("expected either --origin (alone) or --node (in a deployment); see --help");
    const memoryBytes = bytesOf("memory", values.memory, edgeDefaults.memoryBytes, MEBIBYTE);
    const diskBytes = bytesOf("disk-size", values["disk-size"], edgeDefaults.diskBytes, MEBIBYTE);
    const settings: EdgeSettings = {
      ...edgeDefaults,
      altSvc: altSvcOf(values["alt-svc"]),
      trustedProxies: (values["trusted-proxy"] ?? []).map(proxyAddressOf),
      memoryBytes,
      evictionPolicy: evictionOf(values.eviction),
      diskBytes,
    };
    if (values.replace === true) return await replace(argv, values, listen);
    if (values.node !== undefined) return await runNode(values.node, values, listen, settings);
    if (values.control !== undefined || values.state !== undefined)
      throw new UsageError("--control and --state belong to --node; alone nothing is controlled");
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

function parse(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      strict: true,
      options: {
        listen: { type: "string" },
        origin: { type: "string" },
        memory: { type: "string" },
        eviction: { type: "string" },
        disk: { type: "string" },
        "disk-size": { type: "string" },
        "negative-ttl": { type: "string" },
        workers: { type: "string" },
        admin: { type: "string" },
        "access-log": { type: "string" },
        "tls-listen": { type: "string" },
        "tls-certificate": { type: "string", multiple: true },
        "tls-key": { type: "string", multiple: true },
        "tls-unknown-name": { type: "string" },
        "alt-svc": { type: "string" },
        "trusted-proxy": { type: "string", multiple: true },
        run: { type: "string" },
        replace: { type: "boolean" },
        node: { type: "string" },
        control: { type: "string" },
        state: { type: "string" },
        help: { type: "boolean" },
      },
    });
  } catch (error) {
    throw new UsageError(`${error instanceof Error ? error.message : String(error)}; see --help`);
  }
}

type Flags = ReturnType<typeof parse>["values"];

/** TLS of an edge alone; undefined: none. @param ticketSecret the same in all workers */
function tlsOf(flags: Flags, ticketSecret: Uint8Array): TlsOptions | undefined {
  const certificates = flags["tls-certificate"] ?? [];
  const keys = flags["tls-key"] ?? [];
  if (flags["tls-listen"] === undefined) {
    if (certificates.length + keys.length > 0 || flags["tls-unknown-name"] !== undefined)
      throw new UsageError("--tls-certificate, --tls-key and --tls-unknown-name need --tls-listen");
    return undefined;
  }
  const listen = endpointOf("tls-listen", flags["tls-listen"]);
  if (certificates.length === 0 || certificates.length !== keys.length)
    throw new UsageError(
      `--tls-listen needs as many --tls-certificate as --tls-key, at least one; got ${certificates.length} and ${keys.length}`,
    );
  return {
    host: listen.host,
    port: listen.port,
    pairs: certificates.map((certificateFile, index) => ({ certificateFile, keyFile: keys[index] ?? "" })),
    unknownName: unknownNameOf(flags, "default"),
    ticketSecret,
  };
}

function unknownNameOf(flags: Flags, whenAbsent: UnknownName): UnknownName {
  const word = flags["tls-unknown-name"] ?? whenAbsent;
  if (word !== "default" && word !== "refuse")
    throw new UsageError(`--tls-unknown-name: got ${JSON.stringify(word)}, expected default or refuse`);
  return word;
}

/** At SIGHUP certificate files are looked at; without TLS it means nothing, and ends nothing. */
function reloadAtHangUp(reload: (() => void) | undefined): void {
  process.on("SIGHUP", () => reload?.());
}

async function runAlone(flags: Flags, listen: Endpoint, settings: EdgeSettings): Promise<number> {
  const origin = originOf(flags.origin ?? "");
  const workers = Number(flags.workers ?? "1");
  if (!Number.isInteger(workers) || workers < 1 || workers > 64)
    throw new UsageError(
      `--workers: got ${JSON.stringify(flags.workers)}, expected a whole number from 1 to 64`,
    );
  const negativeTtlSeconds = Number(flags["negative-ttl"] ?? "0");
  if (!Number.isInteger(negativeTtlSeconds) || negativeTtlSeconds < 0 || negativeTtlSeconds > 3_600)
    throw new UsageError(
      `--negative-ttl: got ${JSON.stringify(flags["negative-ttl"])}, expected a whole number of seconds from 0 to 3600`,
    );
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
          ...parts,
          origin,
          admin: undefined,
          logger,
          diskDirectory: flags.disk,
          negativeTtlSeconds,
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
  const replaceable = new Replaceable({
    ...options,
    server: running,
    port: running.port,
    readyWithinMs: settings.replaceReadyMs,
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
  for (const flag of [
    "disk",
    "disk-size",
    "negative-ttl",
    "workers",
    "access-log",
    "admin",
    "tls-certificate",
    "tls-key",
  ] as const)
    if (flags[flag] !== undefined)
      throw new UsageError(`--${flag} belongs to --origin; a node does not take it`);
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
  const signal = untilSignal();
  const logger = createLogger({ role: "edge", id: serverId });
  const before = await predecessor(logger);
  const running = await startNode({
    ...listen,
    sockets:
      before && wantedSockets(before.sockets, { admin: undefined, tls: tls === false ? undefined : tls }),
    serverId,
    controlUrl: flags.control,
    stateDirectory: flags.state,
    settings,
    logger,
    stop: signal,
    ...(tls !== false && { tls }),
  }).catch((error: unknown) => {
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
  const runDirectory = flags.run ?? defaultRunDirectory();
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
