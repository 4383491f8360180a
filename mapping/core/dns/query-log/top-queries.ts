/** Who asks most, and for what: names, names that do not exist by the name above them, and networks of resolvers, of the last minute or two. */
import { array, integer, number, object, type Parsed, string } from "#kit";
import { parentText } from "../name.ts";
import { HeavyHitters, type HeavyHittersFigures } from "./heavy-hitters.ts";
import { type AddressCut, cutAddress, nameTextOf } from "./query-record.ts";
import type { SampledQuery } from "./query-ring.ts";

export const topLists = ["names", "missing", "resolvers"] as const;
export type TopList = (typeof topLists)[number];

export const topEntriesMax = 100;
const KEY_CHARACTERS_MAX = 1_024;

const figures = object({
  total: integer({ min: 0 }),
  missedMax: integer({ min: 0 }),
  entries: array(object({ key: string({ max: KEY_CHARACTERS_MAX }), count: integer({ min: 1 }) }), {
    max: topEntriesMax,
  }),
});
/** What one server tells of its last minute or two; counts are of queries that were looked at, one in `oneIn`. */
export const topFigures = object({
  oneIn: integer({ min: 1 }),
  /** How long the counts reach back. */
  seconds: number({ min: 0 }),
  lists: object({ names: figures, missing: figures, resolvers: figures }),
});
export type TopFigures = Parsed<typeof topFigures>;

/** Keys that are kept of each list: 1 in 500 of the queries is found for certain. */
const KEPT = 500;
const WINDOW_MS = 60_000;

type Window = Readonly<Record<TopList, HeavyHitters>>;
const newWindow = (): Window => ({
  names: new HeavyHitters(KEPT),
  missing: new HeavyHitters(KEPT),
  resolvers: new HeavyHitters(KEPT),
});

/** This window and the one before, so that a figure never stands on the beginning of a window alone. */
export class TopQueries {
  readonly #oneIn: number;
  readonly #cut: AddressCut;
  #window: Window = newWindow();
  #before: Window | undefined;
  #beganMs: number;

  constructor(oneIn: number, cut: AddressCut, nowMs: number) {
    this.#oneIn = oneIn;
    this.#cut = cut;
    this.#beganMs = nowMs;
  }

  handleQuery(query: SampledQuery, nowMs: number): void {
    this.#turn(nowMs);
    const name = nameTextOf(query);
    if (query.reason === "no-such-name" && name !== null) {
      // A flood of random names has one name above them; each by itself is asked for once.
      this.#window.missing.add(`*.${parentText(name) ?? ""}`);
    } else if (name !== null) this.#window.names.add(name);
    this.#window.resolvers.add(cutAddress(query.family, query.words, this.#cut));
  }

  figures(nowMs: number): TopFigures {
    this.#turn(nowMs);
    const of = (list: TopList): HeavyHittersFigures => {
      const sum = new HeavyHitters(KEPT);
      sum.absorb(this.#window[list].figures(KEPT));
      if (this.#before !== undefined) sum.absorb(this.#before[list].figures(KEPT));
      return sum.figures(topEntriesMax);
    };
    const seconds = (nowMs - this.#beganMs + (this.#before === undefined ? 0 : WINDOW_MS)) / 1_000;
    return {
      oneIn: this.#oneIn,
      seconds,
      lists: { names: of("names"), missing: of("missing"), resolvers: of("resolvers") },
    };
  }

  #turn(nowMs: number): void {
    const windows = Math.floor((nowMs - this.#beganMs) / WINDOW_MS);
    if (windows <= 0) return;
    this.#before = windows === 1 ? this.#window : undefined;
    this.#window = newWindow();
    this.#beganMs += windows * WINDOW_MS;
  }
}

/** The sum of what several processes tell; undefined: nobody tells anything. */
export function sumOfTop(all: readonly TopFigures[]): TopFigures | undefined {
  const first = all[0];
  if (first === undefined) return undefined;
  const sumOf = (list: TopList): HeavyHittersFigures => {
    const sum = new HeavyHitters(KEPT);
    for (const { lists } of all) sum.absorb(lists[list]);
    return sum.figures(topEntriesMax);
  };
  return {
    oneIn: first.oneIn,
    seconds: Math.max(...all.map(({ seconds }) => seconds)),
    lists: { names: sumOf("names"), missing: sumOf("missing"), resolvers: sumOf("resolvers") },
  };
}
