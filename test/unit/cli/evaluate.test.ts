import { existsSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, describe, expect, test, vi } from "vitest";
import { main } from "../../../cli/evaluate.ts";
import { evaluateMapping } from "../../../cli/evaluate/mapping.ts";
import { readMatrix } from "../../../cli/evaluate/matrix.ts";
import { evaluateOverlay } from "../../../cli/evaluate/overlay.ts";
import { evaluateOverlaySlices } from "../../../cli/evaluate/overlay-slices.ts";
import { linePlot } from "../../../cli/evaluate/plot.ts";
import { evaluateSeeds, seedsSentence } from "../../../cli/evaluate/seeds.ts";
import { evaluateSlices } from "../../../cli/evaluate/slices.ts";
import { markdownTable } from "../../../cli/evaluate/table.ts";
import { sameCities } from "../../../cli/evaluate/years.ts";

const directory = mkdtempSync(join(tmpdir(), "isochrone-evaluate-"));
let files = 0;
function file(content: string | Uint8Array): string {
  const path = join(directory, `matrix-${files++}`);
  writeFileSync(path, content);
  return path;
}

/** One ustar file with its header, as tar writes it. */
function tarMember(name: string, body: string): Buffer {
  const header = Buffer.alloc(512);
  header.write(name, 0);
  header.write(`${body.length.toString(8).padStart(11, "0")}\0`, 124);
  header.write("0", 156);
  header.write("ustar\0", 257);
  header.write("        ", 148);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  const padded = Buffer.alloc(Math.ceil(body.length / 512) * 512);
  padded.write(body);
  return Buffer.concat([header, padded]);
}
const END = Buffer.alloc(1024);
const square = "0\t10\t20\n10\t0\t30\n20\t30\t0\n";

describe("reading a matrix", () => {
  test("JSON with names, places and a missing value, which the other direction fills", () => {
    const document = {
      names: ["A", "B"],
      coord: [[1, 2, "Town"], null],
      avg: [
        [null, 5],
        [null, null],
      ],
    };
    const matrix = readMatrix(file(JSON.stringify(document)));
    expect(matrix).toMatchObject({ size: 2, coordinates: [{ latitude: 1, longitude: 2 }, null] });
    expect(matrix.rttMs(1, 0)).toBe(5);
    expect(matrix.rttMs(0, 0)).toBe(0);
  });
  test("plain text, plain and gzipped", () => {
    for (const content of [square, gzipSync(square)]) {
      const matrix = readMatrix(file(content));
      expect([matrix.size, matrix.rttMs(1, 2), matrix.coordinates]).toEqual([3, 30, null]);
    }
  });
  test("a tar archive: the first matrix in natural order, or the member that is named", () => {
    const archive = Buffer.concat([
      tarMember("d/README.md", "# not a matrix"),
      tarMember("d/slice_10", square.replaceAll("30", "99")),
      tarMember("d/slice_2", square),
      END,
    ]);
    expect(readMatrix(file(gzipSync(archive))).rttMs(1, 2)).toBe(30);
    expect(readMatrix(`${file(archive)}#slice_10`).rttMs(1, 2)).toBe(99);
  });
  test.each<[string, string | Uint8Array, RegExp]>([
    ["a short row", "0 1\n1\n", /:2": got 1 numbers, expected 2/],
    ["a word for a number", "0 1\nx 0\n", /:2:1": got "x", expected a time/],
    ["a negative time", "0 1\n-1 0\n", /:2:1": got "-1"/],
    ["nothing", "", /expected a square matrix/],
    ["cut JSON", '{"names": ["A"', /is not JSON/],
    ["an unknown key", '{"names":["A","B"],"nmaes":[]}', /nmaes.*no such key/],
    ["too few rows", '{"names":["A","B"],"avg":[[0,1]]}', /avg: got 1, expected 2 rows/],
    [
      "a latitude of 91",
      '{"names":["A","B"],"coord":[[91,0],[0,0]],"avg":[[0,1],[1,0]]}',
      /coord\[0\]\[0\]: got 91/,
    ],
    ["cut gzip", gzipSync(square).subarray(0, 20), /cannot be unpacked/],
    ["a cut archive", Buffer.concat([tarMember("a", square)]).subarray(0, 530), /archive is cut/],
    ["an archive without a matrix", Buffer.concat([tarMember("README", "#"), END]), /no file of the archive/],
  ])("%s is refused in one line", (_what, content, message) => {
    const path = file(content);
    expect(() => readMatrix(path)).toThrow(message);
    try {
      readMatrix(path);
    } catch (error) {
      expect(String(error)).not.toContain("\n");
    }
  });
  test("an archive whose header was altered is refused", () => {
    const member = tarMember("a", square);
    member.write("b", 0);
    expect(() => readMatrix(file(Buffer.concat([member, END])))).toThrow(/does not match its checksum/);
  });
});

/** Cities on a line, 10 ms apart, with an access of 1 ms each. */
function lineOfCities(count: number) {
  const rows = Array.from({ length: count }, (_, i) =>
    Array.from({ length: count }, (_city, j) => (i === j ? 0 : Math.abs(i - j) * 10 + 2)).join("\t"),
  );
  return readMatrix(file(`${rows.join("\n")}\n`));
}

describe("many seeds", () => {
  test("the spread is that of the seeds, and a seed that misses a goal is named with it", () => {
    const seen: number[] = [];
    // One probe of eight sites, and not even places: some seeds must miss.
    const evaluation = evaluateSeeds(lineOfCities(40), { sites: 8, probes: 1, seed: 3 }, 4, ({ seed }) =>
      seen.push(seed),
    );
    expect(seen).toEqual([3, 4, 5, 6]);
    const means = evaluation.seeds.map(({ meanRatio }) => meanRatio).sort((a, b) => a - b);
    expect(evaluation.spread.meanRatio).toMatchObject({ min: means[0], max: means[3] });
    expect(evaluation.seedsMissed.length).toBeGreaterThan(0);
    for (const { seed, meanRatio, missed } of evaluation.seeds) {
      expect(missed.includes("meanRatio")).toBe(meanRatio > evaluation.goals.meanRatio);
      expect(evaluation.seedsMissed.includes(seed)).toBe(missed.length > 0);
    }
    expect(seedsSentence(evaluation)).toMatch(
      /^\d of 4 seeds reach every goal; missed: meanRatio by [3456 ]+;/,
    );
  });
});

describe("maps that are used later than they were measured", () => {
  const cities = lineOfCities(20);
  /** Every other city is far from everyone. */
  const after: typeof cities = {
    ...cities,
    rttMs: (from, to) => cities.rttMs(from, to) + (from !== to && (from % 2 === 0 || to % 2 === 0) ? 500 : 0),
  };
  test("what has not changed is paid as decided; who was sent to what has changed pays for it", () => {
    const options = { sites: 10, probes: 10, seed: 2, seeds: 1 };
    const still = evaluateSlices([cities, cities, cities], options);
    expect(still.ages.map(({ perfect }) => perfect.meanRatio)).toEqual([1, 1, 1]);
    expect(still.churn).toEqual({ map: 0, perfect: 0 });
    expect(still.nearest).toBeNull();
    const moved = evaluateSlices([cities, after, after], options);
    const [fresh, later] = moved.ages;
    expect(fresh?.perfect.meanRatio).toBe(1);
    expect(later?.map.meanRatio).toBeGreaterThan(1);
    expect(moved.churn.map).toBeGreaterThan(0);
    expect(moved.bySlice.map(({ slice }) => slice)).toEqual([2, 3]);
  });
  test("relays through slices: a path that has become bad is left, and never measured again would have cost", () => {
    const slice = (near: number) => {
      const rtts = [
        [0, near, 300],
        [near, 0, 100],
        [300, 100, 0],
      ];
      return {
        names: ["a", "b", "c"],
        coordinates: null,
        size: 3,
        rttMs: (from: number, to: number) => rtts[from]?.[to] ?? Number.NaN,
      };
    };
    const options = { sites: 3, candidates: 1, seed: 1 };
    const still = evaluateOverlaySlices([slice(100), slice(100)], options);
    expect(still.pairs).toBe(6);
    expect(still.slices[1]).toMatchObject({ direct: 1000 / 6, optimal: 804 / 6, frozen: 804 / 6 });
    expect(still.realised).toBeCloseTo(1, 2);
    const moved = evaluateOverlaySlices([slice(100), slice(290)], options);
    // a-b and a-c both ways: direct is the best for each of them now.
    expect(moved.slices[1]?.optimal).toBe(moved.slices[1]?.direct);
    expect(moved.slices[1]?.frozen).toBeGreaterThan((moved.slices[1]?.direct ?? 0) + 25);
    expect(moved.slices[1]?.chosen).toBeLessThan((moved.slices[1]?.direct ?? 0) + 3);
    expect(moved.slices[1]?.atEnd).toBe(moved.slices[1]?.direct);
    expect(() => evaluateOverlaySlices([slice(1)], options)).toThrow("at least 2 time slices");
  });
  test("cities of two matrices are matched by place, each once", () => {
    const at = (names: string[], longitudes: number[]) => ({
      ...cities,
      names,
      size: names.length,
      coordinates: longitudes.map((longitude) => ({ latitude: 0, longitude })),
    });
    const letters = "abcdefghij".split("");
    const before = at(letters, [0, 0.1, 10, 20, 30, 40, 50, 60, 70, 80]);
    const [one, other] = sameCities(
      before,
      at(letters.toReversed(), [80, 70, 60, 50, 40, 30, 20.2, 10, 99, 0.01]),
    );
    // "b" is as near to the last one as "a", which has it already; nothing stands at 99.
    expect(one.names.join("")).toBe("acdefghij");
    expect(one.rttMs(0, 1)).toBe(cities.rttMs(0, 2));
    expect(other.rttMs(0, 1)).toBe(cities.rttMs(9, 7));
    expect(() => sameCities(before, at(["x"], [120]))).toThrow(/0 cities in common, expected at least 8/);
  });
});

describe("plots and tables of the report", () => {
  const plot = {
    title: "a < b",
    xLabel: "sites",
    yLabel: "ms",
    isLogX: true,
    yMin: 0,
    series: [
      {
        name: "map & more",
        points: [
          [40, 10],
          [80, 5],
          [160, 0],
        ] as const,
      },
    ],
  };
  test("points are in proportion, by the logarithm where asked, and names are escaped", () => {
    const svg = linePlot(plot);
    const [, points] = /polyline points="([^"]+)"/.exec(svg) ?? [];
    const places = points?.split(" ").map((one) => one.split(",").map(Number)) as [number, number][];
    expect(places).toHaveLength(3);
    const [[x0, y0], [x1, y1], [x2, y2]] = places as [[number, number], [number, number], [number, number]];
    expect(x1 - x0).toBeCloseTo(x2 - x1, 0);
    expect(y1 - y0).toBeCloseTo(y2 - y1, 0);
    expect(svg).toContain("a &lt; b");
    expect(svg).toContain("map &amp; more");
    expect(() => linePlot({ ...plot, series: [] })).toThrow(/no points/);
  });
  test("a bar in a cell does not end it", () => {
    expect(markdownTable({ head: ["", "x|y"], rows: [["a", "1"]] })).toBe(
      "|  | x\\|y |\n|---|---:|\n| a | 1 |",
    );
  });
});

describe("the command", () => {
  afterEach(() => vi.restoreAllMocks());
  test.each([
    [["mapping"], /--matrix is missing/],
    [["nothing", "--matrix", "x"], /expected mapping, overlay, overlay-slices, slices, years/],
    [["mapping", "--matrix", "/nowhere/x"], /no such file|there is no/],
    [["mapping", "--matrix", "x", "--sites", "1"], /--sites: got "1", expected a whole number from 2/],
    [["mapping", "--matrix", "x", "--candidates", "3"], /Unknown option '--candidates'/],
    [["mapping", "--matrix", "x", "--colour"], /--colour/],
    [["slices", "--matrix", file(square)], /no tar archive of time slices/],
    [
      [
        "slices",
        "--matrix",
        file(gzipSync(Buffer.concat([tarMember("a", square), tarMember("b", "0 1\n1 0\n"), END]))),
      ],
      /slice 2 has 2 sites, expected 3/,
    ],
    [["years", "--before", "x"], /no such file/],
    [["years"], /--before is missing/],
    [["report", "--data", "x"], /--out is missing/],
    [["years", "--hue"], /--hue/],
    [
      ["mapping", "--matrix", "x", "--unmeasured-ratio", "1.5"],
      /--unmeasured-ratio: got "1.5", expected a share/,
    ],
    [["overlay", "--matrix", "x", "--wrong-labels-ratio", "0.1"], /Unknown option '--wrong-labels-ratio'/],
  ])("%j: exit code 2 and one line", async (argv, message) => {
    const write = vi.spyOn(process.stderr, "write").mockReturnValue(true);
    expect(await main(argv)).toBe(2);
    const said = write.mock.calls.map(([text]) => String(text)).join("");
    expect(said).toMatch(message);
    expect(said.trimEnd()).not.toContain("\n");
  });
});

/** Real matrices, when they are on this machine; where CI has them they are a must. */
const data = process.env["ISOCHRONE_DATA"] ?? "../shared/data";
const wonder = join(data, "wondernetwork2018.json.gz");
const planetlab = join(data, "planetlab490.tar.gz");
const hasData = existsSync(wonder) && existsSync(planetlab);
if (!hasData) console.log(`evaluations on real matrices are skipped: no ${wonder} (set ISOCHRONE_DATA)`);

describe.runIf(hasData || process.env["ISOCHRONE_DATA"] !== undefined)("on real matrices", () => {
  test("the map is far better than geography and near the optimum, the same each time", () => {
    const matrix = readMatrix(wonder);
    const run = () => evaluateMapping(matrix, { sites: 30, probes: 5, seed: 1 });
    const { figures, clients } = run();
    expect(clients).toBe(212);
    expect(figures.mean).toBeLessThanOrEqual(1.08 * figures.optimal.mean);
    expect(figures.p95).toBeLessThanOrEqual(1.15 * figures.optimal.p95);
    expect(figures.worse10ms).toBeLessThanOrEqual(0.05);
    expect(figures.mean).toBeLessThan(0.8 * figures.nearest.mean);
    expect(figures.nearest.mean).toBeLessThan(figures.random.mean);
    expect(run().figures).toEqual(figures);
  });
  test("with as many probes as sites the map is the optimum but for noise", () => {
    const { figures } = evaluateMapping(readMatrix(wonder), { sites: 10, probes: 10, seed: 2 });
    expect(figures.mean).toBeLessThanOrEqual(1.01 * figures.optimal.mean);
    expect(figures.worse10ms).toBeLessThanOrEqual(0.01);
  });
  test("who is never measured pays apart, and is not worse off than by geography", () => {
    const { figures, samples } = evaluateMapping(readMatrix(wonder), {
      sites: 10,
      probes: 3,
      seed: 1,
      unmeasuredRatio: 0.5,
      wrongLabelsRatio: 0.1,
    });
    expect(samples).toBe(116 * 3 * 5);
    expect([figures.measured?.clients, figures.unmeasured?.clients]).toEqual([116, 116]);
    const { measured, unmeasured } = figures as Required<typeof figures>;
    expect(measured.mean).toBeLessThan(unmeasured.mean);
    expect(unmeasured.mean).toBeLessThan(figures.nearest.mean);
    expect((measured.mean + unmeasured.mean) / 2).toBeCloseTo(figures.mean, 2);
  });
  test.each([
    [wonder, 0.9],
    [planetlab, 0.9],
  ])("relays in %s: nine tenths of the possible gain with three probed candidates", (path, share) => {
    const { figures, pairs } = evaluateOverlay(readMatrix(path), { sites: 30, candidates: 3, seed: 1 });
    expect(pairs).toBe(870);
    const possible = figures.direct.mean - figures.optimal.mean;
    expect(possible).toBeGreaterThan(5);
    expect(figures.direct.mean - figures.chosen.mean).toBeGreaterThanOrEqual(share * possible);
    expect(figures.chosen.mean).toBeLessThan(figures.direct.mean);
  });
  test("a plain matrix without places is mapped as well", () => {
    const { figures } = evaluateMapping(readMatrix(planetlab), { sites: 30, probes: 5, seed: 1 });
    expect(figures.mean).toBeLessThan(figures.random.mean / 4);
  });
});
