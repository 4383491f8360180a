/** DNS cookies (RFC 7873) with the interoperable server cookie of RFC 9018: who shows one has received an answer of ours at its address. */
import type { IpAddress, IpFamily } from "#kit";

export const clientCookieBytes = 8;
const SERVER_COOKIE_BYTES = 16;
/** RFC 7873 section 5.2.2: 8 octets of the client's, and if any 8 to 32 of a server's. */
const COOKIE_BYTES_MAX = clientCookieBytes + 32;
const VERSION = 1;
/** RFC 9018 section 4.3: accepted for an hour, and five minutes ahead of our clock; a new one after half an hour. */
const ACCEPTED_SECONDS = 3_600;
const AHEAD_SECONDS = 300;
const RENEWED_SECONDS = 1_800;
export const cookieSecretBytes = 16;

/** `malformed`: FORMERR. `client`: none of ours is in it, or one that does not hold. `valid`: ours, for this address. */
export type CookieState = "malformed" | "client" | "valid";

export interface CookieCheck {
  readonly state: CookieState;
  /** Option data for the answer; undefined when malformed. */
  readonly answer: Uint8Array | undefined;
}

/** As {@link ServerCookies.check}, for who asks seldom; the answer is the caller's. */
export function checkCookie(
  data: Uint8Array,
  client: IpAddress,
  secret: Uint8Array,
  epochSeconds: number,
): CookieCheck {
  const cookies = new ServerCookies(secret);
  const state = cookies.check(data, 0, data.length, client.family, client.words, epochSeconds);
  return { state, answer: state === "malformed" ? undefined : cookies.answer };
}

/** Cookies of one secret. Most resolvers show one with each query, so nothing is allocated for it. */
export class ServerCookies {
  readonly #secret: Uint8Array;
  /** What is hashed: client cookie, version, reserved octets, time, address. */
  readonly #hashed = new Uint8Array(clientCookieBytes + 8 + 16);
  /** Option data for the answer to what {@link check} has read last, unless that was malformed. */
  readonly answer = new Uint8Array(clientCookieBytes + SERVER_COOKIE_BYTES);

  /** @param secret 16 octets, the same at every server of the address (RFC 9018 section 5) */
  constructor(secret: Uint8Array) {
    this.#secret = secret;
  }

  /**
   * Reads the data of a COOKIE option, `bytes[at]` to `bytes[end]`, and makes the answer's. Never throws.
   *
   * @param words of the client's address, network order
   * @param epochSeconds the time, seconds since 1970, modulo 2^32
   */
  check(
    bytes: Uint8Array,
    at: number,
    end: number,
    family: IpFamily,
    words: ArrayLike<number>,
    epochSeconds: number,
  ): CookieState {
    const length = end - at;
    if (length !== clientCookieBytes && (length < 2 * clientCookieBytes || length > COOKIE_BYTES_MAX))
      return "malformed";
    const now = epochSeconds >>> 0;
    if (length === this.answer.length && bytes[at + clientCookieBytes] === VERSION) {
      const madeAt = readU32(bytes, at + 12);
      // RFC 1982: the clock's 32 bits run over in 2106.
      const age = (now - madeAt) | 0;
      if (age <= ACCEPTED_SECONDS && age >= -AHEAD_SECONDS) {
        this.#make(bytes, at, family, words, madeAt);
        if (this.#isAnswer(bytes, at)) {
          if (age > RENEWED_SECONDS) this.#make(bytes, at, family, words, now);
          return "valid";
        }
      }
    }
    this.#make(bytes, at, family, words, now);
    return "client";
  }

  /** Client cookie, version, reserved octets, time, hash. */
  #make(bytes: Uint8Array, at: number, family: IpFamily, words: ArrayLike<number>, madeAt: number): void {
    const { answer } = this;
    const hashed = this.#hashed;
    for (let octet = 0; octet < clientCookieBytes; octet++) hashed[octet] = bytes[at + octet] as number;
    hashed[8] = VERSION;
    writeU32(hashed, 12, madeAt);
    const addressWords = family === 4 ? 1 : 4;
    for (let word = 0; word < addressWords; word++) writeU32(hashed, 16 + word * 4, words[word] as number);
    for (let octet = 0; octet < 16; octet++) answer[octet] = hashed[octet] as number;
    sipHash24(hashed, 16 + addressWords * 4, this.#secret, answer, 16);
  }

  /** In a time that does not tell where they differ. */
  #isAnswer(bytes: Uint8Array, at: number): boolean {
    const { answer } = this;
    let difference = 0;
    for (let octet = 0; octet < answer.length; octet++)
      difference |= (answer[octet] as number) ^ (bytes[at + octet] as number);
    return difference === 0;
  }
}

function readU32(bytes: Uint8Array, at: number): number {
  let value = 0;
  for (let octet = 0; octet < 4; octet++) value = (value << 8) | (bytes[at + octet] as number);
  return value >>> 0;
}

function writeU32(bytes: Uint8Array, at: number, value: number): void {
  for (let octet = 0; octet < 4; octet++) bytes[at + octet] = value >>> (24 - 8 * octet);
}

/** Octets `at` to `at + 3`, the lowest first; those from `end` on are 0. */
function littleEndian(bytes: Uint8Array, at: number, end: number): number {
  let value = 0;
  for (let octet = 0; octet < 4; octet++)
    if (at + octet < end) value |= (bytes[at + octet] as number) << (8 * octet);
  return value;
}

/**
 * SipHash-2-4 (Aumasson, Bernstein, "SipHash: a fast short-input PRF", 2012) of `input[0]` to `input[length]` into the 8 octets at
 * `out[at]`, little-endian. Words of 64 bits are pairs of 32 in local variables, low (`l`) and high (`h`): an array of them, and a
 * function for each step, took four times as long.
 *
 * @param key 16 octets
 */
export function sipHash24(
  input: Uint8Array,
  length: number,
  key: Uint8Array,
  out: Uint8Array,
  at: number,
): void {
  const [k0l, k0h] = [littleEndian(key, 0, 16), littleEndian(key, 4, 16)];
  const [k1l, k1h] = [littleEndian(key, 8, 16), littleEndian(key, 12, 16)];
  let [v0l, v0h] = [k0l ^ 0x7073_6575, k0h ^ 0x736f_6d65];
  let [v1l, v1h] = [k1l ^ 0x6e64_6f6d, k1h ^ 0x646f_7261];
  let [v2l, v2h] = [k0l ^ 0x6e65_7261, k0h ^ 0x6c79_6765];
  let [v3l, v3h] = [k1l ^ 0x7974_6573, k1h ^ 0x7465_6462];
  // The last block has what is left and the length; behind it come the rounds that end it.
  const last = length >>> 3;
  for (let block = 0; block <= last + 1; block++) {
    const isEnd = block > last;
    const ml = isEnd ? 0 : littleEndian(input, block * 8, length);
    const mh = isEnd ? 0 : littleEndian(input, block * 8 + 4, length) | (block === last ? length << 24 : 0);
    if (isEnd) v2l ^= 0xff;
    v3l ^= ml;
    v3h ^= mh;
    for (let round = isEnd ? 4 : 2; round > 0; round--) {
      let sum = (v0l + v1l) | 0;
      v0h = (v0h + v1h + (sum >>> 0 < v1l >>> 0 ? 1 : 0)) | 0;
      v0l = sum;
      let low = (v1l << 13) | (v1h >>> 19);
      v1h = ((v1h << 13) | (v1l >>> 19)) ^ v0h;
      v1l = low ^ v0l;
      low = v0l;
      v0l = v0h;
      v0h = low;

      sum = (v2l + v3l) | 0;
      v2h = (v2h + v3h + (sum >>> 0 < v3l >>> 0 ? 1 : 0)) | 0;
      v2l = sum;
      low = (v3l << 16) | (v3h >>> 16);
      v3h = ((v3h << 16) | (v3l >>> 16)) ^ v2h;
      v3l = low ^ v2l;

      sum = (v0l + v3l) | 0;
      v0h = (v0h + v3h + (sum >>> 0 < v3l >>> 0 ? 1 : 0)) | 0;
      v0l = sum;
      low = (v3l << 21) | (v3h >>> 11);
      v3h = ((v3h << 21) | (v3l >>> 11)) ^ v0h;
      v3l = low ^ v0l;

      sum = (v2l + v1l) | 0;
      v2h = (v2h + v1h + (sum >>> 0 < v1l >>> 0 ? 1 : 0)) | 0;
      v2l = sum;
      low = (v1l << 17) | (v1h >>> 15);
      v1h = ((v1h << 17) | (v1l >>> 15)) ^ v2h;
      v1l = low ^ v2l;
      low = v2l;
      v2l = v2h;
      v2h = low;
    }
    v0l ^= ml;
    v0h ^= mh;
  }
  const low = v0l ^ v1l ^ v2l ^ v3l;
  const high = v0h ^ v1h ^ v2h ^ v3h;
  for (let octet = 0; octet < 4; octet++) {
    out[at + octet] = low >>> (8 * octet);
    out[at + 4 + octet] = high >>> (8 * octet);
  }
}
