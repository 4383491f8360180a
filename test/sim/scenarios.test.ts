/**
 * Goal: each fault of the design's "A failure" does what the design says, and no more, in the production cores.
 * Method: one fault at a known time in a world, everything else as it is; figures of the report, not only the verdict.
 */
import { describe, expect, test } from "vitest";
import { planAddresses } from "#kit/world";
import type { SimReport } from "#sim";
import { broken, demo, fault, run, withStandIn as world } from "./fixture.ts";

describe("a server", () => {
  test("crashed: its name servers notice within a second or so, users lose little, nothing after detection and TTL", () => {
    const report = run({ world: demo, faults: [fault("server-crash", "fra-1", 20, 30)] });
    expect(broken(report)).toBe("ok");
    const [one] = report.faults;
    expect(Object.keys(one?.detectedMs ?? {})).toEqual(["dfw-dns-1", "mapper", "sto-dns-1"]);
    for (const ms of Object.values(one?.detectedMs ?? {})) expect(ms).toBeLessThan(1_600);
    // The second address of each answer and the cluster's other server cover for it.
    expect(one?.failed).toBeLessThanOrEqual(2);
    expect(report.reasons["asked-dead"]?.["within-bound"]).toBeGreaterThan(0);
  });

  test("hung: probes time out, name servers drop it within three seconds and take it back", () => {
    const report = run({ world: demo, faults: [fault("server-hang", "iad-1", 20, 20)] });
    expect(broken(report)).toBe("ok");
    for (const ms of Object.values(report.faults[0]?.detectedMs ?? {})) expect(ms).toBeLessThan(3_000);
    expect(report.reasons["liveness"]?.["down-probe-timeout"]).toBeGreaterThanOrEqual(2);
    expect(report.reasons["liveness"]?.["up-recovered"]).toBeGreaterThanOrEqual(2);
  });
});

test("a cluster lost at peak: no answer names it after detection and TTL, and its users are sent elsewhere", () => {
  const report = run({
    world: demo,
    seconds: 90,
    settings: { requestsPerSecond: 80 },
    faults: [fault("cluster-loss", "fra", 20, 60)],
  });
  expect(broken(report)).toBe("ok");
  expect(report.checks["dns-names-dead"]).toBeGreaterThan(100);
  const [one] = report.faults;
  expect(one?.failed).toBeGreaterThan(0);
  // Detection, the TTL of 20 s (30 s for downloads) and the last tries.
  expect(one?.recoveredMs).toBeLessThan(45_000);
  expect(report.reasons["map"]?.["liveness"]).toBeGreaterThan(0);
});

test("control partitioned: every node serves on and none goes back a version", () => {
  const sites = "ams-parent,fra,gru,lon-dns,nrt";
  const report = run({
    faults: [
      fault("control-partition", sites, 20, 25),
      fault("document-replay", "fra-1", 50, 9),
      fault("document-replay", "lon-dns-1", 50, 9),
    ],
  });
  expect(broken(report)).toBe("ok");
  expect(report.requests.failed).toBe(0);
  expect(report.checks["document-went-back"]).toBeGreaterThan(50);
  expect(report.fired["document-replay"]).toBe(2);
  // The mapper could not hear anyone's reports, and its maps reached nobody: nobody noticed.
  expect(report.convergedMs).toBeLessThan(15_000);
});

test("a publisher stands still: another one takes over in seconds, and what the first one publishes late is refused", () => {
  const report = run({ faults: [fault("mapper-hang", "mapper", 20, 12)] });
  expect(broken(report)).toBe("ok");
  expect(report.reasons["publish"]?.["fenced"]).toBe(1);
  // Publisher at the start, the other one, and nobody else: who stood still stands by.
  expect(report.reasons["election"]).toEqual({ elected: 2, "deposed-control-silent": 1 });
  expect(report.requests.failed).toBe(0);
});

test("a publisher cut off from control gives way, and takes the place again when the next one ends", () => {
  const report = run({
    faults: [
      fault("mapper-crash", "mapper", 16, 12),
      fault("control-partition", "ams-parent", 35, 10),
      fault("mapper-crash", "mapper", 50, 8),
    ],
    seconds: 75,
  });
  expect(broken(report)).toBe("ok");
  expect(report.reasons["election"]).toMatchObject({ elected: 4 });
});

test("control lost and an edge restarted meanwhile: it serves from its disk", () => {
  const report = run({
    faults: [fault("control-loss", "control", 20, 35), fault("server-crash", "gru-1", 30, 6)],
  });
  expect(broken(report)).toBe("ok");
  expect(report.requests.byReason["misdirected"]).toBeUndefined();
  expect(report.reasons["dns"]?.["no-map"]).toBeUndefined();
  expect(report.checks["node-forgot"]).toBeGreaterThan(1_000);
});

test("a cut link: edges leave the path within the detection bound and users see a slow answer at worst", () => {
  const report = run({
    faults: [fault("link-cut", "ams-parent|fra", 25, 25), fault("link-cut", "dub-origin|gru", 26, 25)],
  });
  expect(broken(report)).toBe("ok");
  expect(report.reasons["path-switch"]?.["fallback-path-failed"]).toBeGreaterThan(0);
  expect(report.requests.failed).toBe(0);
});

describe("an origin of two servers", () => {
  // The same content from two places, asked in turn.
  const plan = planAddresses(demo, { loopback: "127.10", port: 8080, dnsPort: 5300 });
  const origins = plan.servers
    .filter(({ serverId }) => serverId === "dub-origin-1" || serverId === "sea-origin-1")
    .map(({ address, port }) => ({ scheme: "http", host: address, port, priority: 0 }));
  const worldWith = (originPolicy: object) => ({
    ...demo,
    customers: demo.customers.map((customer) => ({
      ...customer,
      properties: customer.properties.map((one) => ({
        ...one,
        settings: { ...one.settings, origins, originPolicy },
      })),
    })),
  });

  test("one crashes: the other takes over and nobody loses a request; back, it has its turn again", () => {
    // An edge of this world asks an origin a few times a minute.
    const world = worldWith({ outlierDetection: { consecutiveErrors: 1 } });
    const report = run({ world, faults: [fault("server-crash", "dub-origin-1", 20, 25)], seconds: 70 });
    expect(broken(report)).toBe("ok");
    expect(report.requests.failed).toBe(0);
    expect(report.reasons["origin-server"]?.["ejected"]).toBeGreaterThan(0);
    expect(report.reasons["origin-server"]?.["returned"]).toBeGreaterThan(0);
    expect(report.reasons["origin-choice"]?.["refused"]).toBeUndefined();
  });

  test("one answers 503: checks alone find it, nobody is told so after them, and they find it well again", () => {
    const alone = { outlierDetection: { isEnabled: false }, breaker: null };
    const check = { intervalSeconds: 1, timeoutSeconds: 1, downThreshold: 2 };
    const failing = [fault("origin-outage", "sea-origin-1", 25, 25, 1)];
    const unchecked = run({ world: worldWith(alone), faults: failing, seconds: 80 });
    const checked = run({ world: worldWith({ ...alone, healthCheck: check }), faults: failing, seconds: 80 });
    expect([broken(unchecked), broken(checked)]).toEqual(["ok", "ok"]);
    expect(unchecked.reasons["origin-server"]).toEqual({});
    expect(checked.reasons["origin-server"]).toEqual({
      down: expect.any(Number) as number,
      up: expect.any(Number) as number,
    });
    const answered503 = (report: SimReport): number => report.reasons["origin"]?.["503"] ?? 0;
    expect(answered503(checked)).toBeLessThan(answered503(unchecked) / 3);
    expect(checked.requests.failed).toBeLessThan(unchecked.requests.failed / 3);
  });
});

test("an origin away: what may be served stale is, what may not is lost, and the loss is put down to the origin", () => {
  const report = run({ world: demo, faults: [fault("origin-outage", "dub-origin-1", 25, 20, 1)] });
  expect(broken(report)).toBe("ok");
  expect(report.reasons["served"]?.["stale-if-error"]).toBeGreaterThan(0);
  expect(report.requests.byReason["status-5xx"]).toBeGreaterThan(0);
  expect(report.reasons["blamed"]).toEqual({ "origin-outage": expect.any(Number) as number });
});

test("a calm run is said to be vacuous, and so is one in which a fault that was asked for never happened", () => {
  const calm = run({ faults: [] });
  expect(calm.verdict).toBe("vacuous");
  expect(calm.requests.failed).toBe(0);
  expect(calm.broken).toBeNull();
  // Nothing old exists yet for a document that was activated once.
  const never = run({
    kinds: ["document-replay"],
    faults: [{ ...fault("document-replay", "nobody-1", 20, 6) }],
  });
  expect(never.verdict).toBe("vacuous");
  expect(never.neverFired).toEqual(["document-replay"]);
});

test("a name server that stood still answers by what it last knew, for as long as it needs to look again", () => {
  // While it stands still nobody asks it; the queries that wait are answered when it goes on.
  const faults = [fault("server-hang", "lon-dns-1", 30, 24), fault("server-crash", "nrt-1", 30.2, 40)];
  const report = run({ faults, seconds: 90 });
  expect(broken(report)).toBe("ok");
  expect(report.reasons["asked-dead"]?.["by-newcomer"]).toBeGreaterThan(0);
});

describe("a target of a policy", () => {
  test("that dies leaves every name server's belief and comes back; one that some agents cannot reach stays", () => {
    const died = run({ faults: [fault("origin-outage", "dub-origin-1", 20, 20)], seconds: 70 });
    expect(broken(died)).toBe("ok");
    expect(died.reasons["policy-target"]).toEqual({ down: 1, up: 1 });
    expect(died.checks["policy-keeps-dead"]).toBeGreaterThan(100);
    // The only name server and one edge of three: half of the voices are no majority.
    const cuts = ["dub-origin|lon-dns", "dub-origin|fra"].map((link) => fault("link-cut", link, 20, 25));
    const unreached = run({ faults: cuts, seconds: 70 });
    expect(broken(unreached)).toBe("ok");
    expect(unreached.reasons["policy-target"]).toEqual({});
  });

  test("is judged by who still speaks when edges are dead and control is away", () => {
    const faults = [
      fault("server-crash", "fra-1", 20, 30),
      fault("control-loss", "control", 22, 30),
      fault("origin-outage", "dub-origin-1", 24, 20),
    ];
    const report = run({ faults, seconds: 80 });
    expect(broken(report)).toBe("ok");
    expect(report.reasons["policy-target"]).toEqual({ down: 1, up: 1 });
  });
});

describe("a document that poisons every name server", () => {
  test("the one with late inputs answers within seconds, hardly anybody is lost, and it stands by once the others are back", () => {
    const report = run({ world, faults: [fault("document-poison", "topology", 20, 25)], seconds: 60 });
    expect(broken(report)).toBe("ok");
    expect(report.reasons["stand-in"]).toMatchObject({ "stands-in": 1, "stands-by": 1 });
    expect(report.reasons["dns"]?.["poisoned"]).toBeGreaterThan(20);
    expect(report.checks["stand-in-absent"]).toBeGreaterThan(40);
    expect(report.checks["stand-in-beside"]).toBeGreaterThan(40);
    expect(report.requests.failed).toBe(0);
  });

  test("while it stands in nothing comes into force at it, and what poisoned the others does not either", () => {
    const faults = [fault("document-poison", "topology", 20, 70)];
    const report = run({ world, faults, seconds: 100 });
    expect(broken(report)).toBe("ok");
    expect(report.reasons["stand-in"]).toMatchObject({ "stands-in": 1, "stands-by": 1 });
    // From 60 s after the poison came on: it is due then.
    expect(report.checks["stand-in-absent"]).toBeGreaterThan(200);
  });

  test("poisoned again a minute later the others find it well: what poisoned them first did not come into force", () => {
    const faults = [
      fault("document-poison", "topology", 20, 25),
      fault("document-poison", "topology", 84, 14),
    ];
    const report = run({ world, faults, seconds: 110 });
    expect(broken(report)).toBe("ok");
    expect(report.reasons["stand-in"]).toMatchObject({ "stands-in": 2, "stands-by": 2 });
  });

  test("what harmed one of the others does not come into force at it either, though it never stood in", () => {
    const faults = [fault("document-poison", "topology at one", 20, 15)];
    const report = run({ world, faults, seconds: 160 });
    expect(broken(report)).toBe("ok");
    expect(report.reasons["stand-in"]).toEqual({ "takes-nothing": 1 });
    expect(report.reasons["dns"]?.["poisoned"]).toBeGreaterThan(5);
    expect(report.checks["stand-in-poisoned"]).toBeGreaterThan(500);
  });

  test("nor what harmed all of them for too short a time to stand in", () => {
    const faults = [
      fault("document-poison", "topology", 20, 2.5),
      // When it would come into force, a delay later, the others are away.
      fault("document-poison", "topology", 75, 15),
    ];
    const report = run({ world, faults, seconds: 120 });
    expect(broken(report)).toBe("ok");
    expect(report.reasons["stand-in"]).toEqual({ "takes-nothing": 2, "stands-in": 1, "stands-by": 1 });
  });

  test("nor what it saw the end of alone, since it was down itself", () => {
    const faults = [
      fault("server-crash", "ams-late-1", 20, 11),
      fault("document-poison", "topology at one", 25, 8.2),
    ];
    const report = run({ world, faults, seconds: 110 });
    expect(broken(report)).toBe("ok");
    expect(report.reasons["stand-in"]?.["takes-nothing"]).toBeGreaterThan(0);
  });

  test("a world without one cannot have it drawn", () => {
    const report = run({ kinds: ["document-poison"] });
    expect([report.verdict, report.neverFired]).toEqual(["vacuous", ["document-poison"]]);
  });
});
