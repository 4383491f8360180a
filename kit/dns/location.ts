/** LOC (RFC 1876): where something stands, in thousandths of seconds of arc and centimetres. */
import { type Token, ZoneTextError } from "./zone-text.ts";

/** The equator and the prime meridian (RFC 1876 section 2). */
const ORIGIN = 2 ** 31;
const LATITUDE_DEGREES_MAX = 90;
const LONGITUDE_DEGREES_MAX = 180;
/** Metres below the ellipsoid where altitude 0 stands. */
const BASE_ALTITUDE_M = 100_000;
const EXPECTED = 'a location such as "52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m"';

/** `d [m [s]] N|S d [m [s]] E|W alt [size [horizontal [vertical]]]`. Throws {@link ZoneTextError}. */
export function readLocation(tokens: readonly Token[]): Uint8Array {
  const words = tokens.map((token) => token.raw);
  const fail = (): never => {
    throw new ZoneTextError(tokens[0] as Token, words.join(" "), EXPECTED);
  };
  let at = 0;
  const angle = (letters: string, degreesMax: number): number => {
    const parts: number[] = [];
    while (parts.length < 3 && /^\d{1,3}(\.\d{1,3})?$/.test(words[at] ?? "")) parts.push(Number(words[at++]));
    const letter = (words[at++] ?? "").toUpperCase();
    const [degrees = -1, minutes = 0, seconds = 0] = parts;
    if (!Number.isInteger(degrees) || !Number.isInteger(minutes) || minutes > 59 || seconds >= 60) fail();
    const thousandths = Math.round((degrees * 3_600 + minutes * 60 + seconds) * 1_000);
    if (
      degrees < 0 ||
      thousandths > degreesMax * 3_600_000 ||
      letter.length !== 1 ||
      !letters.includes(letter)
    )
      fail();
    return letter === letters[0] ? ORIGIN + thousandths : ORIGIN - thousandths;
  };
  const latitude = angle("NS", LATITUDE_DEGREES_MAX);
  const longitude = angle("EW", LONGITUDE_DEGREES_MAX);
  const metres = (fallback: number): number => {
    const word = words[at++];
    if (word === undefined) return fallback;
    if (!/^-?\d{1,8}(\.\d{1,2})?m?$/i.test(word)) fail();
    return Number.parseFloat(word);
  };
  const altitude = Math.round((metres(Number.NaN) + BASE_ALTITUDE_M) * 100);
  const sizes = [metres(1), metres(10_000), metres(10)].map((size) => (size < 0 ? fail() : precision(size)));
  if (!(altitude >= 0 && altitude <= 0xffff_ffff) || at < words.length) fail();
  const bytes = new Uint8Array(16);
  bytes.set([0, ...sizes]);
  const view = new DataView(bytes.buffer);
  for (const [n, value] of [latitude, longitude, altitude].entries()) view.setUint32(4 + n * 4, value);
  return bytes;
}

/** Centimetres as one digit and a power of ten, four bits each. */
function precision(metres: number): number {
  let mantissa = Math.round(metres * 100);
  let exponent = 0;
  while (mantissa > 9) {
    mantissa = Math.floor(mantissa / 10);
    exponent++;
  }
  return (mantissa << 4) | exponent;
}

/** Undefined when the octets are no location of version 0. */
export function locationText(rdata: Uint8Array): string | undefined {
  if (rdata.length !== 16 || rdata[0] !== 0) return undefined;
  const view = new DataView(rdata.buffer, rdata.byteOffset, 16);
  const latitude = angleText(view.getUint32(4), "NS", LATITUDE_DEGREES_MAX);
  const longitude = angleText(view.getUint32(8), "EW", LONGITUDE_DEGREES_MAX);
  if (latitude === undefined || longitude === undefined) return undefined;
  const sizes: string[] = [];
  for (const octet of rdata.subarray(1, 4)) {
    const [mantissa, exponent] = [octet >> 4, octet & 15];
    if (mantissa > 9 || exponent > 9) return undefined;
    sizes.push(`${((mantissa * 10 ** exponent) / 100).toFixed(2)}m`);
  }
  const altitude = view.getUint32(12) / 100 - BASE_ALTITUDE_M;
  return `${latitude} ${longitude} ${altitude.toFixed(2)}m ${sizes.join(" ")}`;
}

function angleText(value: number, letters: string, degreesMax: number): string | undefined {
  const thousandths = Math.abs(value - ORIGIN);
  if (thousandths > degreesMax * 3_600_000) return undefined;
  const degrees = Math.floor(thousandths / 3_600_000);
  const minutes = Math.floor((thousandths % 3_600_000) / 60_000);
  const seconds = ((thousandths % 60_000) / 1_000).toFixed(3);
  return `${degrees} ${minutes} ${seconds} ${letters[value >= ORIGIN ? 0 : 1]}`;
}
