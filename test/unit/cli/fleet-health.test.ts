/** What `isochrone status` says of certificates and origins. */
import { expect, test } from "vitest";
import type { ServerReport } from "#kit";
import { fleetHealth, formatHealth } from "../../../cli/fleet-health.ts";
import { idleReport } from "../../tools/server-report.ts";

const report = (serverId: string, more: Partial<ServerReport>): ServerReport => idleReport(serverId, more);
const barred = { origin: "shop", server: "http://192.0.2.1:80", reason: "check-failed" };

test("all well is two lines, whatever older servers do not tell", () => {
  const health = fleetHealth([
    report("fra-1", { certificate: { state: "valid", notAfterEpochMs: 86_400_000 } }),
    report("nyc-1", { certificate: { state: "valid", notAfterEpochMs: 43_200_000 } }),
    report("old-1", {}),
  ]);
  expect(formatHealth(health)).toBe(
    "certificates: 2 valid, the first ends at 1970-01-01T12:00:00.000Z\norigins: all are asked",
  );
});

test("what is not well is named, and an origin once with all who see it", () => {
  const health = fleetHealth([
    report("fra-1", {
      certificate: { state: "late", notAfterEpochMs: 86_400_000, problem: "revoked" },
      originsBarred: [barred],
    }),
    report("nyc-1", {
      certificate: { state: "none" },
      originsBarred: [barred, { ...barred, reason: "ejected" }],
    }),
    // Good, and yet the last try failed.
    report("ams-1", { certificate: { state: "valid", notAfterEpochMs: 1, problem: "no answer" } }),
    ...["a-1", "a-2", "a-3"].map((id) => report(id, { originsBarred: [barred] })),
  ]);
  expect(health.certificates).toMatchObject({ valid: 1, firstEndEpochMs: 1 });
  expect(health.origins).toHaveLength(2);
  expect(formatHealth(health).split("\n")).toEqual([
    "certificates: 1 valid, the first ends at 1970-01-01T00:00:00.001Z",
    "certificate of fra-1: late (ends 1970-01-02T00:00:00.000Z); not renewed: revoked",
    "certificate of nyc-1: none",
    "certificate of ams-1: valid (ends 1970-01-01T00:00:00.001Z); not renewed: no answer",
    "origin  server               not asked because  seen by",
    "shop    http://192.0.2.1:80  check-failed       5 servers",
    "shop    http://192.0.2.1:80  ejected            nyc-1",
  ]);
});
