/**
 * When secondary zones are looked after at their primaries, and for how long they may be answered from (RFC 1034 section 4.3.5, RFC 1996).
 * Sans-IO: a driver carries out what `pollTransmit` says, tells what came of it, and serves or stops serving what `pollEvent` says.
 */
import { type MonotonicMs, plusMs, type Random, TimerHeap, compareSerials } from "#kit";
import type { SoaTimers } from "./transfer-in.ts";

export interface Primary {
  readonly address: string;
  readonly port: number;
  /** Of the TSIG key; undefined: unsigned. */
  readonly keyName?: string | undefined;
}

/** To be asked now; its outcome goes to `handleOutcome`. */
export interface ZoneFetch {
  readonly zoneId: string;
  readonly primary: Primary;
}

export type FetchOutcome =
  /** The primary has the serial that is here. */
  | { readonly kind: "up-to-date" }
  /** Another one was taken, which the driver serves by now. */
  | { readonly kind: "taken"; readonly timers: SoaTimers }
  /** Nothing was taken. */
  | { readonly kind: "failed"; readonly why: string };

export type SecondaryEvent =
  /** No primary has confirmed it for as long as its SOA allows: SERVFAIL from now on. */
  | { readonly kind: "expired"; readonly zoneId: string }
  /** What was here before it expired is right again. */
  | { readonly kind: "revived"; readonly zoneId: string };

export interface SecondarySettings {
  /** Transfers and questions under way at once, in all and at one primary. */
  readonly fetchesMax: number;
  readonly fetchesPerPrimaryMax: number;
  /** What SOA records may ask for, seconds; BIND's bounds but for the least, which are shorter here. */
  readonly refreshSeconds: readonly [min: number, max: number];
  readonly retrySeconds: readonly [min: number, max: number];
  readonly expireSeconds: readonly [min: number, max: number];
  /** While nothing is here: the first wait, which doubles up to the last. */
  readonly firstRetryMs: readonly [first: number, last: number];
  /** Two looks that NOTIFY brings about are so far apart, ms. */
  readonly notifyGapMs: number;
  /** Zones whose refresh is overdue at the start are looked after within this time, ms. */
  readonly startSpreadMs: number;
}
export const secondaryDefaults: SecondarySettings = {
  fetchesMax: 10,
  fetchesPerPrimaryMax: 2,
  refreshSeconds: [60, 2_419_200],
  retrySeconds: [30, 1_209_600],
  expireSeconds: [300, 14_515_200],
  firstRetryMs: [5_000, 600_000],
  notifyGapMs: 1_000,
  startSpreadMs: 5_000,
};

export const secondaryStates = ["waiting", "current", "unconfirmed", "expired"] as const;
/** `waiting`: never fetched; `unconfirmed`: served, but no primary answered when one was last asked. */
export type SecondaryState = (typeof secondaryStates)[number];

export interface SecondaryStatus {
  readonly state: SecondaryState;
  /** Of what is here, served or not. */
  readonly serial: number | undefined;
  /** When a primary last said that it is right; undefined: never. */
  readonly confirmedAt: MonotonicMs | undefined;
  /** Of the primary that was asked last, if it did not help. */
  readonly problem: string | undefined;
}

interface Entry {
  readonly zoneId: string;
  primaries: readonly Primary[];
  timers: SoaTimers | undefined;
  confirmedAt: MonotonicMs | undefined;
  isExpired: boolean;
  /** Whom to ask next; 0 again after a success, or when all were asked in vain. */
  at: number;
  /** Rounds through all primaries without success. */
  failures: number;
  /** What is carried out now. */
  underWay: ZoneFetch | undefined;
  isNotified: boolean;
  lastAskedAt: MonotonicMs | undefined;
  problem: string | undefined;
}

const DUE = "due ";
const EXPIRY = "expiry ";

export class Secondaries {
  readonly #settings: SecondarySettings;
  readonly #random: Random;
  readonly #zones = new Map<string, Entry>();
  readonly #timers = new TimerHeap();
  /** Due, in the order in which they became so. */
  readonly #ready = new Set<string>();
  readonly #atPrimary = new Map<string, number>();
  readonly #events: SecondaryEvent[] = [];
  #underWay = 0;
  readonly counters = { asked: 0, upToDate: 0, taken: 0, failed: 0, expired: 0, notified: 0, stale: 0 };

  constructor(random: Random, settings: SecondarySettings = secondaryDefaults) {
    this.#random = random;
    this.#settings = settings;
  }

  /**
   * A zone from now on, or other primaries of one that is there, which are asked at once.
   *
   * @param kept what is here from before, confirmed `ageMs` ago; it is served unless an `expired` follows
   */
  set(
    zoneId: string,
    primaries: readonly Primary[],
    kept: { readonly timers: SoaTimers; readonly ageMs: number } | undefined,
    now: MonotonicMs,
  ): void {
    const known = this.#zones.get(zoneId);
    if (known !== undefined) {
      known.primaries = primaries;
      known.at = 0;
      this.#timers.set(DUE + zoneId, now);
      return;
    }
    const entry: Entry = {
      zoneId,
      primaries,
      timers: kept?.timers,
      confirmedAt: kept === undefined ? undefined : plusMs(now, -Math.max(0, kept.ageMs)),
      isExpired: false,
      at: 0,
      failures: 0,
      underWay: undefined,
      isNotified: false,
      lastAskedAt: undefined,
      problem: undefined,
    };
    this.#zones.set(zoneId, entry);
    const spreadMs = kept === undefined ? 0 : this.#random.float() * this.#settings.startSpreadMs;
    const refreshAt =
      entry.timers === undefined ? now : plusMs(now, this.#refreshMs(entry.timers) - (kept?.ageMs ?? 0));
    this.#timers.set(DUE + zoneId, refreshAt > now ? refreshAt : plusMs(now, spreadMs));
    this.#setExpiry(entry);
    this.#expire(now);
  }

  delete(zoneId: string): void {
    // One that is under way is still counted until its outcome comes.
    this.#zones.delete(zoneId);
    this.#ready.delete(zoneId);
    this.#timers.delete(DUE + zoneId);
    this.#timers.delete(EXPIRY + zoneId);
  }

  /** A primary says that the zone has changed. @param serial to which one, if it says so; one that is here already is no news */
  handleNotify(zoneId: string, serial: number | undefined, now: MonotonicMs): void {
    const entry = this.#zones.get(zoneId);
    if (entry === undefined) return;
    this.counters.notified++;
    const order =
      serial === undefined || entry.timers === undefined
        ? undefined
        : compareSerials(serial, entry.timers.serial);
    if (order !== undefined && order <= 0 && !entry.isExpired) {
      this.counters.stale++;
      return;
    }
    if (entry.underWay !== undefined) {
      entry.isNotified = true;
      return;
    }
    const { lastAskedAt } = entry;
    const earliest = lastAskedAt === undefined ? now : plusMs(lastAskedAt, this.#settings.notifyGapMs);
    entry.at = 0;
    if (!this.#ready.has(zoneId)) this.#timers.set(DUE + zoneId, earliest > now ? earliest : now);
  }

  /** Zones become due, or expire. */
  handleTimeout(now: MonotonicMs): void {
    this.#expire(now);
  }

  pollTimeout(): MonotonicMs | undefined {
    return this.#timers.next();
  }

  pollEvent(): SecondaryEvent | undefined {
    return this.#events.shift();
  }

  /** Whom to ask now; undefined: nobody is due, or as many are under way as may be. */
  pollTransmit(now: MonotonicMs): ZoneFetch | undefined {
    this.#expire(now);
    const { fetchesMax, fetchesPerPrimaryMax } = this.#settings;
    if (this.#underWay >= fetchesMax) return undefined;
    for (const zoneId of this.#ready) {
      const entry = this.#zones.get(zoneId) as Entry;
      const primary = entry.primaries[entry.at] ?? entry.primaries[0];
      if (primary === undefined) continue;
      const busy = this.#atPrimary.get(primary.address) ?? 0;
      if (busy >= fetchesPerPrimaryMax) continue;
      this.#ready.delete(zoneId);
      this.#underWay++;
      this.#atPrimary.set(primary.address, busy + 1);
      entry.underWay = { zoneId, primary };
      entry.lastAskedAt = now;
      this.counters.asked++;
      return entry.underWay;
    }
    return undefined;
  }

  /** What came of a fetch; also of one whose zone is gone by now. */
  handleOutcome(fetch: ZoneFetch, outcome: FetchOutcome, now: MonotonicMs): void {
    const { zoneId, primary } = fetch;
    this.#underWay--;
    const busy = (this.#atPrimary.get(primary.address) ?? 1) - 1;
    if (busy === 0) this.#atPrimary.delete(primary.address);
    else this.#atPrimary.set(primary.address, busy);
    const entry = this.#zones.get(zoneId);
    if (outcome.kind === "failed") this.counters.failed++;
    else if (outcome.kind === "taken") this.counters.taken++;
    else this.counters.upToDate++;
    if (entry?.underWay !== fetch) return;
    entry.underWay = undefined;
    if (outcome.kind === "failed") this.#fail(entry, primary, outcome.why, now);
    else this.#confirm(entry, outcome.kind === "taken" ? outcome.timers : undefined, now);
    if (!entry.isNotified) return;
    entry.isNotified = false;
    entry.at = 0;
    this.#timers.set(DUE + zoneId, plusMs(now, this.#settings.notifyGapMs));
  }

  status(zoneId: string): SecondaryStatus | undefined {
    const entry = this.#zones.get(zoneId);
    if (entry === undefined) return undefined;
    const { timers, confirmedAt, problem } = entry;
    return { state: stateOf(entry), serial: timers?.serial, confirmedAt, problem };
  }

  /** How many zones are in each state. */
  get states(): Readonly<Record<SecondaryState, number>> {
    const counts = { waiting: 0, current: 0, unconfirmed: 0, expired: 0 };
    for (const entry of this.#zones.values()) counts[stateOf(entry)]++;
    return counts;
  }

  #confirm(entry: Entry, timers: SoaTimers | undefined, now: MonotonicMs): void {
    if (timers !== undefined) entry.timers = timers;
    entry.confirmedAt = now;
    entry.at = 0;
    entry.failures = 0;
    entry.problem = undefined;
    if (entry.isExpired) {
      entry.isExpired = false;
      if (timers === undefined) this.#events.push({ kind: "revived", zoneId: entry.zoneId });
    }
    this.#setExpiry(entry);
    const waitMs = entry.timers === undefined ? 0 : this.#refreshMs(entry.timers);
    this.#timers.set(DUE + entry.zoneId, plusMs(now, waitMs));
  }

  #fail(entry: Entry, { address, port }: Primary, why: string, now: MonotonicMs): void {
    entry.problem = `${address} port ${port}: ${why}`;
    entry.at++;
    if (entry.at < entry.primaries.length) {
      this.#timers.set(DUE + entry.zoneId, now);
      return;
    }
    entry.at = 0;
    entry.failures++;
    this.#timers.set(DUE + entry.zoneId, plusMs(now, this.#retryMs(entry)));
  }

  #setExpiry(entry: Entry): void {
    if (entry.timers === undefined || entry.confirmedAt === undefined) return;
    const { refreshSeconds, retrySeconds, expireSeconds } = this.#settings;
    const { timers } = entry;
    // RFC 1912 section 2.2: one that expires before it was looked after twice would be served by turns.
    const least =
      clamp(timers.refreshSeconds, ...refreshSeconds) + clamp(timers.retrySeconds, ...retrySeconds);
    const seconds = Math.max(least, clamp(timers.expireSeconds, ...expireSeconds));
    this.#timers.set(EXPIRY + entry.zoneId, plusMs(entry.confirmedAt, seconds * 1_000));
  }

  #expire(now: MonotonicMs): void {
    for (let id = this.#timers.take(now); id !== undefined; id = this.#timers.take(now)) {
      if (id.startsWith(DUE)) {
        const zoneId = id.slice(DUE.length);
        if (this.#zones.get(zoneId)?.underWay === undefined) this.#ready.add(zoneId);
        continue;
      }
      const entry = this.#zones.get(id.slice(EXPIRY.length));
      if (entry === undefined) continue;
      entry.isExpired = true;
      this.counters.expired++;
      this.#events.push({ kind: "expired", zoneId: entry.zoneId });
    }
  }

  /** A tenth less at most, so that zones that came together do not stay so. */
  #jittered(seconds: number): number {
    return seconds * 1_000 * (1 - this.#random.float() / 10);
  }

  #refreshMs({ refreshSeconds }: SoaTimers): number {
    return this.#jittered(clamp(refreshSeconds, ...this.#settings.refreshSeconds));
  }

  #retryMs({ timers, failures }: Entry): number {
    if (timers !== undefined)
      return this.#jittered(clamp(timers.retrySeconds, ...this.#settings.retrySeconds));
    const [first, last] = this.#settings.firstRetryMs;
    return this.#jittered(Math.min(last, first * 2 ** Math.min(failures - 1, 20)) / 1_000);
  }
}

function stateOf({ timers, isExpired, problem }: Entry): SecondaryState {
  if (timers === undefined) return "waiting";
  if (isExpired) return "expired";
  return problem === undefined ? "current" : "unconfirmed";
}

function clamp(value: number, min: number, max: number): number {
  return Math.min(max, Math.max(min, value));
}
