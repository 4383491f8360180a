/**
 * The one place that opens connections from a server of ours to anything else: resolves, applies the emulated network
 * where one is installed, and puts TLS on top. Certificates are always verified.
 */
import { connect as connectTcp, isIP, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { connect as connectTls, type ConnectionOptions } from "node:tls";
import { IsochroneError, type MonotonicMs, type OriginProtocol } from "#kit";
import { systemClock } from "#kit/io";
import type { AddressRefusal } from "../core/address-guard.ts";
import { AddressHistory, attemptOrder, ConnectionRace } from "../core/connection-race.ts";
import type { OriginIdentity } from "./face.ts";
import { connectDirectly } from "./http1/direct-reads.ts";
import { carriedBy } from "./quiet-time.ts";
import { OriginResolver } from "./origin-resolver.ts";
import { ShapedSocket } from "./shaped-socket.ts";
import { type WanView, wanViewOf } from "./wan.ts";

export type TlsOptions = {
  /** Name that the certificate must be for, sent as SNI unless it is an address. */
  readonly servername: string;
  /** Certification authorities to trust in place of the system's (PEM), for private origins and tests. */
  readonly ca?: string | readonly string[] | undefined;
  /** What the other end has to agree to speak. Default: HTTP/1.1, which needs no word. */
  readonly protocol?: OriginProtocol | undefined;
  /** Shown where the other end asks for it. */
  readonly identity?: Pick<OriginIdentity, "chainPem" | "keyPem"> | undefined;
  /** The other end has to be a server of ours: what `NodeTrust.clientOptions` gives, in place of the rest. */
  readonly peer?: ConnectionOptions | undefined;
};

export type DialOptions = {
  /** Host name or address. */
  readonly host: string;
  readonly port: number;
  readonly tls?: TlsOptions | undefined;
  /** For everything: resolving, connecting, the TLS handshake. Default 10 s. */
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Why an address may not be connected to; asked for each one that `host` stands for. Default: every address may. */
  readonly refuse?:
    | ((address: string, port: number, isNamed: boolean) => AddressRefusal | undefined)
    | undefined;
  /** Default: the process's own. */
  readonly resolver?: OriginResolver | undefined;
  /** Without `tls`: whether its bytes can be had as {@link directReadsOf} gives them. */
  readonly readsDirectly?: boolean | undefined;
};

export const DIAL_TIMEOUT_MS = 10_000;
/** Linux's first SYN retransmission (RFC 6298 (2.1)). */
const SYN_RETRANSMISSION_MS = 1_000;
/**
 * A SYN is repeated when a share of the time has passed in silence: callers that know the path state a time of some of its round trips.
 * Not sooner than another address would be tried, and not where Linux repeats it itself by then.
 */
const REPEAT_SHARE = 1 / 4;
const REPEAT_MS_MIN = 250;
/** Idle connections are kept for minutes; middleboxes forget sooner. */
const KEEP_ALIVE_DELAY_MS = 30_000;

/** Of all connections of this process. */
const history = new AddressHistory();
/** All only grow. `overtaken`: another address of the name was connected first. */
export const dialCounters = { attempts: 0, connected: 0, failed: 0, overtaken: 0 };

const processResolver = new OriginResolver({ clock: systemClock });

/**
 * An open connection (with `tls`: after a verified handshake). Throws IsochroneError, always `retry: "safe"`, since nothing
 * was sent: "connect-timeout", "connect-failed", "tls-failed", "dns-failed", "address-not-permitted", "aborted".
 */
export async function dial(options: DialOptions): Promise<Duplex> {
  const { host, port, tls, timeoutMs = DIAL_TIMEOUT_MS, signal, resolver = processResolver } = options;
  const name = host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
  const fail = (code: string, why: string, cause?: unknown): IsochroneError =>
    new IsochroneError(`Cannot connect to ${name}: ${why}`, {
      code,
      source: code === "aborted" ? "downstream" : "upstream",
      retry: "safe",
      cause,
    });
  if (signal?.aborted) throw fail("aborted", "given up before it began");

  const guard = new AbortController();
  let stopped: IsochroneError | undefined;
  const stop = (error: IsochroneError): void => {
    stopped ??= error;
    guard.abort();
  };
  const timer = setTimeout(
    () => stop(fail("connect-timeout", `connect timeout after ${timeoutMs} ms`)),
    timeoutMs,
  );
  const onAbort = (): void => stop(fail("aborted", "given up by the caller"));
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    const addresses = permitted(await raced(resolver.resolve(host), guard.signal), options, fail);
    const view = wanViewOf(addresses[0] ?? host, port);
    if (view) await crossing(view, guard.signal);
    const repeatMs = Math.max(REPEAT_MS_MIN, REPEAT_SHARE * timeoutMs);
    const isRepeated = repeatMs < SYN_RETRANSMISSION_MS;
    const connectTo = options.readsDirectly === true && tls === undefined ? connectDirectly : connectPlainly;
    const socket = await open(addresses, port, isRepeated ? repeatMs : undefined, guard.signal, connectTo);
    const plain: Duplex = view ? new ShapedSocket(socket, view) : socket;
    if (tls === undefined) return plain;
    return await secure(plain, tls, guard.signal);
  } catch (error) {
    if (stopped) throw stopped;
    if (error instanceof IsochroneError) throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw error instanceof TlsFailure
      ? fail(
          "tls-failed",
          `TLS handshake with ${JSON.stringify(tls?.servername)} failed: ${why}`,
          error.cause,
        )
      : fail("connect-failed", why, error);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

/** Those that may be connected to. Throws when none of them may. */
function permitted(
  addresses: readonly string[],
  { host, port, refuse }: DialOptions,
  fail: (code: string, why: string) => IsochroneError,
): readonly string[] {
  if (refuse === undefined) return addresses;
  const isNamed = isIP(host) === 0;
  let reason: AddressRefusal | undefined;
  const left = addresses.filter((address) => {
    const refusal = refuse(address, port, isNamed);
    reason ??= refusal;
    return refusal === undefined;
  });
  if (left.length === 0 && reason !== undefined)
    throw fail(
      "address-not-permitted",
      `${isNamed ? `it resolves to ${addresses.join(", ")}` : "this address"}, which no origin may have (${reason}); correct the origin of the property`,
    );
  return left;
}

/** Puts verified TLS on an open connection, such as a tunnel. Ends it on failure. Rejects with TlsFailure or on abort. */
export function secure(plain: Duplex, options: TlsOptions, signal: AbortSignal): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const { servername, ca, protocol, identity, peer } = options;
    const secured = connectTls({
      socket: plain,
      // Which name the certificate is checked against; SNI carries names only (RFC 6066 section 3).
      host: servername,
      ...(isIP(servername) === 0 && { servername }),
      ...(ca !== undefined && { ca: typeof ca === "string" ? ca : [...ca] }),
      ...(identity !== undefined && { cert: identity.chainPem, key: identity.keyPem }),
      ALPNProtocols: [protocol === "http/2" ? "h2" : "http/1.1"],
      minVersion: "TLSv1.2",
      rejectUnauthorized: true,
      ...peer,
    });
    carriedBy(secured, plain);
    const done = (): void => {
      signal.removeEventListener("abort", onAbort);
      secured.off("secureConnect", onSecure);
      secured.off("error", onError);
      secured.off("close", onClose);
    };
    const failed = (error: unknown): void => {
      done();
      secured.on("error", () => {});
      secured.destroy();
      plain.destroy();
      reject(new TlsFailure(error));
    };
    const onSecure = (): void => {
      if (protocol === "http/2" && secured.alpnProtocol !== "h2") {
        failed(new Error('it does not speak HTTP/2; state protocol "http/1.1" for this origin'));
        return;
      }
      if (peer !== undefined && secured.alpnProtocol === false) {
        failed(new Error("it speaks something else"));
        return;
      }
      done();
      resolve(secured);
    };
    const onError = (error: Error): void => failed(error);
    const onClose = (): void =>
      failed(Object.assign(new Error("the peer closed the connection"), { code: "ECONNRESET" }));
    const onAbort = (): void => failed(new Error("stopped"));
    if (signal.aborted) {
      failed(new Error("stopped"));
      return;
    }
    signal.addEventListener("abort", onAbort, { once: true });
    secured.once("secureConnect", onSecure);
    secured.once("error", onError);
    secured.once("close", onClose);
  });
}

/** Whether a handshake failed because its connection ended, whatever the other end speaks. */
export function isBrokenHandshake(error: Error): boolean {
  for (let cause: unknown = error.cause; cause instanceof Error; cause = cause.cause)
    if ("code" in cause && (cause.code === "ECONNRESET" || cause.code === "EPIPE")) return true;
  return false;
}

/** A handshake that did not succeed; `cause` says why. */
export class TlsFailure extends Error {
  constructor(cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
    this.name = "TlsFailure";
  }
}

/** The three-way handshake's round trip in the emulated network: one rtt, more for a lost SYN, for ever behind a cut. */
async function crossing(view: WanView, signal: AbortSignal): Promise<void> {
  for (;;) {
    const { link, isCut } = view.link();
    if (isCut) {
      await changed(view, signal);
      // The next SYN goes out some time after the link is back.
      await pause(200, signal);
      continue;
    }
    const isLost = link.lossRatio > 0 && view.random() < link.lossRatio;
    await pause(link.rttMs + (isLost ? SYN_RETRANSMISSION_MS : 0), signal);
    if (!view.link().isCut) return;
  }
}

function connectPlainly(host: string, port: number): Socket {
  return connectTcp({ host, port, noDelay: true });
}

/** The first connection that opens to any of the addresses, tried as RFC 8305 has it; rejects with the first failure. */
function open(
  addresses: readonly string[],
  port: number,
  repeatMs: number | undefined,
  signal: AbortSignal,
  connectTo: (host: string, port: number) => Socket,
): Promise<Socket> {
  const now = (): MonotonicMs => systemClock.monotonic();
  const order = attemptOrder(addresses, history.nextTurn(), (one) => history.isAvoided(one, port, now()));
  const race = new ConnectionRace(order, now(), repeatMs);
  const running = new Map<Socket, string>();
  return new Promise((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined;
    let failure: Error | undefined;
    const done = (winner: Socket | undefined): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      for (const socket of running.keys()) {
        if (socket === winner) continue;
        socket.removeAllListeners("connect");
        socket.on("error", () => {});
        socket.destroy();
      }
      running.clear();
    };
    const begin = (address: string): void => {
      const socket = connectTo(address, port);
      running.set(socket, address);
      dialCounters.attempts++;
      const onConnect = (): void => {
        socket.off("error", onError);
        socket.setKeepAlive(true, KEEP_ALIVE_DELAY_MS);
        // Those that began before it had a whole delay more, and did not make it.
        for (const [other, slower] of running) {
          if (other === socket) break;
          history.handleBad(slower, port, now());
        }
        history.handleGood(address, port);
        dialCounters.connected++;
        dialCounters.overtaken += running.size - 1;
        done(socket);
        resolve(socket);
      };
      const onError = (error: Error): void => {
        running.delete(socket);
        socket.destroy();
        failure ??= error;
        dialCounters.failed++;
        history.handleBad(address, port, now());
        race.handleFailure(address, now());
        step();
      };
      socket.once("connect", onConnect);
      socket.once("error", onError);
    };
    const step = (): void => {
      clearTimeout(timer);
      for (let next = race.pollStart(now()); next !== undefined; next = race.pollStart(now())) begin(next);
      if (race.isLost) {
        done(undefined);
        reject(failure ?? new Error("no address"));
        return;
      }
      const at = race.pollTimeout();
      if (at !== undefined) timer = setTimeout(step, Math.max(1, Math.ceil(at - now())));
    };
    const onAbort = (): void => {
      done(undefined);
      reject(new Error("stopped"));
    };
    if (signal.aborted) {
      onAbort();
      return;
    }
    signal.addEventListener("abort", onAbort, { once: true });
    step();
  });
}

/** Rejects when the signal fires first. */
function raced<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(new Error("stopped"));
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return raced(new Promise<void>((resolve) => setTimeout(resolve, ms)), signal);
}

function changed(view: WanView, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = view.onChange(() => {
      stop();
      signal.removeEventListener("abort", onAbort);
      resolve();
    });
    const onAbort = (): void => {
      stop();
      reject(new Error("stopped"));
    };
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
  });
}
