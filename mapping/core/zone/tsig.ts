/** Transaction signatures (RFC 8945): who holds the key has sent this, now, for this request. Time and HMAC are arguments. */
import { type DomainName, labelBytesMax, nameFromText, readName } from "#kit";
import { headerBytes } from "../dns/constants.ts";
import { lowerName, Octets } from "../dns/dnssec/canonical.ts";

export const tsigAlgorithms = ["hmac-sha256", "hmac-sha384", "hmac-sha512"] as const;
export type TsigAlgorithm = (typeof tsigAlgorithms)[number];

export interface TsigKey {
  readonly name: DomainName;
  readonly algorithm: TsigAlgorithm;
  readonly secret: Uint8Array;
}
/** Keys by lower-case name. */
export type TsigKeys = ReadonlyMap<string, TsigKey>;
export type Hmac = (algorithm: TsigAlgorithm, secret: Uint8Array, bytes: Uint8Array) => Uint8Array;

/** RFC 8945 section 3 and 5.2. */
export const tsigErrors = { BADSIG: 16, BADKEY: 17, BADTIME: 18, BADTRUNC: 22 } as const;
type TsigError = (typeof tsigErrors)[keyof typeof tsigErrors];

/** RFC 8945 section 10: recommended. */
const FUDGE_SECONDS = 300;
const TSIG = 250;
const CLASS_ANY = 255;
/** Type, class, TTL and length of the RDATA; in that time, fudge, and lengths of MAC and other data, id and error. */
const RECORD_FIXED_BYTES = 10;
const RDATA_FIXED_BYTES = 16;
/** RFC 8945 section 5.2.2.1: shorter MACs are no MACs, whatever the algorithm. */
const MAC_BYTES_MIN = 10;

export type TsigVerdict =
  | { readonly kind: "none" }
  | { readonly kind: "malformed" }
  | { readonly kind: "good"; readonly key: TsigKey; readonly mac: Uint8Array }
  /** Answer NOTAUTH with this error; signed for BADTIME and BADTRUNC alone, by the key that is there then. */
  | {
      readonly kind: "bad";
      readonly error: TsigError;
      readonly keyName: DomainName;
      readonly algorithmName: DomainName;
      readonly key?: TsigKey;
      readonly mac: Uint8Array;
      readonly timeSeconds: number;
    };

interface TsigRecord {
  readonly at: number;
  readonly keyName: DomainName;
  readonly algorithmName: DomainName;
  readonly timeSeconds: number;
  readonly fudgeSeconds: number;
  readonly mac: Uint8Array;
  readonly originalId: number;
  readonly error: number;
  readonly other: Uint8Array;
}

function u16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}

/** A request's signature, if it has one (RFC 8945 section 5.2). Never throws. */
export function verifyTsig(bytes: Uint8Array, keys: TsigKeys, hmac: Hmac, nowSeconds: number): TsigVerdict {
  const read = findTsig(bytes);
  if (read === "none" || read === "malformed") return { kind: read };
  const { keyName, algorithmName, timeSeconds, mac } = read;
  const bad = (error: TsigError, key?: TsigKey): TsigVerdict => ({
    kind: "bad",
    error,
    keyName,
    algorithmName,
    mac,
    timeSeconds,
    ...(key !== undefined && { key }),
  });
  const key = keys.get(keyName.text);
  if (key === undefined || algorithmName.text !== key.algorithm) return bad(tsigErrors.BADKEY);
  const expected = hmac(key.algorithm, key.secret, signedOctets([withoutTsig(bytes, read)], read));
  // RFC 8945 section 5.2.2.1: longer than the algorithm's, or shorter than half of it, is FORMERR; shortened it would do, and is not taken here.
  if (mac.length > expected.length || mac.length < Math.max(MAC_BYTES_MIN, expected.length / 2))
    return { kind: "malformed" };
  if (!isEqual(expected.subarray(0, mac.length), mac)) return bad(tsigErrors.BADSIG);
  if (mac.length < expected.length) return bad(tsigErrors.BADTRUNC, key);
  if (Math.abs(nowSeconds - timeSeconds) > read.fudgeSeconds) return bad(tsigErrors.BADTIME, key);
  return { kind: "good", key, mac };
}

/** In time that does not tell how much of it was right. */
function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let at = 0; at < a.length; at++) difference |= (a[at] as number) ^ (b[at] as number);
  return difference === 0;
}

/** The TSIG record, which is the last one of the additional section and the only one (RFC 8945 section 5.1). */
function findTsig(bytes: Uint8Array): TsigRecord | "none" | "malformed" {
  if (bytes.length < headerBytes) return "malformed";
  let at = headerBytes;
  for (let n = u16(bytes, 4); n > 0; n--) {
    at = skipName(bytes, at);
    if (at < 0) return "malformed";
    at += 4;
  }
  const records = u16(bytes, 6) + u16(bytes, 8) + u16(bytes, 10);
  for (let n = 1; n <= records; n++) {
    const fixed = skipName(bytes, at);
    if (fixed < 0 || fixed + RECORD_FIXED_BYTES > bytes.length) return "malformed";
    const next = fixed + RECORD_FIXED_BYTES + u16(bytes, fixed + 8);
    if (next > bytes.length) return "malformed";
    if (u16(bytes, fixed) === TSIG) {
      const isLast = n === records && u16(bytes, 10) > 0 && next === bytes.length;
      const owner = isLast ? readName(bytes, at) : undefined;
      return (owner?.ok === true ? readTsig(bytes, at, owner.name, fixed, next) : undefined) ?? "malformed";
    }
    at = next;
  }
  return "none";
}

/** Where the name at `at` ends, unread: nearly every message that is looked at has no signature. -1: it does not end. */
function skipName(bytes: Uint8Array, at: number): number {
  for (;;) {
    const octet = bytes[at];
    if (octet === 0) return at + 1;
    if (octet === undefined) return -1;
    if (octet >= 0xc0) return at + 2;
    if (octet > labelBytesMax) return -1;
    at += octet + 1;
  }
}

function readTsig(
  bytes: Uint8Array,
  at: number,
  keyName: DomainName,
  fixed: number,
  end: number,
): TsigRecord | undefined {
  // RFC 8945 section 4.2: class ANY, TTL 0.
  if (u16(bytes, fixed + 2) !== CLASS_ANY || u16(bytes, fixed + 4) + u16(bytes, fixed + 6) !== 0)
    return undefined;
  const algorithm = readName(bytes, fixed + RECORD_FIXED_BYTES);
  if (!algorithm.ok || algorithm.next + 10 > end) return undefined;
  const times = algorithm.next;
  const macLength = u16(bytes, times + 8);
  const after = times + 10 + macLength;
  if (after + 6 > end || after + 6 + u16(bytes, after + 4) !== end) return undefined;
  return {
    at,
    keyName,
    algorithmName: algorithm.name,
    timeSeconds: u16(bytes, times) * 2 ** 32 + u16(bytes, times + 2) * 65_536 + u16(bytes, times + 4),
    fudgeSeconds: u16(bytes, times + 6),
    mac: bytes.slice(times + 10, after),
    originalId: u16(bytes, after),
    error: u16(bytes, after + 2),
    other: bytes.slice(after + 6, end),
  };
}

type Variables = Pick<
  TsigRecord,
  "keyName" | "algorithmName" | "timeSeconds" | "fudgeSeconds" | "error" | "other"
>;

/** RFC 8945 section 4.3.3. */
function signedOctets(
  before: readonly Uint8Array[],
  variables: Variables,
  areTimersOnly = false,
): Uint8Array {
  const octets = new Octets();
  for (const part of before) octets.put(part);
  const { keyName, algorithmName, timeSeconds, fudgeSeconds, error, other } = variables;
  if (!areTimersOnly) {
    octets.put(lowerName(keyName.wire));
    octets.u16(CLASS_ANY);
    octets.u32(0);
    octets.put(lowerName(algorithmName.wire));
  }
  octets.u16(Math.floor(timeSeconds / 2 ** 32));
  octets.u32(timeSeconds % 2 ** 32);
  octets.u16(fudgeSeconds);
  if (!areTimersOnly) {
    octets.u16(error);
    octets.u16(other.length);
    octets.put(other);
  }
  return octets.bytes();
}

/** Signs the messages of one exchange, each in turn (RFC 8945 section 5.3.1 where there are several). */
export class TsigSigner {
  readonly #key: TsigKey;
  readonly #hmac: Hmac;
  #before: Uint8Array;
  #isFirst = true;

  /** @param requestMac of the request that is answered; empty for a request of our own */
  constructor(key: TsigKey, hmac: Hmac, requestMac: Uint8Array) {
    this.#key = key;
    this.#hmac = hmac;
    this.#before = requestMac;
  }

  /** Of the last message that was signed; before the first one, of the request. */
  get lastMac(): Uint8Array {
    return this.#before;
  }

  /** The message with its signature. */
  sign(message: Uint8Array, nowSeconds: number, error = 0, other: Uint8Array = new Uint8Array()): Uint8Array {
    const { name: keyName, algorithm, secret } = this.#key;
    const algorithmName = nameFromText(algorithm) as DomainName;
    const variables = {
      keyName,
      algorithmName,
      timeSeconds: nowSeconds,
      fudgeSeconds: FUDGE_SECONDS,
      error,
      other,
    };
    const before = this.#before.length === 0 ? [] : [lengthPrefixed(this.#before)];
    const mac = this.#hmac(algorithm, secret, signedOctets([...before, message], variables, !this.#isFirst));
    this.#before = mac;
    this.#isFirst = false;
    return withTsig(message, variables, mac);
  }
}

/** RFC 8945 section 5.3.1: at most so many messages of one answer without a signature in turn. */
const UNSIGNED_MAX = 99;

/** Checks the messages that answer a signed request, in their order (RFC 8945 sections 5.3 and 5.3.1). */
export class TsigVerifier {
  readonly #key: TsigKey;
  readonly #hmac: Hmac;
  #before: Uint8Array;
  /** Since the last signature. */
  #unsigned: Uint8Array[] = [];
  #isFirst = true;

  constructor(key: TsigKey, hmac: Hmac, requestMac: Uint8Array) {
    this.#key = key;
    this.#hmac = hmac;
    this.#before = requestMac;
  }

  /** Whether all that was handled is covered by a signature; the last message of an answer must be. */
  get isCovered(): boolean {
    return !this.#isFirst && this.#unsigned.length === 0;
  }

  /** @returns why the message cannot be trusted; undefined: it is signed, or may be covered by the signature of a later one */
  handle(bytes: Uint8Array, nowSeconds: number): string | undefined {
    const read = findTsig(bytes);
    if (read === "malformed") return "a signature that cannot be read";
    if (read === "none") {
      if (this.#isFirst) return "no signature";
      if (this.#unsigned.length >= UNSIGNED_MAX)
        return `more than ${UNSIGNED_MAX} messages without a signature`;
      this.#unsigned.push(bytes);
      return undefined;
    }
    const { name, algorithm, secret } = this.#key;
    if (read.keyName.text !== name.text || read.algorithmName.text !== algorithm)
      return `a signature by another key, ${read.keyName.text}`;
    const parts = [lengthPrefixed(this.#before), ...this.#unsigned, withoutTsig(bytes, read)];
    const expected = this.#hmac(algorithm, secret, signedOctets(parts, read, !this.#isFirst));
    if (!isEqual(expected, read.mac)) return `a signature that does not hold (TSIG error ${read.error})`;
    if (Math.abs(nowSeconds - read.timeSeconds) > read.fudgeSeconds)
      return `a signature of another time: clocks are ${Math.abs(nowSeconds - read.timeSeconds)} s apart`;
    this.#before = read.mac;
    this.#unsigned = [];
    this.#isFirst = false;
    return undefined;
  }
}

/** Octets that a signature with this key adds to a message. */
export function tsigBytes({ name, algorithm }: TsigKey): number {
  const algorithmBytes = algorithm.length + 2;
  return name.wire.length + RECORD_FIXED_BYTES + algorithmBytes + RDATA_FIXED_BYTES + macBytes[algorithm];
}
const macBytes: Readonly<Record<TsigAlgorithm, number>> = {
  "hmac-sha256": 32,
  "hmac-sha384": 48,
  "hmac-sha512": 64,
};

/** The octets of a signed message as they were before it was signed (RFC 8945 section 4.3.2). */
function withoutTsig(bytes: Uint8Array, { at, originalId }: TsigRecord): Uint8Array {
  const message = Uint8Array.from(bytes.subarray(0, at));
  message.set([originalId >> 8, originalId & 255]);
  const additionals = u16(bytes, 10) - 1;
  message.set([additionals >> 8, additionals & 255], 10);
  return message;
}

/** An answer to a signature that is none: its MAC is empty (RFC 8945 section 5.3.2). */
export function unsignedTsig(
  message: Uint8Array,
  verdict: Extract<TsigVerdict, { kind: "bad" }>,
  nowSeconds: number,
): Uint8Array {
  const { keyName, algorithmName, error } = verdict;
  const other = new Uint8Array();
  const variables = {
    keyName,
    algorithmName,
    timeSeconds: nowSeconds,
    fudgeSeconds: FUDGE_SECONDS,
    error,
    other,
  };
  return withTsig(message, variables, new Uint8Array());
}

function lengthPrefixed(mac: Uint8Array): Uint8Array {
  return Uint8Array.of(mac.length >> 8, mac.length, ...mac);
}

function withTsig(message: Uint8Array, variables: Variables, mac: Uint8Array): Uint8Array {
  const { keyName, algorithmName, timeSeconds, fudgeSeconds, error, other } = variables;
  const octets = new Octets();
  octets.put(message);
  octets.put(keyName.wire);
  octets.u16(TSIG);
  octets.u16(CLASS_ANY);
  octets.u32(0);
  octets.u16(algorithmName.wire.length + RDATA_FIXED_BYTES + mac.length + other.length);
  octets.put(algorithmName.wire);
  octets.u16(Math.floor(timeSeconds / 2 ** 32));
  octets.u32(timeSeconds % 2 ** 32);
  octets.u16(fudgeSeconds);
  octets.u16(mac.length);
  octets.put(mac);
  octets.u16(u16(message, 0));
  octets.u16(error);
  octets.u16(other.length);
  octets.put(other);
  const whole = octets.bytes();
  const additionals = u16(message, 10) + 1;
  whole.set([additionals >> 8, additionals & 255], 10);
  return whole;
}
