/**
 * The link to one neighbour as an undici Dispatcher: a few sessions that stay open, as many as lately had work. A request goes to the session
 * with least under way; one that carries large answers counts as busier, one that does not answer its ping gets nothing new.
 */
import type { Duplex } from "node:stream";
import type { Dispatcher } from "undici";
import UndiciDispatcher from "undici/lib/dispatcher/dispatcher.js";
import type { MonotonicMs } from "#kit";
import { systemClock } from "#kit/io";
import { type LinkEvent, type LinkLimits, linkDefaults } from "../../core/link/words.ts";
import { LinkConnection } from "./connection.ts";
import { type LinkDispatchOptions, LinkError, LinkExchange } from "./exchange.ts";

export interface LinkPoolOptions {
  /** "parent \"fra-1\"", for messages. */
  readonly label: string;
  /** Opens a connection on which the link protocol was agreed. */
  readonly connect: (signal: AbortSignal) => Promise<Duplex>;
  readonly limits?: LinkLimits;
  /** Sessions at once, and requests that may wait for one. */
  readonly sessionsMax?: number;
  readonly waitingMax?: number;
  /** A session beyond the first that had nothing to do for so long is closed, ms. */
  readonly idleMs?: number;
}

const SESSIONS_MAX = 4;
const WAITING_MAX = 1_024;
const IDLE_MS = 60_000;
/** Requests under way for each of which another session pays: what one lost packet holds up. */
const STREAMS_PER_SESSION = 4;
/** A large answer is as much in the way as so many small ones. */
const LARGE_WEIGHT = 8;
/** A ping that is unanswered for longer than two round trips and this shows a session that is stuck, ms. */
const STUCK_MS = 100;
/** Taken for the round trip of a session that has not measured it, ms. */
const RTT_UNKNOWN_MS = 500;
const SWEEP_MS = 250;
/** What is left of the peak of requests at once at the next look: forgotten within a minute. */
const PEAK_DECAY = 0.99;
/** After a failure to connect nothing is opened ahead of need for so long, ms. */
const PAUSE_MS = 5_000;

/** A session that is open, and what goes over it. */
class Session {
  readonly connection: LinkConnection;
  readonly exchanges = new Map<number, LinkExchange>();
  readonly #pool: LinkPool;
  /** Exchanges with a large answer. */
  #large = 0;
  idleSinceMs = systemClock.monotonic();

  constructor(socket: Duplex, limits: LinkLimits, pool: LinkPool) {
    this.#pool = pool;
    this.connection = new LinkConnection("client", socket, limits, this);
  }

  get hasRoom(): boolean {
    return this.connection.session.streamsLeft > 0;
  }

  isStuck(nowMs: MonotonicMs): boolean {
    const { askingSince, rttMs } = this.connection.session;
    return askingSince !== undefined && nowMs - askingSince > 2 * (rttMs ?? RTT_UNKNOWN_MS) + STUCK_MS;
  }

  get load(): number {
    return this.exchanges.size + LARGE_WEIGHT * this.#large;
  }

  begin(exchange: LinkExchange, nowMs: MonotonicMs): void {
    const id = exchange.begin(this.connection, nowMs);
    if (id !== undefined) this.exchanges.set(id, exchange);
  }

  handleEvent(event: LinkEvent): void {
    if (!("id" in event)) {
      if (event.kind === "open") this.#pool.handleRoom();
      return;
    }
    const exchange = this.exchanges.get(event.id);
    if (exchange === undefined) return;
    if (event.kind === "cancelled" && event.reason === "refused" && exchange.mayMove) {
      this.exchanges.delete(event.id);
      this.#pool.move(exchange);
      return;
    }
    const nowMs = systemClock.monotonic();
    const wasLarge = exchange.isLarge;
    const isOver = exchange.handleEvent(event, nowMs);
    if (!wasLarge && exchange.isLarge) this.#large++;
    if (isOver) this.#ended(event.id, exchange, nowMs);
  }

  sweep(nowMs: MonotonicMs): void {
    for (const [id, exchange] of this.exchanges) {
      exchange.sweep(nowMs);
      if (exchange.isOver) this.#ended(id, exchange, nowMs);
    }
  }

  #ended(id: number, exchange: LinkExchange, nowMs: MonotonicMs): void {
    this.exchanges.delete(id);
    if (exchange.isLarge) this.#large--;
    if (this.exchanges.size === 0) this.idleSinceMs = nowMs;
    this.#pool.handleRoom();
  }

  handleGone(why: string): void {
    this.#pool.handleGone(this);
    for (const exchange of this.exchanges.values()) exchange.fail(new LinkError("UND_ERR_SOCKET", why));
    this.exchanges.clear();
  }
}

export class LinkPool extends UndiciDispatcher {
  readonly #o: LinkPoolOptions;
  readonly #limits: LinkLimits;
  readonly #sessions: Session[] = [];
  readonly #waiting: LinkExchange[] = [];
  #opening = 0;
  #peak = 0;
  #openAgainAtMs = 0;
  readonly #closing = new AbortController();
  readonly #sweeper: NodeJS.Timeout;
  /** All only grow. `moved`: begun anew on another session, because one had not begun with them. */
  readonly counters = { requests: 0, connects: 0, connectFailures: 0, refusedFull: 0, moved: 0, lost: 0 };

  constructor(options: LinkPoolOptions) {
    super();
    this.#o = options;
    this.#limits = options.limits ?? linkDefaults;
    this.#sweeper = setInterval(() => this.#sweep(), SWEEP_MS);
    this.#sweeper.unref();
  }

  /** Open sessions. */
  get sessions(): number {
    return this.#sessions.length;
  }
  /** Requests under way, those that wait included. */
  get active(): number {
    let count = this.#waiting.length;
    for (const { exchanges } of this.#sessions) count += exchanges.size;
    return count;
  }

  override dispatch(options: LinkDispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    const exchange = new LinkExchange(options, handler);
    this.counters.requests++;
    this.#start(exchange);
    return this.#waiting.length === 0;
  }

  override async close(): Promise<void> {
    this.#stop();
    for (const { connection } of this.#sessions) {
      connection.session.drain();
      connection.wake();
    }
    await Promise.resolve();
  }

  override async destroy(): Promise<void> {
    this.#stop();
    for (const { connection } of this.#sessions) connection.destroy();
    await Promise.resolve();
  }

  #stop(): void {
    this.#closing.abort();
    clearInterval(this.#sweeper);
    this.#failWaiting(new LinkError("UND_ERR_CLOSED", "the link was closed"));
  }

  /** @internal */
  move(exchange: LinkExchange): void {
    this.counters.moved++;
    this.#start(exchange);
  }

  /** @internal */
  handleRoom(): void {
    while (this.#waiting.length > 0) {
      if (!this.#waiting[0]?.isOver) {
        const nowMs = systemClock.monotonic();
        const session = this.#choose(nowMs);
        if (session === undefined) return;
        session.begin(this.#waiting[0] as LinkExchange, nowMs);
      }
      this.#waiting.shift();
    }
  }

  /** @internal */
  handleGone(session: Session): void {
    const at = this.#sessions.indexOf(session);
    if (at >= 0) this.#sessions.splice(at, 1);
    if (session.exchanges.size > 0) this.counters.lost++;
    if (this.#waiting.length > 0) this.#open();
  }

  #start(exchange: LinkExchange): void {
    const nowMs = systemClock.monotonic();
    const session = this.#choose(nowMs);
    if (session !== undefined) session.begin(exchange, nowMs);
    else if (this.#closing.signal.aborted)
      exchange.fail(new LinkError("UND_ERR_CLOSED", "the link was closed"));
    else if (this.#waiting.length >= (this.#o.waitingMax ?? WAITING_MAX)) {
      this.counters.refusedFull++;
      exchange.fail(new LinkError("UND_ERR_BPE_MISSING_UPSTREAM", "too many requests wait for a session"));
    } else this.#waiting.push(exchange);
    const { active } = this;
    if (active > this.#peak) this.#peak = active;
    if (
      this.#sessions.length < this.#sessionsMax &&
      this.#sessions.length + this.#opening < this.#wanted(nowMs)
    )
      this.#open();
  }

  /** The session with least under way among those that answer; of stuck ones one only if there is no other, and none can be opened. */
  #choose(nowMs: MonotonicMs): Session | undefined {
    let best: Session | undefined;
    let bestLoad = Infinity;
    let stuck: Session | undefined;
    for (const session of this.#sessions) {
      if (!session.hasRoom) continue;
      if (session.isStuck(nowMs)) {
        stuck ??= session;
        continue;
      }
      const { load } = session;
      if (load >= bestLoad) continue;
      best = session;
      bestLoad = load;
    }
    return best ?? (this.#sessions.length < this.#sessionsMax ? undefined : stuck);
  }

  get #sessionsMax(): number {
    return this.#o.sessionsMax ?? SESSIONS_MAX;
  }

  #wanted(nowMs: MonotonicMs): number {
    const stuck = this.#sessions.filter((session) => session.isStuck(nowMs)).length;
    return Math.min(this.#sessionsMax, Math.max(1, Math.ceil(this.#peak / STREAMS_PER_SESSION)) + stuck);
  }

  #open(): void {
    if (this.#closing.signal.aborted || this.#opening + this.#sessions.length >= this.#sessionsMax) return;
    // Ahead of need not after a failure; for who waits at once.
    if (this.#waiting.length === 0 && systemClock.monotonic() < this.#openAgainAtMs) return;
    this.#opening++;
    this.counters.connects++;
    void this.#o.connect(this.#closing.signal).then(
      (socket) => {
        this.#opening--;
        if (this.#closing.signal.aborted) socket.destroy();
        else this.#sessions.push(new Session(socket, this.#limits, this));
        this.handleRoom();
      },
      (error: unknown) => {
        this.#opening--;
        this.counters.connectFailures++;
        this.#openAgainAtMs = systemClock.monotonic() + PAUSE_MS;
        if (this.#opening === 0 && this.#sessions.length === 0)
          this.#failWaiting(error instanceof Error ? error : new Error(String(error)));
      },
    );
  }

  #failWaiting(error: Error): void {
    for (const exchange of this.#waiting.splice(0)) exchange.fail(error);
  }

  #sweep(): void {
    const nowMs = systemClock.monotonic();
    this.#peak = Math.max(this.#peak * PEAK_DECAY, this.active);
    for (const session of this.#sessions) session.sweep(nowMs);
    const wanted = this.#wanted(nowMs);
    if (this.#sessions.length > 0 && this.#sessions.length + this.#opening < wanted) this.#open();
    const idle = this.#sessions.findLast(
      ({ exchanges, idleSinceMs }) =>
        exchanges.size === 0 && nowMs - idleSinceMs > (this.#o.idleMs ?? IDLE_MS),
    );
    if (idle === undefined || this.#sessions.length <= wanted) return;
    idle.connection.session.drain();
    idle.connection.wake();
  }
}
