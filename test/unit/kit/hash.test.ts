import { describe, expect, it } from "vitest";
import { xxh32, xxh64, xxh64Hex } from "../../../kit/hash.ts";

const PRIME32 = 2654435761;

/** The buffer of xxHash's own sanity check (xxhsum, XSUM_sanityCheck before 0.8). */
function sanityBuffer(length: number): Uint8Array {
  const buffer = new Uint8Array(length);
  let generator = PRIME32;
  for (let index = 0; index < length; index++) {
    buffer[index] = generator >>> 24;
    generator = Math.imul(generator, generator) >>> 0;
  }
  return buffer;
}

describe("xxh32 and xxh64 give the published values", () => {
  it.each([
    [0, 0x02cc5d05, 0x36b78ae7, 0xef46db3751d8e999n, 0xac75fda2929b17efn],
    [1, 0xb85cbee5, 0xd5845d64, 0x4fce394cc88952d8n, 0x739840cb819fa723n],
    [14, 0xe5aa0ab4, 0x4481951d, 0xcffa8db881bc3a3dn, 0x5b9611585efcc9cbn],
    [101, 0x1f1aa412, 0x498ec8e2, 0x0eab543384f878adn, 0xcaa65939306f1e21n],
  ])("%i bytes", (length, h32, h32Seeded, h64, h64Seeded) => {
    const buffer = sanityBuffer(length);
    expect(xxh32(buffer)).toBe(h32);
    expect(xxh32(buffer, PRIME32)).toBe(h32Seeded);
    expect(xxh64(buffer)).toBe(h64);
    expect(xxh64(buffer, BigInt(PRIME32))).toBe(h64Seeded);
  });

  it("text is hashed as UTF-8", () => {
    expect(xxh32("abc")).toBe(0x32d153ff);
    expect(xxh64("abc")).toBe(0x44bc2cf5ad770999n);
    expect(xxh64("grün €")).toBe(xxh64(new TextEncoder().encode("grün €")));
  });

  it("hex has 16 digits, also with leading zeros", () => {
    expect(xxh64Hex(sanityBuffer(101))).toBe("0eab543384f878ad");
    expect(xxh64Hex("")).toBe("ef46db3751d8e999");
  });
});
