import { expect, test } from "vitest";
import {
  cutClientNetworks,
  nameNetworks,
  NetworkFileReader,
  networkFileLines,
  networkRecords,
} from "#mapping";
import { cellOf } from "../../../../mapping/core/networks/cells.ts";
import { cut, demandOf, placesOf, routesOf } from "./fixtures.ts";

const sets = cut({
  routes: [
    ["10.0.0.0/22", [1, 7]],
    ["2001:db8::/32", [1, 8]],
  ],
  places: placesOf([["10.0.0.0", "10.0.1.255", "berlin"]]),
  demand: demandOf({ "10.0.0.0/22": 3.5 }),
});
const records = [...networkRecords(sets, nameNetworks(sets, [], null))];
const lines = [...networkFileLines(records, 1_700_000_000_000)];

function read(text: string, chunk = 7) {
  const bytes = new TextEncoder().encode(text);
  const reader = new NetworkFileReader();
  for (let at = 0; at < bytes.length; at += chunk) reader.read(bytes.subarray(at, at + chunk));
  return reader.end();
}

test("what is written is read, in whatever pieces it comes", () => {
  expect(records).toHaveLength(3);
  expect(read(lines.join(""))).toEqual({ createdAtEpochMs: 1_700_000_000_000, networks: records });
});

const replaced = (n: number, from: string | RegExp, to: string) =>
  lines.with(n, (lines[n] ?? "").replace(from, to)).join("");
test.each([
  ["an empty one", "", "whole file"],
  ["a cut one", lines.slice(0, -1).join(""), "whole file"],
  ["half a line", lines.join("").slice(0, 300), "JSON"],
  [
    "a line too few",
    [...lines.slice(0, 2), ...lines.slice(3)].join(""),
    "line[4].networks: got 3, expected 2",
  ],
  ["another format", replaced(0, "client-networks", "maps"), "line[1].format"],
  ["a changed figure", replaced(1, "3.5", "0").replace("1.75", "1.76"), "checksum"],
  ["an unknown key", replaced(1, "{", '{"x":1,'), "line[2].x: got 1, expected no such key"],
  ["a prefix with host bits", replaced(1, /10\.0\.\d\.0/, "10.0.0.1"), "line[2].prefixes[0]"],
  [
    "a negative demand",
    replaced(1, /"demandPerSecond":[0-9.]+/, '"demandPerSecond":-1'),
    "line[2].demandPerSecond: got -1",
  ],
  [
    "a network twice",
    [...lines.slice(0, 2), lines[1], ...lines.slice(2)].join(""),
    "a name that no other network has",
  ],
  [
    "a prefix twice",
    [...lines.slice(0, 2), (lines[1] ?? "").replace(/"n[0-9a-z]+"/, '"nother"'), ...lines.slice(2)].join(""),
    "a prefix that stands nowhere above",
  ],
  ["something behind the end", [...lines, lines[1]].join(""), "nothing behind"],
  ["a line that is too long", [lines[0], `"${"x".repeat(600_000)}"\n`].join(""), "524288 characters"],
])("%s is refused whole", (_title, text, why) => {
  expect(() => read(text, 65_536)).toThrow(why);
});

test("each network goes by the longest announced prefix that holds most of it", () => {
  const table = routesOf([
    ["10.0.0.0/22", [1, 7]],
    ["10.0.3.0/24", [1, 7]],
    ["10.9.0.0/24", [1, 7]],
  ]);
  const input = {
    routes: table.build(),
    places: null,
    autonomousSystems: null,
    measured: null,
    demand: null,
  };
  const cutHere = cutClientNetworks(input);
  const routed = [
    ...networkRecords(cutHere, nameNetworks(cutHere, [], null), (cell) => table.prefixOf(cell)),
  ];
  expect(routed.map(({ prefixes, routedPrefix }) => [prefixes, routedPrefix])).toEqual([
    [["10.0.0.0/22", "10.9.0.0/24"], "10.0.0.0/22"],
  ]);
  expect(table.prefixOf(cellOf({ family: 4, words: [0x0a000300] }))).toBe("10.0.3.0/24");
  expect(table.prefixOf(cellOf({ family: 4, words: [0x0b000000] }))).toBeUndefined();
});
