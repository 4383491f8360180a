/** Numbers that look random and are not: what a lot is drawn by, from what is known of a query. */

/** The 32-bit finaliser of MurmurHash3 (A. Appleby, public domain). */
function finalise(hash: number): number {
  let h = hash;
  h = Math.imul(h ^ (h >>> 16), 0x85eb_ca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2_ae35);
  return h ^ (h >>> 16);
}

/** Two numbers to one of 32 bits; not symmetric. */
export function mix(a: number, b: number): number {
  return finalise((finalise(a ^ 0x9e37_79b9) + Math.imul(b, 0x85eb_ca77) + 0x27d4_eb2f) | 0) >>> 0;
}

/** A draw as a number above 0 and below 1. */
export function unitOf(draw: number): number {
  return (draw + 0.5) / 0x1_0000_0000;
}

/**
 * The draw of a query: its id, which resolvers choose at random (RFC 5452 section 9.2), who asks, and the second. A query that is sent again in
 * the same second gets the same answer.
 */
export function drawOf(queryId: number, resolverWords: ArrayLike<number>, epochSeconds: number): number {
  let draw = mix(queryId, epochSeconds);
  for (let n = 0; n < resolverWords.length; n++) draw = mix(draw, resolverWords[n] as number);
  return draw;
}
