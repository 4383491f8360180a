/** Goal: each command line changes what it names and nothing else. Method: one line after the other on the same overrides. */
import { expect, test } from "vitest";
import { mapOverrides, type MapOverrides, ParseError } from "#kit";
import { formatOverrides, type SteerFlags, steerEdit } from "../../../cli/steer.ts";

const NOW = 1_000_000;
const names = { clusters: new Set(["fra", "lon"]) };

function run(before: MapOverrides, line: string, flags: SteerFlags = {}): MapOverrides {
  const [action = "", ...subjects] = line.split(" ");
  return mapOverrides.parse(steerEdit(action, subjects, flags, NOW)(before, names));
}

test("drains, weights and pins come, are replaced, and go", () => {
  let now = mapOverrides.parse({ name: "demo" });
  now = run(now, "drain fra", { hours: "2", note: "works" });
  now = run(now, "drain fra-2");
  now = run(now, "weigh lon 3");
  now = run(now, "weigh lon 0.5", { hours: "1" });
  now = run(now, "pin 198.18.0.0/20 lon", { hours: "24", class: "bulk" });
  now = run(now, "pin 198.18.0.0/20 fra", { hours: "24" });
  now = run(now, "pin 52.5,-13.4,300 fra", { hours: "0.5" });
  expect(now).toEqual({
    name: "demo",
    drains: [{ clusterId: "fra", untilEpochMs: NOW + 7_200_000, note: "works" }, { serverId: "fra-2" }],
    weights: [{ clusterId: "lon", factor: 0.5, untilEpochMs: NOW + 3_600_000 }],
    pins: [
      { prefix: "198.18.0.0/20", clusterId: "fra", untilEpochMs: NOW + 86_400_000 },
      {
        around: { coordinates: { latitude: 52.5, longitude: -13.4 }, radiusKm: 300 },
        clusterId: "fra",
        untilEpochMs: NOW + 1_800_000,
      },
    ],
  });
  expect(formatOverrides(now, NOW)).toMatch(/drained +fra .* 2.0 h more +works/);
  now = run(run(run(now, "clear fra"), "clear lon"), "clear 198.18.0.0/20");
  expect([now.drains.length, now.weights.length, now.pins.length]).toEqual([1, 0, 1]);
});

test.each([
  ["pin berlin fra", {}, /wants --hours/],
  ["pin berlin fra", { hours: "0" }, /--hours: got "0"/],
  ["pin berlin fra", { hours: "1", class: "video" }, /--class: got "video"/],
  ["weigh fra 11", {}, /expected a factor from 0.1 to 10/],
  ["weigh fra", {}, /takes 2 words/],
  ["drain fra lon", {}, /takes 1 word;/],
  ["clear fra", {}, /nothing was said of "fra"/],
  ["empty fra", {}, /no action "empty"/],
])("refuses steer %s", (line, flags, message) => {
  expect(() => run(mapOverrides.parse({ name: "demo" }), line, flags)).toThrow(message);
});

test("the document refuses what names nobody, two at once, or has no end", () => {
  for (const [rest, words] of [
    [{ pins: [{ clusterId: "fra", untilEpochMs: 1 }] }, "pins[0]: got"],
    [{ pins: [{ prefix: "10.0.0.1/8", clusterId: "fra", untilEpochMs: 1 }] }, "pins[0].prefix: got"],
    [{ pins: [{ clientNetworkId: "n", clusterId: "fra" }] }, "pins[0].untilEpochMs: got nothing"],
    [{ drains: [{ clusterId: "fra", serverId: "fra-1" }] }, "drains[0]: got"],
    [{ drains: [{ clusterId: "fra" }, { clusterId: "fra" }] }, "drains[1]: got"],
    [{ weights: [{ clusterId: "fra", factor: 0 }] }, "weights[0].factor: got 0"],
  ] as const) {
    const refused = () => mapOverrides.parse({ name: "demo", ...rest });
    expect(refused).toThrow(ParseError);
    expect(refused).toThrow(words);
  }
});
