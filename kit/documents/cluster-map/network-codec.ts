import type { BitReader, BitWriter } from "../../bits.ts";
import { bitsBelow } from "../../bits.ts";
import type { ClientNetworkId } from "../../ids.ts";
import { addressBits, type IpFamily } from "../../ip.ts";
import type { PrefixColumns } from "../../prefix-ranges.ts";
import type { Steps } from "../../steps.ts";
import { CLIENT_NETWORKS_MAX, CLIENT_PREFIXES_MAX, ClientNetworkTable } from "./client-network-table.ts";
import { givenNames, lowestPrefixes, nameAtPlace, rememberGivenNames } from "./network-names.ts";

/** Letters of a name (ids.ts) in 6 bits. */
const LETTERS = "-0123456789abcdefghijklmnopqrstuvwxyz";
const LETTER_BITS = 6;
const NAME_LENGTH_BITS = 6;
const NAME_PATTERN = /^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/;
const letterCodes = new Uint8Array(128).fill(255);
for (let code = 0; code < LETTERS.length; code++) letterCodes[LETTERS.charCodeAt(code)] = code;

/**
 * Names one after the other: how much of the one before is kept, how much comes behind it, and that. One bit says that both lengths
 * are those of the name before.
 */
export class NameCoder {
  #before = "";
  #kept = 0;
  #added = 0;

  write(out: BitWriter, name: string): void {
    const most = Math.min(name.length, this.#before.length);
    let kept = 0;
    while (kept < most && name[kept] === this.#before[kept]) kept++;
    const added = name.length - kept;
    const isAlike = kept === this.#kept && added === this.#added;
    out.write(isAlike ? 1 : 0, 1);
    if (!isAlike) {
      out.write(kept, NAME_LENGTH_BITS);
      out.write(added, NAME_LENGTH_BITS);
    }
    for (let at = kept; at < name.length; at++)
      out.write(letterCodes[name.charCodeAt(at)] as number, LETTER_BITS);
    this.#before = name;
    this.#kept = kept;
    this.#added = added;
  }

  read(from: BitReader, what: string): string {
    if (from.read(1) === 0) {
      const kept = from.read(NAME_LENGTH_BITS);
      const added = from.read(NAME_LENGTH_BITS);
      if (kept === this.#kept && added === this.#added)
        from.fail(`lengths of ${what} that differ from those before`);
      this.#kept = kept;
      this.#added = added;
    }
    let name = this.#before.slice(0, this.#kept);
    for (let at = 0; at < this.#added; at++) {
      const letter = LETTERS[from.read(LETTER_BITS)];
      if (letter === undefined) from.fail(`a letter of ${what}`);
      // What is kept ends where the names begin to differ.
      if (at === 0 && letter === this.#before[this.#kept]) from.fail(`${what} that keeps all that it can`);
      name += letter;
    }
    if (this.#kept > this.#before.length || !NAME_PATTERN.test(name)) from.fail(what);
    this.#before = name;
    return name;
  }
}

/**
 * Section of the client networks: counts, prefixes of both families with their owners, names. A name is one bit where it is the one that the
 * lowest prefix gives, which is so for all that were cut since they were last named anew (was 15 % of a map).
 */
export function* writeNetworks(out: BitWriter, networks: ClientNetworkTable): Steps<void> {
  out.writeNumber(networks.size);
  out.writeNumber(networks.ipv4.lengths.length);
  out.writeNumber(networks.ipv6.lengths.length);
  let named = yield* writePrefixes(out, 4, networks.ipv4, 0);
  named = yield* writePrefixes(out, 6, networks.ipv6, named);
  const names = new NameCoder();
  const given = yield* givenNames(networks);
  for (const [network, name] of networks.ids.entries()) {
    if (network % STEP === STEP - 1) yield;
    out.write(given[network] as number, 1);
    if (given[network] === 0) names.write(out, name);
  }
}

/**
 * Yields now and then, so that a long section can be read in steps.
 *
 * @param isOld a section of the first form, with every name written out
 */
export function* readNetworks(from: BitReader, isOld = false): Steps<ClientNetworkTable> {
  const size = from.readNumber();
  const ipv4Count = from.readNumber();
  const ipv6Count = from.readNumber();
  const prefixCount = ipv4Count + ipv6Count;
  if (size < 1 || size > Math.min(prefixCount, CLIENT_NETWORKS_MAX))
    from.fail("the number of client networks");
  if (prefixCount > CLIENT_PREFIXES_MAX || prefixCount > from.bitsLeft) from.fail("the number of prefixes");
  const ipv4 = columnsOf(4, ipv4Count);
  const ipv6 = columnsOf(6, ipv6Count);
  let named = yield* readPrefixes(from, 4, ipv4, 0, size);
  named = yield* readPrefixes(from, 6, ipv6, named, size);
  if (named !== size) from.fail(`prefixes of ${size} client networks, got those of ${named}`);
  const coder = new NameCoder();
  const lowest = lowestPrefixes(size, ipv4, ipv6);
  const given = new Uint8Array(size);
  const ids: ClientNetworkId[] = [];
  const seen = new DistinctNames();
  for (let network = 0; network < size; network++) {
    if (network % STEP === STEP - 1) yield;
    if (isOld || from.read(1) === 0) {
      ids.push(coder.read(from, "the name of a client network") as ClientNetworkId);
      if (!isOld && ids[network] === nameAtPlace(lowest[network] as number, ipv4, ipv6))
        from.fail(`another name than the one that its lowest prefix gives, "${ids[network]}"`);
    } else {
      given[network] = 1;
      ids.push(nameAtPlace(lowest[network] as number, ipv4, ipv6));
    }
    const name = ids[network] as string;
    if (!seen.add(name)) from.fail(`a name that no other client network has, got "${name}" again`);
  }
  const networks = new ClientNetworkTable(ids, ipv4, ipv6);
  if (!isOld) rememberGivenNames(networks, given);
  return networks;
}

/** Sets that share the names: one that held half a million would take tens of milliseconds each time that it grows. */
const NAME_SETS = 512;

class DistinctNames {
  readonly #sets = Array.from({ length: NAME_SETS }, () => new Set<string>());

  /** False: it is there already. */
  add(name: string): boolean {
    const last = name.length - 1;
    // Names are hashes in base 36, or others' that end in numbers.
    const hash = name.charCodeAt(last) * 37 + (last > 0 ? name.charCodeAt(last - 1) : 0);
    const set = this.#sets[hash % NAME_SETS] as Set<string>;
    if (set.has(name)) return false;
    set.add(name);
    return true;
  }
}

/** Elements between two pauses of a long reading: a millisecond or two. */
export const STEP = 1_024;

function columnsOf(family: IpFamily, count: number): PrefixColumns {
  return {
    words: new Uint32Array(count * (addressBits(family) / 32)),
    lengths: new Uint8Array(count),
    values: new Uint32Array(count),
  };
}

/**
 * For each prefix: its length (1 bit: as before), how many leading bits its address has in common with the one before, its bits behind the
 * first one that differs (which is a 1, since addresses ascend), and its network (1 bit: the next one that was not named yet).
 * Returns how many networks have been named.
 */
function* writePrefixes(
  out: BitWriter,
  family: IpFamily,
  columns: PrefixColumns,
  namedBefore: number,
): Steps<number> {
  const bits = addressBits(family);
  const lengthBits = bitsBelow(bits + 1);
  const wordCount = bits / 32;
  const before = new Uint32Array(wordCount);
  let lengthBefore = 0;
  let named = namedBefore;
  for (let index = 0; index < columns.lengths.length; index++) {
    if (index % STEP === STEP - 1) yield;
    const length = columns.lengths[index] as number;
    const words = columns.words.subarray(index * wordCount, (index + 1) * wordCount);
    out.write(length === lengthBefore ? 1 : 0, 1);
    if (length !== lengthBefore) out.write(length, lengthBits);
    const common = commonBits(before, words);
    out.write(common, lengthBits);
    for (let at = common + 1; at < length; at++) out.write(bitAt(words, at), 1);
    const network = columns.values[index] as number;
    out.write(network === named ? 1 : 0, 1);
    if (network === named) named++;
    else out.write(network, bitsBelow(named));
    before.set(words);
    lengthBefore = length;
  }
  return named;
}

function* readPrefixes(
  from: BitReader,
  family: IpFamily,
  { words, lengths, values }: PrefixColumns,
  namedBefore: number,
  size: number,
): Steps<number> {
  const bits = addressBits(family);
  const lengthBits = bitsBelow(bits + 1);
  const wordCount = bits / 32;
  const address = new Uint32Array(wordCount);
  let length = 0;
  let named = namedBefore;
  for (let index = 0; index < lengths.length; index++) {
    if (index % STEP === STEP - 1) yield;
    const lengthBefore = length;
    if (from.read(1) === 0) {
      length = from.read(lengthBits);
      if (length > bits || length === lengthBefore) from.fail("another length of a prefix");
    }
    const common = from.read(lengthBits);
    if (common > bits) from.fail("the bits that two addresses have in common");
    if (common === bits) {
      if (index > 0 ? length <= lengthBefore : false)
        from.fail("a prefix that is longer than the one before it");
    } else {
      if (common >= length || bitAt(address, common) === 1) from.fail("prefixes in ascending order");
      setTail(address, common, length, from);
    }
    words.set(address, index * wordCount);
    lengths[index] = length;
    if (from.read(1) === 1) {
      if (named === size) from.fail(`prefixes of no more than ${size} client networks`);
      values[index] = named++;
    } else values[index] = from.readBelow(named, "a client network");
  }
  return named;
}

function commonBits(a: Uint32Array, b: Uint32Array): number {
  for (let word = 0; word < a.length; word++) {
    const difference = (a[word] as number) ^ (b[word] as number);
    if (difference !== 0) return word * 32 + Math.clz32(difference);
  }
  return a.length * 32;
}

function bitAt(words: Uint32Array, at: number): number {
  return ((words[at >>> 5] as number) >>> (31 - (at & 31))) & 1;
}

/** Sets bit `common` to 1, reads those behind it up to `length`, clears the rest. */
function setTail(address: Uint32Array, common: number, length: number, from: BitReader): void {
  const bits = address.length * 32;
  setBit(address, common, 1);
  let at = common + 1;
  for (; at < length; at++) setBit(address, at, from.read(1));
  for (; at < bits; at++) setBit(address, at, 0);
}

function setBit(words: Uint32Array, at: number, bit: number): void {
  const mask = 1 << (31 - (at & 31));
  const word = words[at >>> 5] as number;
  words[at >>> 5] = bit === 1 ? word | mask : word & ~mask;
}
