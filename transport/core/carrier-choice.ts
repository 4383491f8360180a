/**
 * Which carrier a small request to a neighbour goes by: TLS over TCP, or UDP with repairs, which wins where packets are lost and costs more CPU
 * everywhere else. By what the UDP carrier has seen of the path, and by races: now and then a request goes by both, and whose answer is whole first is
 * known; where nothing seems to be lost TCP begins first, and UDP is taken if it overtakes it all the same. A carrier that is blocked, silent or slower is given up, and tried again later and later.
 */
import { type MonotonicMs, plusMs } from "#kit";

export interface CarrierSettings {
  /** Packets that have to come before the loss of a path is believed. */
  readonly packetsMin: number;
  /** And before a path is believed to lose nothing: what is lost in bursts is seen in few transfers. Until then UDP is used. */
  readonly cleanPacketsMin: number;
  /** Loss of the path from which UDP pays, 0..1; it is kept down to half of that. */
  readonly lossRatioMin: number;
  /** Races that a carrier has to run when it has opened. */
  readonly racesMin: number;
  /**
   * Of so many requests one goes by both, while nothing is known yet and later: to see whether that which is in use is the better one. The other server
   * does the work twice where it does not remember its answers.
   */
  readonly raceEveryUnsure: number;
  readonly raceEvery: number;
  /** Where TCP is the better one they become rarer, down to this, until its answers are late: each costs CPU and nobody gains by it. */
  readonly raceEveryMax: number;
  /** From a failure to the next try, ms: doubled with each, up to the second. */
  readonly pauseMs: number;
  readonly pauseMsMax: number;
}

export const carrierDefaults: CarrierSettings = {
  packetsMin: 200,
  // 400 answers of 10 KB: of a path that loses 1.4 % in bursts of 10 ms, six of them.
  cleanPacketsMin: 3_000,
  // 10 KB are 8 packets: one transfer in 40 loses one.
  lossRatioMin: 0.003,
  racesMin: 8,
  raceEveryUnsure: 4,
  raceEvery: 32,
  raceEveryMax: 1_024,
  pauseMs: 10_000,
  pauseMsMax: 600_000,
};

/**
 * `none`: it is not offered, or nobody has asked for it yet. `paused`: it was given up, and is not tried again yet. `trial`: in use until it has shown
 * whether the path loses anything.
 */
export const carrierReasons = ["none", "paused", "opening", "unsure", "trial", "pays", "clean"] as const;
export type CarrierReason = (typeof carrierReasons)[number];

/** Why it was given up. `blocked`: it never opened. `silent`: nothing came any more. `slower`: it lost its races. */
export const carrierFailures = ["blocked", "silent", "slower"] as const;
export type CarrierFailure = (typeof carrierFailures)[number];

/** `raced`: by UDP, and a moment later by TCP too. `raced-behind`: by TCP, and a moment later by UDP too. */
export type CarrierUse = "tcp" | "udp" | "raced" | "raced-behind";

/** What one connection has seen so far of the way here: numbers used by the other side, packets that came, and lost ones that were given back. */
export interface PathCounts {
  readonly expectedPackets: number;
  readonly receivedPackets: number;
}

/** Packets that the loss looks back on, about. */
const LOOK_BACK_PACKETS = 4_000;
/** What is left of that when TCP's answers become late, so that news count. */
const LATE_PACKETS = 1_000;
/** Of the last so many races, so many lost ones end a carrier. */
const LOOK_BACK_RACES = 8;
const RACES_LOST_MAX = 5;
/** Of the last so many races in which TCP began first, so many won make UDP the faster one, whatever it has lost. */
const BEHIND_WON_MIN = 5;
/** A carrier that was good for so long has earned a short pause, and one that won its races in doubt no other doubt sooner, ms. */
const GOOD_MS = 60_000;

const NO_COUNTS: PathCounts = { expectedPackets: 0, receivedPackets: 0 };

export class CarrierChoice {
  readonly #settings: CarrierSettings;
  #state: "closed" | "opening" | "open" = "closed";
  #openAt: MonotonicMs | undefined;
  #pausedUntil: MonotonicMs | undefined;
  #pauseMs: number;
  #counts = NO_COUNTS;
  #packets = 0;
  /** All that were seen, none forgotten. */
  #seenPackets = 0;
  #lost = 0;
  #isPaying = false;
  /** Whether UDP was first, the newest last. */
  #races: boolean[] = [];
  /** The same, of those in which TCP began first. */
  #behindRaces: boolean[] = [];
  /** Requests since one went by both. */
  #sinceRace = 0;
  #raceEvery: number;
  #doubtedAt: MonotonicMs | undefined;
  readonly counters: Record<CarrierFailure | "won" | "lost" | "doubts", number> = {
    blocked: 0,
    silent: 0,
    slower: 0,
    won: 0,
    lost: 0,
    doubts: 0,
  };

  constructor(settings: Partial<CarrierSettings> = {}) {
    this.#settings = { ...carrierDefaults, ...settings };
    this.#pauseMs = this.#settings.pauseMs;
    this.#raceEvery = this.#settings.raceEvery;
  }

  /** Whether a UDP carrier is to be opened, now that there is a request for it. */
  mayOpen(now: MonotonicMs): boolean {
    return this.#state === "closed" && !this.#isPaused(now);
  }

  handleOpening(): void {
    this.#state = "opening";
    this.#counts = NO_COUNTS;
  }

  /** The other side has answered over it. */
  handleOpen(now: MonotonicMs): void {
    this.#state = "open";
    this.#openAt = now;
    this.#races = [];
    // The next request shows what it is good for.
    this.#sinceRace = Infinity;
  }

  /** It ended without a fault of the path. What was learnt of that stays. */
  handleClosed(): void {
    this.#state = "closed";
  }

  handleFailed(why: CarrierFailure, now: MonotonicMs): void {
    const wasGood = this.#state === "open" && this.#openAt !== undefined && now - this.#openAt >= GOOD_MS;
    const { pauseMs, pauseMsMax } = this.#settings;
    if (wasGood) this.#pauseMs = pauseMs;
    this.#state = "closed";
    this.#behindRaces = [];
    this.counters[why]++;
    this.#pausedUntil = plusMs(now, this.#pauseMs);
    this.#pauseMs = Math.min(pauseMsMax, 2 * this.#pauseMs);
  }

  /** What the present connection has seen so far. */
  handleCounts(counts: PathCounts): void {
    const { expectedPackets, receivedPackets } = counts;
    const before = this.#counts;
    const expected = expectedPackets - before.expectedPackets;
    // One that comes late takes back what was held for a loss.
    this.#lost = Math.max(0, this.#lost + expected - (receivedPackets - before.receivedPackets));
    this.#packets += expected;
    this.#seenPackets += expected;
    this.#counts = { expectedPackets, receivedPackets };
    const { lossRatioMin } = this.#settings;
    this.#isPaying = this.lossRatio >= (this.#isPaying ? lossRatioMin / 2 : lossRatioMin);
    if (this.#packets > LOOK_BACK_PACKETS) this.#forget(1 / 2);
  }

  /** An answer by TCP was late for its path: something may be lost there now. */
  handleLateTcp(): void {
    this.#raceEvery = this.#settings.raceEvery;
    if (this.#packets > LATE_PACKETS) this.#forget(LATE_PACKETS / this.#packets);
  }

  #forget(share: number): void {
    this.#packets *= share;
    this.#lost *= share;
  }

  /** Whose answer was whole first, of a request that went by both. True: UDP is given up. */
  handleRace(isUdpFirst: boolean, now: MonotonicMs): boolean {
    this.counters[isUdpFirst ? "won" : "lost"]++;
    if (this.#state !== "open") return false;
    this.#races.push(isUdpFirst);
    if (this.#races.length > LOOK_BACK_RACES) this.#races.shift();
    if (this.#races.filter((isFirst) => !isFirst).length < RACES_LOST_MAX) return false;
    this.handleFailed("slower", now);
    return true;
  }

  /** Whose answer was whole first where TCP began first: by how much it did, UDP is faster at least when it wins. */
  handleRaceBehind(isUdpFirst: boolean): void {
    this.counters[isUdpFirst ? "won" : "lost"]++;
    this.#behindRaces.push(isUdpFirst);
    if (this.#behindRaces.length > LOOK_BACK_RACES) this.#behindRaces.shift();
    // That asks for more of them, soon.
    if (isUdpFirst) this.#raceEvery = this.#settings.raceEveryUnsure;
  }

  /** An answer takes much longer than it should: nothing is known any more until races are run again. Once a minute: origins may be slow. */
  handleDoubt(now: MonotonicMs): void {
    if (this.#state !== "open" || this.#races.length < this.#settings.racesMin) return;
    if (this.#doubtedAt !== undefined && now - this.#doubtedAt < GOOD_MS) return;
    this.#doubtedAt = now;
    this.counters.doubts++;
    this.#races = [];
    this.#behindRaces = [];
    this.#sinceRace = Infinity;
  }

  /** How a small request goes. */
  choose(now: MonotonicMs): CarrierUse {
    if (this.#state !== "open") return "tcp";
    const reason = this.reason(now);
    const { raceEvery, raceEveryUnsure, raceEveryMax } = this.#settings;
    const isUdp = reason === "pays" || reason === "trial";
    if (isUdp) this.#raceEvery = raceEvery;
    if (++this.#sinceRace < (reason === "unsure" ? raceEveryUnsure : this.#raceEvery))
      return isUdp ? "udp" : "tcp";
    this.#sinceRace = 0;
    if (reason === "clean")
      this.#raceEvery = Math.max(raceEvery, Math.min(raceEveryMax, 2 * this.#raceEvery));
    return reason === "clean" || (reason === "pays" && !this.#isPaying) ? "raced-behind" : "raced";
  }

  reason(now: MonotonicMs): CarrierReason {
    if (this.#state === "opening") return "opening";
    if (this.#state === "closed") return this.#isPaused(now) ? "paused" : "none";
    const { packetsMin, cleanPacketsMin, racesMin } = this.#settings;
    if (this.#packets < packetsMin || this.#races.length < racesMin) return "unsure";
    if (this.#isPaying || this.#isFaster) return "pays";
    return this.#seenPackets < cleanPacketsMin ? "trial" : "clean";
  }

  get #isFaster(): boolean {
    return this.#behindRaces.filter((isFirst) => isFirst).length >= BEHIND_WON_MIN;
  }

  /** Share of packets that the way here loses, 0..1; 0 while nothing came. */
  get lossRatio(): number {
    return this.#packets === 0 ? 0 : this.#lost / this.#packets;
  }

  #isPaused(now: MonotonicMs): boolean {
    return this.#pausedUntil !== undefined && now < this.#pausedUntil;
  }
}
