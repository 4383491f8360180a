/**
 * The link to one neighbour as an undici Dispatcher: a few sessions that stay open, as many as lately had work. A request goes to the session
 * with least under way; one that carries large answers counts as busier, one that does not answer its ping gets nothing new.
 */
import type { Duplex } from "node:stream";
import type { Dispatcher } from "undici";
import UndiciDispatcher from "undici/lib/dispatcher/dispatcher.js";
import type { MonotonicMs } from "#kit";
import { systemClock } from "#kit/io";
import type { CarrierSettings } from "../../core/carrier-choice.ts";
import { type LinkLimits, linkDefaults } from "../../core/link/words.ts";
import { ClientSession, type SessionOwner } from "./client-session.ts";
import { type LinkDispatchOptions, LinkError, LinkExchange } from "./exchange.ts";
import { UdpCarrier, type UdpConnect } from "./udp-carrier.ts";

export interface LinkPoolOptions {
  /** "parent \"fra-1\"", for messages. */
  readonly label: string;
  /** Opens a connection on which the link protocol was agreed. */
  readonly connect: (signal: AbortSignal) => Promise<Duplex>;
  /**
   * The other end has said its first word on a session, or ended it before: over TLS 1.3 only that tells whether it takes us, since its
   * judgement of our certificate comes after our handshake is done.
   */
  readonly onOpen?: () => void;
  readonly onRefused?: () => void;
  readonly limits?: LinkLimits;
  /** Small safe requests go by UDP where that pays and the other end offers it. Undefined: never. */
  readonly udp?: { readonly connect: UdpConnect; readonly settings?: Partial<CarrierSettings> } | undefined;
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
const SWEEP_MS = 250;
/** What is left of the peak of requests at once at the next look: forgotten within a minute. */
const PEAK_DECAY = 0.99;
/** After a failure to connect nothing is opened ahead of need for so long, ms: a server that starts is not asked by HTTP for long. */
const PAUSE_MS = 1_000;

export class LinkPool extends UndiciDispatcher {
  readonly #o: LinkPoolOptions;
  readonly #limits: LinkLimits;
  readonly #sessions: ClientSession[] = [];
  readonly #owner: SessionOwner;
  readonly udp: UdpCarrier | undefined;
  readonly #waiting: LinkExchange[] = [];
  #opening = 0;
  #peak = 0;
  #openAgainAtMs = 0;
  readonly #closing = new AbortController();
  /** Only while there is something to look at. */
  #sweeper: NodeJS.Timeout | undefined;
  /**
   * All only grow. `moved`: begun anew elsewhere, because a session had not begun with them or did not answer; `lost`: sessions that ended with requests under
   * way; `stuck`: looks at which a session did not answer.
   */
  readonly counters = {
    requests: 0,
    connects: 0,
    connectFailures: 0,
    refusedFull: 0,
    moved: 0,
    lost: 0,
    stuck: 0,
  };

  constructor(options: LinkPoolOptions) {
    super();
    this.#o = options;
    this.#limits = options.limits ?? linkDefaults;
    const move = (exchange: LinkExchange): void => this.#move(exchange);
    this.#owner = {
      handleOpen: () => {
        options.onOpen?.();
        this.#handleRoom();
      },
      handleRoom: () => this.#handleRoom(),
      move,
      handleGone: (session) => this.#handleGone(session),
      handleLate: () => this.udp?.choice.handleLateTcp(),
    };
    this.udp =
      options.udp &&
      new UdpCarrier({
        ...options.udp,
        limits: this.#limits,
        tlsSession: (nowMs) => this.#choose(nowMs, false),
        move,
      });
  }

  /** Open sessions. */
  get sessions(): number {
    let count = 0;
    for (const { isOpen } of this.#sessions) if (isOpen) count++;
    return count;
  }
  /** Open sessions that do not answer. */
  get stuckSessions(): number {
    const nowMs = systemClock.monotonic();
    return this.#sessions.filter((session) => session.isOpen && session.isStuck(nowMs)).length;
  }
  /** The shortest measured round trip of a session, ms; undefined: none is measured. */
  get rttMs(): number | undefined {
    const known = this.#sessions.flatMap(({ connection }) => connection.session.rttMs ?? []);
    return known.length === 0 ? undefined : Math.min(...known);
  }
  /** Requests under way, those that wait included. */
  get active(): number {
    let count = this.#waiting.length;
    for (const { exchanges } of this.#sessions) count += exchanges.size;
    return count;
  }

  /** As undici asks: waits for a session where there is none. */
  override dispatch(options: LinkDispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    this.counters.requests++;
    this.#start(LinkExchange.of(options, handler));
    return this.#waiting.length === 0;
  }

  /**
   * Begins a request on a session that is open and answers. False: there is none with room, or a link cannot carry it; then nothing
   * was done, and a session is being opened where one may be. `isByTls`: whatever pays, it does not go by UDP.
   */
  send(exchange: LinkExchange, isByTls = false): boolean {
    const nowMs = systemClock.monotonic();
    if (!isByTls && this.udp?.begin(exchange, nowMs) === true) {
      this.counters.requests++;
      return true;
    }
    const session = this.#choose(nowMs, false);
    const isBegun = session !== undefined && session.begin(exchange, nowMs) === undefined;
    if (isBegun) this.counters.requests++;
    this.#handleDemand(nowMs);
    return isBegun;
  }

  /** Opens sessions ahead of need, as many as so many requests at once pay for. */
  warm(requests: number): void {
    this.#peak = Math.max(this.#peak, requests);
    this.#handleDemand(systemClock.monotonic());
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
    this.udp?.close();
    clearInterval(this.#sweeper);
    this.#failWaiting(new LinkError("UND_ERR_CLOSED", "the link was closed"));
  }

  #move(exchange: LinkExchange): void {
    this.counters.moved++;
    if (exchange.onRefused === undefined) this.#start(exchange);
    else exchange.onRefused();
  }

  #handleRoom(): void {
    while (this.#waiting.length > 0) {
      const first = this.#waiting[0] as LinkExchange;
      if (!first.isOver) {
        const nowMs = systemClock.monotonic();
        const session = this.#choose(nowMs, true);
        if (session === undefined) return;
        beginOrFail(session, first, nowMs);
      }
      this.#waiting.shift();
    }
  }

  #handleGone(session: ClientSession): void {
    this.udp?.handleTlsGone(session);
    const at = this.#sessions.indexOf(session);
    if (at >= 0) this.#sessions.splice(at, 1);
    if (session.exchanges.size > 0) this.counters.lost++;
    if (!session.isOpen) this.#handleRefused();
    if (this.#waiting.length > 0) this.#open();
  }

  #handleRefused(): void {
    this.counters.connectFailures++;
    this.#openAgainAtMs = systemClock.monotonic() + PAUSE_MS;
    if (!this.#closing.signal.aborted) this.#o.onRefused?.();
    if (this.#opening === 0 && this.#sessions.length === 0)
      this.#failWaiting(new LinkError("UND_ERR_SOCKET", "the other end takes no link of ours"));
  }

  #start(exchange: LinkExchange): void {
    const nowMs = systemClock.monotonic();
    if (this.udp?.begin(exchange, nowMs) === true) return;
    const session = this.#choose(nowMs, true);
    if (session !== undefined) beginOrFail(session, exchange, nowMs);
    else if (this.#closing.signal.aborted)
      exchange.fail(new LinkError("UND_ERR_CLOSED", "the link was closed"));
    else if (this.#waiting.length >= (this.#o.waitingMax ?? WAITING_MAX)) {
      this.counters.refusedFull++;
      exchange.fail(new LinkError("UND_ERR_BPE_MISSING_UPSTREAM", "too many requests wait for a session"));
    } else this.#waiting.push(exchange);
    this.#handleDemand(nowMs);
  }

  #handleDemand(nowMs: MonotonicMs): void {
    const { active } = this;
    if (active > this.#peak) this.#peak = active;
    if (
      this.#sessions.length < this.sessionsMax &&
      this.#sessions.length + this.#opening < this.#wanted(nowMs)
    )
      this.#open();
  }

  /**
   * The session with least in the way among those that answer; of stuck ones, where `takesStuck`, one only if there is no other, and
   * none can be opened.
   */
  #choose(nowMs: MonotonicMs, takesStuck: boolean): ClientSession | undefined {
    let best: ClientSession | undefined;
    let bestLoad = Infinity;
    let stuck: ClientSession | undefined;
    for (const session of this.#sessions) {
      if (!session.hasRoom) continue;
      if (session.isStuck(nowMs)) {
        stuck ??= session;
        continue;
      }
      const load = session.load(nowMs);
      if (load >= bestLoad) continue;
      best = session;
      bestLoad = load;
    }
    return best ?? (takesStuck && this.#sessions.length >= this.sessionsMax ? stuck : undefined);
  }

  get sessionsMax(): number {
    return this.#o.sessionsMax ?? SESSIONS_MAX;
  }

  #wanted(nowMs: MonotonicMs): number {
    let stuck = 0;
    for (const session of this.#sessions) if (session.isStuck(nowMs)) stuck++;
    return Math.min(this.sessionsMax, Math.max(1, Math.ceil(this.#peak / STREAMS_PER_SESSION)) + stuck);
  }

  #open(): void {
    if (this.#closing.signal.aborted || this.#opening + this.#sessions.length >= this.sessionsMax) return;
    // Ahead of need not after a failure; for who waits at once.
    if (this.#waiting.length === 0 && systemClock.monotonic() < this.#openAgainAtMs) return;
    this.#opening++;
    this.counters.connects++;
    this.#sweeper ??= setInterval(() => this.#sweep(), SWEEP_MS).unref();
    void this.#o.connect(this.#closing.signal).then(
      (socket) => {
        this.#opening--;
        if (this.#closing.signal.aborted) socket.destroy();
        else this.#sessions.push(new ClientSession(socket, this.#limits, this.#owner));
        this.#handleRoom();
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
    for (const session of this.#sessions) {
      session.sweep(nowMs);
      if (session.isStuck(nowMs)) this.#handleStuck(session);
    }
    this.udp?.sweep(nowMs);
    const wanted = this.#wanted(nowMs);
    if (this.#sessions.length > 0 && this.#sessions.length + this.#opening < wanted) this.#open();
    this.#closeIdle(nowMs, wanted);
    if (this.#sessions.length > 0 || this.#opening > 0 || this.#waiting.length > 0) return;
    clearInterval(this.#sweeper);
    this.#sweeper = undefined;
  }

  /** While another session answers it is not the neighbour that is slow: it would be asked twice for nothing. */
  #handleStuck(stuck: ClientSession): void {
    this.counters.stuck++;
    const { askingSince } = stuck.connection.session;
    const isAlone = this.#sessions.every(
      ({ connection }) => askingSince === undefined || connection.session.heardAt <= askingSince,
    );
    if (!isAlone) stuck.leave();
  }

  #closeIdle(nowMs: MonotonicMs, wanted: number): void {
    if (this.#sessions.length <= wanted) return;
    const idle = this.#sessions.findLast(
      (session) =>
        session.exchanges.size === 0 &&
        nowMs - session.idleSinceMs > (this.#o.idleMs ?? IDLE_MS) &&
        this.udp?.uses(session) !== true,
    );
    idle?.connection.session.drain();
    idle?.connection.wake();
  }
}

function beginOrFail(session: ClientSession, exchange: LinkExchange, nowMs: MonotonicMs): void {
  const fault = session.begin(exchange, nowMs);
  if (fault !== undefined)
    exchange.fail(new LinkError("UND_ERR_INVALID_ARG", `a link cannot carry this request (${fault})`));
}
