/**
 * Queries that wait for their turn: those of who is known first. Two rings of fixed slots; what finds no room is dropped at once, so that
 * nobody waits longer than a full ring takes.
 */

/** The longest query that waits; no resolver sends longer ones over UDP. */
export const WAITING_BYTES_MAX = 1_280;
/** struct sockaddr_in6 has 28 octets. */
const SOCKADDR_BYTES = 32;
const STRIDE = WAITING_BYTES_MAX + SOCKADDR_BYTES;
/** At 4 us for a name that does not exist, and 100 us where that has to be signed: 4 to 100 ms of either. */
const FIRST_MAX = 1_024;
const OTHERS_MAX = 1_024;

/** What a handler says of a query that is to wait, in place of the octets of an answer. */
export const WAIT_FIRST = -1;
export const WAIT = -2;

export class WaitingQueries {
  readonly memory: Buffer;
  readonly #first = new Ring(0, FIRST_MAX);
  readonly #others = new Ring(FIRST_MAX, OTHERS_MAX);
  readonly #lengths = new Uint16Array(FIRST_MAX + OTHERS_MAX);
  readonly #nameBytes = new Uint8Array(FIRST_MAX + OTHERS_MAX);
  /** Dropped for want of room: of who is known, of strangers. */
  readonly shed = { known: 0, unknown: 0 };

  /** @param memoryOf where octets lie; called once */
  constructor(memoryOf: (bytes: number) => Buffer) {
    this.memory = memoryOf((FIRST_MAX + OTHERS_MAX) * STRIDE);
  }

  get length(): number {
    return this.#first.length + this.#others.length;
  }

  /** Copies a query and its sender's sockaddr; without room it is counted, and gone. */
  push(
    isFirst: boolean,
    from: Buffer,
    at: number,
    end: number,
    names: Buffer,
    nameAt: number,
    bytes: number,
  ) {
    const slot = end - at > WAITING_BYTES_MAX ? -1 : (isFirst ? this.#first : this.#others).push();
    if (slot < 0) {
      this.shed[isFirst ? "known" : "unknown"]++;
      return;
    }
    from.copy(this.memory, this.queryAt(slot), at, end);
    names.copy(this.memory, this.nameAt(slot), nameAt, nameAt + SOCKADDR_BYTES);
    this.#lengths[slot] = end - at;
    this.#nameBytes[slot] = bytes;
  }

  /** The slot of the next one; -1: none. It stays as it is until the next {@link push}. */
  shift(): number {
    return this.#first.length > 0 ? this.#first.shift() : this.#others.shift();
  }

  queryAt(slot: number): number {
    return slot * STRIDE;
  }
  queryEnd(slot: number): number {
    return slot * STRIDE + (this.#lengths[slot] as number);
  }
  nameAt(slot: number): number {
    return slot * STRIDE + WAITING_BYTES_MAX;
  }
  nameBytes(slot: number): number {
    return this.#nameBytes[slot] as number;
  }
}

/** Slots of a range, oldest first. */
class Ring {
  readonly #from: number;
  readonly #size: number;
  #head = 0;
  length = 0;

  constructor(from: number, size: number) {
    this.#from = from;
    this.#size = size;
  }

  push(): number {
    if (this.length === this.#size) return -1;
    return this.#from + ((this.#head + this.length++) % this.#size);
  }

  shift(): number {
    if (this.length === 0) return -1;
    const slot = this.#from + this.#head;
    this.#head = (this.#head + 1) % this.#size;
    this.length--;
    return slot;
  }
}
