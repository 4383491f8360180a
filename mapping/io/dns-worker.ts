/** One of several processes that serve a port: it answers, and is told everything by the process that started it. */
import type { SendHandle } from "node:child_process";
import {
  certificateDocument,
  dnssecDocument,
  type MapSnapshot,
  mapSnapshot,
  type NameAsked,
  policyDocument,
  propertyDocument,
  type ServerId,
  topologyDocument,
  zoneDocument,
} from "#kit";
import { createLogger, inSteps, readCountries } from "#kit/io";
import { DnsCounters, type DnsFigures } from "../core/dns/counters.ts";
import type { DnsService } from "../core/dns/decision.ts";
import { NamesAsked } from "../core/dns/names-asked.ts";
import { Quarantine } from "../core/dns/quarantine.ts";
import type { RateLimitSettings } from "../core/dns/rate-limit.ts";
import type { HeardNotify } from "../core/zone/notify.ts";
import { peerKeyIfSet } from "./zone-key.ts";
import type { TopFigures } from "../core/dns/query-log/top-queries.ts";
import type { QueryLogSettings } from "./dns-query-log.ts";
import { BlackBox } from "./black-box.ts";
import {
  DnsServer,
  type DnsServerOptions,
  type LentSockets,
  openQueryLog,
  type TlsSetting,
} from "./dns-server.ts";
import { type DnsChange, DnsState } from "./dns-state.ts";
import { hmac, type TsigKeyTexts, tsigKeysOf } from "./tsig-keys.ts";

/** Set for a worker; its value says nothing. */
export const WORKER_VARIABLE = "ISOCHRONE_DNS_WORKER";
/** How often counts are handed over: what a worker had counted since is lost with it. */
const FIGURES_INTERVAL_MS = 200;
/** A secondary zone is looked after once a second at most, whatever its primaries tell. */
const NOTIFY_GATHER_MS = 100;
/** Every so manieth time the top lists are told too: they are longer. */
const TOP_EVERY = 10;

/** How to serve; it travels as JSON. */
export interface WorkerSetting {
  readonly host: string;
  readonly port: number;
  readonly isPlainUdp: boolean;
  readonly nsid: string | undefined;
  /** In hex. */
  readonly cookieSecret: string;
  readonly rateLimit: RateLimitSettings;
  /** Of who may fetch zones. */
  readonly tsigKeys?: TsigKeyTexts | undefined;
  readonly queryLog: QueryLogSettings;
  /** File of the countries of client addresses. */
  readonly countriesFile?: string | undefined;
  readonly tls: TlsSetting | undefined;
}

/** What a worker has counted since its start, and what it holds now. */
export interface WorkerFigures {
  readonly queries: DnsFigures;
  readonly sockets: Readonly<Record<string, number>>;
  readonly batches: Readonly<Record<string, number>> | undefined;
  readonly tcpConnections: number;
  /** Of signed zones, by what became of them. */
  readonly signatures: Readonly<Record<string, number>>;
  /** Told now and then. */
  readonly top: TopFigures | undefined;
}

export type ToWorker =
  /** `isLent`: both sockets come from another worker, each with a message of its own. */
  | {
      readonly type: "start";
      readonly setting: WorkerSetting;
      readonly changes: readonly DnsChange[];
      readonly isLent: boolean;
    }
  | { readonly type: "lend" }
  | { readonly type: "lent"; readonly socket: LentSocket }
  | { readonly type: "change"; readonly change: DnsChange }
  /** In hex: what ended a worker. */
  | { readonly type: "quarantine"; readonly packetHex: string }
  | { readonly type: "stop" };

export type LentSocket = keyof LentSockets;

export type FromWorker =
  /** With the handle. */
  | { readonly type: "lent"; readonly socket: LentSocket }
  | { readonly type: "listening"; readonly port: number }
  | { readonly type: "failed"; readonly message: string }
  | { readonly type: "names-asked"; readonly names: readonly NameAsked[] }
  | { readonly type: "figures"; readonly figures: WorkerFigures }
  | { readonly type: "notify"; readonly heard: HeardNotify };

export function isWorker(): boolean {
  return process.env[WORKER_VARIABLE] !== undefined && process.send !== undefined;
}

/** Serves until it is told to stop or whoever started it is gone. @param onQuery for tests */
export async function runWorker(onQuery?: DnsServerOptions["onQuery"]): Promise<number> {
  const logger = createLogger({ role: "nameserver", id: `worker-${process.pid}` });
  const counters = new DnsCounters();
  const down = new Set<ServerId>();
  const state = new DnsState((serverId) => !down.has(serverId), peerKeyIfSet());
  const stopped = Promise.withResolvers<void>();
  const quarantine = new Quarantine();
  const namesAsked = new NamesAsked();
  let server: DnsServer | undefined;
  let top: TopFigures | undefined;
  let told = 0;
  let timer: NodeJS.Timeout | undefined;
  const tell = (message: FromWorker): void => {
    // Whoever started us may be gone by now.
    if (process.connected) process.send?.(message, () => {});
  };
  const tellFigures = (): void => {
    if (server === undefined) return;
    const { socketCounters: sockets, batches, tcpConnections } = server;
    const { zones: _, entries: __, ...signatures } = state.signing;
    if (told++ % TOP_EVERY === 0) top = server.top;
    const figures = { queries: counters.figures(), sockets, batches, tcpConnections, signatures, top };
    tell({ type: "figures", figures });
    const names = namesAsked.drain();
    if (names.length > 0) tell({ type: "names-asked", names });
  };
  const notifies = new NotifyGathering((heard) => tell({ type: "notify", heard }));
  const apply = (change: DnsChange): void => {
    if (change.kind === "liveness") {
      down.clear();
      for (const serverId of change.down) down.add(serverId);
    }
    state.apply(documentsOf(change));
    server?.handleChange(change);
  };
  let waiting: MapSnapshot | undefined;
  let isPreparing = false;
  /** As the keeper does in the process that tells us: beside the answers, and the newest of those that wait. */
  const takeMap = async (body: MapSnapshot): Promise<void> => {
    waiting = body;
    if (isPreparing) return;
    isPreparing = true;
    while (waiting !== undefined) {
      const next: MapSnapshot = waiting;
      waiting = undefined;
      try {
        await inSteps(state.prepareMap(next));
        state.setMap(next);
      } catch (error) {
        logger.error("map-refused", { mapVersion: next.mapVersion, error });
      }
    }
    isPreparing = false;
  };
  const lent = {
    udp: Promise.withResolvers<unknown>(),
    tcp: Promise.withResolvers<unknown>(),
    tls: Promise.withResolvers<unknown>(),
  };
  const lentSockets = async (hasTls: boolean): Promise<LentSockets> => {
    const { udp, tcp, tls } = lent;
    const sockets = { udp: await udp.promise, tcp: await tcp.promise };
    return hasTls ? { ...sockets, tls: await tls.promise } : sockets;
  };
  const start = async (
    { host, port, nsid, cookieSecret, tsigKeys, queryLog: log, countriesFile, ...rest }: WorkerSetting,
    isLent: boolean,
  ): Promise<void> => {
    try {
      if (countriesFile !== undefined) state.setCountries(readCountries(countriesFile));
      const queryLog = await openQueryLog(log, logger);
      // What the first query would have to wait for is there before sockets are read, which others may still read as well.
      state.context();
      server = await DnsServer.listen({
        ...rest,
        quarantine,
        namesAsked,
        box: await BlackBox.open(),
        onQuery,
        onNotify: (heard) => notifies.take(heard),
        address: host,
        port,
        reusePort: true,
        lent: isLent ? await lentSockets(rest.tls !== undefined) : undefined,
        service: serviceOf(nsid, cookieSecret, tsigKeys),
        context: () => state.context(),
        identity: () => state.tlsIdentity(),
        counters,
        queryLog,
        logger,
      });
    } catch (error) {
      tell({ type: "failed", message: error instanceof Error ? error.message : String(error) });
      stopped.resolve();
      return;
    }
    tell({ type: "listening", port: server.port });
    timer = setInterval(tellFigures, FIGURES_INTERVAL_MS);
  };
  const lend = (): void => {
    for (const [socket, handle] of Object.entries(server?.handles ?? {}))
      process.send?.({ type: "lent", socket }, handle as SendHandle);
  };
  process.on("message", (message: ToWorker, handle: unknown) => {
    if (message.type === "start") {
      for (const change of message.changes) apply(change);
      void start(message.setting, message.isLent);
    } else if (message.type === "lend") lend();
    else if (message.type === "lent") lent[message.socket].resolve(handle);
    else if (message.type === "quarantine")
      quarantine.add(Buffer.from(message.packetHex, "hex"), performance.now());
    else if (message.type === "change") {
      if (message.change.kind === "map") void takeMap(mapSnapshot.parse(message.change.body));
      else apply(message.change);
    } else stopped.resolve();
  });
  process.once("disconnect", () => stopped.resolve());
  // Whoever started us is told as well, and tells us when.
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => {});
  await stopped.promise;
  clearInterval(timer);
  await server?.close();
  tellFigures();
  if (process.connected) process.disconnect();
  return 0;
}

/** Of many NOTIFY in a short while the last one of each zone is told: who is flooded does not flood whoever started us. */
class NotifyGathering {
  readonly #tell: (heard: HeardNotify) => void;
  /** By zone; only zones that there are. */
  readonly #heard = new Map<string, HeardNotify>();

  constructor(tell: (heard: HeardNotify) => void) {
    this.#tell = tell;
  }

  take(heard: HeardNotify): void {
    if (this.#heard.size === 0)
      setTimeout(() => {
        for (const one of this.#heard.values()) this.#tell(one);
        this.#heard.clear();
      }, NOTIFY_GATHER_MS);
    this.#heard.set(heard.zoneId, heard);
  }
}

/** Documents travel as JSON, and are read again as strictly as anywhere. */
function documentsOf(change: DnsChange): DnsChange {
  switch (change.kind) {
    case "topology":
      return { ...change, body: topologyDocument.parse(change.body) };
    case "property":
      return { ...change, body: propertyDocument.parse(change.body) };
    case "policy":
      return { ...change, body: policyDocument.parse(change.body) };
    case "zone":
      return { ...change, body: zoneDocument.parse(change.body) };
    case "map":
      return { ...change, body: mapSnapshot.parse(change.body) };
    case "dnssec":
      return { ...change, body: dnssecDocument.parse(change.body) };
    case "certificate":
      return { ...change, body: certificateDocument.parse(change.body) };
    case "liveness":
    case "standing-by":
    case "targets":
    case "aliases":
      return change;
  }
}

/** What a server is, from the forms that travel. */
export function serviceOf(
  nsid: string | undefined,
  cookieSecret: string,
  tsigKeys: TsigKeyTexts | undefined,
): DnsService {
  return {
    tsig: tsigKeys === undefined ? undefined : { keys: tsigKeysOf(tsigKeys), hmac },
    nsid: nsid === undefined ? undefined : Buffer.from(nsid),
    cookieSecret: Buffer.from(cookieSecret, "hex"),
  };
}
