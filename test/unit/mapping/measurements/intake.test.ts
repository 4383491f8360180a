import { describe, expect, test } from "vitest";
import { epochMs } from "#kit";
import {
  type JsonSkipReason,
  MeasurementIntake,
  MeasurementStore,
  type PathSample,
  SampleReader,
  topologyIndexOf,
} from "#mapping";
import { at, cluster, network, topologyOf } from "../fixtures.ts";

const epoch = epochMs(1_700_000_000_000);
const now = at(1_000_000);

/** fra has 192.0.0.1 and 192.0.0.2, par 192.0.1.1 and 192.0.1.2. */
function intake() {
  const store = new MeasurementStore();
  const made = new MeasurementIntake(store);
  made.handlePlaces(topologyIndexOf(topologyOf([{ id: "fra" }, { id: "par" }])), [
    {
      clientNetworkId: network("net-a"),
      prefixes: ["198.18.0.0/20", "2001:db8:a::/48"],
      coordinates: null,
      demandPerSecond: 1,
    },
  ]);
  return { store, intake: made };
}

const sample = (of: Partial<PathSample> = {}): PathSample => ({
  source: "probe",
  method: "icmp",
  agent: "one",
  from: "198.18.1.2",
  to: "192.0.0.1",
  at: epoch,
  rttMs: 10,
  ...of,
});

describe("samples by address", () => {
  test("come to the names of client networks and clusters; what is fresh goes to the engine, oldest first", () => {
    const { store, intake: made } = intake();
    const { tally, fresh } = made.handleSamples(
      [
        sample(),
        sample({ from: "2001:db8:a::9", to: "192.0.1.2", at: epochMs(epoch - 5_000), rttMs: null }),
        sample({ from: "192.0.1.1", rttMs: 7 }),
        sample({ at: epochMs(epoch - 120_001) }),
        sample({ method: "http" }),
        sample({ at: epochMs(epoch + 30_000) }),
      ],
      epoch,
      now,
    );
    expect(tally.summary()).toEqual({ taken: 6, skipped: {}, examples: [] });
    expect(fresh).toEqual([
      { from: "net-a", to: "par", rttMs: null, at: now - 5_000 },
      { from: "net-a", to: "fra", rttMs: 10, at: now },
      // An agent's clock that is ahead a little does not put samples into the future.
      { from: "net-a", to: "fra", rttMs: 10, at: now },
    ]);
    const query = { spanMs: 3_600_000, quantiles: [0.5] };
    expect(store.figures("net-a", "fra", query, epoch)).toMatchObject({ answered: 4 });
    expect(store.figures("net-a", "par", query, epoch)).toMatchObject({ answered: 0, lost: 1 });
    expect(store.figures("par", "fra", query, epoch)).toMatchObject({ answered: 1 });
  });

  test("a server's trace towards a client network counts from there, and tells the last routers even when it did not arrive", () => {
    const { store, intake: made } = intake();
    const trace = { from: "192.0.1.1", to: "198.18.1.2", lastHops: ["192.0.2.7", "192.0.2.6"] };
    const { tally, fresh, traces } = made.handleSamples(
      [
        sample({ ...trace, rttMs: 12 }),
        sample({ ...trace, rttMs: null }),
        sample({ lastHops: ["192.0.2.9"] }),
      ],
      epoch,
      now,
    );
    expect(tally.summary().taken).toBe(3);
    const told = { clientNetworkId: "net-a", lastHops: trace.lastHops };
    expect(traces).toEqual([told, told]);
    expect(fresh).toContainEqual({ from: "net-a", to: "par", rttMs: 12, at: now });
    const query = { spanMs: 3_600_000, quantiles: [0.5] };
    expect(store.figures("net-a", "par", query, epoch)).toMatchObject({ answered: 1, lost: 0 });
  });

  test.each([
    ["unknown-from", { from: "203.0.113.1" }, "no server has the address 203.0.113.1"],
    ["unknown-from", { from: null }, "the address null"],
    ["unknown-to", { to: "203.0.113.1" }, "have the address 203.0.113.1"],
    ["future", { at: epochMs(epoch + 60_001) }, "clock is ahead"],
    ["too-old", { at: epochMs(epoch - 7 * 86_400_000) }, "older than the windows"],
    ["rtt", { rttMs: 60_001 }, "no round-trip time"],
  ] as const)("are skipped as %s: %o", (reason, of, why) => {
    const { store, intake: made } = intake();
    const { tally, fresh } = made.handleSamples([sample(of), sample()], epoch, now);
    expect(tally.summary()).toEqual({
      taken: 1,
      skipped: { [reason]: 1 },
      examples: [{ reason, where: "sample 1", why: expect.stringContaining(why) }],
    });
    expect([fresh.length, store.counters.samples]).toEqual([1, 1]);
  });

  test("an address that servers of two clusters share stands for neither", () => {
    const topology = topologyOf([{ id: "fra" }, { id: "par" }]);
    const { store } = intake();
    const made = new MeasurementIntake(store);
    const shared = {
      ...topology,
      clusters: topology.clusters.map((one) => ({
        ...one,
        servers: one.servers.map((server) => ({ ...server, address: "127.0.0.1" })),
      })),
    };
    made.handlePlaces(topologyIndexOf(shared), []);
    const { tally } = made.handleSamples([sample({ from: "127.0.0.1", to: "127.0.0.1" })], epoch, now);
    expect(tally.skipped("unknown-from")).toBe(1);
    made.handlePlaces(topologyIndexOf({ ...shared, clusters: shared.clusters.slice(0, 1) }), []);
    const alone = made.handleSamples([sample({ from: "127.0.0.1", to: "127.0.0.1" })], epoch, now);
    expect(alone.tally.taken).toBe(1);
    expect(store.provenance(cluster("fra"), cluster("fra"))).toHaveLength(1);
  });
});

test.each<[object | string, JsonSkipReason, string]>([
  ["{", "not-json", ""],
  [{ ...sample(), rttMs: "10" }, "refused", 'rttMs: got "10"'],
  [
    { ...sample(), source: "guess" },
    "refused",
    'source: got "guess", expected one of "atlas", "probe", "beacon"',
  ],
  [{ ...sample(), from: "198.18.001.2" }, "refused", "from: got"],
  [{ ...sample(), extra: true }, "refused", "no such key"],
  [`"${"x".repeat(1_024)}"`, "too-long", "more than 1024 characters"],
])("what is handed to the mapper is parsed strictly: %#", (record, reason, why) => {
  const samples: PathSample[] = [];
  const reader = new SampleReader((one) => samples.push(one));
  const text = typeof record === "string" ? record : JSON.stringify(record);
  reader.read(new TextEncoder().encode(`${text}\n${JSON.stringify(sample())}\n`));
  reader.end();
  expect(samples).toEqual([sample()]);
  expect(reader.tally.summary()).toMatchObject({ taken: 1, skipped: { [reason]: 1 } });
  expect(reader.tally.summary().examples[0]?.why).toContain(why);
});
