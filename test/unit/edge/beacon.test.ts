import { describe, expect, it } from "vitest";
import { type ClusterId, type IpAddress, type MonotonicMs, parseAddress } from "#kit";
import { beaconCandidates, BeaconGate, coarseAddress } from "../../../edge/core/beacon.ts";
import { clientRanking } from "../../../edge/core/client-ranking.ts";
import { TimingQuota } from "../../../mapping/core/measurements/timing-quota.ts";
import { ranking, snapshotOf } from "../mapping/fixtures.ts";

const at = (ms: number) => ms as MonotonicMs;
const address = (text: string) => parseAddress(text) as IpAddress;
const ids = (...names: string[]) => names as ClusterId[];
const all = ids("a", "b", "c", "d", "e", "f");

describe("whom a page times", () => {
  it.each([
    ["its own, the two best others, one at random", "c", ids("a", "b", "c", "d"), 0, ["c", "a", "b", "d"]],
    ["the last of the others for the highest draw", "c", ids("a", "b"), 0.999, ["c", "a", "b", "f"]],
    ["without a map its own and one at random", "c", [], 0, ["c", "a"]],
    ["at a parent, whom users do not ask", "par", ids("a", "gone", "b"), 0, ["a", "b", "c"]],
  ] as const)("%s", (_what, own, ranking, random, chosen) => {
    const found = beaconCandidates(own as ClusterId, ranking, all, random);
    expect(found).toEqual(chosen);
  });
});

describe("the map's ranking for a client", () => {
  it("is that of its client network for the class, else the fallback's", () => {
    const [near, far] = [ranking(["fra", 10], ["iad", 90]), ranking(["iad", 40], ["fra", 95])];
    const snapshot = snapshotOf(
      [{ id: "berlin", prefixes: ["192.0.2.0/24", "2001:db8::/32"], ranking: far }],
      near,
    );
    for (const [text, first] of [
      ["192.0.2.9", "iad"],
      ["2001:db8::9", "iad"],
      ["198.51.100.1", "fra"],
    ] as const)
      expect(clientRanking(snapshot, address(text), "live")[0]).toBe(first);
  });
});

describe("what a network can say", () => {
  it("leaves a server as /24 or /48", () => {
    expect(coarseAddress(address("192.0.2.77"))).toBe("192.0.2.0");
    expect(coarseAddress(address("255.255.255.255"))).toBe("255.255.255.0");
    expect(coarseAddress(address("2001:db8:1234:5678::1"))).toBe("2001:db8:1234::");
  });

  it("is bounded by address, by network and in all, for an hour", () => {
    const gate = new BeaconGate({ windowMs: 1_000, perAddressMax: 2, perNetworkMax: 3, trackedMax: 6 });
    const say = (text: string, now = 0) => gate.handleReport(address(text), at(now));
    expect([say("192.0.2.1"), say("192.0.2.1"), say("192.0.2.1")]).toEqual([
      "taken",
      "taken",
      "address-rate",
    ]);
    expect([say("192.0.2.2"), say("192.0.2.3")]).toEqual(["taken", "network-rate"]);
    expect([say("198.51.100.1"), say("203.0.113.1"), say("192.0.2.1", 999)]).toEqual([
      "taken",
      "table-full",
      "address-rate",
    ]);
    expect(say("192.0.2.1", 1_000)).toBe("taken");
  });

  it("is bounded once more where all edges' timings come together", () => {
    const quota = new TimingQuota({ windowMs: 1_000, perNetworkMax: 2, networksMax: 1 });
    const say = (network: string, now = 0) => quota.handleTiming(network, at(now));
    expect([say("192.0.2.0"), say("192.0.2.0"), say("192.0.2.0"), say("198.51.100.0")]).toEqual([
      true,
      true,
      false,
      false,
    ]);
    expect(say("198.51.100.0", 1_000)).toBe(true);
    expect(quota.counters).toEqual({ timings: 3, timingsOverQuota: 2 });
  });
});
