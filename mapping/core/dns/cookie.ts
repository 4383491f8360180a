/** DNS cookies (RFC 7873) with the interoperable server cookie of RFC 9018: who shows one has received an answer of ours at its address. */
import type { IpAddress } from "#kit";

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

/**
 * Reads the data of a COOKIE option and makes the answer's. Never throws.
 *
 * @param secret 16 octets, the same at every server of the address (RFC 9018 section 5)
 * @param epochSeconds the time, seconds since 1970, modulo 2^32
 */
export function checkCookie(
  data: Uint8Array,
  client: IpAddress,
  secret: Uint8Array,
  epochSeconds: number,
): CookieCheck {
  const { length } = data;
  if (length !== clientCookieBytes && (length < 2 * clientCookieBytes || length > COOKIE_BYTES_MAX))
    return { state: "malformed", answer: undefined };
  const now = epochSeconds >>> 0;
  if (length === clientCookieBytes + SERVER_COOKIE_BYTES && data[clientCookieBytes] === VERSION) {
    const at = readU32(data, 12);
    // RFC 1982: the clock's 32 bits run over in 2106.
    const age = (now - at) | 0;
    if (age <= ACCEPTED_SECONDS && age >= -AHEAD_SECONDS) {
      const expected = cookieOf(data, client, secret, at);
      if (isEqual(data, expected)) {
        return {
          state: "valid",
          answer: age <= RENEWED_SECONDS ? expected : cookieOf(data, client, secret, now),
        };
      }
    }
  }
  return { state: "client", answer: cookieOf(data, client, secret, now) };
}

/** Client cookie, version, reserved octets, time, hash. */
function cookieOf(data: Uint8Array, client: IpAddress, secret: Uint8Array, at: number): Uint8Array {
  const cookie = new Uint8Array(clientCookieBytes + SERVER_COOKIE_BYTES);
  cookie.set(data.subarray(0, clientCookieBytes));
  cookie[8] = VERSION;
  for (let octet = 0; octet < 4; octet++) cookie[12 + octet] = at >>> (24 - 8 * octet);
  const input = new Uint8Array(16 + client.words.length * 4);
  input.set(cookie.subarray(0, 16));
  for (const [index, word] of client.words.entries())
    for (let octet = 0; octet < 4; octet++) input[16 + index * 4 + octet] = word >>> (24 - 8 * octet);
  cookie.set(sipHash24(input, secret), 16);
  return cookie;
}

/** In a time that does not tell where they differ. */
function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  let difference = a.length ^ b.length;
  for (let index = 0; index < b.length; index++) difference |= (a[index] as number) ^ (b[index] as number);
  return difference === 0;
}

function readU32(bytes: Uint8Array, at: number): number {
  let value = 0;
  for (let octet = 0; octet < 4; octet++) value = (value << 8) | (bytes[at + octet] as number);
  return value >>> 0;
}

/**
 * SipHash-2-4 (Aumasson, Bernstein, "SipHash: a fast short-input PRF", 2012): 8 octets, little-endian. 64-bit words are pairs of
 * 32 bits, low one first.
 */
export function sipHash24(input: Uint8Array, key: Uint8Array): Uint8Array {
  const word = (bytes: Uint8Array, at: number): number =>
    (bytes[at] ?? 0) |
    ((bytes[at + 1] ?? 0) << 8) |
    ((bytes[at + 2] ?? 0) << 16) |
    ((bytes[at + 3] ?? 0) << 24);
  const k = [word(key, 0), word(key, 4), word(key, 8), word(key, 12)] as const;
  const v = Int32Array.of(
    k[0] ^ 0x70736575,
    k[1] ^ 0x736f6d65,
    k[2] ^ 0x6e646f6d,
    k[3] ^ 0x646f7261,
    k[0] ^ 0x6e657261,
    k[1] ^ 0x6c796765,
    k[2] ^ 0x79746573,
    k[3] ^ 0x74656462,
  );
  const mix = (low: number, high: number, rounds: number): void => {
    (v[6] as number) ^= low;
    (v[7] as number) ^= high;
    for (let round = 0; round < rounds; round++) sipRound(v);
    (v[0] as number) ^= low;
    (v[1] as number) ^= high;
  };
  const whole = input.length & ~7;
  for (let at = 0; at < whole; at += 8) mix(word(input, at), word(input, at + 4), 2);
  const rest = input.subarray(whole);
  mix(word(rest, 0), word(rest, 4) | (input.length << 24), 2);
  (v[4] as number) ^= 0xff;
  for (let round = 0; round < 4; round++) sipRound(v);
  const low = (v[0] as number) ^ (v[2] as number) ^ (v[4] as number) ^ (v[6] as number);
  const high = (v[1] as number) ^ (v[3] as number) ^ (v[5] as number) ^ (v[7] as number);
  return Uint8Array.from({ length: 8 }, (_, octet) =>
    octet < 4 ? low >>> (8 * octet) : high >>> (8 * (octet - 4)),
  );
}

/** `v[to] += v[from]`; words by their place, 0 to 3. */
function add(v: Int32Array, to: number, from: number): void {
  const low = ((v[2 * to] as number) >>> 0) + ((v[2 * from] as number) >>> 0);
  v[2 * to] = low;
  v[2 * to + 1] = (v[2 * to + 1] as number) + (v[2 * from + 1] as number) + (low > 0xffff_ffff ? 1 : 0);
}

/** `v[to] = rotl(v[to], bits) ^ v[from]`. */
function rotateXor(v: Int32Array, to: number, bits: number, from: number): void {
  const swap = bits >= 32;
  const low = v[2 * to + (swap ? 1 : 0)] as number;
  const high = v[2 * to + (swap ? 0 : 1)] as number;
  const by = bits & 31;
  const turnedLow = by === 0 ? low : (low << by) | (high >>> (32 - by));
  const turnedHigh = by === 0 ? high : (high << by) | (low >>> (32 - by));
  v[2 * to] = turnedLow ^ (v[2 * from] as number);
  v[2 * to + 1] = turnedHigh ^ (v[2 * from + 1] as number);
}

function rotate(v: Int32Array, to: number): void {
  const low = v[2 * to] as number;
  v[2 * to] = v[2 * to + 1] as number;
  v[2 * to + 1] = low;
}

function sipRound(v: Int32Array): void {
  add(v, 0, 1);
  rotateXor(v, 1, 13, 0);
  rotate(v, 0);
  add(v, 2, 3);
  rotateXor(v, 3, 16, 2);
  add(v, 0, 3);
  rotateXor(v, 3, 21, 0);
  add(v, 2, 1);
  rotateXor(v, 1, 17, 2);
  rotate(v, 2);
}
