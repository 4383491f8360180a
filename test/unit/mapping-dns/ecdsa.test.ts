import { generateKeyPairSync, sign, verify } from "node:crypto";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { rawSignatureOf } from "../../../mapping/core/dns/dnssec/ecdsa.ts";

/** An INTEGER without its leading zeros and with one where the highest bit is set (X.690, 8.3). */
function integer(scalar: Uint8Array): readonly number[] {
  const shown = [...scalar];
  while (shown.length > 1 && shown[0] === 0) shown.shift();
  if ((shown[0] as number) >= 0x80) shown.unshift(0);
  return [0x02, shown.length, ...shown];
}

test("r and s of any size stand at their places", () => {
  const scalar = fc
    .tuple(fc.nat(32), fc.uint8Array({ minLength: 32, maxLength: 32 }))
    .map(([zeros, octets]) => octets.fill(0, 0, zeros));
  fc.assert(
    fc.property(scalar, scalar, (r, s) => {
      const both = [...integer(r), ...integer(s)];
      expect(rawSignatureOf(Uint8Array.of(0x30, both.length, ...both))).toEqual(Uint8Array.of(...r, ...s));
    }),
  );
});

test("what node:crypto signs verifies in this form", () => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  // Every 128th or so has a short r or s.
  for (let n = 0; n < 600; n++) {
    const bytes = Buffer.from(`octets ${n}`);
    const raw = rawSignatureOf(sign("sha256", bytes, privateKey));
    expect(verify("sha256", bytes, { key: publicKey, dsaEncoding: "ieee-p1363" }, raw)).toBe(true);
  }
});
