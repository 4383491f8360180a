/**
 * Which of a name's addresses is connected to, and when the next one is tried beside it (RFC 8305, "Happy Eyeballs"): a
 * family or an address that leads nowhere costs a quarter of a second, not a timeout.
 */
import { type MonotonicMs, plusMs } from "#kit";

/** RFC 8305 section 5: the delay it recommends before the next attempt begins. */
const ATTEMPT_DELAY_MS = 250;
/** A connection is asked for again so often, beside the attempts under way, while nothing answers: Linux repeats a lost SYN after a second. */
const REPEATS_MAX = 2;
/** Addresses of one name that are tried for one connection. */
const ATTEMPTS_MAX = 8;
/** How long an address that failed, or was a whole delay slower than another, is tried after the others, ms. */
const AVOIDED_MS = 60_000;
/** Addresses that are remembered; the oldest goes. */
const REMEMBERED_MAX = 1_000;

/**
 * The order of attempts: families in turn, beginning with that of the first address (section 4); within a family another
 * address first each `turn`, so that all of them are used; those to avoid after all others.
 */
export function attemptOrder(
  addresses: readonly string[],
  turn: number,
  isAvoided: (address: string) => boolean,
): readonly string[] {
  const first = familyOf(addresses[0] ?? "");
  const order = (list: readonly string[]): readonly string[] => {
    const same = rotated(
      list.filter((one) => familyOf(one) === first),
      turn,
    );
    const other = rotated(
      list.filter((one) => familyOf(one) !== first),
      turn,
    );
    const mixed: string[] = [];
    for (let at = 0; at < Math.max(same.length, other.length); at++)
      mixed.push(...same.slice(at, at + 1), ...other.slice(at, at + 1));
    return mixed;
  };
  const unique = [...new Set(addresses)];
  return [
    ...order(unique.filter((one) => !isAvoided(one))),
    ...order(unique.filter((one) => isAvoided(one))),
  ].slice(0, ATTEMPTS_MAX);
}

function familyOf(address: string): 4 | 6 {
  return address.includes(":") ? 6 : 4;
}

function rotated(list: readonly string[], turn: number): readonly string[] {
  const by = list.length === 0 ? 0 : turn % list.length;
  return [...list.slice(by), ...list.slice(0, by)];
}

/** The attempts of one connection: who drives it begins what `pollStart` says and reports what fails. */
export class ConnectionRace {
  readonly #left: string[];
  readonly #repeatMs: number | undefined;
  /** To be asked again, the first that neither failed nor answered. */
  readonly #silent: string[] = [];
  #repeats = 0;
  #nextAt: MonotonicMs;

  /** `repeatMs`: with every address tried the first silent one is asked again after that long; undefined: never. */
  constructor(order: readonly string[], now: MonotonicMs, repeatMs?: number) {
    this.#left = [...order];
    this.#repeatMs = repeatMs;
    this.#nextAt = now;
  }

  /** An address to connect to now, beside those under way. Call until undefined. */
  pollStart(now: MonotonicMs): string | undefined {
    if (now < this.#nextAt) return undefined;
    const address = this.#left.shift() ?? this.#repeated();
    if (address === undefined) return undefined;
    this.#silent.push(address);
    this.#nextAt = plusMs(now, this.#left.length > 0 ? ATTEMPT_DELAY_MS : (this.#repeatMs ?? 0));
    return address;
  }

  #repeated(): string | undefined {
    if (!this.#mayRepeat) return undefined;
    this.#repeats++;
    return this.#silent[0];
  }

  get #mayRepeat(): boolean {
    return this.#silent.length > 0 && this.#repeats < REPEATS_MAX && this.#repeatMs !== undefined;
  }

  /** An attempt at this address failed: the next address need not wait (section 5). */
  handleFailure(address: string, now: MonotonicMs): void {
    this.#silent.splice(this.#silent.indexOf(address), 1);
    if (this.#left.length > 0) this.#nextAt = now;
  }

  /** When the next attempt begins; undefined: there is none left. */
  pollTimeout(): MonotonicMs | undefined {
    return this.#left.length > 0 || this.#mayRepeat ? this.#nextAt : undefined;
  }

  /** Nothing is under way and nothing is left. */
  get isLost(): boolean {
    return this.#silent.length === 0 && this.#left.length === 0;
  }
}

/** What was learnt of addresses (RFC 8305 section 4 has it used), forgotten soon, so that what has healed is used again. */
export class AddressHistory {
  /** Address and port -> until when it is avoided. */
  readonly #avoided = new Map<string, MonotonicMs>();
  #turn = 0;

  /** A number for each connection. */
  nextTurn(): number {
    this.#turn = (this.#turn + 1) % 1_000_000;
    return this.#turn;
  }

  isAvoided(address: string, port: number, now: MonotonicMs): boolean {
    return now < (this.#avoided.get(`${address} ${port}`) ?? now);
  }

  handleBad(address: string, port: number, now: MonotonicMs): void {
    const key = `${address} ${port}`;
    this.#avoided.delete(key);
    this.#avoided.set(key, plusMs(now, AVOIDED_MS));
    const [oldest] = this.#avoided.keys();
    if (this.#avoided.size > REMEMBERED_MAX && oldest !== undefined) this.#avoided.delete(oldest);
  }

  handleGood(address: string, port: number): void {
    this.#avoided.delete(`${address} ${port}`);
  }

  get size(): number {
    return this.#avoided.size;
  }
}
