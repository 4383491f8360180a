/**
 * Which of the packets that were sent came, and which are lost: RFC 9002, section 6, with packet threshold, time threshold and probe
 * timeout. One thing is added: a packet of a group whose repairs may still restore it is not held for lost before they had their chance.
 */
import { type MonotonicMs, plusMs } from "#kit";
import { LinkEstimator } from "../link-estimator.ts";
import type { Ack } from "./packet.ts";
import { ACK_DELAY_MS_MAX, ACK_DELAY_UNIT_MS } from "./words.ts";

/** RFC 9002, sections 6.1.1, 6.1.2 and 6.2.2. */
const PACKET_THRESHOLD = 3;
const TIME_THRESHOLD = 9 / 8;
const GRANULARITY_MS = 1;
const RTT_INITIAL_MS = 333;
/** RFC 9002, section 7.6.1. */
const PERSISTENT_TIMEOUTS = 3;
/** Probe timeouts double up to so long, ms: a path that is whole again is found before the other side is given up, and costs two packets meanwhile. */
const PROBE_MS_MAX = 2_000;

/** A group of packets with repairs. */
export interface Group {
  readonly first: number;
  /** Repairs that it has, or is to have. */
  repairs: number;
  /** Number of its last repair, once that is sent; until then Infinity. */
  lastNumber: number;
  lastSentAt: MonotonicMs;
  /** Of its packets, repairs among them, so many are lost, restored ones not among them. */
  lost: number;
}

export interface SentPacket {
  readonly number: number;
  readonly sentAt: MonotonicMs;
  readonly bytes: number;
  readonly isEliciting: boolean;
  /** Content: channel, offset, length of each piece. */
  readonly pieces: readonly number[];
  readonly group: Group | undefined;
  /** Size that it tries, bytes; 0: it tries none. */
  readonly mtuProbeBytes: number;
  /** State of the delivery rate when it left. */
  readonly deliveredBytes: number;
  readonly deliveredAt: MonotonicMs;
  readonly firstSentAt: MonotonicMs;
  readonly isAppLimited: boolean;
}

export interface AckResult {
  readonly acked: readonly SentPacket[];
  /** Round trip of the largest, ms; undefined: it was known, or asked for nothing. */
  readonly rttMs: number | undefined;
  /** Packets restored since the last one: lost by the path. */
  readonly restored: number;
}

export class LossDetection {
  /** Those in flight that ask for an acknowledgement: all others are forgotten at once. */
  readonly #sent = new Map<number, SentPacket>();
  // A sample is taken as it is: packet numbers tell which packet was acknowledged, so none is a retransmission's.
  readonly #rtt = new LinkEstimator({ rtoMinMs: 60_000, rtoMaxMs: 60_000 });
  #latestRttMs = RTT_INITIAL_MS;
  #bytesInFlight = 0;
  #nextNumber = 0;
  #largestAcked = -1;
  /** Between what was acknowledged last and before it: numbers of which none came. */
  #gapFrom = -1;
  #gapTo = -1;
  #restored = 0;
  #probes = 0;
  #lastElicitingAt: MonotonicMs | undefined;
  #lossAt: MonotonicMs | undefined;

  get bytesInFlight(): number {
    return this.#bytesInFlight;
  }
  get packetsInFlight(): number {
    return this.#sent.size;
  }
  get nextNumber(): number {
    return this.#nextNumber;
  }
  get srttMs(): number {
    return this.#rtt.srttMs ?? RTT_INITIAL_MS;
  }
  get hasRtt(): boolean {
    return this.#rtt.srttMs !== undefined;
  }
  /** Probe timeouts in a row without an acknowledgement. */
  get probes(): number {
    return this.#probes;
  }
  /** RFC 9002, section 6.2.1, without backoff, ms. */
  get probeTimeoutMs(): number {
    const rttvarMs = this.hasRtt ? this.#rtt.rttvarMs : RTT_INITIAL_MS / 2;
    return this.srttMs + Math.max(4 * rttvarMs, GRANULARITY_MS) + ACK_DELAY_MS_MAX;
  }

  /** What was under way over a path that is left: its round trips say nothing about the new one. */
  handlePathChanged(): void {
    this.#rtt.reset();
    this.#latestRttMs = RTT_INITIAL_MS;
    this.#probes = 0;
  }

  handleSent(packet: SentPacket): void {
    this.#nextNumber = packet.number + 1;
    if (!packet.isEliciting) return;
    this.#sent.set(packet.number, packet);
    this.#bytesInFlight += packet.bytes;
    this.#lastElicitingAt = packet.sentAt;
  }

  /** Undefined: it acknowledges what was never sent. */
  handleAck({ ranges, delayUnits, restored }: Ack, now: MonotonicMs): AckResult | undefined {
    const largest = (ranges[1] as number) - 1;
    if (largest >= this.#nextNumber) return undefined;
    const acked: SentPacket[] = [];
    const oldest = this.#oldestNumber();
    // The oldest range first, so that groups and rates see packets in order.
    for (let index = ranges.length - 2; index >= 0; index -= 2) {
      const to = ranges[index + 1] as number;
      for (let number = Math.max(oldest, ranges[index] as number); number < to; number++) {
        const packet = this.#sent.get(number);
        if (packet === undefined) continue;
        this.#take(packet);
        acked.push(packet);
      }
    }
    const newest = acked.at(-1);
    const next = acked.find(({ number }) => number > this.#largestAcked);
    if (next !== undefined) {
      this.#gapFrom = this.#largestAcked;
      this.#gapTo = next.number;
    }
    let rttMs: number | undefined;
    if (newest !== undefined && newest.number === largest) {
      const delayMs = Math.min(delayUnits * ACK_DELAY_UNIT_MS, ACK_DELAY_MS_MAX);
      const wholeMs = now - newest.sentAt;
      rttMs = wholeMs - delayMs > 0 ? wholeMs - delayMs : wholeMs;
      this.#latestRttMs = rttMs;
      this.#rtt.handleSample(rttMs, now);
    }
    if (newest !== undefined) this.#probes = 0;
    this.#largestAcked = Math.max(this.#largestAcked, largest);
    // Older acknowledgements that come late tell an older count.
    const more = (restored - this.#restored + 2 ** 30) % 2 ** 30;
    const isNews = more > 0 && more < 2 ** 29;
    if (isNews) this.#restored = restored;
    return { acked, rttMs, restored: isNews ? more : 0 };
  }

  /** Packets that are to be held for lost now; they are forgotten. */
  takeLost(now: MonotonicMs): SentPacket[] {
    const lossDelayMs = Math.max(TIME_THRESHOLD * Math.max(this.srttMs, this.#latestRttMs), GRANULARITY_MS);
    const lost: SentPacket[] = [];
    /** What each group waits for, and how many packets of it. */
    const waiting = new Map<Group, SentPacket[]>();
    this.#lossAt = undefined;
    for (const packet of this.#sent.values()) {
      if (packet.number >= this.#largestAcked) break;
      const dueAt = plusMs(packet.sentAt, lossDelayMs);
      if (this.#largestAcked - packet.number < PACKET_THRESHOLD && now < dueAt) {
        this.#dueAt(dueAt);
        continue;
      }
      const { group } = packet;
      if (group === undefined || !this.#mayBeRestored(group, lossDelayMs, now)) lost.push(packet);
      else waiting.set(group, [...(waiting.get(group) ?? []), packet]);
    }
    for (const [group, packets] of waiting) {
      // More than its repairs can restore.
      if (packets.length > group.repairs - group.lost) lost.push(...packets);
      else this.#dueAt(plusMs(group.lastSentAt, lossDelayMs));
    }
    for (const packet of lost) {
      this.#take(packet);
      if (packet.group !== undefined) packet.group.lost++;
    }
    return lost;
  }

  /** Whether of these, which were lost now, a run left in so long a time that nothing came through for it (RFC 9002, section 7.6). */
  takePersistentCongestion(lost: readonly SentPacket[]): boolean {
    if (!this.hasRtt) return false;
    const run = lost.filter(({ number }) => number > this.#gapFrom && number < this.#gapTo);
    const first = run[0];
    const last = run.at(-1);
    if (first === undefined || last === undefined) return false;
    const isPersistent = last.sentAt - first.sentAt > PERSISTENT_TIMEOUTS * this.probeTimeoutMs;
    // Once for each gap.
    if (isPersistent) this.#gapTo = this.#gapFrom;
    return isPersistent;
  }

  /** When {@link takeLost} or {@link handleProbeTimeout} is due. */
  pollTimeout(): MonotonicMs | undefined {
    if (this.#lossAt !== undefined) return this.#lossAt;
    return this.#probeAt();
  }

  isProbeDue(now: MonotonicMs): boolean {
    const dueAt = this.#probeAt();
    return this.#lossAt === undefined && dueAt !== undefined && now >= dueAt;
  }

  /** The packets whose content a probe repeats: the oldest ones. They stay under way. */
  handleProbeTimeout(count: number): SentPacket[] {
    this.#probes++;
    const oldest: SentPacket[] = [];
    for (const packet of this.#sent.values()) {
      if (oldest.length === count) break;
      if (packet.pieces.length > 0) oldest.push(packet);
    }
    return oldest;
  }

  #probeAt(): MonotonicMs | undefined {
    if (this.#sent.size === 0 || this.#lastElicitingAt === undefined) return undefined;
    const { probeTimeoutMs } = this;
    return plusMs(
      this.#lastElicitingAt,
      Math.max(probeTimeoutMs, Math.min(probeTimeoutMs * 2 ** this.#probes, PROBE_MS_MAX)),
    );
  }

  #mayBeRestored(group: Group, lossDelayMs: number, now: MonotonicMs): boolean {
    if (group.repairs === 0) return false;
    if (group.lastNumber === Number.POSITIVE_INFINITY) return now < plusMs(group.lastSentAt, lossDelayMs);
    return this.#largestAcked <= group.lastNumber && now < plusMs(group.lastSentAt, lossDelayMs);
  }

  #dueAt(at: MonotonicMs): void {
    if (this.#lossAt === undefined || at < this.#lossAt) this.#lossAt = at;
  }

  #oldestNumber(): number {
    for (const number of this.#sent.keys()) return number;
    return this.#nextNumber;
  }

  #take(packet: SentPacket): void {
    this.#sent.delete(packet.number);
    this.#bytesInFlight -= packet.bytes;
  }
}
