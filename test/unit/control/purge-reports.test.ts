import { describe, expect, it } from "vitest";
import { monotonicMs, type ServerId, topologyDocument } from "#kit";
import { PurgeLedger } from "../../../control/core/purge-ledger.ts";
import { ReportBoard, reportBoardDefaults } from "../../../control/core/report-board.ts";
import { idleReport } from "../../tools/server-report.ts";

const ids = (...names: string[]) => names as ServerId[];
const at = monotonicMs;
const settings = { timeoutMs: 10_000, missingGraceMs: 2_000, openMax: 2 };

function progressOf(ledger: PurgeLedger) {
  const taken = [];
  for (let event = ledger.pollEvent(); event !== undefined; event = ledger.pollEvent())
    taken.push(event.progress);
  return taken;
}
const ack = (purgeSeq: number, serverId: string, removed = 1) => ({
  purgeSeq,
  serverId: serverId as ServerId,
  removed,
});

describe("PurgeLedger", () => {
  it("is done at once when all have acknowledged", () => {
    const ledger = new PurgeLedger(settings);
    ledger.handleStart(1, ids("b", "a"), [], at(100));
    expect(ledger.pollTimeout()).toBe(10_100);
    expect(ledger.handleAck(ack(1, "b", 3), at(120))).toBe("counted");
    expect(ledger.handleAck(ack(1, "a", 0), at(141))).toBe("counted");
    expect(progressOf(ledger)).toEqual([
      { type: "accepted", purgeSeq: 1, servers: ["a", "b"], missing: [] },
      { type: "ack", serverId: "b", removed: 3, elapsedMs: 20 },
      { type: "ack", serverId: "a", removed: 0, elapsedMs: 41 },
      { type: "done", purgeSeq: 1, acked: 2, expected: 2, unacknowledged: [], elapsedMs: 41 },
    ]);
    expect(ledger.pollTimeout()).toBeUndefined();
    expect(ledger.counters).toEqual({ started: 1, complete: 1, incomplete: 0, acks: 2, acksIgnored: 0 });
  });

  it("does not count twice, nor strangers, nor after the end", () => {
    const ledger = new PurgeLedger(settings);
    ledger.handleStart(1, ids("a", "b"), [], at(0));
    expect(ledger.handleAck(ack(1, "a"), at(1))).toBe("counted");
    expect(ledger.handleAck(ack(1, "a"), at(2))).toBe("repeated");
    expect(ledger.handleAck(ack(1, "z"), at(3))).toBe("unexpected");
    expect(ledger.handleAck(ack(2, "a"), at(3))).toBe("closed");
    ledger.handleTimeout(at(9_999));
    expect(ledger.openCount).toBe(1);
    ledger.handleTimeout(at(10_000));
    expect(progressOf(ledger).at(-1)).toEqual({
      type: "done",
      purgeSeq: 1,
      acked: 1,
      expected: 2,
      unacknowledged: ["b"],
      elapsedMs: 10_000,
    });
    expect(ledger.handleAck(ack(1, "b"), at(10_001))).toBe("closed");
    expect(ledger.counters).toEqual({ started: 1, complete: 0, incomplete: 1, acks: 1, acksIgnored: 4 });
  });

  it("waits a grace for servers that were not heard of, and counts those that answer", () => {
    const ledger = new PurgeLedger(settings);
    ledger.handleStart(1, ids("a"), ids("m", "n"), at(0));
    expect(ledger.pollTimeout()).toBe(10_000);
    ledger.handleAck(ack(1, "a"), at(5));
    expect(ledger.pollTimeout()).toBe(2_000);
    expect(ledger.handleAck(ack(1, "n"), at(1_000))).toBe("counted");
    ledger.handleTimeout(at(2_000));
    expect(progressOf(ledger).at(-1)).toMatchObject({
      type: "done",
      acked: 2,
      expected: 3,
      unacknowledged: ["m"],
    });
  });

  it("ends in the same turn when the last live server answers after the grace", () => {
    const ledger = new PurgeLedger(settings);
    ledger.handleStart(1, ids("a"), ids("m"), at(0));
    ledger.handleAck(ack(1, "a"), at(3_000));
    expect(progressOf(ledger).at(-1)).toMatchObject({
      type: "done",
      acked: 1,
      expected: 2,
      elapsedMs: 3_000,
    });
  });

  it("is done with nobody to ask, and has room for a bounded number", () => {
    const ledger = new PurgeLedger(settings);
    ledger.handleStart(1, [], [], at(0));
    expect(progressOf(ledger).map((one) => one.type)).toEqual(["accepted", "done"]);
    ledger.handleStart(2, ids("a"), [], at(0));
    expect(ledger.hasRoom).toBe(true);
    ledger.handleStart(3, ids("a"), [], at(1));
    expect(ledger.hasRoom).toBe(false);
    expect(ledger.pollTimeout()).toBe(10_000);
    ledger.handleTimeout(at(10_000));
    expect(ledger.openCount).toBe(1);
  });
});

const report = (serverId: string, role = "edge") => idleReport(serverId, { role });

const topology = topologyDocument.parse({
  name: "demo",
  clusters: [
    { role: "edge", names: ["fra-1", "fra-2"] },
    { role: "parent", names: ["ams-1"] },
    { role: "relay", names: ["lon-1"] },
  ].map(({ role, names }, n) => ({
    clusterId: `c${n}`,
    regionId: "eu",
    role,
    city: "x",
    coordinates: { latitude: 0, longitude: 0 },
    servers: names.map((serverId, s) => ({ serverId, address: `127.10.${n + 1}.${s + 1}`, port: 8080 })),
  })),
  nameService: { zones: [], nameServers: [] },
});

describe("ReportBoard", () => {
  it("keeps the newest report of each server for 15 s", () => {
    const board = new ReportBoard();
    board.handleReport(report("b"), at(0));
    board.handleReport(report("a"), at(1_000));
    board.handleReport(report("b", "parent"), at(2_000));
    expect(board.reports(at(2_000)).map((one) => [one.serverId, one.role])).toEqual([
      ["a", "edge"],
      ["b", "parent"],
    ]);
    expect(board.reports(at(15_999))).toHaveLength(2);
    expect(board.reports(at(16_000)).map((one) => one.serverId)).toEqual(["b"]);
  });

  it("expects edges and parents that report, and those of the topology", () => {
    const board = new ReportBoard();
    board.handleReport(report("fra-1"), at(0));
    board.handleReport(report("new-1", "parent"), at(0));
    board.handleReport(report("lon-1", "relay"), at(0));
    expect(board.purgeAudience(topology, at(5_000))).toEqual({
      live: ["fra-1", "new-1"],
      missing: ["ams-1", "fra-2"],
    });
    expect(board.purgeAudience(topology, at(5_001))).toEqual({
      live: [],
      missing: ["ams-1", "fra-1", "fra-2"],
    });
    expect(board.purgeAudience(undefined, at(0)).live).toEqual(["fra-1", "new-1"]);
  });

  it("refuses servers beyond its bound until some expire", () => {
    const board = new ReportBoard({ ...reportBoardDefaults, serversMax: 1 });
    expect(board.handleReport(report("a"), at(0))).toBe(true);
    expect(board.handleReport(report("b"), at(1))).toBe(false);
    expect(board.handleReport(report("a"), at(2))).toBe(true);
    expect(board.refused).toBe(1);
    expect(board.handleReport(report("b"), at(15_002))).toBe(true);
  });
});
