/**
 * Queries that ended a worker: the others drop what is like them, for a while. Like is the same packet but for id and case of letters; after
 * a second crash with the same question everything that asks it, since whoever found the fault varies the rest. Bounded: the oldest goes.
 */
import { headerBytes } from "./constants.ts";

/** Packets, and questions, that are dropped at the same time. */
const KEPT_MAX = 64;
const KEPT_MS = 600_000;
const FNV_OFFSET = 0x811c_9dc5;
const FNV_PRIME = 0x0100_0193;

export class Quarantine {
  readonly #packets = new Map<number, number>();
  /** Questions of packets that ended a worker. */
  readonly #suspects = new Map<number, number>();
  readonly #questions = new Map<number, number>();
  /** Queries dropped. */
  dropped = 0;

  /** Whether there is anything to look for. */
  get isOn(): boolean {
    return this.#packets.size > 0;
  }

  /** A query that a worker ended on. @param nowMs any clock that never runs back */
  add(packet: Uint8Array, nowMs: number): void {
    const untilMs = nowMs + KEPT_MS;
    keep(this.#packets, packetKey(packet, 0, packet.length), untilMs, nowMs);
    const question = questionKey(packet, 0, packet.length);
    if (question === undefined) return;
    if ((this.#suspects.get(question) ?? 0) > nowMs) keep(this.#questions, question, untilMs, nowMs);
    keep(this.#suspects, question, untilMs, nowMs);
  }

  /** Whether `query[at]` to `query[end]` is to be dropped; then it is counted. */
  holds(query: Uint8Array, at: number, end: number, nowMs: number): boolean {
    let isHeld = (this.#packets.get(packetKey(query, at, end)) ?? 0) > nowMs;
    if (!isHeld && this.#questions.size > 0) {
      const question = questionKey(query, at, end);
      isHeld = question !== undefined && (this.#questions.get(question) ?? 0) > nowMs;
    }
    if (isHeld) this.dropped++;
    return isHeld;
  }
}

function keep(kept: Map<number, number>, key: number, untilMs: number, nowMs: number): void {
  kept.delete(key);
  for (const [other, otherUntilMs] of kept)
    if (otherUntilMs <= nowMs || kept.size >= KEPT_MAX) kept.delete(other);
  kept.set(key, untilMs);
}

/** Everything but the id, whatever the case of letters: two hashes of 26 bits in one number. */
function packetKey(bytes: Uint8Array, at: number, end: number): number {
  return keyOf(bytes, at + 2, end);
}

/** Name, type and class; undefined where they cannot be read. */
function questionKey(bytes: Uint8Array, at: number, end: number): number | undefined {
  let cursor = at + headerBytes;
  for (;;) {
    const length = bytes[cursor] ?? 0xff;
    if (cursor >= end || length > 63) return undefined;
    cursor += 1 + length;
    if (length === 0) break;
  }
  return cursor + 4 > end ? undefined : keyOf(bytes, at + headerBytes, cursor + 4);
}

function keyOf(bytes: Uint8Array, at: number, end: number): number {
  let first = FNV_OFFSET;
  let second = end - at;
  for (let index = at; index < end; index++) {
    const octet = bytes[index] as number;
    const folded = octet >= 0x41 && octet <= 0x5a ? octet | 0x20 : octet;
    first = Math.imul(first ^ folded, FNV_PRIME);
    second = Math.imul(second ^ folded, 0x85eb_ca6b) ^ (second >>> 15);
  }
  return (first >>> 6) * 0x0400_0000 + (second >>> 6);
}
