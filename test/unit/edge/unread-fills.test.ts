/**
 * Goal: a fill whose last reader has left goes on only for as much as a slice; one that somebody reads, or that nobody ever began to read,
 * is never ended. Method: the fill's loop on content that the test gives piece by piece.
 */
import { PassThrough } from "node:stream";
import { setImmediate } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { FillBudget, ObjectBody } from "#edge";

const UNREAD_BYTES_MAX = 100;
const PIECE = new Uint8Array(60);

function begin(contentLength: number | undefined, mayEnd = true) {
  const budget = new FillBudget(1, 1_000_000, UNREAD_BYTES_MAX);
  const content = new PassThrough();
  const body = new ObjectBody(true);
  let released = 0;
  const ended = budget.pump({ content, contentLength }, body, 1_000_000, {
    onReleased: () => void released++,
    mayEnd: () => mayEnd,
  });
  const bring = async (): Promise<void> => {
    content.write(PIECE);
    await setImmediate();
  };
  return { budget, content, body, ended, bring, released: () => released };
}

describe("fills that nobody reads any more", () => {
  test("one of which much is missing ends with its last reader, at once", async () => {
    const { budget, content, body, ended, bring, released } = begin(1_000);
    const [one, other] = [body.read(), body.read()];
    await bring();
    await one.return?.();
    expect(body.isFailed).toBe(false);
    await other.return?.();
    expect([body.isFailed, body.canJoin, content.destroyed, released()]).toEqual([true, false, true, 1]);
    await ended;
    expect([budget.bytes, budget.counters]).toEqual([0, { unread: 1, unreadEnded: 1 }]);
  });

  test("one that is nearly complete goes on to its end", async () => {
    const { budget, content, body, ended, bring } = begin(160);
    const reader = body.read();
    await bring();
    await reader.return?.();
    content.end(new Uint8Array(100));
    await ended;
    expect([body.isComplete, budget.counters]).toEqual([true, { unread: 1, unreadEnded: 0 }]);
  });

  test("one whose length is unknown goes on for as much, unless somebody joins", async () => {
    const { body, ended, bring, content } = begin(undefined);
    await body.read().return?.();
    await bring();
    const joined = body.read();
    for (let piece = 0; piece < 5; piece++) await bring();
    expect(body.isFailed).toBe(false);
    await joined.return?.();
    await bring();
    expect(body.isFailed).toBe(false);
    await bring();
    expect([body.isFailed, content.destroyed]).toEqual([true, true]);
    await ended;
  });

  test("one that is not kept ends with its last reader, also while it waits for him to make room", async () => {
    const budget = new FillBudget(1, 4_000_000, UNREAD_BYTES_MAX);
    const content = new PassThrough();
    const body = new ObjectBody(false, budget.windows.share());
    const reader = body.read();
    const end = budget.begin();
    const ended = budget.pump({ content, contentLength: undefined }, body, 1_000_000, {
      onReleased: () => {},
      mayEnd: () => true,
    });
    const done = ended.then(end);
    for (let piece = 0; piece < 40; piece++) content.write(Buffer.alloc(64 * 1_024));
    while (body.bytes < 500_000) await setImmediate();
    await setImmediate();
    expect(content.readableLength).toBeGreaterThan(0);
    await reader.return?.();
    await done;
    expect([budget.active, budget.windows.bytes, content.destroyed]).toEqual([0, 0, true]);
  });

  test("one goes on when its range was read, when nobody began to read, or when the key is wanted", async () => {
    const ranged = begin(1_000);
    const reader = ranged.body.read(0, 9);
    await ranged.bring();
    for await (const _ of reader);
    const alone = begin(1_000);
    await alone.bring();
    const wanted = begin(1_000, false);
    await wanted.body.read().return?.();
    for (const { body, content, ended, bring, budget } of [ranged, alone, wanted]) {
      await bring();
      expect([body.isFailed, budget.counters.unreadEnded]).toEqual([false, 0]);
      content.destroy();
      await ended;
    }
  });
});
