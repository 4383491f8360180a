import { expect, test } from "vitest";
import { TextBatches, writeAscii } from "../../../analytics/core/text-batches.ts";

const push = (batches: TextBatches, text: string): boolean =>
  batches.push({ write: (bytes, at) => at + writeAscii(text, bytes, at) }, text.length);

const textOf = (batches: TextBatches): string => {
  const batch = batches.take();
  const text = Buffer.from(batch.bytes).toString("latin1");
  batches.giveBack(batch);
  return text;
};

test("lines come out in order, in batches that hold whole lines", () => {
  const batches = new TextBatches(16, 4);
  for (const line of ["one", "two", "three", "four", "five"]) expect(push(batches, line)).toBe(true);
  expect(batches.records).toBe(5);
  expect([textOf(batches), textOf(batches), textOf(batches)]).toEqual([
    "one\ntwo\nthree\n",
    "four\nfive\n",
    "",
  ]);
  expect(batches.records).toBe(0);
});

test("what is being written is not written over", () => {
  const batches = new TextBatches(16, 4);
  push(batches, "first");
  const batch = batches.take();
  push(batches, "other");
  expect(Buffer.from(batch.bytes).toString()).toBe("first\n");
  batches.giveBack(batch);
  expect(textOf(batches)).toBe("other\n");
});

test("beyond the bound lines are dropped and counted, and taken again when there is room", () => {
  const batches = new TextBatches(8, 2);
  let taken = 0;
  for (let n = 0; n < 10; n++) if (push(batches, "1234567")) taken++;
  expect(taken).toBe(2);
  expect(batches.dropped).toBe(8);
  expect(push(batches, "x".repeat(8))).toBe(false);
  textOf(batches);
  expect(push(batches, "1234567")).toBe(true);
  expect(batches.records).toBe(2);
});
