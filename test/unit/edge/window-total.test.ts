/**
 * Goal: what slow readers make a server hold is bounded in sum, and nobody who reads is held up for good by those who do not. Method: bodies
 * with a writer that writes as long as there is room.
 */
import { setImmediate } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { ObjectBody, WINDOW_BYTES_MAX, WINDOW_BYTES_MIN, WindowTotal } from "#edge";

const PIECE = new Uint8Array(16 * 1_024);
const PIECES = 64;
const BYTES_MAX = 2 ** 21;

/** A body that is filled as fast as it may be, and its reader. */
function begin(windows: WindowTotal) {
  const body = new ObjectBody(false, windows.share());
  const reader = body.read();
  const write = async (): Promise<void> => {
    for (let piece = 0; piece < PIECES; piece++) {
      body.append(PIECE);
      await body.room();
    }
    body.finish();
  };
  return { body, reader, written: write() };
}

describe("bodies that are not kept", () => {
  test("one alone has a whole window, many share the bound and have a little each", async () => {
    const alone = new WindowTotal(BYTES_MAX);
    const one = begin(alone);
    await setImmediate();
    expect([one.body.bytes, alone.bytes]).toEqual([WINDOW_BYTES_MAX, WINDOW_BYTES_MAX]);

    const windows = new WindowTotal(BYTES_MAX);
    const many = Array.from({ length: 200 }, () => begin(windows));
    await setImmediate();
    expect(windows.bytes).toBe(many.reduce((sum, { body }) => sum + body.bytes, 0));
    expect(windows.bytes).toBeGreaterThan(BYTES_MAX / 2);
    expect(windows.bytes).toBeLessThanOrEqual(BYTES_MAX + 200 * (WINDOW_BYTES_MIN + PIECE.byteLength));
    for (const { body } of many) expect(body.bytes).toBeGreaterThanOrEqual(WINDOW_BYTES_MIN);

    // Half of them read to the end, though the others read nothing; then those leave.
    for (const { reader, written } of many.slice(0, 100)) {
      let bytes = 0;
      for await (const chunk of reader) bytes += chunk.byteLength;
      await written;
      expect(bytes).toBe(PIECES * PIECE.byteLength);
    }
    for (const { reader, body } of many.slice(100)) {
      await reader.return?.();
      body.fail(new Error("nobody reads"));
    }
    expect(windows.bytes).toBe(0);
  });

  test("one that fails, or is released from being kept, is counted as long as somebody has not read it", async () => {
    const windows = new WindowTotal(BYTES_MAX);
    const body = new ObjectBody(true);
    const reader = body.read();
    body.append(PIECE);
    expect(windows.bytes).toBe(0);
    body.release(windows.share());
    body.append(PIECE);
    expect(windows.bytes).toBe(2 * PIECE.byteLength);
    body.fail(new Error("broke off"));
    await reader.next();
    expect(windows.bytes).toBe(PIECE.byteLength);
    await reader.next();
    await expect(reader.next()).rejects.toThrow("broke off");
    expect(windows.bytes).toBe(0);
  });
});
