/**
 * Goal: the simulator is seen to catch bugs. Method: one core is replaced by a broken one through the seam; the run must break
 * the right invariant, and the same run with the production core must not.
 */
import { describe, expect, test } from "vitest";
import { type Fault, type InvariantName, productionCores, type SimCores } from "#sim";
import type { World } from "#kit/world";
import { PurgeIndex } from "../../edge/core/purge-index.ts";
import { OpinionBoard, opinionDefaults } from "../../mapping/core/policy/opinions.ts";
import { broken, fault, run, small, withStandIn } from "./fixture.ts";

interface Plant {
  readonly bug: string;
  readonly cores: Partial<SimCores>;
  readonly faults: readonly Fault[];
  /** The small one by default. */
  readonly world?: World;
  readonly seconds?: number;
  readonly caught: readonly InvariantName[];
}

const plants: readonly Plant[] = [
  {
    bug: "a name server that ignores liveness",
    cores: { answerAddresses: (query) => productionCores.answerAddresses({ ...query, isUp: () => true }) },
    // With the mapper there the map covers for it within its bound: the name server's own view is for when it is away.
    faults: [
      fault("mapper-crash", "mapper", 18, 35),
      fault("mapper-crash", "mapper-2", 18, 35),
      fault("cluster-loss", "fra", 20, 30),
    ],
    caught: ["dns-names-dead"],
  },
  {
    bug: "a name server that empties its answers when nothing seems to live",
    cores: {
      answerAddresses: (query) => {
        const answer = productionCores.answerAddresses(query);
        return answer.reason === "all-down" ? { ...answer, servers: [] } : answer;
      },
    },
    faults: ["fra", "gru", "nrt"].map((cluster) => fault("cluster-loss", cluster, 20, 25)),
    caught: ["dns-answer-empty"],
  },
  {
    bug: "a monitor that never takes a server back",
    cores: {
      liveness: (settings, nodeId) => {
        const monitor = productionCores.liveness(settings, nodeId);
        const handleProbeResult = monitor.handleProbeResult.bind(monitor);
        const down = new Set<string>();
        const pollEvent = monitor.pollEvent.bind(monitor);
        monitor.pollEvent = () => {
          const event = pollEvent();
          if (event?.state === "down") down.add(event.id);
          return event?.state === "up" ? undefined : event;
        };
        monitor.handleProbeResult = handleProbeResult;
        monitor.isUp = (id: string) => !down.has(id);
        return monitor;
      },
    },
    faults: [fault("server-crash", "gru-1", 20, 10)],
    caught: ["dns-drops-live"],
  },
  {
    bug: "a keeper that applies older versions",
    cores: { decideApply: () => ({ mayApply: true, reason: "newer" }) },
    faults: [fault("document-replay", "fra-1", 20, 30), fault("document-replay", "lon-dns-1", 20, 30)],
    caught: ["document-went-back"],
  },
  {
    // Compare-and-set and its own lease stop a publisher that has stood still, most times: here neither looks.
    bug: "no fence, and a publisher that takes itself for elected for good",
    cores: {
      publisherElection: (holderId) => {
        const election = productionCores.publisherElection(holderId);
        let elected = 0;
        Object.defineProperty(election, "term", { get: () => elected });
        const pollEvent = election.pollEvent.bind(election);
        election.pollEvent = () => {
          const event = pollEvent();
          if (event?.type === "elected") elected = event.term;
          return event?.type === "elected" ? event : undefined;
        };
        return election;
      },
      decidePublication: () => "newer",
      decideApply: (before, offered) =>
        productionCores.decideApply(before && { ...before, fence: undefined }, {
          ...offered,
          fence: undefined,
        }),
    },
    // The other one is elected meanwhile; this one goes on where it was and publishes what it was about to.
    faults: [fault("mapper-hang", "mapper", 20, 20)],
    caught: ["document-went-back"],
  },
  {
    bug: "a chooser without failure handling",
    cores: {
      pathChooser: (settings, now, nodeId) => {
        const chooser = productionCores.pathChooser(settings, now, nodeId);
        chooser.handleFailure = () => {};
        const choose = chooser.choose.bind(chooser);
        let kept: ReturnType<typeof choose> | undefined;
        // Holds on to what it found once it was warm.
        chooser.choose = (at) => (at > 15_000 ? (kept ??= choose(at)) : choose(at));
        return chooser;
      },
    },
    faults: [fault("link-cut", "ams-parent|fra", 20, 30)],
    caught: ["path-stuck", "loss-unexplained"],
  },
  {
    bug: "a purge that one server acknowledges and ignores",
    cores: {
      purgeIndex: (nodeId) => {
        const index = new PurgeIndex();
        if (nodeId === "fra-1") index.stateOf = () => "none";
        return index;
      },
    },
    faults: [fault("mapper-crash", "mapper", 20, 6)],
    caught: ["purged-served"],
  },
  {
    bug: "a cache that takes everything stored for fresh",
    cores: {
      decideRequest: (context) => {
        const [stored] = context.variants;
        const decision = productionCores.decideRequest(context);
        return stored !== undefined && decision.action === "validate"
          ? { action: "hit", stored, fresh: decision.fresh }
          : decision;
      },
    },
    faults: [fault("mapper-crash", "mapper", 20, 6)],
    caught: ["stale-beyond-policy", "purged-served"],
  },
  {
    bug: "opinions of agents that are never forgotten",
    cores: {
      opinionBoard: () => new OpinionBoard({ ...opinionDefaults, silentAfterMs: Number.POSITIVE_INFINITY }),
    },
    // The edges that test fall silent while the target still lives.
    faults: [
      ...["fra-1", "nrt-1", "gru-1"].map((id) => fault("server-crash", id, 20, 40)),
      fault("origin-outage", "dub-origin-1", 30, 30),
    ],
    seconds: 80,
    caught: ["policy-keeps-dead"],
  },
  {
    bug: "tests that take one failure for death",
    cores: {
      targetTests: (epochOf) => {
        const tests = productionCores.targetTests(epochOf);
        const handleResult = tests.handleResult.bind(tests);
        let hasFailed = false;
        tests.handleResult = (probe, isOk, now) => {
          hasFailed ||= !isOk;
          handleResult(probe, isOk && !hasFailed, now);
        };
        return tests;
      },
    },
    faults: [fault("origin-outage", "dub-origin-1", 20, 4)],
    seconds: 80,
    caught: ["policy-drops-live"],
  },
  {
    bug: "a stand-in that never begins",
    cores: {
      standIn: () => {
        const standIn = productionCores.standIn(60_000);
        Object.defineProperty(standIn, "isStandingBy", { get: () => true });
        return standIn;
      },
    },
    world: withStandIn,
    faults: [fault("document-poison", "topology", 20, 25)],
    caught: ["stand-in-absent"],
  },
  {
    bug: "a stand-in that never ends",
    cores: {
      standIn: () => {
        const standIn = productionCores.standIn(60_000);
        const handleAnswers = standIn.handleAnswers.bind(standIn);
        // Once nobody answered it takes nobody's answers any more.
        let isAlone = false;
        standIn.handleAnswers = (probeId, asked, answered, now) => {
          isAlone ||= !standIn.isStandingBy;
          handleAnswers(probeId, asked, isAlone ? 0 : answered, now);
        };
        return standIn;
      },
    },
    world: withStandIn,
    faults: [fault("document-poison", "topology", 20, 15)],
    caught: ["stand-in-beside"],
  },
  {
    bug: "a stand-in that follows the others an hour later",
    cores: {
      holdBack: (delayMs) => {
        const held = productionCores.holdBack<never>(delayMs);
        held.freeze = () => {};
        return held;
      },
    },
    world: withStandIn,
    faults: [fault("document-poison", "topology", 20, 75)],
    seconds: 100,
    caught: ["stand-in-poisoned"],
  },
  {
    bug: "a stand-in that follows the others an hour later when too few of them were harmed for it to stand in",
    cores: {
      standIn: (delayMs) => {
        const standIn = productionCores.standIn(delayMs);
        standIn.mayTake = () => standIn.isStandingBy;
        return standIn;
      },
    },
    world: withStandIn,
    faults: [fault("document-poison", "topology at one", 20, 15)],
    seconds: 100,
    caught: ["stand-in-poisoned"],
  },
];

describe("the simulator catches", () => {
  test.each(plants)("$bug", ({ cores, faults, world = small, seconds = 60, caught }) => {
    const report = run({ world, seconds, seed: 3, faults, cores });
    expect(report.verdict).toBe("broken");
    expect(caught).toContain(report.broken?.invariant);
    expect(report.broken?.lastEvents.length).toBeGreaterThan(0);
    // The fault itself is survived by what is in production.
    expect(broken(run({ world, seconds, seed: 3, faults }))).toBe("ok");
  });
});
