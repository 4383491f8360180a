import { describe, expect, test } from "vitest";
import {
  type Clock,
  type EpochMs,
  epochMs,
  monotonicMs,
  propertyDocument,
  type ServerId,
  topologyDocument,
} from "#kit";
import { PeerVerifier, peerKeyFromEnvironment, RetryBudget, signPeer, wanState } from "#transport";
import { privateOriginsOf, refusedAddress } from "../../../transport/core/address-guard.ts";
import { FairShares } from "../../../transport/core/fair-shares.ts";
import { RelayAccounts } from "../../../transport/core/relay-accounts.ts";
import { NonceCache, parsePeerProof } from "../../../transport/core/peer-proof.ts";
import { parseAuthority, RelayPolicy } from "../../../transport/core/relay-policy.ts";
import { wanRoute } from "../../../transport/core/wan-state.ts";

const key = Buffer.alloc(32, 1);
const fra = "fra-1" as ServerId;
const EVERY_PRIVATE = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "::1/128", "fc00::/7"];

class FakeClock implements Clock {
  now = epochMs(1_700_000_000_000);
  monotonic = () => monotonicMs(0);
  epoch = (): EpochMs => this.now;
}

describe("peer proof", () => {
  const request = { method: "GET", host: "127.10.2.1:8080", path: "/a?b" };

  test("proves its server once, and a second use is a replay", () => {
    const clock = new FakeClock();
    const verifier = new PeerVerifier({ key, clock });
    const header = signPeer(request, { serverId: fra, key, clock });
    expect(header).toMatch(/^fra-1;1700000000;[\w-]{16};[\w-]{43}$/);
    expect(verifier.verify(header, request)).toEqual({ isProven: true, serverId: "fra-1" });
    expect(verifier.verify(header, request)).toEqual({ isProven: false, reason: "replayed" });
  });

  const clock = new FakeClock();
  const good = signPeer(request, { serverId: fra, key, clock });
  test.each([
    ["missing", undefined, request],
    ["malformed", "", request],
    ["malformed", `${good};x`, request],
    ["malformed", good.replace("fra-1", "FRA"), request],
    ["malformed", "x".repeat(10_000), request],
    ["wrong-mac", good.replace("fra-1", "nyc-1"), request],
    ["wrong-mac", good, { ...request, method: "POST" }],
    ["wrong-mac", good, { ...request, host: "127.10.2.2:8080" }],
    ["wrong-mac", good, { ...request, path: "/a" }],
    ["wrong-mac", signPeer(request, { serverId: fra, key: Buffer.alloc(32, 2), clock }), request],
  ])("%s", (reason, header, of) => {
    expect(new PeerVerifier({ key, clock }).verify(header, of)).toEqual({ isProven: false, reason });
  });

  test.each([
    [59, "proven"],
    [61, "too-old"],
    [-59, "proven"],
    [-61, "from-the-future"],
  ])("verified %d s after it was made: %s", (seconds, wanted) => {
    const later = new FakeClock();
    later.now = epochMs(clock.now + seconds * 1_000);
    const verdict = new PeerVerifier({ key, clock: later }).verify(good, request);
    expect(verdict.isProven ? "proven" : verdict.reason).toBe(wanted);
  });

  test("nonces are bounded and expire", () => {
    const cache = new NonceCache(3);
    for (let n = 0; n < 5; n++) expect(cache.add(fra, `nonce-${n}`, epochMs(n))).toBe(true);
    expect([cache.size, cache.forgottenEarly]).toEqual([3, 2]);
    expect(cache.add(fra, "nonce-4", epochMs(5))).toBe(false);
    cache.add(fra, "much-later", epochMs(10_000_000));
    expect(cache.size).toBe(1);
  });

  test("the parts of a header", () => {
    expect(parsePeerProof(good)).toMatchObject({ serverId: "fra-1", epochSeconds: 1_700_000_000 });
  });

  test.each([undefined, "", "zz", "0011"])("key %j is refused without being shown", (text) => {
    expect(() => peerKeyFromEnvironment({ ISOCHRONE_PEER_KEY: text })).toThrow(/ISOCHRONE_PEER_KEY/);
  });
});

describe("relay policy", () => {
  const cluster = (clusterId: string, role: string, address: string) => ({
    clusterId,
    regionId: "r",
    role,
    city: "c",
    coordinates: { latitude: 0, longitude: 0 },
    servers: [{ serverId: `${clusterId}-1`, address, port: 8080 }],
  });
  const topology = topologyDocument.parse({
    name: "w",
    clusters: [
      cluster("fra", "edge", "127.10.1.1"),
      cluster("iad", "parent", "127.10.2.1"),
      cluster("nyc", "relay", "127.10.3.1"),
      cluster("lon", "relay", "127.10.4.1"),
      cluster("sfo", "origin", "127.10.5.1"),
      cluster("ctl", "service", "127.10.0.1"),
    ],
    nameService: { zones: [], nameServers: [] },
  });
  const property = (isActive: boolean) =>
    propertyDocument.parse({
      propertyId: "shop-www",
      customerId: "shop",
      hostnames: ["www.shop.example"],
      origins: [{ scheme: "https", host: "origin.shop.example", port: 443 }],
      isActive,
    });
  const idle = { isDraining: false, tunnels: 0, tunnelsOfPeer: 0, tunnelsOfAccount: (): number => 0 };
  const ask = (policy: RelayPolicy, peer: string | undefined, authority: string, more = {}): string =>
    policy.decide({ peer: peer as ServerId | undefined, authority, ...idle, ...more }).reason;
  const ready = (): RelayPolicy => {
    const policy = new RelayPolicy({ tunnelsMax: 10, tunnelsPerPeerMax: 5 });
    policy.setTopology(topology);
    policy.setProperty("shop-www", property(true));
    return policy;
  };

  test.each([
    [undefined, "127.10.2.1:8080", {}, "not-proven"],
    ["fra-1", "127.10.2.1:8080", {}, "granted"],
    ["iad-1", "127.10.5.1:8080", {}, "granted"],
    ["fra-1", "origin.shop.example:443", {}, "granted"],
    ["fra-1", "ORIGIN.shop.example:443", {}, "granted"],
    ["fra-1", "origin.shop.example:80", {}, "target-not-permitted"],
    ["fra-1", "evil.example:443", {}, "target-not-permitted"],
    ["fra-1", "127.10.0.1:8080", {}, "target-not-permitted"],
    ["fra-1", "127.10.1.1:8080", {}, "target-not-permitted"],
    ["fra-1", "127.10.4.1:8080", {}, "target-is-relay"],
    ["fra-1", "http://127.10.2.1:8080/", {}, "malformed-target"],
    ["fra-1", "127.10.2.1", {}, "malformed-target"],
    ["fra-1", "127.10.2.1:99999", {}, "malformed-target"],
    ["nobody-1", "127.10.2.1:8080", {}, "unknown-peer"],
    ["lon-1", "127.10.2.1:8080", {}, "role-not-served"],
    ["ctl-1", "127.10.2.1:8080", {}, "role-not-served"],
    ["fra-1", "127.10.2.1:8080", { isDraining: true }, "draining"],
    ["fra-1", "127.10.2.1:8080", { tunnels: 10 }, "too-many-tunnels"],
    ["fra-1", "127.10.2.1:8080", { tunnelsOfPeer: 5 }, "too-many-tunnels-of-peer"],
    [
      "fra-1",
      "origin.shop.example:443",
      { tunnels: 2, tunnelsOfAccount: (): number => 8 },
      "too-many-tunnels-of-customer",
    ],
    ["fra-1", "origin.shop.example:443", { tunnelsOfAccount: (): number => 7 }, "granted"],
    // What goes to a parent is everybody's.
    ["fra-1", "127.10.2.1:8080", { tunnelsOfAccount: (): number => 9 }, "granted"],
  ])("%s asks for %s %j: %s", (peer, authority, more, reason) => {
    expect(ask(ready(), peer, authority, more)).toBe(reason);
  });

  test("without a topology nothing is granted", () => {
    const policy = new RelayPolicy({ tunnelsMax: 10, tunnelsPerPeerMax: 5 });
    expect(ask(policy, "fra-1", "127.10.2.1:8080")).toBe("no-topology");
  });

  test("one customer has at most as many tunnels as are left for the others", () => {
    const policy = new RelayPolicy({ tunnelsMax: 100, tunnelsPerPeerMax: 100 });
    policy.setTopology(topology);
    policy.setProperty("shop-www", property(true));
    let mine = 0;
    const more = (): string =>
      ask(policy, "fra-1", "origin.shop.example:443", {
        tunnels: mine,
        tunnelsOfAccount: (): number => mine,
      });
    while (more() === "granted") mine++;
    expect([mine, more()]).toEqual([50, "too-many-tunnels-of-customer"]);
  });

  test("a target is its customer's, of several nobody's, of the topology ours", () => {
    const policy = ready();
    const account = (authority: string): string => {
      const decided = policy.decide({ peer: fra, authority, ...idle });
      return decided.isGranted ? decided.account : decided.reason;
    };
    expect([account("origin.shop.example:443"), account("127.10.2.1:8080")]).toEqual(["shop", "(own)"]);
    policy.setProperty("other", { ...property(true), customerId: "rival" as never });
    expect(account("origin.shop.example:443")).toBe("(shared)");
    policy.setProperty("shop-www", undefined);
    expect(account("origin.shop.example:443")).toBe("rival");
  });

  test("a withdrawn property takes its origins along, unless another still names them", () => {
    const policy = ready();
    policy.setProperty("shop-img", property(true));
    policy.setProperty("shop-www", property(false));
    expect(ask(policy, "fra-1", "origin.shop.example:443")).toBe("granted");
    policy.setProperty("shop-img", undefined);
    expect(ask(policy, "fra-1", "origin.shop.example:443")).toBe("target-not-permitted");
  });

  test.each([
    ["[2001:db8::1]:443", { host: "2001:db8::1", port: 443 }],
    ["Host.Example:1", { host: "host.example", port: 1 }],
    ["2001:db8::1:443", undefined],
    ["host:0443", undefined],
    ["host :443", undefined],
    ["user@host:443", undefined],
    [`${"a".repeat(400)}:1`, undefined],
    ["[127.0.0.1]:80", undefined],
  ])("authority %s", (text, parsed) => {
    expect(parseAuthority(text)).toEqual(parsed);
  });
});

describe("retry budget", () => {
  test("grants a share of first tries and a trickle, and counts refusals", () => {
    const budget = new RetryBudget({ ratio: 0.1, minPerSecond: 0, max: 100, initial: 0 }, monotonicMs(0));
    expect(budget.take(monotonicMs(0))).toBe(false);
    for (let n = 0; n < 100; n++) budget.handleFirstTry(monotonicMs(n));
    let granted = 0;
    for (let n = 0; n < 50; n++) if (budget.take(monotonicMs(100))) granted++;
    expect([granted, budget.granted, budget.refused]).toEqual([10, 10, 41]);
  });

  test("the trickle refills with time up to the maximum", () => {
    const budget = new RetryBudget({ ratio: 0, minPerSecond: 2, max: 3, initial: 0 }, monotonicMs(0));
    const takeAll = (now: number): number => {
      let count = 0;
      while (budget.take(monotonicMs(now))) count++;
      return count;
    };
    expect([takeAll(0), takeAll(500), takeAll(60_000)]).toEqual([2, 1, 3]);
  });
});

describe("emulated network", () => {
  const state = wanState.parse({
    siteOfAddress: { "127.10.1.1": "fra", "127.10.2.1": "iad", "127.0.0.1:9": "nyc", "127.0.0.1": "sfo" },
    self: "fra",
    links: { "iad|fra": { rttMs: 90 }, "fra|nyc": { rttMs: 80, lossRatio: 0.01, bandwidthMbps: 100 } },
    cuts: [["sfo", "fra"]],
  });

  test.each([
    ["127.10.1.1", 80, undefined],
    ["127.10.2.1", 80, { siteId: "iad", isCut: false, link: { rttMs: 90 } }],
    ["127.0.0.1", 9, { siteId: "nyc", link: { rttMs: 80, lossRatio: 0.01 } }],
    ["127.0.0.1", 10, { siteId: "sfo", isCut: true }],
    ["192.0.2.1", 80, undefined],
  ])("%s:%d", (address, port, route) => {
    if (route === undefined) expect(wanRoute(state, address, port)).toBeUndefined();
    else expect(wanRoute(state, address, port)).toMatchObject(route);
  });

  test("a state with an unknown key or a bad pair is refused whole", () => {
    expect(() => wanState.parse({ ...state, extra: 1 })).toThrow(/extra/);
    expect(() => wanState.parse({ ...state, links: { fra: { rttMs: 1 } } })).toThrow(/links\.fra/);
  });
});

describe("addresses of origins", () => {
  const every = privateOriginsOf({ clusters: [], privateOrigins: EVERY_PRIVATE });
  const of = (address: string, isNamed = false, isOwn = false, privateAllowed = every, isOperators = false) =>
    refusedAddress({ address, isNamed, isOwn, isOperators, privateAllowed });

  test.each([
    ["169.254.169.254", "link-local"],
    ["::ffff:169.254.169.254", "link-local"],
    ["::ffff:a9fe:a9fe", "link-local"],
    ["64:ff9b::a9fe:a9fe", "link-local"],
    ["fe80::1", "link-local"],
    ["fd00:ec2::254", "link-local"],
    ["fe80::1%eth0", "malformed"],
    ["2130706433", "malformed"],
    ["0.0.0.0", "unspecified"],
    ["::", "unspecified"],
    ["::ffff:0.0.0.0", "unspecified"],
    ["224.0.0.1", "multicast"],
    ["255.255.255.255", "multicast"],
    ["ff02::1", "multicast"],
  ])("%s: %s, as a name and as an address", (address, reason) => {
    expect(of(address)).toBe(reason);
    expect(of(address, true)).toBe(reason);
  });

  test.each(["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])(
    "%s: only when it is written",
    (address) => {
      expect(of(address)).toBeUndefined();
      expect(of(address, true)).toBe("loopback-by-name");
      expect(of(address, false, true)).toBe("own-server");
    },
  );

  test.each(["192.0.2.1", "10.0.0.1", "192.168.1.1", "fd12::1", "2001:db8::1"])(
    "%s may be an origin where its network is allowed",
    (address) => {
      expect(of(address)).toBeUndefined();
      expect(of(address, true)).toBeUndefined();
      expect(of(address, true, true)).toBe("own-server");
    },
  );

  test.each([
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "198.18.0.1",
    "fd12::1",
    "127.0.0.1",
    "::1",
    "::ffff:10.0.0.1",
    "64:ff9b::a00:1",
    "::10.0.0.1",
  ])("%s is private, unless it is an origin of the topology", (address) => {
    expect(of(address, false, false, [])).toBe("private");
    expect(of(address, false, false, [], true)).toBeUndefined();
  });

  test.each(["192.0.2.1", "172.32.0.1", "9.255.255.255", "11.0.0.0", "2001:db8::1", "100.128.0.1"])(
    "%s is public",
    (address) => expect(of(address, true, false, [])).toBeUndefined(),
  );

  test("a topology that says nothing allows the kinds of networks that its own servers stand in", () => {
    const topologyWith = (role: string, address: string, privateOrigins?: readonly string[]) =>
      topologyDocument.parse({
        name: "w",
        clusters: [
          {
            clusterId: "fra",
            regionId: "r",
            role,
            city: "fra",
            coordinates: { latitude: 0, longitude: 0 },
            servers: [{ serverId: "fra-1", address, port: 80 }],
          },
        ],
        ...(privateOrigins !== undefined && { privateOrigins }),
        nameService: { zones: [], nameServers: [] },
      });
    const may = (topology: ReturnType<typeof topologyWith>, address: string): boolean =>
      of(address, false, false, privateOriginsOf(topology)) === undefined;
    const inside = topologyWith("edge", "10.0.0.1");
    expect(["10.9.9.9", "192.168.1.1", "fd00::1", "127.0.0.1"].map((one) => may(inside, one))).toEqual([
      true,
      true,
      false,
      false,
    ]);
    expect(may(topologyWith("edge", "192.0.2.1"), "10.9.9.9")).toBe(false);
    // Where an origin stands is the operator's word about that origin alone.
    expect(may(topologyWith("origin", "10.0.0.1"), "10.9.9.9")).toBe(false);
    expect(may(topologyWith("edge", "10.0.0.1", []), "10.9.9.9")).toBe(false);
    expect(may(topologyWith("edge", "192.0.2.1", ["10.9.0.0/16"]), "10.9.9.9")).toBe(true);
    expect(() => topologyWith("edge", "192.0.2.1", ["10.9.0.1/16"])).toThrow(/^privateOrigins\[0\]: /);
  });
});

describe("shares of a relay's rate", () => {
  /** Streams that always have more to read: bytes by customer after `ms` at 1,000 bytes a ms. */
  function run(streams: readonly string[], ms: number, left: ReadonlyMap<number, number> = new Map()) {
    const shares = new FairShares(1_000_000);
    const bytes = new Map<string, number>();
    const reading = new Set(streams.keys());
    for (let now = 0; now < ms; now += 5) {
      const at = monotonicMs(now);
      for (let next = shares.pollResume(at); next !== undefined; next = shares.pollResume(at))
        reading.add(next);
      for (const stream of reading) {
        const customer = streams[stream] ?? "";
        if (now > (left.get(stream) ?? Infinity)) {
          reading.delete(stream);
          shares.handleEnd(stream, customer);
          continue;
        }
        const chunk = 16_384 + ((stream * 7_919) % 40_000);
        bytes.set(customer, (bytes.get(customer) ?? 0) + chunk);
        if (!shares.charge(stream, customer, chunk, at)) reading.delete(stream);
      }
    }
    return { bytes, shares };
  }

  test("twenty streams of one customer have no more than the one of another", () => {
    const { bytes } = run([...Array.from({ length: 20 }, () => "hog"), "mouse"], 20_000);
    const hog = bytes.get("hog") ?? 0;
    const mouse = bytes.get("mouse") ?? 0;
    expect(hog / mouse).toBeLessThan(1.15);
    expect(hog / mouse).toBeGreaterThan(0.95);
    // The rate is held: 20 s of it and what the bucket and the first chunks hold.
    expect(hog + mouse).toBeGreaterThan(19_000_000);
    expect(hog + mouse).toBeLessThan(22_000_000);
  });

  test("what one leaves the others have", () => {
    const { bytes } = run(["a", "b"], 20_000, new Map([[0, 10_000]]));
    expect((bytes.get("b") ?? 0) / (bytes.get("a") ?? 1)).toBeGreaterThan(2.7);
  });

  test("without a bound nobody waits, and who has gone is not waited for", () => {
    expect(new FairShares(Infinity).charge(1, "a", 1e12, monotonicMs(0))).toBe(true);
    const shares = new FairShares(1_000);
    expect(shares.charge(1, "a", 1e6, monotonicMs(0))).toBe(false);
    expect(shares.pollTimeout(monotonicMs(0))).toBeGreaterThan(900_000);
    shares.handleEnd(1, "a");
    expect([shares.waiting, shares.pollTimeout(monotonicMs(0))]).toEqual([0, undefined]);
  });
});

test("accounts are told apart up to a bound", () => {
  const accounts = new RelayAccounts();
  for (let n = 0; n < 10_050; n++) accounts.of(`c${n}`).opened++;
  expect([accounts.all.size, accounts.of("(others)").opened, accounts.of("c3").opened]).toEqual([
    10_001, 50, 1,
  ]);
});
