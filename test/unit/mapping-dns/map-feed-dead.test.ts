/**
 * A week in which no map comes, by a virtual clock: the last good map answers, and deaths and returns of servers are seen by own probes at the
 * pace of production. Between the hours' faults the clock jumps, as a machine does that slept.
 */
import { describe, expect, it } from "vitest";
import { allSteps, LivenessMonitor, monotonicMs, plusMs, Random, type ServerId } from "#kit";
import { probeDefaults } from "#mapping";
import { DnsCounters } from "../../../mapping/core/dns/counters.ts";
import type { DnsContext } from "../../../mapping/core/dns/decision.ts";
import { FastPath } from "../../../mapping/core/dns/fast-path.ts";
import { renewContext } from "../../../mapping/core/dns/prepared-map.ts";
import { readMessage } from "../../../mapping/core/dns/wire.ts";
import { context, query, topology } from "./fixture.ts";

const HOURS = 7 * 24;
const STEP_MS = 50;
/** Bounds of the issue: a crashed server is out within 2 s, a hung one within 3 s. */
const OUT_MS = { crash: 2_000, hang: 3_000 } as const;
const BACK_MS = 2_000;
const rankings = {
  c00002: ["fra", "nyc", "sin"],
  c63364: ["nyc", "fra", "sin"],
  cb0071: ["sin", "nyc", "fra"],
} as const;
const servers = topology.clusters.filter(({ role }) => role === "edge").flatMap((cluster) => cluster.servers);
const edges = servers.map(({ serverId }) => serverId);

type Fault = keyof typeof OUT_MS;

class World {
  readonly faults = new Map<ServerId, Fault>();
  readonly monitor = new LivenessMonitor(probeDefaults);
  readonly #fast = new FastPath(new DnsCounters());
  readonly #out = new Uint8Array(1_232);
  #context: DnsContext = { ...context(), isUp: (id) => this.monitor.isUp(id) };
  now = monotonicMs(0);

  constructor() {
    this.monitor.setTargets(
      edges.map((id) => ({ id })),
      this.now,
    );
  }

  /** Whoever is well answers at once, who has crashed refuses at once, who hangs says nothing. */
  run(durationMs: number): void {
    const untilMs = this.now + durationMs;
    while (this.now < untilMs) {
      this.now = plusMs(this.now, STEP_MS);
      this.monitor.handleTimeout(this.now);
      for (
        let probe = this.monitor.pollTransmit(this.now);
        probe;
        probe = this.monitor.pollTransmit(this.now)
      ) {
        const fault = this.faults.get(probe.id as ServerId);
        if (fault !== "hang") this.monitor.handleProbeResult(probe.probeId, fault === undefined, this.now);
      }
      let isChanged = false;
      while (this.monitor.pollEvent() !== undefined) isChanged = true;
      if (isChanged)
        allSteps(
          renewContext(
            () => this.#context,
            (next) => (this.#context = next),
          ),
        );
    }
  }

  /** Addresses in the answer for a client in that /24, as text. */
  answer(prefix: string): readonly string[] {
    const asked = query({ ecs: `0001 18 00 ${prefix}` });
    const resolver = { family: 4 as const, words: Uint32Array.of(0xc633_6435, 0, 0, 0) };
    const seconds = 1_700_000_000 + Math.floor(this.now / 1_000);
    const length = this.#fast.answer(asked, 0, asked.length, resolver, this.#context, this.#out, 0, seconds);
    const read = readMessage(this.#out.slice(0, length));
    if (!read.ok) throw new Error("no answer");
    return read.message.answers
      .map(({ data }) => (data.kind === "address" ? (data.address.words[0] as number) : 0))
      .map((word) => servers.find(({ address }) => wordOf(address) === word)?.serverId ?? "?");
  }
}

const wordOf = (address: string): number =>
  address.split(".").reduce((word, part) => word * 256 + Number(part), 0);

/** The naive reference: living servers of the first cluster that has one; with none anywhere, all of the first. */
function expectedOf(order: readonly string[], faults: ReadonlyMap<ServerId, Fault>): readonly string[] {
  const of = (cluster: string) => edges.filter((id) => id.startsWith(`${cluster}-`));
  for (const cluster of order) {
    const living = of(cluster).filter((id) => !faults.has(id));
    if (living.length > 0) return living;
  }
  return of(order[0] as string);
}

describe("the map feed is dead for a week", () => {
  it("every answer is of the last good map; the dead leave it within 2 s, the hung within 3 s, and come back", () => {
    const world = new World();
    const random = new Random(20_261_127);
    world.run(3_000);
    const seen = { crash: 0, hang: 0, back: 0, allDown: 0, answers: 0 };
    for (let hour = 0; hour < HOURS; hour++) {
      world.now = plusMs(world.now, 3_600_000 - 10_000);
      world.run(2_000);
      const before = new Set(world.faults.keys());
      // Once a day everything is dead for an hour.
      const isAll = hour % 24 === 23;
      world.faults.clear();
      for (const id of edges) {
        const draw = random.float();
        if (isAll || draw < 0.3) world.faults.set(id, draw < 0.15 ? "crash" : "hang");
      }
      const isHang = [...world.faults.values()].includes("hang");
      world.run(Math.max(isHang ? OUT_MS.hang : OUT_MS.crash, BACK_MS));
      for (const [prefix, order] of Object.entries(rankings)) {
        expect([...world.answer(prefix)].sort()).toEqual([...expectedOf(order, world.faults)].sort());
        seen.answers++;
      }
      for (const fault of world.faults.values()) seen[fault]++;
      seen.back += [...before].filter((id) => !world.faults.has(id)).length;
      if (isAll) seen.allDown++;
      world.run(5_000);
    }
    // Nothing of it was vacuous.
    expect(seen.answers).toBe(HOURS * 3);
    expect(seen.allDown).toBe(7);
    expect(Math.min(seen.crash, seen.hang, seen.back)).toBeGreaterThan(100);
    expect(world.now).toBeGreaterThan(HOURS * 3_590_000);
  });
});
