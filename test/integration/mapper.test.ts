/** A mapper by itself: no control, its documents from its disk. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ClientNetworkId, TopologyDocument } from "#kit";
import { LastKnownGood } from "#kit/io";
import { type NetworkRecord, writeNetworkFile } from "#mapping";
import { type IsochroneProcess, startIsochrone, waitFor } from "../tools/processes.ts";
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
      `--client-networks=${networksFile}`,
    ],
    { env: { ISOCHRONE_CONTROL_TOKEN: TOKEN } },
  );
}

async function ask<T>(path: string, init: RequestInit = {}): Promise<T> {
  const [, url] = /^ready mapper (\S+)/.exec(mapper?.readyLine ?? "") ?? [];
  const response = await fetch(new URL(`/.isochrone/${path}`, url), {
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
    { timeoutMs: 5_000, what: "an estimate that is borrowed by AS and city" },
  );
  const own = await towardsEast("measured");
  expect(own).toMatchObject({ source: "measured", lenders: [] });
  expect(silent).toMatchObject({ rttMs: own?.rttMs, lenders: ["measured"] });
  expect((await towardsEast("stranger"))?.source).not.toBe("as-and-city");
  expect(await ask("network?address=198.18.1.7")).toMatchObject({
    clientNetworkId: "silent",
    asNumber: 64_500,
    country: "BR",
    city: "Recife",
  });
});
