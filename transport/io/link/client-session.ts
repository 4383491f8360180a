/** The asking end of one session, over TLS or over a channel of UDP: what goes over it, and how much is in a new request's way. */
import type { Duplex } from "node:stream";
import { IsochroneError, type MonotonicMs } from "#kit";
import { systemClock } from "#kit/io";
import type { LinkEvent, LinkLimits, StreamReason } from "../../core/link/words.ts";
import { LinkConnection } from "./connection.ts";
import { type LinkCarrier, LinkError, type LinkExchange } from "./exchange.ts";

/** A large answer is as much in the way as so many small ones. */
const LARGE_WEIGHT = 8;
/** A ping that is unanswered for longer than two round trips and this shows a session that is stuck, ms. */
const STUCK_MS = 100;
/** What a session counts more whose last answer was late, or on which nothing comes for two round trips and this. */
const DOUBT_WEIGHT = 4;
const SILENT_MS = 20;
/** Taken for the round trip of a session that has not measured it, ms. */
const RTT_UNKNOWN_MS = 500;

/** Who has sessions. */
export interface SessionOwner {
  /** The other end has said its first word. */
  readonly handleOpen: (session: ClientSession) => void;
  /** It has room for one more. */
  readonly handleRoom: () => void;
  /** Takes an exchange that is to be begun anew elsewhere. */
  readonly move: (exchange: LinkExchange) => void;
  readonly handleGone: (session: ClientSession) => void;
  /** An answer was late for its path. */
  readonly handleLate?: () => void;
  /** What comes over UDP has turned out to be large: the rest may come by TLS. */
  readonly handleLarge?: (session: ClientSession, id: number, exchange: LinkExchange) => void;
}

/** A session that is open, and what goes over it. */
export class ClientSession implements LinkCarrier {
  readonly socket: Duplex;
  readonly connection: LinkConnection;
  readonly exchanges = new Map<number, LinkExchange>();
  /** Over which of a UDP carrier; undefined: over TLS. */
  readonly channel: number | undefined;
  readonly #owner: SessionOwner;
  /** Exchanges with a large answer. */
  readonly #large = new Set<number>();
  /** The other end has said its first word. */
  isOpen = false;
  /** Its last answer was late for the path. */
  #isLate = false;
  idleSinceMs = systemClock.monotonic();

  constructor(socket: Duplex, limits: LinkLimits, owner: SessionOwner, channel?: number) {
    this.socket = socket;
    this.#owner = owner;
    this.channel = channel;
    this.connection = new LinkConnection("client", socket, limits, this);
  }

  get isUdp(): boolean {
    return this.channel !== undefined;
  }
  get hasRoom(): boolean {
    return this.isOpen && this.connection.session.streamsLeft > 0;
  }

  isStuck(nowMs: MonotonicMs): boolean {
    const { askingSince, rttMs } = this.connection.session;
    return askingSince !== undefined && nowMs - askingSince > 2 * (rttMs ?? RTT_UNKNOWN_MS) + STUCK_MS;
  }

  /** How much is in a new request's way. */
  load(nowMs: MonotonicMs): number {
    const load = this.exchanges.size + LARGE_WEIGHT * this.#large.size + (this.#isLate ? DOUBT_WEIGHT : 0);
    return load + (this.#isSilent(nowMs) ? DOUBT_WEIGHT : 0);
  }

  /** Nothing comes though something is asked: it may be stuck, and is not known to be yet. */
  #isSilent(nowMs: MonotonicMs): boolean {
    const { session } = this.connection;
    const { rttMs } = session;
    if (this.exchanges.size === 0 || rttMs === undefined) return false;
    const since = nowMs - 2 * rttMs - SILENT_MS;
    if (session.heardAt > since) return false;
    for (const first of this.exchanges.values()) return first.beganAtMs < since;
    return false;
  }

  /** Undefined: it has begun, or was given up as it did. A reason: this request cannot be sent. */
  begin(exchange: LinkExchange, nowMs: MonotonicMs): StreamReason | undefined {
    return this.#begun(exchange, exchange.begin(this, nowMs));
  }

  /** The same for one that is under way elsewhere. */
  beginAlso(exchange: LinkExchange, nowMs: MonotonicMs): StreamReason | undefined {
    return this.#begun(exchange, exchange.beginAlso(this, nowMs));
  }

  /** Has the rest of an answer come over this session, which comes on a stream of a channel. */
  beginRest(exchange: LinkExchange, channel: number, stream: number, nowMs: MonotonicMs): boolean {
    return this.#begun(exchange, exchange.beginRest(this, channel, stream, nowMs)) === undefined;
  }

  #begun(exchange: LinkExchange, id: number | StreamReason): StreamReason | undefined {
    if (typeof id === "string") return id;
    if (exchange.isOver) return undefined;
    this.exchanges.set(id, exchange);
    if (exchange.isLarge) this.#large.add(id);
    return undefined;
  }

  handleTiming(isLate: boolean): void {
    this.#isLate = isLate;
    if (isLate) this.#owner.handleLate?.();
  }

  handleGivenUp(id: number): void {
    this.#ended(id, systemClock.monotonic());
  }

  handleEvent(event: LinkEvent): void {
    if (!("id" in event)) {
      if (event.kind === "open") {
        this.isOpen = true;
        this.#owner.handleOpen(this);
      }
      return;
    }
    const exchange = this.exchanges.get(event.id);
    if (exchange === undefined) return;
    const nowMs = systemClock.monotonic();
    if (event.kind === "cancelled" && this.#moves(exchange, event.reason)) {
      this.#ended(event.id, nowMs);
      this.#move(exchange);
      return;
    }
    const isOver = exchange.handleEvent(event, this, nowMs);
    if (exchange.isLarge && this.exchanges.has(event.id)) this.#large.add(event.id);
    if (isOver) this.#ended(event.id, nowMs);
    else if (this.isUdp && exchange.wantsTcp) this.#owner.handleLarge?.(this, event.id, exchange);
  }

  /** Whether an exchange that was given up here is begun anew elsewhere. */
  #moves(exchange: LinkExchange, reason: StreamReason): boolean {
    // Of one that has an answer it was the rest that was asked for here.
    if (exchange.isOver || exchange.hasAnswer || exchange.isRaced) return false;
    if (reason === "refused") return exchange.mayMove;
    return this.isUdp && reason === "session-lost" && this.#repeats(exchange);
  }

  #repeats(exchange: LinkExchange): boolean {
    if (!exchange.mayRepeat) return false;
    exchange.isRepeated = true;
    return true;
  }

  #move(exchange: LinkExchange): void {
    exchange.handleMoved();
    this.#owner.move(exchange);
  }

  sweep(nowMs: MonotonicMs): void {
    for (const exchange of this.exchanges.values()) exchange.sweep(nowMs);
  }

  #ended(id: number, nowMs: MonotonicMs): void {
    if (!this.exchanges.delete(id)) return;
    this.#large.delete(id);
    if (this.exchanges.size === 0) this.idleSinceMs = nowMs;
    this.#owner.handleRoom();
  }

  /** What may be asked for again elsewhere, and has no answer yet, is. */
  leave(): void {
    for (const [id, exchange] of this.exchanges) {
      if (!this.#repeats(exchange)) continue;
      this.connection.session.cancel(id, "given-up");
      this.#ended(id, systemClock.monotonic());
      this.#move(exchange);
    }
  }

  handleGone(why: string): void {
    this.#owner.handleGone(this);
    const exchanges = [...this.exchanges.values()];
    this.exchanges.clear();
    for (const exchange of exchanges) {
      if (exchange.handleLegGone(this)) continue;
      if (this.isUdp && this.#repeats(exchange)) this.#move(exchange);
      else exchange.fail(this.isUdp ? udpLost(why) : new LinkError("UND_ERR_SOCKET", why));
    }
  }
}

/** A UDP carrier that ends tells nothing of the server, nor of the path of TCP. */
function udpLost(why: string): IsochroneError {
  return new IsochroneError(`The UDP carrier ended within the answer: ${why}`, {
    code: "udp-lost",
    source: "upstream",
    retry: "safe",
  });
}
