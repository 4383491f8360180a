import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { type AtlasAnchor, AtlasAnchorReader, parseAtlasAnchor } from "#mapping";
import { dataFile } from "../../../tools/data-file.ts";

const anchor = {
  id: 2182,
  probe: 6771,
  ip_v4: "192.0.2.1",
  as_v4: 64500,
  ip_v6: null,
  as_v6: null,
  city: "Abu Dhabi",
  country: "AE",
  geometry: { type: "Point", coordinates: [54.4, 24.5] },
  is_disabled: false,
};

function read(text: string | Uint8Array): { anchors: AtlasAnchor[]; reader: AtlasAnchorReader } {
  const anchors: AtlasAnchor[] = [];
  const reader = new AtlasAnchorReader((one) => anchors.push(one));
  reader.read(typeof text === "string" ? new TextEncoder().encode(text) : text);
  reader.end();
  return { anchors, reader };
}

describe("anchors of RIPE Atlas", () => {
  test("are read with addresses, networks and place", () => {
    expect(parseAtlasAnchor(anchor)).toEqual({
      probeId: 6771,
      ipv4: "192.0.2.1",
      ipv6: null,
      ipv4As: 64500,
      ipv6As: null,
      country: "AE",
      city: "Abu Dhabi",
      coordinates: { latitude: 24.5, longitude: 54.4 },
      isDisabled: false,
    });
    expect(parseAtlasAnchor({ ...anchor, geometry: null, country: "" })).toMatchObject({
      coordinates: null,
      country: null,
    });
  });

  test.each([
    [
      { ...anchor, geometry: { coordinates: [54.4, 91] } },
      "geometry.coordinates: got [54.4,91], expected degrees",
    ],
    [{ ...anchor, geometry: { coordinates: [] } }, "geometry.coordinates: got"],
    [{ ...anchor, geometry: {} }, "geometry.coordinates: got nothing, expected a list"],
    [{ ...anchor, ip_v6: "192.0.2.1" }, "ip_v6: got"],
    [{ ...anchor, as_v4: -1 }, "as_v4: got -1"],
    [{ ...anchor, country: "Emirates" }, "country: got"],
    [{ ...anchor, is_disabled: 0 }, "is_disabled: got 0"],
    [{ ...anchor, probe: "6771" }, "probe: got"],
    [7, "got 7, expected a mapping"],
  ])("one that is wrong is skipped and counted, the others are taken: %#", (wrong, why) => {
    const { anchors, reader } = read(JSON.stringify({ results: [wrong, anchor] }));
    expect(anchors).toEqual([parseAtlasAnchor(anchor)]);
    expect(reader.anchorTally.summary()).toEqual({
      taken: 1,
      skipped: { refused: 1 },
      examples: [{ reason: "refused", where: "page 1, anchor 1", why: expect.stringContaining(why) }],
    });
  });

  test("a page that is none is counted as a page", () => {
    const { anchors, reader } = read(`{"detail":"throttled"}\n${JSON.stringify({ results: [anchor] })}`);
    expect([anchors.length, reader.tally.summary().skipped]).toEqual([1, { refused: 1 }]);
  });
});

const published = dataFile("ripe_atlas/anchors.json");
test.skipIf(published === undefined)("a published page of 500 anchors is read whole", () => {
  const { anchors, reader } = read(readFileSync(published!));
  expect(reader.anchorTally.summary()).toEqual({ taken: 500, skipped: {}, examples: [] });
  expect(anchors.filter(({ ipv6 }) => ipv6 !== null)).toHaveLength(449);
  expect(anchors.filter(({ isDisabled }) => isDisabled)).toHaveLength(76);
  expect(anchors.every(({ coordinates, country }) => coordinates !== null && country !== null)).toBe(true);
});
