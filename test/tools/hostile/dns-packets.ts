/** Mutations of DNS queries as resolvers send them. */
import { hex, query } from "../../unit/mapping-dns/fixture.ts";

const seeds: readonly Uint8Array[] = [
  query(),
  query({ name: "WwW.shop.EXAMPLE", ecs: "0001 18 00 c00002" }),
  query({ ecs: "0002 38 00 20010db8000100", type: 28 }),
  query({ name: "shop.example", type: 2, udpPayloadBytes: 4096 }),
  query({ name: "shop.example", type: 6, edns: true, isDnssecOk: true }),
  query({
    name: "a.b.c.d.nope.shop.example",
    type: 255,
    options: [{ code: 10, data: hex("0102030405060708") }],
  }),
  query({ name: "media.example", version: 1 }),
  // Pointers and records of every kind that the reader knows.
  hex(
    "1234 0000 0001 0001 0001 0001 0473686f70 076578616d706c65 00 00fb 0001 c00c 0005 0001 00000000 0004 0161 c00c c00c 0006 0001 00000000 0018 c00c c00c 00000001 00000000 00000000 00000000 00000000 00 0029 04d0 00000000 0007 0008 0003 000000",
  ),
  hex(
    "1234 0000 0001 0000 0000 0002 03777777 0473686f70 076578616d706c65 00 0001 0001 c00c 000d 0001 00000000 0004 01610162 c010 0010 0001 00000000 0003 020000",
  ),
];

/** xorshift32: the corpus is the same in every run. */
export function randomBelow(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

export function mutateDnsPacket(random: (below: number) => number): Uint8Array {
  let bytes = Uint8Array.from(seeds[random(seeds.length)]!);
  for (let count = 1 + random(6); count > 0; count--) {
    const at = random(Math.max(1, bytes.length));
    switch (random(9)) {
      case 0:
        bytes[at] = random(256);
        break;
      case 1:
        bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8));
        break;
      case 2:
        bytes = bytes.slice(0, at);
        break;
      case 3:
        bytes = Uint8Array.of(...bytes.slice(0, at), random(256), ...bytes.slice(at));
        break;
      case 4: // A pointer to anywhere.
        bytes[at] = 0xc0 | random(64);
        bytes[at + 1] = random(256);
        break;
      case 5: // Section counts, where most faults of name servers have been.
        bytes[4 + random(8)] = [0, 1, 2, 255][random(4)]!;
        break;
      case 6: // A splice of two packets.
        bytes = Uint8Array.of(...bytes.slice(0, at), ...seeds[random(seeds.length)]!.slice(random(40)));
        break;
      case 7: // One more OPT.
        bytes = Uint8Array.of(...bytes, ...hex("00 0029 04d0 00000000 0000"));
        bytes[11] = (bytes[11]! + 1) & 0xff;
        break;
      default: // QR and opcode are kept harmless in most cases, so that deeper code is reached.
        bytes[2] = 0;
        bytes[5] = 1;
    }
  }
  return bytes;
}
