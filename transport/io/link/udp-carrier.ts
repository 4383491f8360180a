/**
 * The UDP carrier of the link to one neighbour: agreed on over one of its TLS sessions, which it does not outlive, and used for small safe requests where
 * it pays (`core/carrier-choice.ts`). Nothing is sent over it before the other end has answered on it, and what it leaves unanswered for a probe timeout is
 * asked over TLS as well: whoever answers first is taken.
 */
import type { Duplex } from "node:stream";
import { setTimeout as pause } from "node:timers/promises";
import type { MonotonicMs } from "#kit";
import { systemClock } from "#kit/io";
import { CarrierChoice, type CarrierFailure, type CarrierSettings } from "../../core/carrier-choice.ts";
import type { LinkLimits } from "../../core/link/words.ts";
import { CHANNELS_MAX, type CloseReason, type UdpEvent } from "../../core/udp/words.ts";
import type { UdpExplanation } from "../face.ts";
import type { UdpLink } from "../udp/endpoint.ts";
import { ClientSession, type SessionOwner } from "./client-session.ts";
import type { LinkExchange } from "./exchange.ts";
import { UdpChannels } from "./udp-channels.ts";

/** Opens a UDP connection under keys of a TLS session; undefined: none can be had. */
export type UdpConnect = (options: {
  readonly socket: Duplex;
  readonly context: number;
  readonly port: number;
  readonly onEvent: (event: UdpEvent) => void;
}) => Promise<UdpLink | undefined>;

export interface UdpCarrierOptions {
  readonly connect: UdpConnect;
  readonly settings?: Partial<CarrierSettings>;
  readonly limits: LinkLimits;
  /** The TLS session that has least to do. */
  readonly tlsSession: (nowMs: MonotonicMs) => ClientSession | undefined;
  /** Takes an exchange that is to be begun anew by TLS. */
  readonly move: (exchange: LinkExchange) => void;
}

/** Sessions, each on a channel of its own: what is lost in one holds up no other. */
const SESSIONS_MAX = 8;
/** Until the other end has answered, ms: two lost packets over the longest way round the earth. No request waits for it. */
const OPEN_MS_MAX = 3_000;
/** From the announcement over TLS to the first datagram, ms at least. */
const ANNOUNCE_MS_MIN = 10;
/** Silence of so many probe timeouts ends it, and of no less, ms: shorter is within what a busy process leaves waiting. */
const SILENT_PROBES = 3;
const SILENT_MS_MIN = 600;
/** A carrier that carried nothing for so long is closed, ms. */
const IDLE_MS = 120_000;
/** An end that is silent within a body is asked this soon whether it is there, ms. */
const BUSY_PING_MS = 100;
/** By how much the second attempt begins later in a race, ms and part of a round trip: less is not worth the CPU. */
const RACE_DELAY_MS = 5;
const RACE_DELAY_SHARE = 1 / 8;
/** From the first of a small answer to its end it takes no longer than so many round trips and this, ms, if nothing is wrong with it. */
const ANSWER_ROUND_TRIPS = 3;
const ANSWER_MS = 200;
/** Shortest time between two looks at what waits, ms. */
const LOOK_MS_MIN = 5;

/** One UDP connection. */
interface Carried {
  /** Over which it was agreed on. */
  readonly tls: ClientSession;
  readonly channels: UdpChannels;
  readonly sessions: ClientSession[];
  readonly owner: SessionOwner;
  link: UdpLink | undefined;
  isOpen: boolean;
  usedAtMs: MonotonicMs;
  timer: NodeJS.Timeout | undefined;
}

export class UdpCarrier {
  readonly #o: UdpCarrierOptions;
  readonly #limits: LinkLimits;
  readonly choice: CarrierChoice;
  /** That which new requests go over; it may not be open yet. */
  #current: Carried | undefined;
  /** With those that finish what they have begun. */
  readonly #all = new Set<Carried>();
  /** All only grow. `fallbacks`: asked by TLS as well, since nothing came for a probe timeout; `moved`: of large answers the rest. */
  readonly counters = { requests: 0, raced: 0, fallbacks: 0, moved: 0, opened: 0 };

  constructor(options: UdpCarrierOptions) {
    this.#o = options;
    this.#limits = { ...options.limits, busyPingMs: BUSY_PING_MS, udpPort: undefined };
    this.choice = new CarrierChoice(options.settings);
  }

  /** Requests under way. */
  get active(): number {
    let count = 0;
    for (const { sessions } of this.#all) for (const { exchanges } of sessions) count += exchanges.size;
    return count;
  }
  get isOpen(): boolean {
    return this.#current?.isOpen ?? false;
  }

  /** Its own counters and those of its choice. */
  get totals() {
    return { ...this.counters, ...this.choice.counters };
  }

  explain(nowMs: MonotonicMs): UdpExplanation {
    const { choice } = this;
    const { srttMs } = this.#current?.link ?? {};
    return { reason: choice.reason(nowMs), lossRatio: choice.lossRatio, rttMs: srttMs ?? null };
  }

  /** Whether a TLS session is needed for what goes by UDP. */
  uses(session: ClientSession): boolean {
    for (const { tls } of this.#all) if (tls === session) return true;
    return false;
  }

  /** Begins a request, if it is one for UDP. False: nothing was done. */
  begin(exchange: LinkExchange, nowMs: MonotonicMs): boolean {
    if (!exchange.isSafe || exchange.isLarge || exchange.isRepeated) return false;
    const current = this.#current;
    if (current === undefined) {
      if (this.choice.mayOpen(nowMs)) this.#open(nowMs);
      return false;
    }
    if (!current.isOpen) return false;
    if (isSilent(current, nowMs)) {
      this.#look(current, LOOK_MS_MIN);
      return false;
    }
    if (current.sessions.every(({ connection }) => connection.session.isDraining)) {
      this.#leave(current);
      return false;
    }
    const use = this.choice.choose(nowMs);
    if (use === "raced-behind") this.#raceBehind(current, exchange);
    const isFirst = use === "udp" || use === "raced";
    const session = isFirst ? this.#choose(current, nowMs) : undefined;
    if (session === undefined || session.begin(exchange, nowMs) !== undefined) return false;
    this.counters.requests++;
    current.usedAtMs = nowMs;
    if (use === "raced") this.#race(current, exchange);
    this.#look(current, current.link?.probeTimeoutMs ?? LOOK_MS_MIN);
    return true;
  }

  sweep(nowMs: MonotonicMs): void {
    for (const { sessions } of this.#all) for (const session of sessions) session.sweep(nowMs);
    const current = this.#current;
    if (current?.link === undefined) return;
    this.choice.handleCounts(current.link.counters);
    if (current.isOpen && this.active === 0 && nowMs - current.usedAtMs > IDLE_MS) this.#leave(current);
  }

  /** A TLS session is gone: in good order what was agreed on over it ends by itself, else at once. */
  handleTlsGone(tls: ClientSession): void {
    for (const carried of this.#all) {
      if (carried.tls !== tls) continue;
      if (tls.connection.session.isDraining) this.#leave(carried);
      else this.#end(carried);
    }
  }

  close(): void {
    for (const carried of this.#all) this.#end(carried);
  }

  #open(nowMs: MonotonicMs): void {
    const tls = this.#o.tlsSession(nowMs);
    const port = tls?.connection.session.peerUdpPort;
    if (tls === undefined || port === undefined) return;
    this.choice.handleOpening();
    const owner: SessionOwner = {
      handleOpen: () => this.#handleOpen(carried),
      handleRoom: () => {},
      move: this.#o.move,
      handleGone: (session) => this.#handleGone(carried, session),
      handleLarge: (session, id, exchange) => this.#moveRest(carried, session, id, exchange),
    };
    const channels = new UdpChannels({ onClosed: (reason) => this.#handleClosed(carried, reason) });
    const carried: Carried = {
      tls,
      channels,
      sessions: [],
      owner,
      link: undefined,
      isOpen: false,
      usedAtMs: nowMs,
      timer: undefined,
    };
    this.#current = carried;
    this.#all.add(carried);
    void this.#connect(carried, port);
  }

  async #connect(carried: Carried, port: number): Promise<void> {
    const { tls, channels } = carried;
    const { session } = tls.connection;
    const context = session.announceUdp();
    tls.connection.wake();
    // The server is to know of it before the first datagram comes: that would be a stranger's, and repeated a second later.
    await pause(Math.max(ANNOUNCE_MS_MIN, session.rttMs ?? 0));
    const link = await this.#o
      .connect({ socket: tls.socket, context, port, onEvent: channels.handleEvent })
      .catch(() => undefined);
    if (!this.#all.has(carried)) {
      link?.close();
      return;
    }
    if (link === undefined) {
      this.#fail(carried, "blocked");
      return;
    }
    carried.link = link;
    channels.link = link;
    carried.timer = setTimeout(() => this.#fail(carried, "blocked"), OPEN_MS_MAX);
    this.#newSession(carried);
  }

  #newSession({ channels, sessions, owner }: Carried): ClientSession {
    const channel = channels.used;
    const session = new ClientSession(channels.open(), this.#limits, owner, channel);
    sessions.push(session);
    return session;
  }

  #handleOpen(carried: Carried): void {
    if (carried.isOpen) return;
    carried.isOpen = true;
    clearTimeout(carried.timer);
    carried.timer = undefined;
    this.counters.opened++;
    if (carried === this.#current) this.choice.handleOpen(systemClock.monotonic());
  }

  /** The session with least in the way of a new request, a new one where all have something. */
  #choose(carried: Carried, nowMs: MonotonicMs): ClientSession | undefined {
    let best: ClientSession | undefined;
    let bestLoad = Infinity;
    for (const session of carried.sessions) {
      const load = session.hasRoom && !session.isStuck(nowMs) ? session.load(nowMs) : Infinity;
      if (load >= bestLoad) continue;
      best = session;
      bestLoad = load;
    }
    if (bestLoad === 0 || carried.sessions.length >= SESSIONS_MAX || carried.channels.used >= CHANNELS_MAX)
      return best;
    const session = this.#newSession(carried);
    // Who is at the other end is known.
    session.isOpen = true;
    return session;
  }

  /** What UDP costs more is not worth it for what is large: the server goes on by TLS from where it is. */
  #moveRest({ tls }: Carried, { channel }: ClientSession, id: number, exchange: LinkExchange): void {
    const nowMs = systemClock.monotonic();
    if (channel === undefined || !tls.hasRoom || tls.isStuck(nowMs)) return;
    if (tls.beginRest(exchange, channel, id, nowMs)) this.counters.moved++;
  }

  /** Has a request asked for by TLS too, a moment later. */
  #race(carried: Carried, exchange: LinkExchange): void {
    this.counters.raced++;
    const verdict = (isUdpFirst: boolean): void => {
      const nowMs = systemClock.monotonic();
      if (this.#current === carried && this.choice.handleRace(isUdpFirst, nowMs)) this.#leave(carried);
    };
    setTimeout(() => {
      if (exchange.hasAnswer) verdict(true);
      else if (this.#askAlso(exchange)) exchange.onRaced = verdict;
    }, raceDelayMs(carried)).unref();
  }

  /** Has a request, which begins by TLS, asked for by UDP too, a moment later. */
  #raceBehind(carried: Carried, exchange: LinkExchange): void {
    setTimeout(() => {
      const nowMs = systemClock.monotonic();
      if (this.#current !== carried || isSilent(carried, nowMs)) return;
      if (exchange.hasAnswer) this.choice.handleRaceBehind(false);
      if (!exchange.mayRace) return;
      if (this.#choose(carried, nowMs)?.beginAlso(exchange, nowMs) !== undefined || !exchange.isRaced) return;
      this.counters.requests++;
      this.counters.raced++;
      carried.usedAtMs = nowMs;
      exchange.onRaced = (isUdpFirst) => this.choice.handleRaceBehind(isUdpFirst);
    }, raceDelayMs(carried)).unref();
  }

  /** Asks by TLS as well. */
  #askAlso(exchange: LinkExchange): boolean {
    if (!exchange.mayRace) return false;
    const nowMs = systemClock.monotonic();
    return this.#o.tlsSession(nowMs)?.beginAlso(exchange, nowMs) === undefined && exchange.isRaced;
  }

  /** Looks in `ms` at what waits for its answer, if that is not going to be looked at anyway. */
  #look(carried: Carried, ms: number): void {
    carried.timer ??= setTimeout(
      () => {
        carried.timer = undefined;
        // What came meanwhile is read first.
        setImmediate(() => this.#handleLook(carried));
      },
      Math.max(LOOK_MS_MIN, ms),
    );
  }

  #handleLook(carried: Carried): void {
    const { link, sessions } = carried;
    if (link === undefined || !this.#all.has(carried)) return;
    const nowMs = systemClock.monotonic();
    const { probeTimeoutMs, askingSince } = link;
    const silentMs = askingSince === undefined ? 0 : nowMs - askingSince;
    if (silentMs >= Math.max(SILENT_MS_MIN, SILENT_PROBES * probeTimeoutMs)) {
      this.#fail(carried, "silent");
      return;
    }
    let nextMs = probeTimeoutMs;
    let isBusy = false;
    const lateSinceMs = nowMs - ANSWER_ROUND_TRIPS * (link.srttMs ?? 0) - ANSWER_MS;
    for (const { exchanges } of sessions)
      for (const exchange of exchanges.values()) {
        isBusy = true;
        if (exchange.hasAnswer && exchange.isSmall && exchange.answeredAtMs < lateSinceMs)
          this.#doubt(exchange, nowMs);
        if (exchange.hasAnswer || exchange.isRaced) continue;
        const leftMs = probeTimeoutMs - Math.min(silentMs, nowMs - exchange.beganAtMs);
        if (leftMs > 0) nextMs = Math.min(nextMs, leftMs);
        else if (this.#askAlso(exchange)) this.counters.fallbacks++;
      }
    if (isBusy) this.#look(carried, nextMs);
  }

  /** Once for each: it may be its origin that is slow. */
  #doubt(exchange: LinkExchange, nowMs: MonotonicMs): void {
    if (!exchange.isDoubted) this.choice.handleDoubt(nowMs);
    exchange.isDoubted = true;
  }

  #fail(carried: Carried, why: CarrierFailure): void {
    if (this.#current === carried) {
      this.#current = undefined;
      this.choice.handleFailed(why, systemClock.monotonic());
    }
    this.#end(carried);
  }

  /** Nothing new goes over it; it ends with the last of what it carries. */
  #leave(carried: Carried): void {
    this.#retire(carried);
    if (carried.sessions.length === 0) this.#end(carried);
    for (const { connection } of carried.sessions) {
      connection.session.drain();
      connection.wake();
    }
  }

  #end(carried: Carried): void {
    this.#retire(carried);
    this.#all.delete(carried);
    clearTimeout(carried.timer);
    carried.link?.close();
  }

  #retire(carried: Carried): void {
    if (this.#current !== carried) return;
    this.#current = undefined;
    this.choice.handleClosed();
  }

  #handleGone(carried: Carried, session: ClientSession): void {
    const at = carried.sessions.indexOf(session);
    if (at >= 0) carried.sessions.splice(at, 1);
    if (carried.sessions.length === 0) this.#end(carried);
  }

  #handleClosed(carried: Carried, reason: CloseReason): void {
    if (!this.#all.has(carried)) return;
    if (reason === "done") this.#end(carried);
    else this.#fail(carried, carried.isOpen ? "silent" : "blocked");
  }
}

const raceDelayMs = ({ link }: Carried): number => RACE_DELAY_MS + RACE_DELAY_SHARE * (link?.srttMs ?? 0);

/** Whether a probe timeout has passed without an answer to anything. */
function isSilent({ link }: Carried, nowMs: MonotonicMs): boolean {
  return link?.askingSince !== undefined && nowMs - link.askingSince >= link.probeTimeoutMs;
}
