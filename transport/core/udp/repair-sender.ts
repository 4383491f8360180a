/** The group that is being sent: its packets are summed up as they leave, its repairs follow the last one. */
import type { MonotonicMs } from "#kit";
import type { Group } from "./loss-detection.ts";
import { REPAIR_HEAD_BYTES, SYMBOL_LENGTH_BYTES } from "./packet.ts";
import { RepairBuilder } from "./reed-solomon.ts";
import { writeSymbol } from "./repair-receiver.ts";
import { DATAGRAM_BYTES_MAX } from "./words.ts";

/** Sources of a group, at most: as many as leave in a few ten ms at 20 Mbit/s. */
export const GROUP_SOURCES_MAX = 100;
/** Sources that a group may have however slow the path is. */
export const GROUP_SOURCES_MIN = 10;
/** By so much a packet of a group is shorter, so that its repair fits a datagram. */
export const GROUP_ROOM_BYTES = REPAIR_HEAD_BYTES + SYMBOL_LENGTH_BYTES;

export class RepairSender {
  #builder: RepairBuilder | undefined;
  #builderRepairs = 0;
  readonly #symbol = new Uint8Array(SYMBOL_LENGTH_BYTES + DATAGRAM_BYTES_MAX);
  #group: Group | undefined;
  #sourcesMax = 0;
  #isClosed = false;
  #nextRepair = 0;

  /** The group that takes the next packet. */
  get open(): Group | undefined {
    return this.#isClosed ? undefined : this.#group;
  }
  /** Packets in it so far. */
  get sources(): number {
    return this.#builder?.sources ?? 0;
  }
  /** Whether a repair waits to be sent. */
  get hasRepair(): boolean {
    return this.#isClosed && this.#group !== undefined;
  }

  /** Begins a group with packet `first`; no other is being sent. */
  begin(first: number, sources: number, repairs: number, now: MonotonicMs): void {
    if (this.#builder === undefined || this.#builderRepairs !== repairs) {
      this.#builder = new RepairBuilder(repairs, this.#symbol.length);
      this.#builderRepairs = repairs;
    } else this.#builder.reset();
    this.#group = { first, repairs, lastNumber: Number.POSITIVE_INFINITY, lastSentAt: now, lost: 0 };
    this.#sourcesMax = sources;
    this.#isClosed = false;
    this.#nextRepair = 0;
  }

  /** A packet of the open group leaves. Whether that was the last one. */
  add(payload: Uint8Array, now: MonotonicMs): boolean {
    const bytes = writeSymbol(this.#symbol, payload);
    (this.#builder as RepairBuilder).add(this.#symbol.subarray(0, bytes));
    (this.#group as Group).lastSentAt = now;
    return this.sources === this.#sourcesMax;
  }

  /** Nothing more is added; `repairs`, as many as it was begun with at most, are to be sent. */
  close(repairs: number): void {
    const group = this.#group as Group;
    group.repairs = Math.min(group.repairs, repairs);
    this.#isClosed = true;
    if (group.repairs === 0) this.#group = undefined;
  }

  /** The next repair leaves as packet `number`. */
  take(
    number: number,
    now: MonotonicMs,
  ): { group: Group; sources: number; index: number; symbol: Uint8Array } {
    const group = this.#group as Group;
    const index = this.#nextRepair++;
    group.lastSentAt = now;
    if (this.#nextRepair === group.repairs) {
      group.lastNumber = number;
      this.#group = undefined;
    }
    const builder = this.#builder as RepairBuilder;
    return { group, sources: builder.sources, index, symbol: builder.repair(index) };
  }
}
