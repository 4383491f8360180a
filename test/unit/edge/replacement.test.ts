/** One program version taking over from another: every way through the machine. */
import { expect, test } from "vitest";
import { Replacement } from "../../../edge/core/replacement.ts";

const begun = (): Replacement => {
  const machine = new Replacement(1_000);
  expect(machine.handleRequest(50)).toEqual({ action: "start" });
  return machine;
};

test("a successor that serves is drained for, and nothing after that changes it", () => {
  const machine = begun();
  expect(machine.state).toBe("starting");
  expect(machine.handleReady()).toEqual({ action: "drain" });
  expect(machine.state).toBe("draining");
  expect(machine.pollTimeout()).toBe(Number.POSITIVE_INFINITY);
  expect(machine.handleSuccessorEnd()).toEqual({ action: "none" });
  expect(machine.handleTimeout(1e9)).toEqual({ action: "none" });
  expect(machine.handleReady()).toEqual({ action: "none" });
  expect(machine.handleRequest(60)).toEqual({ action: "refuse", reason: "draining" });
});

test("one that ends first is rolled back, and the next try may begin", () => {
  const machine = begun();
  expect(machine.handleSuccessorEnd()).toEqual({ action: "roll-back", reason: "ended-before-ready" });
  expect(machine.state).toBe("serving");
  expect(machine.handleReady()).toEqual({ action: "none" });
  expect(machine.handleRequest(2_000)).toEqual({ action: "start" });
  expect(machine.pollTimeout()).toBe(3_000);
});

test("one that is late is rolled back at its deadline, not before; its late word changes nothing", () => {
  const machine = begun();
  expect(machine.pollTimeout()).toBe(1_050);
  expect(machine.handleTimeout(1_049)).toEqual({ action: "none" });
  expect(machine.handleTimeout(1_050)).toEqual({ action: "roll-back", reason: "not-ready-in-time" });
  expect(machine.handleReady()).toEqual({ action: "none" });
  expect(machine.handleSuccessorEnd()).toEqual({ action: "none" });
});

test("one at a time", () => {
  expect(begun().handleRequest(60)).toEqual({ action: "refuse", reason: "in-progress" });
});

test("a stop while the successor starts takes it along; a stop alone needs nothing", () => {
  const machine = begun();
  expect(machine.handleStop()).toEqual({ action: "roll-back", reason: "stopped-meanwhile" });
  expect(machine.state).toBe("draining");
  expect(machine.handleReady()).toEqual({ action: "none" });
  expect(new Replacement(1).handleStop()).toEqual({ action: "none" });
});
