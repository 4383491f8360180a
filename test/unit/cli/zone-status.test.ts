/** `isochrone zone status`: a row for each zone at each name server, whether it has been heard of or not. */
import { afterEach, describe, expect, it, vi } from "vitest";
import type { ControlClient } from "#control";
import { status } from "../../../cli/zone/secondary.ts";
import { topology } from "../mapping-dns/fixture.ts";

const report = {
  serverId: topology.nameService.nameServers[0]!.serverId,
  role: "nameserver",
  atEpochMs: 10_000,
  applied: { "zone/moved": 3 },
  secondaryZones: { moved: { state: "current", serial: 8, confirmedAtEpochMs: 6_000 } },
};
const clientWith = (reports: readonly unknown[]): ControlClient =>
  ({
    documents: async (kind: string) => [{ id: kind === "zone" ? "moved" : topology.name }],
    document: async () => ({ body: topology }),
    reports: async () => reports,
  }) as unknown as ControlClient;

async function rows(reports: readonly unknown[]): Promise<readonly Record<string, unknown>[]> {
  const said = vi.spyOn(console, "log").mockImplementation(() => {});
  await status(clientWith(reports), "moved", true);
  return JSON.parse(String(said.mock.calls[0]?.[0])) as Record<string, unknown>[];
}

describe("zone status", () => {
  afterEach(() => vi.restoreAllMocks());
  const all = topology.nameService.nameServers
    .filter(({ edgeClusterId }) => edgeClusterId === undefined)
    .map(({ serverId }) => serverId);

  it("tells what a name server reported, and of which there is no report", async () => {
    const told = await rows([report]);
    expect(told).toHaveLength(new Set(all).size);
    expect(told[0]).toMatchObject({
      serverId: report.serverId,
      version: 3,
      state: "current",
      serial: 8,
      confirmedSecondsAgo: 4,
    });
    for (const row of told.slice(1)) expect(row).toMatchObject({ version: null, state: "no report" });
  });

  it("has a row for each of them while nobody reports", async () => {
    const told = await rows([]);
    expect(told.map(({ zoneId, serverId, state }) => [zoneId, serverId, state])).toEqual(
      [...new Set(all)].map((serverId) => ["moved", serverId, "no report"]),
    );
    expect(told.length).toBeGreaterThan(0);
  });
});
