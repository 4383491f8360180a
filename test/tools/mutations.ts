/** Inputs as a broken disk, a cut transfer or an attacker leaves them: a valid one with a few edits. */
import * as fc from "fast-check";

type Edit =
  | { readonly kind: "set" | "insert"; readonly at: number; readonly byte: number }
  | { readonly kind: "remove" | "repeat"; readonly at: number; readonly length: number }
  | { readonly kind: "cut"; readonly at: number };

const at = fc.nat({ max: 2 ** 30 });
const edit: fc.Arbitrary<Edit> = fc.oneof(
  fc.record({ kind: fc.constantFrom("set" as const, "insert" as const), at, byte: fc.nat({ max: 255 }) }),
  fc.record({
    kind: fc.constantFrom("remove" as const, "repeat" as const),
    at,
    length: fc.integer({ min: 1, max: 64 }),
  }),
  fc.record({ kind: fc.constant("cut" as const), at }),
);

function edited(bytes: Uint8Array, one: Edit): Uint8Array {
  const at = bytes.length === 0 ? 0 : one.at % bytes.length;
  const before = bytes.subarray(0, at);
  switch (one.kind) {
    case "set":
      return Uint8Array.of(...before, one.byte, ...bytes.subarray(at + 1));
    case "insert":
      return Uint8Array.of(...before, one.byte, ...bytes.subarray(at));
    case "remove":
      return Uint8Array.of(...before, ...bytes.subarray(at + one.length));
    case "repeat":
      return Uint8Array.of(...before, ...bytes.subarray(at, at + one.length), ...bytes.subarray(at));
    case "cut":
      return before.slice();
  }
}

/** `valid` (short: it is copied for each edit) with one to eight edits, and a size of chunks to read it in. */
export function mutated(valid: Uint8Array): fc.Arbitrary<{ bytes: Uint8Array; chunkBytes: number }> {
  return fc.record({
    bytes: fc.array(edit, { minLength: 1, maxLength: 8 }).map((edits) => edits.reduce(edited, valid)),
    chunkBytes: fc.integer({ min: 1, max: 200 }),
  });
}

/** Hands `bytes` to `read` in chunks. */
export function inChunks(bytes: Uint8Array, chunkBytes: number, read: (chunk: Uint8Array) => void): void {
  for (let at = 0; at < bytes.length; at += chunkBytes) read(bytes.subarray(at, at + chunkBytes));
}
