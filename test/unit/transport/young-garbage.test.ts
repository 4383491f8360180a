/**
 * What an exchange leaves behind goes with the young generation: nothing of one keeps the next from that. Where it did, each was copied twice and
 * waited for a collection of the old one, at a third of the CPU that a request took, and left 3,600 bytes there.
 */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const PROGRAM = new URL("../../tools/young-garbage.ts", import.meta.url).pathname;
/** A young generation as an edge has it, and an old one that is not collected meanwhile. */
const FLAGS = ["--min-semi-space-size=8", "--max-semi-space-size=8", "--initial-old-space-size=512"];

test.each(["plain", "undici"])(
  "an exchange, %s",
  async (kind) => {
    const { stdout } = await promisify(execFile)(process.execPath, [...FLAGS, PROGRAM, kind]);
    expect(Number(stdout)).toBeLessThan(400);
  },
  120_000,
);
