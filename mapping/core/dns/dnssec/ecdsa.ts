/** ECDSA signatures on P-256 as DNSSEC has them. */

/** Octets of r and of s on P-256. */
const SCALAR_OCTETS = 32;
const SEQUENCE_HEADER_OCTETS = 2;
const INTEGER_HEADER_OCTETS = 2;

/**
 * r and s one behind the other, 64 octets (RFC 6605 section 4), from the DER that a library makes (RFC 3279 section 2.2.3: a SEQUENCE
 * of two INTEGERs, on P-256 of at most 72 octets). Made here because node:crypto takes twice as long to sign when it is to make it.
 */
export function rawSignatureOf(der: Uint8Array): Uint8Array {
  const raw = new Uint8Array(2 * SCALAR_OCTETS);
  let at = SEQUENCE_HEADER_OCTETS;
  for (let end = SCALAR_OCTETS; end <= raw.length; end += SCALAR_OCTETS) {
    const from = at + INTEGER_HEADER_OCTETS;
    const next = from + (der[at + 1] as number);
    // An octet of zeros leads where the highest bit would be a sign, and leading zeros are left out.
    const start = Math.max(from, next - SCALAR_OCTETS);
    raw.set(der.subarray(start, next), end - (next - start));
    at = next;
  }
  return raw;
}
