/**
 * How good is the map? Sites are cities of a measured matrix, clients all the others; each client network is measured
 * against a few sites only, with noise; the production engine makes a map of it and the production answer decides. What a
 * decision costs is then read from the matrix, which nothing that decides has seen.
 */
import { type Coordinates, greatCircleKm, Random } from "#kit";
import { START } from "./deployment.ts";
import type { RttMatrix } from "./matrix.ts";
import { chooseSites, type Figures, figures, round } from "./sites.ts";
import { MappingTrial, PINGS } from "./trial.ts";

/** A user notices a page that takes this much longer a round trip. */
const WORSE_MS = 10;

export interface MappingOptions {
  readonly sites: number;
  /** Sites that each client network is measured against. */
  readonly probes: number;
  readonly seed: number;
  /** Share of the client networks that nobody ever measures, 0..1; which ones follows from the seed. */
  readonly unmeasuredRatio?: number;
  /** Share of the client networks whose label is that of another city, 0..1; which ones follows from the seed. */
  readonly wrongLabelsRatio?: number;
}

/** What a group of clients pays, and the least that it could. */
export interface GroupFigures extends Figures {
  readonly clients: number;
  readonly optimal: Figures;
}

export interface MappingFigures extends Figures {
  /** The best site for each client, by the matrix. */
  readonly optimal: Figures;
  /** The nearest site by the coordinates; without coordinates the one whose travel times to five landmarks are most alike. */
  readonly nearest: Figures;
  readonly random: Figures;
  /** Share of clients that are sent to a site more than 10 ms slower than their best one, 0..1. */
  readonly worse10ms: number;
  /** The same apart for client networks that were measured and that were not; each is absent when it has no client. */
  readonly measured?: GroupFigures;
  readonly unmeasured?: GroupFigures;
}

export interface MappingEvaluation {
  readonly figures: MappingFigures;
  readonly clients: number;
  /** Client networks that were skipped because the matrix has no time from them to any site. */
  readonly skipped: number;
  readonly samples: number;
}

/** Throws RangeError when the matrix has too few cities for the sites, or no client can reach any. */
export function evaluateMapping(matrix: RttMatrix, options: MappingOptions): MappingEvaluation {
  if (options.sites >= matrix.size)
    throw new RangeError(
      `${options.sites} sites leave no client among the ${matrix.size} cities of the matrix`,
    );
  const sites = chooseSites(matrix, options.sites, options.seed);
  const isSite = new Set(sites);
  const cities = Array.from({ length: matrix.size }, (_, index) => index).filter(
    (index) => !isSite.has(index),
  );
  const clients = cities.filter((city) => sites.some((site) => !Number.isNaN(matrix.rttMs(city, site))));
  if (clients.length === 0) throw new RangeError("the matrix has no time from any client to any site");

  const unmeasured = drawn(clients, options.unmeasuredRatio ?? 0, options.seed, "unmeasured");
  const labels = labelsOf(matrix, clients, options);
  const trial = new MappingTrial({ matrix, sites, clients, labels, unmeasured });
  const chosen = trial.decide(trial.measure(matrix, options, START));
  const random = new Random(options.seed).split("random-choice");
  const paid: Record<"chosen" | "optimal" | "nearest" | "random", number[]> = {
    chosen: [],
    optimal: [],
    nearest: [],
    random: [],
  };
  for (const client of clients) {
    const reachable = sites.filter((site) => !Number.isNaN(matrix.rttMs(client, site)));
    const cost = (site: number): number => matrix.rttMs(client, site);
    paid.optimal.push(Math.min(...reachable.map(cost)));
    // A choice that the matrix has no time for cannot be paid; it counts as the worst that is known.
    const worst = Math.max(...reachable.map(cost));
    const chosenCost = cost(chosen.get(client) as number);
    paid.chosen.push(Number.isNaN(chosenCost) ? worst : chosenCost);
    paid.nearest.push(cost(nearestSite({ ...matrix, coordinates: labels }, client, sites, reachable)));
    paid.random.push(cost(random.pick(reachable)));
  }
  const group = (isIn: (client: number) => boolean): GroupFigures | undefined => {
    const those = [...clients.keys()].filter((n) => isIn(clients[n] as number));
    if (those.length === 0) return undefined;
    const of = (values: readonly number[]): Figures => figures(those.map((n) => values[n] as number));
    return { clients: those.length, ...of(paid.chosen), optimal: of(paid.optimal) };
  };
  const measuredFigures = group((client) => !unmeasured.has(client));
  const unmeasuredFigures = group((client) => unmeasured.has(client));
  const worse = paid.chosen.filter((rtt, index) => rtt > (paid.optimal[index] as number) + WORSE_MS);
  return {
    figures: {
      ...figures(paid.chosen),
      optimal: figures(paid.optimal),
      nearest: figures(paid.nearest),
      random: figures(paid.random),
      worse10ms: Math.round((worse.length / clients.length) * 1e5) / 1e5,
      ...(measuredFigures && { measured: measuredFigures }),
      ...(unmeasuredFigures && { unmeasured: unmeasuredFigures }),
    },
    clients: clients.length,
    skipped: cities.length - clients.length,
    samples: (clients.length - unmeasured.size) * options.probes * PINGS,
  };
}

/** A share of the clients, to the nearest whole number; another share of the same seed holds or is held by it. */
export function drawn(clients: readonly number[], ratio: number, seed: number, what: string): Set<number> {
  return new Set(
    new Random(seed)
      .split(what)
      .shuffle(clients)
      .slice(0, Math.round(ratio * clients.length)),
  );
}

/** Where the labels say that the cities are: some clients stand where another city of the matrix is. */
function labelsOf(
  matrix: RttMatrix,
  clients: readonly number[],
  { wrongLabelsRatio = 0, seed }: MappingOptions,
): (Coordinates | null)[] | null {
  if (matrix.coordinates === null) {
    if (wrongLabelsRatio > 0) throw new RangeError("the matrix has no places that could be wrong");
    return null;
  }
  const labels = [...matrix.coordinates];
  const random = new Random(seed).split("wrong-places");
  for (const client of drawn(clients, wrongLabelsRatio, seed, "wrong-labels"))
    labels[client] = matrix.coordinates[(client + 1 + random.int(matrix.size - 1)) % matrix.size] ?? null;
  return labels;
}

/** Landmarks of the baseline for data without coordinates (Ratnasamy et al., "Topologically-aware overlay construction", INFOCOM 2002). */
const LANDMARKS = 5;

function nearestSite(
  matrix: RttMatrix,
  client: number,
  sites: readonly number[],
  reachable: readonly number[],
): number {
  const { coordinates } = matrix;
  const landmarks = sites.filter((_, index) => index % Math.ceil(sites.length / LANDMARKS) === 0);
  const distance = (site: number): number => {
    const here = coordinates?.[client];
    const there = coordinates?.[site];
    if (coordinates !== null)
      // A city without a place is nowhere near.
      return here && there ? greatCircleKm(here, there) : Infinity;
    return landmarks.reduce((sum, landmark) => {
      const difference = matrix.rttMs(client, landmark) - matrix.rttMs(site, landmark);
      return Number.isNaN(difference) ? sum : sum + difference * difference;
    }, 0);
  };
  let best = reachable[0] as number;
  for (const site of reachable) if (round(distance(site)) < round(distance(best))) best = site;
  return best;
}
