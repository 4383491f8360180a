/**
 * A connection through a relay: CONNECT (RFC 9110 section 9.3.6) on a fresh connection to it, over TLS by which each end knows the other
 * (`node-trust.ts`). What comes back is the bare connection to the target. What is said first may follow the request for the tunnel at
 * once: the relay keeps it until it has connected, and drops it with the connection when it refuses.
 */
import { Duplex } from "node:stream";
import { IsochroneError, type ServerEntry } from "#kit";
import { formatAuthority, RELAY_ALPN } from "../core/relay-policy.ts";
import { dial, secure, TlsFailure, type TlsOptions } from "./dial.ts";
import { carriedBy } from "./quiet-time.ts";
import type { NodeTrust } from "./node-trust.ts";

/** A relay's answer to CONNECT is one status line and two fields. */
const HEAD_BYTES_MAX = 4_096;

export type TunnelOptions = {
  readonly relay: ServerEntry;
  readonly target: { readonly host: string; readonly port: number };
  /** With the target, within the tunnel. */
  readonly tls?: TlsOptions | undefined;
  readonly trust: NodeTrust;
  /** For the whole of it. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
};

/**
 * Throws TlsFailure for the handshake with the target, IsochroneError (retry "safe") for all else: what `dial` throws for the relay itself,
 * "no-certificate" while this server has none, "relay-refused" with the relay's reason or because one of the two does not know the other,
 * "relay-broken" when it answers nonsense or hangs up, "connect-timeout", "aborted".
 */
export async function openTunnel(options: TunnelOptions): Promise<Duplex> {
  const { relay, target, tls, trust, timeoutMs, signal } = options;
  const { serverId, address, port } = relay;
  const authority = formatAuthority(target.host, target.port);
  const startedMs = performance.now();
  const peer = trust.clientOptions({ serverId, roles: ["relay"] }, RELAY_ALPN);
  if (peer === undefined)
    throw new IsochroneError(
      `Cannot reach ${authority} through relay ${JSON.stringify(serverId)}: this server has no certificate yet; control gives them`,
      { code: "no-certificate", source: "internal", retry: "safe" },
    );
  const outer = { servername: serverId, peer };
  const connection = await dial({ host: address, port, tls: outer, timeoutMs, signal }).catch(
    (error: unknown) => {
      if (!(error instanceof IsochroneError) || error.code !== "tls-failed") throw error;
      // Not the target's fault, whose handshake comes later.
      throw new IsochroneError(
        `Cannot reach ${authority} through relay ${JSON.stringify(serverId)}: ${error.message}`,
        { code: "relay-refused", source: "upstream", retry: "safe", cause: error },
      );
    },
  );
  const leftMs = (): number => Math.max(1, timeoutMs - (performance.now() - startedMs));
  connection.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
  let failure: IsochroneError | undefined;
  const opened = new Promise<Duplex>((resolve, reject) => {
    let head: Buffer = Buffer.alloc(0);
    const done = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      connection.off("data", onData);
      connection.off("error", onError);
      connection.off("close", onClose);
    };
    const failed = (code: string, why: string, cause?: unknown): void => {
      done();
      connection.on("error", () => {});
      connection.destroy();
      failure = new IsochroneError(
        `Cannot reach ${authority} through relay ${JSON.stringify(relay.serverId)}: ${why}`,
        { code, source: code === "aborted" ? "downstream" : "upstream", retry: "safe", cause },
      );
      reject(failure);
    };
    const onData = (chunk: Buffer): void => {
      head = head.length === 0 ? chunk : Buffer.concat([head, chunk]);
      const end = head.indexOf("\r\n\r\n");
      if (end < 0) {
        if (head.length > HEAD_BYTES_MAX) failed("relay-broken", "its answer has no end");
        return;
      }
      const statusLine = head.toString("latin1", 0, head.indexOf("\r\n"));
      const status = /^HTTP\/1\.[01] ([0-9]{3})(?: (.*))?$/.exec(statusLine);
      if (status?.[1] === undefined)
        failed("relay-broken", `it answered ${JSON.stringify(statusLine.slice(0, 80))}`);
      else if (!status[1].startsWith("2")) {
        const reason = /^isochrone-relay-reason: *([a-z-]{1,40})\r?$/im.exec(
          head.toString("latin1", 0, end + 2),
        )?.[1];
        failed("relay-refused", `refused with ${status[1]} ${reason ?? status[2] ?? ""}`);
      } else {
        done();
        connection.pause();
        const rest = head.subarray(end + 4);
        if (rest.length > 0) connection.unshift(rest);
        resolve(connection);
      }
    };
    const onError = (error: Error): void => failed("relay-broken", error.message, error);
    const onClose = (): void => failed("relay-broken", "it closed the connection before answering");
    const onAbort = (): void => failed("aborted", "given up by the caller");
    const timer = setTimeout(
      () => failed("connect-timeout", `connect timeout after ${timeoutMs} ms`),
      leftMs(),
    );
    connection.on("data", onData);
    connection.once("error", onError);
    connection.once("close", onClose);
    if (signal?.aborted) onAbort();
    else signal?.addEventListener("abort", onAbort, { once: true });
  });
  if (tls === undefined) return await opened;
  // Until the tunnel is open it keeps the time itself.
  const late = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  opened.then(
    () => {
      timer = setTimeout(() => late.abort(), leftMs());
    },
    () => {},
  );
  const stop = signal ? AbortSignal.any([signal, late.signal]) : late.signal;
  try {
    return await secure(new EarlyStream(connection, opened), tls, stop);
  } catch (error) {
    connection.destroy();
    // Known before what was under way over it ends.
    throw failure ?? (error instanceof TlsFailure ? error : new TlsFailure(error));
  } finally {
    clearTimeout(timer);
  }
}

/** A connection that can be written to before it can be read. */
class EarlyStream extends Duplex {
  readonly #connection: Duplex;
  #isOpen = false;

  constructor(connection: Duplex, opened: Promise<Duplex>) {
    super();
    this.#connection = connection;
    carriedBy(this, connection);
    connection.on("error", (error) => this.destroy(error));
    connection.once("close", () => {
      // What was read before its end is read on.
      if (!connection.readableEnded) this.destroy();
    });
    opened.then(
      () => this.#open(),
      () => this.destroy(),
    );
  }

  #open(): void {
    this.#isOpen = true;
    this.#connection.on("data", (chunk: Buffer) => {
      if (!this.push(chunk)) this.#connection.pause();
    });
    this.#connection.once("end", () => this.push(null));
    this.#connection.resume();
  }

  override _read(): void {
    if (this.#isOpen) this.#connection.resume();
  }

  override _write(chunk: Buffer, encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.#connection.write(chunk, encoding, callback);
  }

  override _final(callback: () => void): void {
    this.#connection.end(callback);
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#connection.destroy();
    callback(error);
  }
}
