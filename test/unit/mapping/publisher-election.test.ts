import { describe, expect, it } from "vitest";
import { type MonotonicMs } from "#kit";
import { type ElectionAnswer, PublisherElection } from "../../../mapping/core/publisher-election.ts";

const at = (ms: number) => ms as MonotonicMs;
const answer = (changes: Partial<ElectionAnswer> = {}): ElectionAnswer => ({
  outcome: "granted",
  term: 3,
  holderId: "a",
  remainingMs: 4_000,
  newest: { term: 2, version: 40 },
  ...changes,
});
/** Asked at 0 and answered at 100. */
function asked(changes?: Partial<ElectionAnswer>): PublisherElection {
  const election = new PublisherElection("a");
  election.handleReady(at(0));
  const request = election.pollTransmit(at(0));
  expect(request).toMatchObject({ action: "hold", holderId: "a", term: 0, durationMs: 4_000 });
  election.handleAnswer(request?.number ?? 0, answer(changes), at(100));
  return election;
}

describe("a mapper among several", () => {
  it("asks for nothing before it has a map of its own", () => {
    const election = new PublisherElection("a");
    expect([election.pollTransmit(at(0)), election.pollTimeout(), election.reason]).toEqual([
      undefined,
      undefined,
      "no-own-map",
    ]);
  });

  it("is the publisher from the grant on, and for a lease from when it asked", () => {
    const election = asked();
    expect(election.pollEvent()).toEqual({ type: "elected", term: 3, versionFloor: 40 });
    expect([election.state, election.term, election.pollTimeout()]).toEqual(["publisher", 3, 1_000]);
    const renewal = election.pollTransmit(at(1_000));
    expect(renewal).toMatchObject({ action: "hold", term: 3 });
    election.handleTimeout(at(3_999));
    expect(election.state).toBe("publisher");
    election.handleTimeout(at(4_000));
    expect([election.state, election.reason, election.term]).toEqual(["standby", "control-silent", 0]);
    expect(election.pollEvent()).toEqual({ type: "deposed", term: 3, reason: "control-silent" });
    // The same term goes on when nobody has had it since.
    const again = election.pollTransmit(at(5_000));
    expect(again).toMatchObject({ action: "hold", term: 3 });
    election.handleAnswer(renewal?.number ?? 0, answer({ outcome: "renewed" }), at(5_010));
    expect(election.state).toBe("standby");
    election.handleAnswer(again?.number ?? 0, answer({ outcome: "renewed" }), at(5_020));
    expect(election.term).toBe(3);
  });

  it("stands by while another one has it, and asks when that one's time is over", () => {
    const election = asked({ outcome: "held", holderId: "b", remainingMs: 300 });
    expect([election.state, election.reason, election.publisherId]).toEqual([
      "standby",
      "held-by-another",
      "b",
    ]);
    expect(election.pollTimeout()).toBe(400);
    expect(asked({ outcome: "held", holderId: "operator" }).reason).toBe("held-by-operator");
  });

  it.each([
    ["fenced", (election: PublisherElection) => election.handleFenced(3, at(200))],
    ["newer-term-met", (election: PublisherElection) => election.handleSeenTerm(9, at(200))],
  ] as const)("gives its term back when %s, and asks for one above all that it has met", (reason, happen) => {
    const election = asked();
    election.pollEvent();
    happen(election);
    expect([election.state, election.reason]).toEqual(["standby", reason]);
    expect(election.pollTransmit(at(200))).toMatchObject({ action: "release", term: 3 });
    const seenTerm = reason === "fenced" ? 3 : 9;
    expect(election.pollTransmit(at(200))).toMatchObject({ action: "hold", term: 0, seenTerm });
  });

  it("gives its place back at its end", () => {
    const election = asked();
    election.handleDrain(at(500));
    expect(election.pollTransmit(at(500))).toMatchObject({ action: "release", term: 3 });
    expect([election.pollTransmit(at(9_000)), election.state]).toEqual([undefined, "drained"]);
  });

  it("refuses settings under which one lost request would cost the place", () => {
    expect(() => new PublisherElection("a", { leaseMs: 2_500 })).toThrow(RangeError);
  });
});
