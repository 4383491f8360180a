/** Times of a TCP handshake, and of a whole HTTP request step by step. */
import { once } from "node:events";
import { connect as connectTcp, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { connect as connectTls } from "node:tls";
import type { Clock } from "#kit";

/** Enough for a status line; what comes with it is not kept. */
const STATUS_LINE = /^HTTP\/1\.[01] ([1-9][0-9]{2})[ \r]/;

/** `lost`: nothing came back in time. `error`: nothing could be measured. */
export type ConnectOutcome =
  | { readonly outcome: "answered"; readonly rttMs: number }
  | { readonly outcome: "lost" }
  | { readonly outcome: "error"; readonly error: string };

/** Everything within `timeoutMs` of its beginning. Never rejects but when `signal` is aborted. */
export async function timeTcp(
  to: { readonly address: string; readonly port: number },
  timeoutMs: number,
  clock: Clock,
  signal: AbortSignal,
): Promise<ConnectOutcome> {
  const began = clock.monotonic();
  const socket = connectTcp({ host: to.address, port: to.port });
  try {
    await once(socket, "connect", { signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]) });
    return { outcome: "answered", rttMs: clock.monotonic() - began };
  } catch (error) {
    const rttMs = clock.monotonic() - began;
    // A refusal took the same way as an acceptance would have.
    if ((error as NodeJS.ErrnoException).code === "ECONNREFUSED") return { outcome: "answered", rttMs };
    return failureOf(error, signal);
  } finally {
    socket.on("error", () => {});
    socket.destroy();
  }
}

export interface HttpTarget {
  readonly address: string;
  readonly port: number;
  /** Goes into Host and into TLS' server name. */
  readonly host: string;
  readonly path: string;
  readonly isTls: boolean;
}

export type HttpOutcome =
  | {
      readonly outcome: "answered";
      readonly connectMs: number;
      readonly tlsMs: number | null;
      /** From the request to the first byte of the answer. */
      readonly rttMs: number;
      readonly status: number;
    }
  | { readonly outcome: "lost" }
  | { readonly outcome: "error"; readonly error: string };

/** One GET over a connection of its own (HTTP/1.1), given up after the first bytes of the answer. */
export async function timeHttp(
  to: HttpTarget,
  timeoutMs: number,
  clock: Clock,
  signal: AbortSignal,
  ca?: string,
): Promise<HttpOutcome> {
  const limit = { signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]) };
  const began = clock.monotonic();
  const socket: Socket = connectTcp({ host: to.address, port: to.port, noDelay: true });
  const open: Duplex[] = [socket];
  try {
    await once(socket, "connect", limit);
    const connected = clock.monotonic();
    let stream: Duplex = socket;
    let tlsMs: number | null = null;
    if (to.isTls) {
      const isName = !/^[0-9.]+$|:/.test(to.host);
      const tls = connectTls({
        socket,
        ...(isName && { servername: to.host }),
        ...(ca !== undefined && { ca }),
        ALPNProtocols: ["http/1.1"],
      });
      open.push(tls);
      await once(tls, "secureConnect", limit);
      tlsMs = clock.monotonic() - connected;
      stream = tls;
    }
    const defaultPort = to.isTls ? 443 : 80;
    const name = to.host.includes(":") ? `[${to.host}]` : to.host;
    const host = to.port === defaultPort ? name : `${name}:${to.port}`;
    const sent = clock.monotonic();
    stream.write(
      `GET ${to.path} HTTP/1.1\r\nHost: ${host}\r\nUser-Agent: isochrone-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n`,
    );
    const [chunk] = (await once(stream, "data", limit)) as [Buffer];
    const rttMs = clock.monotonic() - sent;
    const status = STATUS_LINE.exec(chunk.toString("latin1", 0, 32))?.[1];
    if (status === undefined) return { outcome: "error", error: "the answer is not HTTP/1.1" };
    return { outcome: "answered", connectMs: connected - began, tlsMs, rttMs, status: Number(status) };
  } catch (error) {
    return failureOf(error, signal);
  } finally {
    for (const one of open) {
      one.on("error", () => {});
      one.destroy();
    }
  }
}

function failureOf(
  error: unknown,
  signal: AbortSignal,
): { readonly outcome: "lost" } | { readonly outcome: "error"; readonly error: string } {
  if (signal.aborted) throw error;
  const { name, message, code } = error as NodeJS.ErrnoException;
  const isLate = name === "AbortError" || name === "TimeoutError" || code === "ETIMEDOUT";
  return isLate ? { outcome: "lost" } : { outcome: "error", error: message };
}
