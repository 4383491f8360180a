/** A mapper by itself: no control, its documents from its disk. */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ClientNetworkId, TopologyDocument } from "#kit";
import { LastKnownGood } from "#kit/io";
import { type NetworkRecord, writeNetworkFile } from "#mapping";
import { type IsochroneProcess, runIsochrone, startIsochrone, waitFor } from "../tools/processes.ts";
import { topologyOf } from "../unit/mapping/fixtures.ts";

const TOKEN = "token-of-a-test";
const directory = mkdtempSync(join(tmpdir(), "isochrone-mapper-"));
const state = join(directory, "state");
const networksFile = join(directory, "networks.ndjson");
let mapper: IsochroneProcess | undefined;

const topology: TopologyDocument = topologyOf([
  { id: "west", latitude: 40, longitude: -74 },
  { id: "east", latitude: 1, longitude: 104 },
]);
/** Two of one AS and city, without coordinates; one of the same city and another AS. */
const networks = (
  [
    ["measured", "198.18.0.0/24", 64_500],
    ["silent", "198.18.1.0/24", 64_500],
    ["stranger", "198.18.2.0/24", 64_501],
  ] as const
).map(
  ([name, prefix, asNumber]): NetworkRecord => ({
    clientNetworkId: name as ClientNetworkId,
    prefixes: [prefix],
    demandPerSecond: 1,
    asNumber,
    country: "BR",
    city: "Recife",
    coordinates: null,
  }),
);

async function start(): Promise<IsochroneProcess> {
  return startIsochrone(
    [
      "mapper",
      "--world=deploy/worlds/demo.yaml",
      "--listen=127.0.0.1:0",
      "--control=http://127.0.0.1:1",
      `--state=${state}`,
      "--samples-per-second=0",
      "--measurements-save=1s",
      `--client-networks=${networksFile}`,
    ],
    { env: { ISOCHRONE_CONTROL_TOKEN: TOKEN } },
  );
}

const urlOf = () => /^ready mapper (\S+)/.exec(mapper?.readyLine ?? "")?.[1] ?? "";

async function ask<T>(path: string, init: RequestInit = {}): Promise<T> {
  const response = await fetch(new URL(`/.isochrone/${path}`, urlOf()), {
    ...init,
    headers: { authorization: `Bearer ${TOKEN}` },
  });
  const body = (await response.json()) as T;
  if (!response.ok) throw new Error(`${path}: ${response.status} ${JSON.stringify(body)}`);
  return body;
}

interface Estimates {
  readonly estimates: readonly {
    readonly clusterId: string;
    readonly rttMs: number;
    readonly source: string;
    readonly lenders: readonly string[];
  }[];
}
async function towardsEast(name: string) {
  const { estimates } = await ask<Estimates>(`estimates?network=${name}`);
  return estimates.find(({ clusterId }) => clusterId === "east");
}

beforeAll(async () => {
  mkdirSync(join(state, "documents"), { recursive: true });
  const kept = new LastKnownGood(join(state, "documents", "topology.main.lkg"), (value) => value);
  await kept.save({ logId: "log", seq: 1, id: "main", version: 1, body: topology });
  await writeNetworkFile(networksFile, networks, 1_000);
  // The system's ping as a test can know it.
  writeFileSync(
    join(directory, "ping"),
    '#!/bin/sh\nfor one; do :; done\necho "64 bytes from $one: icmp_seq=1 ttl=64 time=12.5 ms"\n',
  );
  chmodSync(join(directory, "ping"), 0o755);
  mapper = await start();
});
afterAll(async () => {
  await mapper?.stop();
  rmSync(directory, { recursive: true });
});

test("a network of a file that was never measured borrows from those of its AS and city, and says from whom", async () => {
  const sample = {
    source: "probe",
    method: "icmp",
    agent: "east-1",
    from: "198.18.0.9",
    to: "192.0.1.1",
    at: Date.now(),
  };
  const lines = [31, 32, 33, 34].map((rttMs) => JSON.stringify({ ...sample, rttMs })).join("\n");
  expect(await ask("measurements", { method: "POST", body: lines })).toMatchObject({ taken: 4 });
  // A map is made at once; whoever may speak for others is found anew for it.
  await ask("reload", { method: "POST" });
  const silent = await waitFor(
    async () => {
      const found = await towardsEast("silent");
      return found?.source === "as-and-city" ? found : undefined;
    },
    { timeoutMs: 30_000, what: "an estimate that is borrowed by AS and city" },
  );
  const own = await towardsEast("measured");
  expect(own).toMatchObject({ source: "measured", lenders: [] });
  expect(silent?.lenders).toEqual(["measured"]);
  expect(silent?.rttMs).toBeCloseTo(own?.rttMs ?? Number.NaN, 3);
  expect((await towardsEast("stranger"))?.source).not.toBe("as-and-city");
  expect(await ask("network?address=198.18.1.7")).toMatchObject({
    clientNetworkId: "silent",
    asNumber: 64_500,
    country: "BR",
    city: "Recife",
  });
});

test("agents measure what the mapper plans and hand it back; private addresses only where that is allowed", async () => {
  const agent = (clusterId: string, from: string, ...more: string[]) =>
    runIsochrone(
      ["probe", `--plan=${urlOf()}`, `--cluster=${clusterId}`, `--from=${from}`, "--count=1", ...more],
      { env: { ISOCHRONE_CONTROL_TOKEN: TOKEN, PATH: `${directory}:${process.env["PATH"]}` } },
    );
  // Who asks lives, and gets a share of the next plan.
  const validForMs = async (clusterId: string) =>
    (await ask<{ validForMs: number }>(`plan?cluster=${clusterId}`)).validForMs;
  // Both at once: those that come within half a second share the first plan.
  expect(await Promise.all([validForMs("east"), validForMs("west")])).toEqual([0, 0]);
  await waitFor(async () => (await validForMs("east")) > 0, { timeoutMs: 5_000, what: "a plan" });
  const [east, west] = await Promise.all([
    agent("east", "192.0.1.1", "--allow-private"),
    agent("west", "192.0.0.1"),
  ]);
  const counters = (text: string) => JSON.parse(/^isochrone probe: (\{.*\})$/m.exec(text)?.[1] ?? "null");
  const records = east.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { to: string; rttMs: number });
  for (const { to, rttMs } of records) {
    expect(to).toMatch(/^198\.18\.[0-2]\.1$/);
    expect(rttMs).toBe(12.5);
  }
  expect(counters(east.stderr)).toMatchObject({
    rounds: { plan: 1 },
    targets: records.length,
    targetsRefused: 0,
    samplesHandedOver: records.length,
  });
  const refused = counters(west.stderr) as { targetsRefused: number };
  expect(west.stdout).toBe("");
  expect(refused).toMatchObject({ rounds: { plan: 1 }, targets: 0, samplesHandedOver: 0 });
  expect(refused.targetsRefused + records.length).toBeGreaterThanOrEqual(3);
  const { probes } = await ask<{ probes: Record<string, number> }>("status");
  expect(probes).toMatchObject({ agents: 2, results: records.length });
  expect((probes["explorations"] ?? 0) + (probes["refreshments"] ?? 0)).toBe(
    records.length + refused.targetsRefused,
  );
  await expect(ask("plan?cluster=nowhere")).rejects.toThrow("404");
  expect((await ask<{ targets: string[] }>("plan?cluster=east")).targets).toEqual(
    expect.arrayContaining(records.map(({ to }) => to)),
  );
});

interface Status {
  readonly measurements: {
    readonly series: number;
    readonly samples: number;
    readonly file: {
      readonly unsaved: number;
      readonly refused: number;
      readonly seriesRestored: number;
      readonly problem: string | null;
    };
  };
}

test("measurements outlive a mapper that is killed; a file that is cut is refused, put aside and told of", async () => {
  const status = () => ask<Status>("status");
  const { measurements: before } = await waitFor(
    async () => {
      const found = await status();
      return found.measurements.file.unsaved === 0 ? found : undefined;
    },
    { timeoutMs: 5_000, what: "a file of the measurements" },
  );
  const own = await towardsEast("measured");
  mapper?.signal("SIGKILL");
  await mapper?.exit;
  mapper = await start();
  const { measurements: after } = await status();
  expect(after).toMatchObject({ series: before.series, file: { seriesRestored: before.series, refused: 0 } });
  const again = await waitFor(
    async () => {
      const found = await towardsEast("measured");
      return found?.source === "measured" ? found : undefined;
    },
    { timeoutMs: 5_000, what: "a map that rests on what was kept" },
  );
  expect(again.rttMs).toBeCloseTo(own?.rttMs ?? Number.NaN, 6);
  expect(again.lenders).toEqual([]);

  await mapper.stop();
  const file = join(state, "measurements.bin");
  const whole = readFileSync(file);
  writeFileSync(file, whole.subarray(0, whole.length - 9));
  mapper = await start();
  expect((await status()).measurements).toMatchObject({
    series: 0,
    file: { seriesRestored: 0, refused: 1, problem: expect.stringContaining("too early") },
  });
  expect(readFileSync(`${file}.refused`)).toHaveLength(whole.length - 9);
});
