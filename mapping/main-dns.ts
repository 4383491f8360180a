/** The name-server process: `isochrone dns`. */
import { createHmac, randomBytes } from "node:crypto";
import { dnssecDocument, IsochroneError, ParseError } from "#kit";
import {
  createLogger,
  formatListenAddress,
  type Logger,
  readCountries,
  readWorldText,
  stopSignal,
  systemClock,
} from "#kit/io";
import { parseWorld } from "#kit/world";
import { dial, installWanFromEnvironment } from "#transport";
import { cookieSecretBytes } from "./core/dns/cookie.ts";
import { DnsCounters } from "./core/dns/counters.ts";
import { NamesAsked } from "./core/dns/names-asked.ts";
import type { HeardNotify } from "./core/zone/notify.ts";
import { explainWhere } from "./core/where.ts";
import { AdminServer } from "./io/admin-server.ts";
import { AloneMap } from "./io/dns-alone.ts";
import { EdgeProber } from "./io/dns-liveness.ts";
import { dnsMetrics } from "./io/dns-metrics.ts";
import { DnsNode, edgeServersOf } from "./io/dns-node.ts";
import {
  type AloneOptions,
  dnsHelp,
  type DnsOptions,
  type NodeOptions,
  OptionError,
  parseDnsOptions,
} from "./io/dns-options.ts";
import { CrashRecord } from "./io/crash-record.ts";
import { DnsServer, type DnsServerOptions, openQueryLog } from "./io/dns-server.ts";
import { DnsState } from "./io/dns-state.ts";
import { isWorker, runWorker, serviceOf } from "./io/dns-worker.ts";
import { DnsWorkers, type DnsWorkersOptions } from "./io/dns-workers.ts";
import { readTsigKeys, type TsigKeyTexts } from "./io/tsig-keys.ts";
import { wherePage } from "./io/dns-where.ts";
import { dsTextOf, newSignedZone, peerKeyIfSet } from "./io/zone-key.ts";

export { measuredContext } from "./io/dns-alone.ts";

/** How long a node with an empty disk waits for control before it says `ready` and answers SERVFAIL meanwhile. */
const FIRST_DOCUMENTS_TIMEOUT_MS = 10_000;

/** Every second answer over the limit goes out cut to TC, so that an honest resolver comes over TCP at once (BIND's default). */
const SLIP = 2;

/** Where the answers come from, in either mode. */
interface Supply {
  readonly state: DnsState;
  readonly prober: EdgeProber | undefined;
  readonly node: DnsNode | undefined;
  close(): Promise<void>;
}

/**
 * Serves until SIGTERM or SIGINT. Exit codes: 0 drained; 2 bad option, bad world, address not to be had.
 * Errors of world files and of option parsing are thrown, for the command to print.
 *
 * @param onQuery for tests of what happens when a query ends a worker; the command has no way to give one
 */
export async function main(argv: readonly string[], onQuery?: DnsServerOptions["onQuery"]): Promise<number> {
  if (isWorker()) return runWorker(onQuery);
  let options: DnsOptions | "help";
  try {
    options = parseDnsOptions(argv);
  } catch (error) {
    if (error instanceof OptionError) return refuse(error.message);
    throw error;
  }
  if (options === "help") {
    console.log(dnsHelp);
    return 0;
  }
  installWanFromEnvironment();
  const logger = createLogger({
    role: "nameserver",
    id: options.mode === "node" ? options.serverId : "alone",
  });
  const counters = new DnsCounters();
  // Whoever serves alone has nobody to tell.
  const namesAsked = options.mode === "node" ? new NamesAsked() : undefined;
  const token = process.env["ISOCHRONE_CONTROL_TOKEN"];
  if (options.mode === "node" && (token === undefined || token === "")) {
    return refuse("the environment variable ISOCHRONE_CONTROL_TOKEN is not set; give it control's token");
  }
  const stopped = stopSignal();
  let supply: Supply;
  let tsigKeys: TsigKeyTexts | undefined;
  try {
    if (options.mode === "node" && options.tsigKeysFile !== undefined)
      tsigKeys = readTsigKeys(options.tsigKeysFile);
    supply =
      options.mode === "node"
        ? nodeSupply(options, token ?? "", counters, logger, tsigKeys, namesAsked)
        : aloneSupply(options, logger);
  } catch (error) {
    if (error instanceof OptionError || error instanceof IsochroneError || error instanceof ParseError)
      return refuse(error.message);
    throw error;
  }
  const { state, prober, node } = supply;
  try {
    if (options.countriesFile !== undefined) state.setCountries(readCountries(options.countriesFile));
  } catch (error) {
    await supply.close();
    if (error instanceof IsochroneError || error instanceof ParseError) return refuse(error.message);
    throw error;
  }
  let isReady = false;
  let serving: Serving | undefined;
  let admin: AdminServer | undefined;
  try {
    serving = await Serving.start(options, state, counters, token, logger, tsigKeys, namesAsked, (heard) =>
      node?.handleNotify(heard),
    );
    const listening = serving;
    if (node !== undefined)
      node.workersLost = () => {
        const { socketCounters } = listening.server;
        return (socketCounters["worker-died"] ?? 0) + (socketCounters["worker-hung"] ?? 0);
      };
    process.on("SIGHUP", () => listening.replace());
    const metrics = dnsMetrics({
      counters,
      socketCounters: () => listening.server.socketCounters,
      batches: () => listening.server.batches,
      tcpConnections: () => listening.server.tcpConnections,
      workers: () => listening.server.workers,
      map: () => {
        const map = state.snapshot;
        if (map === null) return null;
        return {
          version: map.mapVersion,
          term: map.publication?.term ?? 0,
          ageSeconds: Math.max(0, systemClock.epoch() - map.createdAtEpochMs) / 1_000,
        };
      },
      servers: () => prober?.counts ?? null,
      zones: () => {
        const zones = state.context()?.zones;
        return { zones: zones?.zoneCount ?? 0, names: zones?.size ?? 0 };
      },
      signatures: () => {
        if (listening.server instanceof DnsWorkers) return listening.server.signatures;
        const { zones: _zones, entries: _entries, ...events } = state.signing;
        return events;
      },
      zonesSigned: () => state.signing.zones,
      documents: () => node?.documentCounters ?? null,
      documentsHeld: () => node?.documentsHeld ?? null,
      isStandingBy: () => state.isStandingBy,
      tests: () => node?.testFigures ?? null,
      aliases: () => node?.aliasFigures ?? null,
      parents: () => node?.parentFigures ?? null,
      secondaries: () => node?.secondaryFigures ?? null,
      control: () => node?.isControlConnected ?? null,
    });
    if (options.admin !== undefined) {
      admin = await AdminServer.listen({
        ...options.admin,
        token: token === "" ? undefined : token,
        // Who announces an address by this asks whether it answers at all.
        notReady: () => {
          if (!isReady || state.context() === undefined) return "not ready";
          return state.isStandingBy ? "standing by" : undefined;
        },
        registry: metrics,
        pages: {
          where: (query) =>
            wherePage(query, (name, address, isResolver) =>
              explainWhere(name, address, state.context(), isResolver),
            ),
          queries: () => {
            const { top } = listening.server;
            return top === undefined
              ? { status: 404, body: { error: "no query is looked at: --query-sample is 0" } }
              : { status: 200, body: top };
          },
          status: () => ({
            status: 200,
            body: node?.report() ?? {
              role: "nameserver",
              queries: counters.queries,
              mapVersion: state.snapshot?.mapVersion ?? null,
            },
          }),
        },
      });
    }
    await node?.start();
    const isSupplied = await Promise.race([
      node?.whenSupplied(FIRST_DOCUMENTS_TIMEOUT_MS) ?? true,
      stopped.then(() => false),
    ]);
    warnOfNames(state, logger);
    isReady = true;
    const zones = state.context()?.zones;
    console.log(
      [
        `ready dns ${formatListenAddress({ host: listening.server.address, port: listening.server.port })}`,
        isSupplied
          ? `zones ${zones?.zoneCount ?? 0} names ${zones?.size ?? 0} map ${state.snapshot?.mapVersion ?? "none"}`
          : "no documents yet: answering SERVFAIL until control sends them",
        ...(admin === undefined ? [] : [`admin ${admin.url}`]),
      ].join(" "),
    );
    await stopped;
    isReady = false;
    return 0;
  } catch (error) {
    if (error instanceof IsochroneError) return refuse(error.message);
    throw error;
  } finally {
    await serving?.close();
    await admin?.close();
    await supply.close();
  }
}

/** Serves in this process, or in workers; by SIGHUP a server of this process is replaced by a worker, and workers by others. */
class Serving {
  readonly #workersOptions: Omit<DnsWorkersOptions, "count">;
  readonly #logger: Logger;
  #server: DnsServer | DnsWorkers;
  #replacing: Promise<void> | undefined;
  #hearNoMore = (): void => {};

  private constructor(server: DnsServer | DnsWorkers, workersOptions: Omit<DnsWorkersOptions, "count">) {
    this.#server = server;
    this.#workersOptions = workersOptions;
    this.#logger = workersOptions.logger;
  }

  static async start(
    options: DnsOptions,
    state: DnsState,
    counters: DnsCounters,
    token: string | undefined,
    logger: Logger,
    tsigKeys: TsigKeyTexts | undefined,
    namesAsked: NamesAsked | undefined,
    onNotify: (heard: HeardNotify) => void,
  ): Promise<Serving> {
    const { listen: at, workers, isPlainUdp } = options;
    const serverId = options.mode === "node" ? options.serverId : "alone";
    const queryLog = { ...options.queryLog, serverId, seed: randomBytes(4).readInt32LE() };
    const setting = {
      host: at.host,
      port: at.port,
      isPlainUdp,
      countriesFile: options.countriesFile,
      tls: options.tls,
      nsid: options.mode === "node" ? options.serverId : undefined,
      cookieSecret: cookieSecretOf(token).toString("hex"),
      tsigKeys,
      // The kernel spreads a network's queries over all workers.
      rateLimit: {
        perSecond: Math.ceil(options.rateLimitPerSecond / workers),
        surplusBytesPerSecond: Math.ceil(options.surplusBytesPerSecond / workers),
        slip: SLIP,
        seed: randomBytes(4).readInt32LE(),
      },
    };
    const common = {
      setting: { ...setting, queryLog },
      state,
      counters,
      logger,
      crashes: new CrashRecord(options.crashFile, logger),
      namesAsked,
      onNotify,
    };
    if (workers > 1) return new Serving(await DnsWorkers.start({ count: workers, ...common }), common);
    const log = await openQueryLog(queryLog, logger);
    const { host, nsid, cookieSecret, countriesFile: _file, ...rest } = setting;
    const server = await DnsServer.listen({
      ...rest,
      address: host,
      reusePort: options.reusePort,
      service: serviceOf(nsid, cookieSecret, tsigKeys),
      context: () => state.context(),
      identity: () => state.tlsIdentity(),
      counters,
      queryLog: log,
      namesAsked,
      onNotify,
      logger,
    });
    const serving = new Serving(server, common);
    serving.#hearNoMore = state.onChange((change) => server.handleChange(change));
    return serving;
  }

  /** Who serves now. */
  get server(): DnsServer | DnsWorkers {
    return this.#server;
  }

  /** Whatever code, files and certificates stand on the disk by now serve; what is asked meanwhile is answered by either. */
  replace(): void {
    this.#replacing = (this.#replacing ?? Promise.resolve()).then(() =>
      this.#replace().catch((error: unknown) => this.#logger.error("dns-not-replaced", { error })),
    );
  }

  async #replace(): Promise<void> {
    const server = this.#server;
    if (server instanceof DnsWorkers) {
      this.#logger.info("dns-workers-replaced", { count: await server.replace() });
      return;
    }
    if (server.handles.udp === undefined || server.handles.tcp === undefined) {
      // Nobody can go on with its sockets: it reads its certificate again, if it has one.
      if (server.reloadTls()) this.#logger.info("dns-certificate-reloaded", {});
      else this.#logger.warn("dns-not-replaced", { why: "its sockets cannot be handed over here" });
      return;
    }
    const { setting, ...common } = this.#workersOptions;
    const { port } = server;
    this.#server = await DnsWorkers.start({
      count: 1,
      setting: { ...setting, port },
      successorOf: server,
      ...common,
    });
    this.#hearNoMore();
    await server.close();
    this.#logger.info("dns-workers-replaced", { count: 1 });
  }

  async close(): Promise<void> {
    await this.#replacing;
    await this.#server.close();
  }
}

/** The same at all name servers of a deployment, so that a cookie of one is good at the other (RFC 9018 section 5). */
function cookieSecretOf(token: string | undefined): Buffer {
  if (token === undefined || token === "") return randomBytes(cookieSecretBytes);
  return createHmac("sha256", token).update("isochrone dns cookie").digest().subarray(0, cookieSecretBytes);
}

function nodeSupply(
  options: NodeOptions,
  token: string,
  counters: DnsCounters,
  logger: Logger,
  tsigKeys: TsigKeyTexts | undefined,
  namesAsked: NamesAsked | undefined,
): Supply {
  const { serverId, controlUrl, stateDirectory, inputDelaySeconds } = options;
  const peerKey = peerKeyIfSet();
  const node = new DnsNode({
    serverId,
    controlUrl,
    token,
    stateDirectory,
    counters,
    logger,
    peerKey,
    tsigKeys,
    namesAsked,
    inputDelaySeconds,
    testScripts: options.testScripts,
    mayAskPrivatePrimaries: options.mayAskPrivatePrimaries,
    resolvers: options.resolvers,
    takesCertificates: options.tls !== undefined && options.tls.files === undefined,
  });
  return { state: node.state, prober: node.prober, node, close: () => node.close() };
}

function aloneSupply(options: AloneOptions, logger: Logger): Supply {
  const world = parseWorld(readWorldText(options.worldFile), options.worldFile);
  // Workers open the same keys: they are given this environment.
  if (options.isSigned) process.env["ISOCHRONE_PEER_KEY"] ||= randomBytes(32).toString("hex");
  const peerKey = peerKeyIfSet();
  const onEvent = (): void => state.handleLiveness();
  const prober = options.mayProbe ? new EdgeProber({ clock: systemClock, logger, dial, onEvent }) : undefined;
  const state: DnsState = new DnsState(prober?.isUp ?? (() => true), peerKey);
  const map = new AloneMap(world, state, logger);
  if (options.isSigned) signAlone(state, peerKey);
  map.start();
  prober?.setServers(edgeServersOf(state.topology));
  return {
    state,
    prober,
    node: undefined,
    close: async () => {
      map.close();
      prober?.close();
    },
  };
}

/** Keys for this run alone; what a validator is to trust is said on stderr, as trust anchors are written. */
function signAlone(state: DnsState, peerKey: Uint8Array | undefined): void {
  const topology = state.topology?.topology;
  if (topology === undefined || peerKey === undefined) return;
  const zones = topology.nameService.zones.map((zone) => newSignedZone(zone, peerKey));
  state.setKeys(dnssecDocument.parse({ name: topology.name, zones }), 1);
  for (const zone of zones) console.error(dsTextOf(zone.zone, zone.keys[0].publicKey));
}

/** A property that cannot be reached is a mistake in the configuration, and nothing else would tell. */
function warnOfNames(state: DnsState, logger: Logger): void {
  const zones = state.context()?.zones;
  if (zones === undefined) return;
  const { hostnamesOutside, hostnamesTaken } = zones;
  if (hostnamesOutside.length > 0) logger.warn("hostnames-outside-zones", { hostnames: hostnamesOutside });
  if (hostnamesTaken.length > 0) logger.warn("hostnames-taken", { hostnames: hostnamesTaken });
}

function refuse(message: string): number {
  console.error(`isochrone dns: ${message}`);
  return 2;
}
