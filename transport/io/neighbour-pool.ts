/**
 * Requests to one server of ours over one path: by the sessions of a link while there is one that is open and answers, else by connections
 * of HTTP/1.1. So no request waits for a link to be agreed on, opened again, or found to be stuck.
 */
import type { Duplex } from "node:stream";
import { IsochroneError } from "#kit";
import { systemClock } from "#kit/io";
import type { LinkAgreement } from "../core/link-agreement.ts";
import type { LinkRequestHead } from "../core/link/words.ts";
import { requestClassOf } from "../core/request-class.ts";
import { isBrokenHandshake } from "./dial.ts";
import { Exchange, type ExchangeHead, type PoolRequest } from "./exchange.ts";
import { LinkExchange } from "./link/exchange.ts";
import { LinkPool, type LinkPoolOptions } from "./link/pool.ts";
import { PathPool, type PathPoolOptions } from "./path-pool.ts";

export type NeighbourPoolOptions = PathPoolOptions & {
  /** Opens a connection on which the link protocol was agreed; rejects as `dial` does. */
  readonly connectLink: (signal: AbortSignal) => Promise<Duplex>;
  /** The neighbour's, whatever path leads there. */
  readonly agreement: LinkAgreement;
  readonly udp: LinkPoolOptions["udp"];
};

export class NeighbourPool {
  readonly http: PathPool;
  readonly link: LinkPool;
  readonly #o: NeighbourPoolOptions;
  /** Under way on the link, and the most of them since it was last asked. */
  #linked = 0;
  #linkedPeak = 0;
  #usedAtMs = performance.now();

  constructor(options: NeighbourPoolOptions) {
    this.#o = options;
    this.http = new PathPool(options);
    this.link = new LinkPool({
      label: options.label,
      connect: async (signal) => await this.#connectLink(signal),
      udp: options.udp,
      onOpen: () => options.agreement.handleSpoken(),
      onRefused: () => options.agreement.handleBroken(systemClock.monotonic()),
    });
  }

  get active(): number {
    return this.#linked + this.http.active;
  }
  get connections(): number {
    return this.link.sessions + this.http.connections;
  }
  get usedAtMs(): number {
    return Math.max(this.#usedAtMs, this.http.usedAtMs);
  }
  get isBusy(): boolean {
    return this.http.isBusy;
  }
  takePeak(): number {
    const peak = this.#linkedPeak + this.http.takePeak();
    this.#linkedPeak = this.#linked;
    return peak;
  }

  /** Sends one request and waits for its head. Rejects with IsochroneError; see `exchange.ts` for the codes. */
  request(request: PoolRequest): Promise<ExchangeHead> {
    const exchange = new Exchange(this.#o.label, request);
    this.#send(request, exchange);
    return exchange.head;
  }

  #send(request: PoolRequest, exchange: Exchange): void {
    if (exchange.isEnded) return;
    if (this.#o.agreement.state !== "spoken") this.#ask();
    else if (this.#sendLinked(request, exchange)) return;
    this.http.send(request, exchange);
  }

  /** False: nothing was done. */
  #sendLinked(request: PoolRequest, exchange: Exchange): boolean {
    if (this.link.sessions === 0) {
      this.link.warm(1);
      return false;
    }
    const { headersMs, bodyMs, body } = request;
    const isLarge = requestClassOf(request.headers) === "large";
    const linked = new LinkExchange(headOf(request), body, exchange, { headersMs, bodyMs }, false, isLarge);
    let isHere = true;
    const left = (): void => {
      if (isHere) this.#linked--;
      isHere = false;
    };
    linked.onRefused = () => {
      left();
      this.#send(request, exchange);
    };
    this.#linked++;
    exchange.onEnd = left;
    exchange.onTiming = (isLate) => linked.handleTiming(isLate);
    exchange.carrier = linked;
    exchange.protocol = "link";
    linked.onAnswered = (isUdp) => {
      exchange.protocol = isUdp ? "link-udp" : "link";
    };
    // Probes measure the path that everything else falls back to; what is late may be late because of UDP.
    if (!this.link.send(linked, request.isUrgent === true || request.isRepeat === true)) {
      left();
      return false;
    }
    this.#linkedPeak = Math.max(this.#linkedPeak, this.#linked);
    this.#usedAtMs = performance.now();
    return true;
  }

  /** Opens what so many requests at once need ahead of need, in which way they will be asked; see `PathPool.warm`. */
  warm(count: number, askedAtMs: number): void {
    const { agreement } = this.#o;
    if (agreement.state === "spoken" && this.link.sessions > 0) this.link.warm(count);
    else {
      this.#ask();
      this.http.warm(count, askedAtMs);
    }
  }

  /** Ends every connection; requests under way fail. */
  async close(): Promise<void> {
    await Promise.all([this.link.destroy(), this.http.close()]);
  }

  /** Asks whether it speaks the link protocol, if it may be asked now. */
  #ask(): void {
    if (this.#o.agreement.mayAsk(systemClock.monotonic())) this.link.warm(1);
  }

  async #connectLink(signal: AbortSignal): Promise<Duplex> {
    const { agreement, connectLink } = this.#o;
    try {
      return await connectLink(signal);
    } catch (error) {
      if (error instanceof IsochroneError && error.code === "tls-failed") {
        if (isBrokenHandshake(error)) agreement.handleBroken(systemClock.monotonic());
        else agreement.handleRefused(systemClock.monotonic());
      }
      throw error;
    }
  }
}

/** Such as anticipate content, so that none is said (RFC 9110, section 8.6), as undici does. */
const EXPECT_CONTENT: ReadonlySet<string> = new Set([
  "PATCH",
  "POST",
  "PROPFIND",
  "PROPPATCH",
  "PUT",
  "QUERY",
]);

function headOf({ method, path, headers, body, isUrgent }: PoolRequest): LinkRequestHead {
  let authority = "";
  let hasLength = false;
  const fields: string[] = [];
  for (const field of headers) {
    const name = field[0];
    const value = field[1];
    if (name.length === 4 && name.toLowerCase() === "host") authority = value;
    else {
      if (name.length === 14 && name.toLowerCase() === "content-length") hasLength = true;
      fields.push(name, value);
    }
  }
  if (body instanceof Uint8Array && !hasLength) fields.push("content-length", String(body.byteLength));
  else if (body === undefined && !hasLength && EXPECT_CONTENT.has(method)) fields.push("content-length", "0");
  return { method, authority, path, urgency: isUrgent === true ? "live" : "normal", fields };
}
