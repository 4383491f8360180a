/**
 * Goal: whatever publishers, control and messages do, no node ever goes back to an older map, and once they behave again somebody
 * publishes within a bound. Method: the three machines (control's lease and fence, a mapper's election, a node's decision to
 * apply) under a virtual clock: processes that stand still and go on, start anew, are cut off; clocks that run fast and jump; messages
 * that overtake each other; a control put back to an older copy of its store. Many seeds; then the same with a fence left out.
 */
import { describe, expect, it } from "vitest";
import { type MonotonicMs, Random } from "#kit";
import { type AppliedState, decideApply } from "../../../control/core/apply.ts";
import { compareFences, decidePublication, type Fence } from "../../../control/core/fence.ts";
import { decideLease, emptyLease, isLeaseHeld, restoredLease } from "../../../control/core/lease.ts";
import { PublisherElection, publisherElectionDefaults } from "../../../mapping/core/publisher-election.ts";

const FAULTS_UNTIL_MS = 60_000;
/** A lease that nobody renews, a request in vain, the next one, a map, its way to the nodes. */
const BOUND_MS = publisherElectionDefaults.leaseMs + 6_000;
const TICK_MS = 50;
const PUBLISH_MS = 1_000;
const MAPPERS = 3;
const NODES = 3;

interface Cores {
  readonly decidePublication: typeof decidePublication;
  readonly decideApply: typeof decideApply;
}

/** What of a run matters. */
interface Outcome {
  readonly wentBack: string | undefined;
  readonly unpublished: string | undefined;
  readonly counts: Readonly<Record<"elected" | "fenced" | "fencedAtNode" | "restored", number>>;
}

interface MapperState {
  readonly id: string;
  election: PublisherElection;
  /** Own time is `now * rate + jumpMs`. */
  readonly rate: number;
  jumpMs: number;
  pausedUntil: number;
  cutUntil: number;
  version: number;
  publishAt: number;
  /** What its keeper has on the disk. */
  applied: AppliedState | undefined;
}

interface Control {
  logId: string;
  seq: number;
  lease: ReturnType<typeof emptyLease>;
  newest: Fence | undefined;
}

function simulate(seed: number, cores: Cores): Outcome {
  const random = new Random(seed);
  const counts = { elected: 0, fenced: 0, fencedAtNode: 0, restored: 0 };
  let now = 0;
  let wentBack: string | undefined;
  const messages: { at: number; run: () => void }[] = [];
  const hasFaults = (): boolean => now < FAULTS_UNTIL_MS;
  /** Mostly quick; while there are faults some take seconds, some vanish. */
  const send = (run: () => void): void => {
    if (hasFaults() && random.chance(0.05)) return;
    const isSlow = hasFaults() && random.chance(0.1);
    messages.push({ at: now + (isSlow ? random.uniform(0, 8_000) : random.uniform(1, 80)), run });
  };
  const newElection = (id: string): PublisherElection => new PublisherElection(id);
  const mappers = Array.from({ length: MAPPERS }, (_, n): MapperState => {
    const id = `mapper-${n + 1}`;
    const rate = random.uniform(0.95, 1.05);
    return {
      id,
      election: newElection(id),
      rate,
      jumpMs: 0,
      pausedUntil: 0,
      cutUntil: 0,
      version: 0,
      publishAt: 0,
      applied: undefined,
    };
  });
  const nodes: (AppliedState | undefined)[] = Array.from({ length: NODES }, () => undefined);
  let control: Control = { logId: "log", seq: 0, lease: emptyLease("map"), newest: undefined };
  let copy: Control = control;
  const ownTime = (one: MapperState): MonotonicMs => (now * one.rate + one.jumpMs) as MonotonicMs;
  const isReachable = (one: MapperState): boolean => now >= one.cutUntil;
  /** A process that stands still takes what arrived when it goes on. */
  const whenAwake = (one: MapperState, run: () => void): void => {
    if (now >= one.pausedUntil) run();
    else messages.push({ at: one.pausedUntil, run: () => whenAwake(one, run) });
  };

  const offer = (
    applied: AppliedState | undefined,
    offered: AppliedState,
    who: string,
  ): AppliedState | undefined => {
    const { mayApply, reason } = cores.decideApply(applied, offered);
    if (!mayApply) {
      if (reason === "fenced") counts.fencedAtNode++;
      return applied;
    }
    const [before, after] = [applied?.fence, offered.fence];
    if (before !== undefined && after !== undefined && compareFences(after, before) <= 0)
      wentBack ??= `${who} goes from ${JSON.stringify(before)} to ${JSON.stringify(after)} at ${Math.round(now)} ms`;
    return offered;
  };
  const broadcast = (state: AppliedState): void => {
    for (const [n] of nodes.entries()) send(() => void (nodes[n] = offer(nodes[n], state, `node ${n}`)));
    for (const one of mappers)
      if (isReachable(one))
        send(() => {
          one.applied = offer(one.applied, state, one.id);
          one.election.handleSeenTerm(one.applied?.fence?.term ?? 0, ownTime(one));
        });
  };
  const put = (one: MapperState, fence: Fence): void => {
    const said = cores.decidePublication(control.lease.term, control.newest, fence);
    if (said === "newer") {
      control = { ...control, seq: control.seq + 1, newest: fence };
      broadcast({ logId: control.logId, seq: control.seq, version: control.seq, fence });
      return;
    }
    counts.fenced++;
    if (said === "fenced")
      send(() => whenAwake(one, () => one.election.handleFenced(fence.term, ownTime(one))));
  };
  const drive = (one: MapperState): void => {
    const time = ownTime(one);
    one.election.handleReady(time);
    // A publisher that has stood still may publish before it looks at its lease: whichever timer is first.
    const steps = [
      (): void => {
        const { term } = one.election;
        if (term === 0 || time < one.publishAt) return;
        one.publishAt = time + PUBLISH_MS;
        const fence = { term, version: ++one.version };
        if (isReachable(one)) send(() => put(one, fence));
      },
      (): void => {
        one.election.handleTimeout(time);
        for (let event = one.election.pollEvent(); event; event = one.election.pollEvent()) {
          if (event.type !== "elected") continue;
          counts.elected++;
          one.version = Math.max(one.version, event.versionFloor);
        }
        for (let asked = one.election.pollTransmit(time); asked; asked = one.election.pollTransmit(time)) {
          const { number, ...request } = asked;
          if (!isReachable(one)) continue;
          send(() => {
            const { outcome, state } = decideLease(
              control.lease,
              { ...request, preempts: false, note: "" },
              now as MonotonicMs,
            );
            control = { ...control, lease: state };
            const answer = {
              outcome,
              term: state.term,
              holderId: state.holderId,
              remainingMs: Math.max(0, state.expiresAt - now),
              newest: control.newest ?? null,
            };
            const { election } = one;
            if (isReachable(one))
              send(() => whenAwake(one, () => election.handleAnswer(number, answer, ownTime(one))));
          });
        }
      },
    ];
    for (const step of random.chance(0.5) ? steps : steps.toReversed()) step();
  };
  const breakSomething = (): void => {
    const one = random.pick(mappers);
    const lastsMs = random.uniform(500, 12_000);
    const until = Math.min(now + lastsMs, FAULTS_UNTIL_MS);
    switch (random.int(6)) {
      case 0:
        one.pausedUntil = until;
        break;
      case 1:
        one.cutUntil = until;
        break;
      case 2:
        one.jumpMs += random.uniform(0, 30_000);
        break;
      case 3: {
        // A restart: its memory is gone, its disk is kept.
        one.election = newElection(one.id);
        one.version = one.applied?.fence?.version ?? 0;
        one.publishAt = 0;
        one.election.handleSeenTerm(one.applied?.fence?.term ?? 0, ownTime(one));
        break;
      }
      case 4:
        control = { ...control, lease: restoredLease(control.lease, now as MonotonicMs) };
        break;
      default:
        if (random.chance(0.4)) {
          counts.restored++;
          control = {
            ...copy,
            logId: `${copy.logId}'`,
            lease: restoredLease(copy.lease, now as MonotonicMs),
          };
        } else copy = control;
    }
  };

  let nextFaultAt = 5_000;
  let healedAt: number | undefined;
  const isHealed = (): boolean => {
    const leaders = mappers.filter(({ election }) => election.state === "publisher");
    const { lease, newest } = control;
    if (leaders.length !== 1 || !isLeaseHeld(lease, now as MonotonicMs)) return false;
    return (
      leaders[0]?.id === lease.holderId &&
      newest?.term === lease.term &&
      nodes.every((node) => node?.fence?.term === lease.term)
    );
  };
  while (now < FAULTS_UNTIL_MS + BOUND_MS && wentBack === undefined) {
    now += TICK_MS;
    if (hasFaults() && now >= nextFaultAt) {
      breakSomething();
      nextFaultAt = now + random.uniform(300, 4_000);
    }
    const due = messages.filter(({ at }) => at <= now).sort((a, b) => a.at - b.at);
    for (const message of due) messages.splice(messages.indexOf(message), 1);
    for (const { run } of due) run();
    for (const one of mappers) if (now >= one.pausedUntil) drive(one);
    if (now % 1_000 === 0)
      for (const node of nodes)
        if (node?.fence !== undefined)
          for (const one of mappers) {
            const { term } = node.fence;
            if (isReachable(one)) send(() => one.election.handleSeenTerm(term, ownTime(one)));
          }
    if (!hasFaults() && isHealed()) {
      healedAt = now;
      break;
    }
  }
  const unpublished =
    wentBack === undefined && healedAt === undefined
      ? `${BOUND_MS} ms after the last fault: ${mappers.map(({ id, election }) => `${id} ${election.state} ${election.reason}`).join(", ")}; lease ${JSON.stringify(control.lease)}, nodes ${JSON.stringify(nodes.map((node) => node?.fence))}`
      : undefined;
  return { wentBack, unpublished, counts };
}

const production: Cores = { decidePublication, decideApply };
const SEEDS = 150;

describe("an elected publisher", () => {
  it("never takes a node back, and is there again in time, over many seeds", () => {
    const sum = { elected: 0, fenced: 0, fencedAtNode: 0, restored: 0 };
    for (let seed = 1; seed <= SEEDS; seed++) {
      const { wentBack, unpublished, counts } = simulate(seed, production);
      expect(`${seed}: ${wentBack ?? unpublished ?? "ok"}`).toBe(`${seed}: ok`);
      for (const name of Object.keys(sum) as (keyof typeof sum)[]) sum[name] += counts[name];
    }
    // Runs in which nothing was ever refused would have shown nothing.
    expect(sum.elected).toBeGreaterThan(4 * SEEDS);
    expect(sum.fenced).toBeGreaterThan(SEEDS);
    expect(sum.fencedAtNode).toBeGreaterThan(SEEDS / 4);
    expect(sum.restored).toBeGreaterThan(SEEDS);
  });

  it.each<[string, Cores]>([
    [
      "control takes every term",
      {
        ...production,
        decidePublication: () => "newer",
        decideApply: (a, b) => decideApply(unfenced(a), unfenced(b) as AppliedState),
      },
    ],
    [
      "nodes go by control's log alone",
      { ...production, decideApply: (a, b) => decideApply(unfenced(a), unfenced(b) as AppliedState) },
    ],
  ])("is caught going back when %s", (_bug, cores) => {
    const caught = Array.from({ length: SEEDS }, (_, seed) => simulate(seed + 1, cores).wentBack);
    expect(caught.filter((one) => one !== undefined).length).toBeGreaterThan(SEEDS / 10);
  });
});

function unfenced(state: AppliedState | undefined): AppliedState | undefined {
  return state && { ...state, fence: undefined };
}
