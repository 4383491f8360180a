/** All evaluations on one page: Markdown with plots beside it, and how to get each figure again. */
import { join } from "node:path";
import { evaluatePlaceOracle } from "./place-oracle.ts";
import { evaluateMapping } from "./mapping.ts";
import { readMatrix, readSlices, type RttMatrix } from "./matrix.ts";
import { evaluateOverlay } from "./overlay.ts";
import { linePlot } from "./plot.ts";
import { evaluateSeeds, seedsSentence, seedsTable, spread } from "./seeds.ts";
import { evaluateSlices, type SlicesEvaluation, slicesTable } from "./slices.ts";
import { fixed, markdownTable, percent } from "./table.ts";
import { policies } from "./users/policies.ts";
import {
  distancesTable,
  leastQueriesSentence,
  evaluateResolvers,
  policiesTable,
  priceCurve,
  pricesSentences,
  pricesTable,
  queriesSentence,
  queriesTable,
  resolverData,
  siteCounts,
} from "./users/resolvers.ts";
import { sameCities } from "./years.ts";

export interface ReportOptions {
  /** Where the measured files are. */
  readonly data: string;
  /** Deployments of the mapping evaluation. */
  readonly seeds: number;
  readonly commit: string;
  readonly onStep: (what: string) => void;
}

/** File name -> content; `report.md` names the others. */
export type ReportFiles = ReadonlyMap<string, string>;

interface Section {
  readonly title: string;
  readonly command: string;
  readonly parts: readonly string[];
}

const FILES = { wonder: resolverData.matrix, planetlab: "planetlab490.tar.gz", aws: "aws32.json" } as const;
/** Mean over the optimum that clients are to have whom nobody measures. */
const UNMEASURED_RATIO_GOAL = 1.25;
const SITES = 30;
const PROBES = 5;
const OVERLAY_CANDIDATES = 3;

export async function makeReport(options: ReportOptions): Promise<ReportFiles> {
  const plots = new Map<string, string>();
  const path = (name: keyof typeof FILES): string => join(options.data, FILES[name]);
  const wonder = readMatrix(path("wonder"));
  const slices = readSlices(path("planetlab"));
  const sections: Section[] = [];
  const add = (section: Section): void => {
    sections.push(section);
    options.onStep(section.title);
  };
  add(deployments(wonder, options.seeds, plots));
  add(unknowns(wonder, Math.min(options.seeds, 10)));
  add(later(slices, plots));
  add(years(wonder, readMatrix(path("aws"))));
  add(overlay(wonder, slices[0] as RttMatrix));
  add(await resolvers(options.data, plots));
  return new Map([["report.md", page(sections, options.commit)], ...plots]);
}

function deployments(matrix: RttMatrix, count: number, plots: Map<string, string>): Section {
  const evaluation = evaluateSeeds(matrix, { sites: SITES, probes: PROBES, seed: 1 }, count);
  plots.set(
    "deployments.svg",
    linePlot({
      title: `${SITES} sites, ${PROBES} probed by each client`,
      xLabel: "seed of the deployment",
      yLabel: "over the optimum",
      yMin: 1,
      series: [
        { name: "map, mean", points: evaluation.seeds.map(({ seed, meanRatio }) => [seed, meanRatio]) },
        { name: "map, p95", points: evaluation.seeds.map(({ seed, p95Ratio }) => [seed, p95Ratio]) },
        { name: "goal", points: evaluation.seeds.map(({ seed }) => [seed, evaluation.goals.meanRatio]) },
      ],
    }),
  );
  return {
    title: "The map against the best site of each client",
    command: `isochrone evaluate mapping --matrix ${FILES.wonder} --seeds ${count}`,
    parts: [
      "Sites are cities chosen by greedy k-median among a seeded half of them; everyone else is a client, measured against 5 of 30 sites with 5 noisy pings.",
      markdownTable(seedsTable(evaluation)),
      `${seedsSentence(evaluation)}.`,
      image("deployments"),
    ],
  };
}

function unknowns(matrix: RttMatrix, count: number): Section {
  const cases = [
    ["half of the clients never measured", { unmeasuredRatio: 0.5 }],
    ["a tenth of the labels wrong", { wrongLabelsRatio: 0.1 }],
  ] as const;
  const rows = cases.flatMap(([name, ratios]) => {
    const found = Array.from(
      { length: count },
      (_, n) => evaluateMapping(matrix, { sites: SITES, probes: PROBES, seed: 1 + n, ...ratios }).figures,
    );
    const groups = [
      ["measured", found.flatMap(({ measured }) => measured ?? [])],
      ["never measured", found.flatMap(({ unmeasured }) => unmeasured ?? [])],
    ] as const;
    return groups
      .filter(([, group]) => group.length > 0)
      .map(([who, group]) => {
        const { min, median, max } = spread(group.map((one) => one.mean / one.optimal.mean));
        return [`${name}: ${who}`, ...[min, median, max].map((value) => fixed(value))];
      });
  });
  const oracles = Array.from({ length: count }, (_, n) =>
    evaluatePlaceOracle(matrix, { sites: SITES, seed: 1 + n, unmeasuredRatio: cases[0][1].unmeasuredRatio }),
  );
  for (const [name, which] of [
    ["never measured, others known: labels as they are", "labels"],
    ["never measured, others known: their labels mended", "othersMended"],
    ["never measured, others known: all labels mended", "allMended"],
  ] as const) {
    const { min, median, max } = spread(oracles.map((one) => one[which]));
    rows.push([name, ...[min, median, max].map((value) => fixed(value))]);
  }
  return {
    title: "Clients that nobody measures, and labels that lie",
    command: `isochrone evaluate mapping --matrix ${FILES.wonder} --unmeasured-ratio 0.5 (or --wrong-labels-ratio 0.1) --seed 1`,
    parts: [
      `Mean over the optimum, seeds 1 to ${count}. The last rows are no map: a choice by the nearest who are known, with the true times of all of them to all sites (\`cli/evaluate/place-oracle.ts\`); mended: a label that light contradicts is put where the times fit.`,
      markdownTable({ head: ["", "min", "median", "max"], rows }),
      unreachedSentence(
        rows.find(([name]) => name?.endsWith(": never measured"))?.[2] ?? "",
        oracles.map(({ labels }) => labels),
        oracles.map(({ allMended }) => allMended),
      ),
    ],
  };
}

/** The goal for clients that nobody measures, and what stands in its way. */
function unreachedSentence(map: string, labels: readonly number[], mended: readonly number[]): string {
  const reached = (of: readonly number[]): number =>
    of.filter((ratio) => ratio <= UNMEASURED_RATIO_GOAL).length;
  return `The goal for clients that nobody measures is ${UNMEASURED_RATIO_GOAL}; the map's median is ${map}. It is not the map that is in the way: the choice that knows everybody else's true times to every site, where the map has five noisy pings of each, is the best of 132 such choices on seeds 101 to 120, has a median of ${fixed(spread(labels).median)} and reaches the goal on ${reached(labels)} of ${labels.length} seeds; with every label mended, that of the client itself too, which nobody can know, ${fixed(spread(mended).median)} and ${reached(mended)}. The cities of this matrix are hundreds of km apart and each has paths of its own, so what is left of a client that was never measured is its neighbours' world, not its own. One measurement of each is what helps: measured clients stand in the row above.`;
}

function later(slices: readonly RttMatrix[], plots: Map<string, string>): Section {
  const few = evaluateSlices(slices, { sites: SITES, probes: PROBES, seed: 1, seeds: 1 });
  const all = evaluateSlices(slices, { sites: SITES, probes: SITES, seed: 1, seeds: 1 });
  const points = ({ ages }: SlicesEvaluation, who: "map" | "perfect") =>
    ages.map((one) => [one.slices, one[who].meanRatio] as const);
  plots.set(
    "slices.svg",
    linePlot({
      title: "A map used later than it was measured (PlanetLab)",
      xLabel: "age of the map, slices",
      yLabel: "mean over the optimum",
      yMin: 1,
      series: [
        { name: `map, ${PROBES} probes`, points: points(few, "map") },
        { name: "map, all sites probed", points: points(all, "map") },
        { name: "no error", points: points(all, "perfect") },
      ],
    }),
  );
  return {
    title: "Decided in one time slice, paid in the next ones",
    command: `isochrone evaluate slices --matrix ${FILES.planetlab} --probes ${PROBES} (and ${SITES})`,
    parts: [
      `One engine measures anew in each of ${few.slices} slices and decides; costs are those of the slice that is paid, over its best sites. With ${PROBES} probes a slice three go to the nearest sites that are known. "No error": every client at its best site of the slice that was measured. The slices span about nine days (as published; the archive states no times).`,
      `${PROBES} probes, maps from slice ${few.countedFrom} on:`,
      markdownTable(slicesTable(few)),
      "all sites probed:",
      markdownTable(slicesTable(all)),
      `Sent elsewhere from one slice to the next: ${percent(few.churn.map)} of the clients with ${PROBES} probes, ${percent(all.churn.map)} with all; ${percent(all.churn.perfect)} have another best site.`,
      image("slices"),
    ],
  };
}

function years(before: RttMatrix, after: RttMatrix): Section {
  const slices = sameCities(before, after);
  const evaluation = evaluateSlices(slices, { sites: 8, probes: 8, seed: 1, seeds: 20 });
  const { nearest } = evaluation;
  return {
    title: "A map that is years old",
    command: `isochrone evaluate years --before ${FILES.wonder} --after ${FILES.aws}`,
    parts: [
      `${slices[0].size} cities are in both matrices: pings of November 2018, medians of the year to May 2025. 8 sites, 20 seeds. Age 0 is paid in the year that was measured, age 1 six years later. Hosts and networks in the cities differ too, so this is more than age alone.`,
      markdownTable(slicesTable(evaluation)),
      ...(nearest === null
        ? []
        : [`Nearest by geography: mean ${fixed(nearest.meanRatio)}, p95 ${fixed(nearest.p95Ratio)}.`]),
    ],
  };
}

function overlay(wonder: RttMatrix, planetlab: RttMatrix): Section {
  const rows = (
    [
      ["WonderNetwork", wonder],
      ["PlanetLab", planetlab],
    ] as const
  ).map(([name, matrix]) => {
    const { figures } = evaluateOverlay(matrix, { sites: SITES, candidates: OVERLAY_CANDIDATES, seed: 1 });
    const { direct, chosen, optimal } = figures;
    return [
      name,
      ...[direct.mean, chosen.mean, optimal.mean, direct.p99, chosen.p99, optimal.p99].map((value) =>
        fixed(value, 1),
      ),
      percent((direct.mean - chosen.mean) / (direct.mean - optimal.mean)),
    ];
  });
  return {
    title: "Relays between sites",
    command: `isochrone evaluate overlay --matrix ${FILES.wonder} --sites ${SITES} --candidates ${OVERLAY_CANDIDATES}`,
    parts: [
      "Every ordered pair of 30 sites, ms; at most three relays are probed for each pair.",
      markdownTable({
        head: [
          "",
          "direct: mean",
          "chosen",
          "best relay",
          "direct: p99",
          "chosen",
          "best relay",
          "of the possible gain",
        ],
        rows,
      }),
    ],
  };
}

async function resolvers(data: string, plots: Map<string, string>): Promise<Section> {
  const evaluation = await evaluateResolvers(data, { sites: siteCounts, seed: 1, queries: {} });
  const { world } = evaluation;
  plots.set(
    "resolvers.svg",
    linePlot({
      title: "Round trips of all users by who is decided for",
      xLabel: "sites",
      yLabel: "mean, ms",
      isLogX: true,
      yMin: 0,
      series: policies.map((policy) => ({
        name: policy,
        points: evaluation.policies.map((one) => [one.sites, one.all[policy].mean]),
      })),
    }),
  );
  plots.set(
    "queries.svg",
    linePlot({
      title: "Behind the public resolver: what queries buy",
      xLabel: "queries over those by resolver",
      yLabel: "mean, ms",
      yMin: 0,
      series: [...new Set(evaluation.prices.map(({ sites }) => sites))].map((sites) => ({
        name: `${sites} sites`,
        points: priceCurve(evaluation, sites),
      })),
    }),
  );
  return {
    title: "Users behind distant resolvers",
    command: "isochrone evaluate resolvers --data DIR",
    parts: [
      `A modelled world on measured ground: ${world.prefixes} prefixes of ${world.providers} providers from seven /8 of a BGP table, users in ${world.places} networks of ${world.cities} cities, of which ${world.citiesMeasured} have measured delays and the others fitted ones. ${percent(world.published.publicRatio, 0)} of the demand is behind the public resolver. What is assumed stands in \`cli/evaluate/users\`. How far users are from their resolvers, by demand:`,
      markdownTable(distancesTable(evaluation)),
      "All users, ms (`rolled-out`: by the user where the resolver is the public one, else client-aware):",
      markdownTable(policiesTable(evaluation, "all")),
      "Behind the public resolver, ms:",
      markdownTable(policiesTable(evaluation, "behindPublic")),
      image("resolvers"),
      "Queries of the public resolver over those that one answer for everyone behind it costs, by who shares an answer: a cluster's clients (the least that end-user mapping needs, whatever the addresses), the map's scopes (RFC 7871), a /24:",
      markdownTable(queriesTable(evaluation)),
      queriesSentence(evaluation),
      "Where a query has a price (`queryPriceMs`): one more is asked where it spares so many ms of round trips, summed over the look-ups that it serves; neighbouring prefixes whose best sites differ by less are answered alike, for each resolver by the clients that are known to be behind it. Users behind the public resolver:",
      markdownTable(pricesTable(evaluation)),
      pricesSentences(evaluation).join(" "),
      leastQueriesSentence(evaluation),
      image("queries"),
    ],
  };
}

function image(name: string): string {
  return `![${name}](${name}.svg)`;
}

function page(sections: readonly Section[], commit: string): string {
  return `${[
    "# How good the map is",
    `Made by \`isochrone evaluate report --data DIR --out DIR\` at commit ${commit}. Everything follows from the data and the seeds; nothing rests on the machine.`,
    ...sections.flatMap(({ title, command, parts }) => [`## ${title}`, `    ${command}`, ...parts]),
    "## Data",
    [
      "- `wondernetwork2018.json.gz`: pings between 242 cities, WonderNetwork, 2018-11-10, via ConsenSys/wittgenstein, Apache-2.0.",
      "- `planetlab490.tar.gz`: uofa-rzhu3/NetLatency-Data, MIT; Zhu, Liu, Niu, Li, Zhao, IEEE/ACM ToN 25 (2017).",
      "- `aws32.json`: cloudping.co via oaustegard.github.io, Apache-2.0.",
      "- `bgp/rib-2010-07-01.txt.gz`: RIPE-NCC/bgpdump, ISC-like.",
      "- `pops/`: Netrvin/cloudflare-colo-list and tobilg/aws-edge-locations, MIT.",
      "- Published figures of resolvers: Chen, Sitaraman, Torres, End-User Mapping, SIGCOMM 2015.",
    ].join("\n"),
  ].join("\n\n")}\n`;
}
