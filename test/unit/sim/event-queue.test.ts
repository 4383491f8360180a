/** Goal: virtual time is ordered by time, owner and scheduling, and never stands still. Method: small schedules by hand. */
import { describe, expect, test } from "vitest";
import { EventQueue, toMicroseconds } from "../../../sim/core/event-queue.ts";

const observe = (): void => {};
const never = (): boolean => false;

describe("the event queue", () => {
  test("runs by time, then owner, then order of scheduling, whatever order things were put in", () => {
    const queue = new EventQueue();
    const seen: string[] = [];
    const put = (at: number, owner: string, label: string): void =>
      queue.schedule(at, owner, label, () => void seen.push(`${queue.now} ${owner} ${label}`));
    put(5, "b", "x");
    put(1, "z", "last of 1");
    put(5, "a", "y");
    put(1, "a", "first");
    put(1, "a", "second");
    queue.runUntil(10, observe, never);
    expect(seen).toEqual(["1 a first", "1 a second", "1 z last of 1", "5 a y", "5 b x"]);
    expect(queue.now).toBe(10);
    expect(queue.executed).toBe(5);
  });

  test("keeps the heap's order over many random times", () => {
    const queue = new EventQueue();
    const times: number[] = [];
    for (let n = 0; n < 2_000; n++)
      queue.schedule((n * 7_919) % 1_009, `o${n % 7}`, "e", () => void times.push(queue.now));
    queue.runUntil(2_000, observe, never);
    expect(times).toHaveLength(2_000);
    expect(times).toEqual(times.toSorted((a, b) => a - b));
  });

  test("never fires before a deadline that lies between two microseconds", () => {
    for (const ms of [0.1, 189.9564, 1 / 3, 12_345.678_9, 1e6 + 0.000_4])
      expect(toMicroseconds(ms)).toBeGreaterThanOrEqual(ms);
  });

  test("a timer that rearms itself for now is an error, not an endless run", () => {
    const queue = new EventQueue();
    const again = (): void => queue.schedule(queue.now, "loop", "again", again);
    again();
    expect(() => queue.runUntil(10, observe, never)).toThrow('loop repeats "again"');
  });

  test("stops at once when it is told to", () => {
    const queue = new EventQueue();
    let ran = 0;
    for (let n = 0; n < 5; n++) queue.schedule(n, "a", "e", () => void ran++);
    queue.runUntil(10, observe, () => ran === 2);
    expect(ran).toBe(2);
  });
});
