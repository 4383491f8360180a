/** Restores packets that were lost from the repairs of their group. Packets that say they belong to one are kept until they cannot matter. */
import { SYMBOL_LENGTH_BYTES } from "./packet.ts";
import { restore, SYMBOLS_MAX } from "./reed-solomon.ts";
import { DATAGRAM_BYTES_MAX } from "./words.ts";

/** Packets kept: two of the largest groups, as those before them are restored or lost. */
const KEPT_MAX = 2 * (SYMBOLS_MAX + 1);
/** Groups with repairs that are not whole yet. */
const GROUPS_MAX = 8;

interface Pending {
  readonly first: number;
  readonly sources: number;
  readonly repairs: Map<number, Uint8Array>;
}

export interface Restored {
  readonly number: number;
  readonly payload: Uint8Array;
}

export class RepairReceiver {
  /** Symbols by number modulo their count; the number tells whose it is. Made when the first group comes. */
  readonly #symbols: (Uint8Array | undefined)[] = [];
  readonly #lengths: number[] = [];
  readonly #numbers: number[] = [];
  readonly #groups: Pending[] = [];

  /** A packet of a group; its payload is copied. What it makes whole. */
  handleSource(number: number, payload: Uint8Array): readonly Restored[] {
    const slot = number % KEPT_MAX;
    if ((this.#numbers[slot] ?? -1) > number) return NOTHING;
    const symbol = (this.#symbols[slot] ??= new Uint8Array(SYMBOL_LENGTH_BYTES + DATAGRAM_BYTES_MAX));
    writeSymbol(symbol, payload);
    this.#numbers[slot] = number;
    this.#lengths[slot] = SYMBOL_LENGTH_BYTES + payload.length;
    const pending = this.#groups.find(({ first, sources }) => number >= first && number < first + sources);
    return pending === undefined ? NOTHING : this.#try(pending);
  }

  /** `hasCome`: whether a packet came, so that a whole group is known by its numbers. */
  handleRepair(
    first: number,
    sources: number,
    index: number,
    symbol: Uint8Array,
    hasCome: (number: number) => boolean,
  ): readonly Restored[] {
    let isWhole = true;
    for (let number = first; isWhole && number < first + sources; number++) isWhole = hasCome(number);
    if (isWhole) return NOTHING;
    let pending = this.#groups.find((group) => group.first === first);
    if (pending === undefined) {
      pending = { first, sources, repairs: new Map() };
      this.#groups.push(pending);
      if (this.#groups.length > GROUPS_MAX) this.#groups.shift();
    }
    if (pending.sources !== sources) return NOTHING;
    pending.repairs.set(index, symbol.slice());
    return this.#try(pending);
  }

  #try(pending: Pending): readonly Restored[] {
    const { first, sources, repairs } = pending;
    const symbols: (Uint8Array | undefined)[] = [];
    const missing: number[] = [];
    for (let number = first; number < first + sources; number++) {
      const slot = number % KEPT_MAX;
      if (this.#numbers[slot] === number)
        symbols.push((this.#symbols[slot] as Uint8Array).subarray(0, this.#lengths[slot]));
      else {
        symbols.push(undefined);
        missing.push(number);
      }
    }
    if (repairs.size < missing.length) return NOTHING;
    this.#groups.splice(this.#groups.indexOf(pending), 1);
    if (!restore(symbols, repairs)) return NOTHING;
    return missing.flatMap((number) => {
      const payload = readSymbol(symbols[number - first] as Uint8Array);
      return payload === undefined ? [] : [{ number, payload }];
    });
  }
}

const NOTHING: readonly Restored[] = [];

/** A symbol is a payload behind its length. Where it ends. */
export function writeSymbol(symbol: Uint8Array, payload: Uint8Array): number {
  symbol[0] = payload.length >>> 8;
  symbol[1] = payload.length;
  symbol.set(payload, SYMBOL_LENGTH_BYTES);
  return SYMBOL_LENGTH_BYTES + payload.length;
}

/** Undefined: its length cannot be. */
function readSymbol(symbol: Uint8Array): Uint8Array | undefined {
  const length = ((symbol[0] as number) << 8) | (symbol[1] as number);
  return SYMBOL_LENGTH_BYTES + length > symbol.length
    ? undefined
    : symbol.subarray(SYMBOL_LENGTH_BYTES, SYMBOL_LENGTH_BYTES + length);
}
