/**
 * The field of 256 elements that Reed-Solomon codes are computed in: a byte is a polynomial over GF(2), modulo
 * x^8 + x^4 + x^3 + x^2 + 1 (0x11d), of which x is a primitive element. Addition is XOR.
 */

const POLYNOMIAL = 0x11d;
const ORDER = 255;

/** x^n, twice over, so that a sum of two logarithms needs no modulo; and the logarithm of each byte but 0. */
const EXP = new Uint8Array(2 * ORDER);
const LOG = new Uint8Array(256);
for (let power = 0, value = 1; power < ORDER; power++) {
  EXP[power] = value;
  EXP[power + ORDER] = value;
  LOG[value] = power;
  value <<= 1;
  if (value > ORDER) value ^= POLYNOMIAL;
}

export function multiply(a: number, b: number): number {
  return a === 0 || b === 0 ? 0 : (EXP[(LOG[a] as number) + (LOG[b] as number)] as number);
}

/** Throws RangeError for 0, which has none. */
export function inverse(a: number): number {
  if (a === 0) throw new RangeError("GF(256): 0 has no inverse");
  return EXP[ORDER - (LOG[a] as number)] as number;
}

/** Products of one factor with every byte, made when it is first used: 64 KiB in all, which most processes never need. */
const PRODUCTS: Uint8Array[] = [];
function productsOf(factor: number): Uint8Array {
  return (PRODUCTS[factor] ??= Uint8Array.from({ length: 256 }, (_, byte) => multiply(factor, byte)));
}

/** `into += factor * from`, over the bytes of `from`; `into` is as long at least. Four bytes a turn: half as fast again. */
export function addMultiple(into: Uint8Array, from: Uint8Array, factor: number): void {
  if (factor === 0) return;
  const products = productsOf(factor);
  const { length } = from;
  const whole = length - (length % 4);
  let at = 0;
  for (; at < whole; at += 4) {
    into[at] = (into[at] as number) ^ (products[from[at] as number] as number);
    into[at + 1] = (into[at + 1] as number) ^ (products[from[at + 1] as number] as number);
    into[at + 2] = (into[at + 2] as number) ^ (products[from[at + 2] as number] as number);
    into[at + 3] = (into[at + 3] as number) ^ (products[from[at + 3] as number] as number);
  }
  for (; at < length; at++) into[at] = (into[at] as number) ^ (products[from[at] as number] as number);
}

/** `row *= factor`, in place. */
export function scale(row: Uint8Array, factor: number): void {
  const products = productsOf(factor);
  for (let at = 0; at < row.length; at++) row[at] = products[row[at] as number] as number;
}
