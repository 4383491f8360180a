/** Certificates of servers: who may have one, when the next is asked for, whose name is believed. */
import { describe, expect, test } from "vitest";
import {
  type EpochMs,
  formatNodeUri,
  judgeNode,
  type NodeName,
  type ServerId,
  type TopologyDocument,
} from "#kit";
import {
  certificateState,
  isSameName,
  nextRequestAt,
  renewalDefaults,
} from "../../../control/core/certificate-renewal.ts";
import { nodeNameIn, NodeRegister } from "../../../control/core/node-register.ts";

const name = { topology: "lab", role: "relay", clusterId: "nyc", serverId: "nyc-1" } as NodeName;
const HOUR = 3_600_000;
const at = (hours: number): EpochMs => (1_800_000_000_000 + hours * HOUR) as EpochMs;
const dates = { notBeforeEpochMs: at(-1), notAfterEpochMs: at(24) };

describe("names", () => {
  const expected = { topology: "lab", roles: ["relay"], serverId: name.serverId } as const;
  test("a server's own is believed", () => {
    expect(judgeNode(`URI:${formatNodeUri(name)}`, expected)).toEqual({ name });
    expect(judgeNode(`URI:${formatNodeUri(name)}`, { topology: "lab", roles: ["edge", "relay"] })).toEqual({
      name,
    });
  });
  test.each([
    [undefined, "no-name"],
    ["", "no-name"],
    ["DNS:nyc-1", "no-name"],
    ["URI:isochrone://lab/relay/nyc/nyc-1, URI:isochrone://lab/relay/nyc/nyc-2", "no-name"],
    ["URI:isochrone://lab/relay/nyc/nyc-1, DNS:nyc-1", "no-name"],
    ["URI:isochrone://lab/relay/nyc/nyc-1/", "no-name"],
    ["URI:isochrone://lab/king/nyc/nyc-1", "no-name"],
    ["URI:isochrone://LAB/relay/nyc/nyc-1", "no-name"],
    ["URI:http://lab/relay/nyc/nyc-1", "no-name"],
    ["URI:isochrone://other/relay/nyc/nyc-1", "other-topology"],
    ["URI:isochrone://lab/edge/nyc/nyc-1", "other-role"],
    ["URI:isochrone://lab/relay/nyc/nyc-2", "other-server"],
  ])("%s is %s", (san, refusal) => {
    expect(judgeNode(san, expected)).toEqual({ refusal });
  });
});

describe("the register", () => {
  const [one, other] = ["a".repeat(64), "b".repeat(64)];
  test("the first key has the name, until it is revoked or forgotten", () => {
    const register = new NodeRegister();
    expect(register.judge(name.serverId, one)).toBe("issued");
    expect(register.handleIssued(name.serverId, one, at(0), at(24))).toBe(true);
    expect(register.judge(name.serverId, one)).toBe("issued");
    expect(register.judge(name.serverId, other)).toBe("other-key");
    expect(register.handleIssued(name.serverId, one, at(8), at(32))).toBe(false);
    expect(register.entries).toEqual([
      {
        serverId: "nyc-1",
        fingerprint: one,
        state: "enrolled",
        enrolledAtEpochMs: at(0),
        notAfterEpochMs: at(32),
      },
    ]);
    expect(register.revoke(name.serverId)).toBe(true);
    const restarted = new NodeRegister(register.entries);
    expect(restarted.judge(name.serverId, one)).toBe("revoked");
    expect(restarted.judge(name.serverId, other)).toBe("revoked");
    expect(restarted.forget(name.serverId)).toBe(true);
    expect(restarted.judge(name.serverId, other)).toBe("issued");
    expect(restarted.forget("who" as ServerId)).toBe(false);
    expect(restarted.revoke("who" as ServerId)).toBe(false);
  });

  test("a name is what the topology says", () => {
    const topology = {
      name: "lab",
      clusters: [{ clusterId: "nyc", role: "relay", servers: [{ serverId: "nyc-1" }] }],
    } as unknown as TopologyDocument;
    expect(nodeNameIn([topology], name.serverId)).toEqual(name);
    expect(nodeNameIn([topology], "nyc-2" as ServerId)).toBeUndefined();
    expect(isSameName(name, { ...name, role: "edge" })).toBe(false);
  });
});

describe("renewal", () => {
  test("asks at once without any, and after a third to five twelfths of the time with one", () => {
    expect(nextRequestAt(undefined, 0, at(0), 0.5)).toBe(at(0));
    expect(nextRequestAt(dates, 0, at(0), 0)).toBeCloseTo(at(-1 + 25 / 3), -1);
    expect(nextRequestAt(dates, 0, at(0), 1)).toBeCloseTo(at(-1 + (25 * 5) / 12), -1);
  });
  test("waits longer with each failure, five minutes at most, and never asks in a circle", () => {
    let before = 0;
    for (let failures = 1; failures < 12; failures++) {
      const waitMs = nextRequestAt(dates, failures, at(20), 0.9) - at(20);
      expect(waitMs).toBeGreaterThanOrEqual(before);
      before = waitMs;
    }
    expect(before).toBeGreaterThan(renewalDefaults.retryMaxMs / 2);
    expect(before).toBeLessThanOrEqual(renewalDefaults.retryMaxMs);
    expect(nextRequestAt(undefined, 40, at(0), 1) - at(0)).toBe(renewalDefaults.retryMaxMs);
    // By a clock that is a day ahead what has just come is old already.
    expect(nextRequestAt(dates, 0, at(30), 0.5)).toBeGreaterThan(at(30));
  });
  test("control may be away for twelve hours before it is told, and longer before it hurts; clocks may be an hour wrong", () => {
    expect(certificateState(undefined, at(0))).toBe("none");
    expect(certificateState(dates, at(-0.9))).toBe("valid");
    expect(certificateState(dates, at(-1.1))).toBe("early");
    expect(certificateState(dates, at(11))).toBe("valid");
    expect(certificateState(dates, at(12))).toBe("late");
    expect(certificateState(dates, at(24))).toBe("expired");
  });
});
