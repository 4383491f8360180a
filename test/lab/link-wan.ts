/** `npm run lab -- link-wan`: what each carrier between two servers of ours gives over an emulated wide-area network with real TCP, and what it leaves others. */
import { writeFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { parseArgs } from "node:util";
import { quantile, Random } from "#kit";
import { UsageError } from "../../cli/usage.ts";
import { describeCommit, describeMachine } from "../bench/tools/machine.ts";
import { findProgram } from "../bench/tools/program.ts";
import { wholeNumber } from "../tools/flags.ts";
import { type CarrierName, carrierNames, CarrierWorld, NEAR } from "../wan/carrier-world.ts";
import type { Asked } from "../wan/carriers.ts";
import { type LinkOptions, type NetworkStats, whyNoNetwork } from "../wan/network.ts";
import { roundTrips } from "../wan/pings.ts";

export const summary =
  "carriers between two servers over distance and loss: UDP with repairs, link, HTTP, nginx; fairness";

const LINKS = {
  "96ms": { rttMs: 96, lossRatio: 0.014 },
  "48ms": { rttMs: 48, lossRatio: 0.01 },
  "16ms": { rttMs: 16, lossRatio: 0.007 },
  clean: { rttMs: 96, lossRatio: 0 },
  bursts: { rttMs: 96, lossRatio: 0.014, badPeriodMs: 10 },
} as const;
export type LinkName = keyof typeof LINKS;
const linkNames = Object.keys(LINKS) as LinkName[];

const HELP = `Usage: npm run lab -- link-wan [options]

${summary}.
Every carrier has a link of its own, of 100 Mbit/s; all are asked for the same at the same moments, whatever became of what was asked before. Kernels are set
as \`isochrone doctor\` does it. A cell in which the emulation delivered packets late is measured again, three times at most. Exit code 1: wrong
bytes came, or a cell stayed late. Needs root, network namespaces, a C compiler, nginx and ping.

  --parts LIST     of answers, bulk, fairness (default all)
  --links LIST     of 96ms (1.4 % lost), 48ms (1.0 %), 16ms (0.7 %), clean (96 ms, none), bursts (96 ms, 1.4 % in bursts of 10 ms) (default all)
  --carriers LIST  of ${carrierNames.join(", ")} (default all)
  --sizes LIST     of 10000, 100000, 1000000 bytes (default all)
  --seconds N      that a cell is asked, twice as long for 1 MB; 5 to 600 (default 30)
  --both-ways      requests are lost as well
  --seed N         of losses and moments (default 1)
  --out FILE       the JSON to a file too
  --help

Examples: npm run --silent lab -- link-wan --links 96ms,bursts --parts answers > wan.json
          npm run --silent lab -- link-wan --parts fairness
`;

const PARTS = ["answers", "bulk", "fairness"] as const;
const RATE_MBIT = 100;
/** Of a queue that holds what the path holds, at least so much. */
const QUEUE_BYTES_MIN = 100_000;
/** A second, of each size: 1.6, 6.4 and 10 Mbit/s. */
const REQUESTS_A_SECOND = { 10_000: 20, 100_000: 8, 1_000_000: 1.25 } as const;
type Size = keyof typeof REQUESTS_A_SECOND;
const SIZES = Object.keys(REQUESTS_A_SECOND).map(Number) as Size[];
const WARM_UP_SECONDS = 5;
/** What has not come by then counts as never. */
const TIMEOUT_MS = 20_000;
/** The emulation's own error that a cell may have: at worst, and for all but one packet of a thousand, us. */
const LATE_US_MAX = 5_000;
const LATE_SHARE_MAX = 0.001;
/** Of `NetworkStats`: its classes of lateness, us, from the one that is too late on. */
const LATE_CLASS = 3;
const ATTEMPTS = 3;
const BULK_SECONDS = 12;
const BULK_FROM_SECOND = 3;
const BULK_CARRIERS: readonly CarrierName[] = ["udp", "link-cubic", "link-bbr"];
const FAIR_MBIT = 20;
const FAIR_RTT_MS = 48;
const FAIR_SECONDS = 40;
/** Ours begins first; what both have from then on counts. */
const FAIR_LEAD_MS = 2_000;
const FAIR_FROM_SECOND = 10;
/** Of what the path holds. */
const FAIR_QUEUES = [0.5, 1, 4] as const;
const FAIR_OTHERS: readonly CarrierName[] = ["link-cubic", "link-bbr"];

interface Options {
  readonly links: readonly LinkName[];
  readonly carriers: readonly CarrierName[];
  readonly sizes: readonly Size[];
  readonly seconds: number;
  readonly isBothWays: boolean;
  readonly seed: number;
}

/** How far a cell can be believed. */
interface Lateness {
  readonly isLate: boolean;
  readonly lateUsMax: number;
  readonly lateUsMean: number;
  /** How much later than planned a program asked, ms. */
  readonly programsLateMsMax: number;
}

export interface AnswerRow {
  readonly link: LinkName;
  readonly bytes: number;
  readonly carrier: CarrierName;
  readonly count: number;
  /** Not whole within 20 s. */
  readonly late: number;
  /** ms; null: so many were late that there is none. */
  readonly p50: number | null;
  readonly p95: number | null;
  readonly p99: number | null;
}

export interface BulkRow {
  readonly link: LinkName;
  readonly carrier: CarrierName;
  readonly mbit: number;
}

export interface FairnessRow {
  readonly ours: CarrierName;
  readonly other: CarrierName;
  /** Of what the path holds. */
  readonly queue: number;
  /** What the other has of both, 0..1. */
  readonly otherShare: number;
  readonly mbit: number;
  /** How long packets waited in the queue, ms. */
  readonly queueMs: { readonly p50: number; readonly p95: number };
}

export interface LinkWanResult {
  readonly lab: "link-wan";
  readonly commit: string;
  readonly answers: readonly AnswerRow[];
  readonly bulk: readonly BulkRow[];
  readonly fairness: readonly FairnessRow[];
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}
const tenth = (value: number): number => Math.round(value * 10) / 10;
const hundredth = (value: number): number => Math.round(value * 100) / 100;

const productBytes = (mbit: number, rttMs: number): number => (mbit * 1_000 * rttMs) / 8;

function linkOf(name: LinkName): { down: LinkOptions; up: LinkOptions } {
  const { rttMs, ...loss } = LINKS[name];
  const up = {
    delayMs: rttMs / 2,
    rateMbit: RATE_MBIT,
    queueBytes: Math.max(QUEUE_BYTES_MIN, productBytes(RATE_MBIT, rttMs)),
  };
  return { up, down: { ...up, ...loss } };
}

function latenessOf(stats: NetworkStats, asked: Iterable<Asked>): Lateness {
  const { lateUsMax, lateUsMean, delivered } = stats;
  const late = stats.lateUnder50us200us1ms5ms20msMore
    .slice(LATE_CLASS)
    .reduce((sum, count) => sum + count, 0);
  return {
    isLate: lateUsMax > LATE_US_MAX || late > LATE_SHARE_MAX * delivered,
    lateUsMax,
    lateUsMean,
    programsLateMsMax: tenth(Math.max(0, ...Array.from(asked, ({ lateMsMax }) => lateMsMax))),
  };
}

/** Poisson arrivals, the same for all carriers. */
function moments(size: Size, seconds: number, seed: string): number[] {
  const random = new Random(seed);
  const atMs: number[] = [];
  for (let at = random.exponential(1_000 / REQUESTS_A_SECOND[size]); at < seconds * 1_000; ) {
    atMs.push(Math.round(at));
    at += random.exponential(1_000 / REQUESTS_A_SECOND[size]);
  }
  return atMs;
}

function answerRow(link: LinkName, bytes: Size, carrier: CarrierName, { ms }: Asked): AnswerRow {
  const times = ms.map((one) => one ?? Infinity).toSorted((a, b) => a - b);
  const at = (share: number): number | null => {
    const value = quantile(times, share);
    return Number.isFinite(value) ? tenth(value) : null;
  };
  const late = ms.filter((one) => one === null).length;
  return { link, bytes, carrier, count: ms.length, late, p50: at(0.5), p95: at(0.95), p99: at(0.99) };
}

class Lab {
  readonly #options: Options;
  readonly answers: AnswerRow[] = [];
  readonly bulk: BulkRow[] = [];
  readonly fairness: FairnessRow[] = [];
  readonly cells: (Lateness & { readonly cell: string })[] = [];
  readonly faults: string[] = [];

  constructor(options: Options) {
    this.#options = options;
  }

  /** Repeats a cell that was late. Whether it was in time at last. */
  async #inTime(
    world: CarrierWorld,
    cell: string,
    work: () => Promise<ReadonlyMap<CarrierName, Asked>>,
  ): Promise<ReadonlyMap<CarrierName, Asked>> {
    for (let attempt = 1; ; attempt++) {
      await world.network.stats(true);
      const asked = await work();
      const lateness = latenessOf(await world.network.stats(), asked.values());
      for (const [name, { failures }] of asked)
        for (const failure of failures) this.faults.push(`${cell}, ${name}: ${failure}`);
      if (lateness.isLate && attempt < ATTEMPTS) {
        say(`${cell}: packets late by up to ${lateness.lateUsMax} us, again`);
        continue;
      }
      this.cells.push({ cell, ...lateness });
      if (lateness.isLate) this.faults.push(`${cell}: packets late by up to ${lateness.lateUsMax} us`);
      return asked;
    }
  }

  async runLink(link: LinkName, parts: readonly string[]): Promise<void> {
    const { carriers, sizes, seconds, seed, isBothWays } = this.#options;
    const { down, up } = linkOf(link);
    const names = parts.includes("answers")
      ? carriers
      : carriers.filter((name) => BULK_CARRIERS.includes(name));
    const world = await CarrierWorld.start({ carriers: names, down, up: isBothWays ? down : up, seed });
    try {
      for (const bytes of parts.includes("answers") ? sizes : []) {
        const length = bytes === 1_000_000 ? 2 * seconds : seconds;
        const atMs = moments(bytes, WARM_UP_SECONDS + length, `${seed} ${link} ${bytes}`);
        const warmUp = atMs.filter((at) => at < WARM_UP_SECONDS * 1_000).length;
        const asked = await this.#inTime(world, `${link}, ${bytes} bytes`, () =>
          world.ask({ bytes, atMs, warmUp, timeoutMs: TIMEOUT_MS }),
        );
        for (const [name, one] of asked) {
          const row = answerRow(link, bytes, name, one);
          this.answers.push(row);
          say(`${link}, ${bytes} bytes, ${name}: ${row.p50} / ${row.p95} / ${row.p99} ms of ${row.count}`);
        }
      }
      // One after the other: three times 100 Mbit/s are too much for programs that share two processors.
      for (const name of parts.includes("bulk") ? BULK_CARRIERS.filter((one) => names.includes(one)) : []) {
        const asked = await this.#inTime(world, `${link}, bulk, ${name}`, () =>
          world.ask({ bulkSeconds: BULK_SECONDS }, [name]),
        );
        const mbit = mbitFrom(asked.get(name) as Asked, BULK_FROM_SECOND, BULK_SECONDS);
        this.bulk.push({ link, carrier: name, mbit: tenth(mbit) });
        say(`${link}, bulk, ${name}: ${mbit.toFixed(1)} Mbit/s`);
      }
    } finally {
      await world.stop();
    }
  }

  async runFairness(): Promise<void> {
    for (const other of FAIR_OTHERS) for (const queue of FAIR_QUEUES) await this.#share("udp", other, queue);
    // What kernels do to each other.
    await this.#share("link-bbr", "link-cubic", 1);
  }

  async #share(ours: CarrierName, other: CarrierName, queue: number): Promise<void> {
    const link = { delayMs: FAIR_RTT_MS / 2 };
    const { seed } = this.#options;
    const world = await CarrierWorld.start({ carriers: [ours, other], down: link, up: link, seed });
    try {
      // All that comes to the near host goes through one queue.
      const queueBytes = Math.round(queue * productBytes(FAIR_MBIT, FAIR_RTT_MS));
      await world.network.setAccess(NEAR, { downMbit: FAIR_MBIT, queueBytes });
      const cell = `fairness, ${ours} and ${other}, queue ${queue}`;
      let waits: readonly number[] = [];
      const asked = await this.#inTime(world, cell, async () => {
        const first = world.ask({ bulkSeconds: FAIR_SECONDS + FAIR_LEAD_MS / 1_000 }, [ours]);
        await pause(FAIR_LEAD_MS);
        const second = world.ask({ bulkSeconds: FAIR_SECONDS }, [other]);
        await pause(FAIR_FROM_SECOND * 1_000);
        const seen = await roundTrips(world.network, NEAR, ours, {
          count: (FAIR_SECONDS - FAIR_FROM_SECOND - 2) * 20,
          intervalMs: 50,
        });
        waits = seen.map((ms) => ms - FAIR_RTT_MS);
        return new Map([...(await first), ...(await second)]);
      });
      const lead = FAIR_LEAD_MS / 1_000;
      const mine = mbitFrom(asked.get(ours) as Asked, FAIR_FROM_SECOND + lead, FAIR_SECONDS + lead);
      const theirs = mbitFrom(asked.get(other) as Asked, FAIR_FROM_SECOND, FAIR_SECONDS);
      const sorted = waits.toSorted((a, b) => a - b);
      const row = {
        ours,
        other,
        queue,
        otherShare: hundredth(theirs / (mine + theirs)),
        mbit: tenth(mine + theirs),
        queueMs: { p50: tenth(quantile(sorted, 0.5)), p95: tenth(quantile(sorted, 0.95)) },
      };
      this.fairness.push(row);
      say(
        `${cell}: the other has ${row.otherShare} of ${row.mbit} Mbit/s, ${row.queueMs.p50} / ${row.queueMs.p95} ms wait`,
      );
    } finally {
      await world.stop();
    }
  }
}

/** What came from a second on, Mbit/s. */
function mbitFrom({ seconds }: Asked, from: number, to: number): number {
  const bytes = seconds.slice(from, to).reduce((sum, each) => sum + each, 0);
  return (bytes * 8) / 1e6 / (to - from);
}

/** What the carriers promise, and what was seen; of what was not measured nothing. */
function goalsOf({ answers, bulk, fairness }: Pick<Lab, "answers" | "bulk" | "fairness">) {
  const goals: { goal: string; seen: number | null; most?: number; least?: number; isReached: boolean }[] =
    [];
  const most = (goal: string, seen: number | null, limit: number): void => {
    goals.push({ goal, seen, most: limit, isReached: seen !== null && seen <= limit });
  };
  const least = (goal: string, seen: number, limit: number): void => {
    goals.push({ goal, seen, least: limit, isReached: seen >= limit });
  };
  const far = { 10_000: { p95: 110, p99: 130 }, 100_000: { p95: 135 }, 1_000_000: { p50: 300, p95: 400 } };
  for (const row of answers.filter((one) => one.carrier === "udp" || one.carrier.startsWith("choice-"))) {
    const cell = `${row.carrier}, ${row.link}, ${row.bytes} bytes`;
    if (row.link === "96ms")
      for (const [name, limit] of Object.entries(far[row.bytes as Size]))
        most(`${cell}, ${name}`, row[name as "p50"], limit);
    const others = answers.filter(
      ({ link, bytes, carrier }) => link === row.link && bytes === row.bytes && carrier.startsWith("link-"),
    );
    for (const name of ["p50", "p95", "p99"] as const) {
      const best = Math.min(...others.map((other) => other[name] ?? Infinity));
      if (!Number.isFinite(best)) continue;
      if (row.link === "bursts") most(`${cell}, ${name}, as the better link over TCP`, row[name], best);
      if (row.link === "clean")
        most(`${cell}, ${name}, as the better link over TCP and 5 %`, row[name], tenth(best * 1.05));
    }
  }
  for (const { link, carrier, mbit } of bulk)
    if (carrier === "udp") least(`${link}, bulk, Mbit/s`, mbit, 0.9 * RATE_MBIT);
  for (const { ours, other, queue, otherShare } of fairness)
    if (ours === "udp") least(`share of ${other} beside it, queue ${queue}`, otherShare, 0.4);
  return goals;
}

function listOf<T extends string>(name: string, text: string | undefined, known: readonly T[]): readonly T[] {
  if (text === undefined) return known;
  const asked = text.split(",");
  const bad = asked.find((one) => !(known as readonly string[]).includes(one));
  if (bad !== undefined)
    throw new UsageError(`--${name}: got ${JSON.stringify(bad)}, expected some of ${known.join(", ")}`);
  return known.filter((one) => asked.includes(one));
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      parts: { type: "string" },
      links: { type: "string" },
      carriers: { type: "string" },
      sizes: { type: "string" },
      seconds: { type: "string", default: "30" },
      "both-ways": { type: "boolean", default: false },
      seed: { type: "string", default: "1" },
      out: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const parts = listOf("parts", values.parts, PARTS);
  const options: Options = {
    links: listOf("links", values.links, linkNames),
    carriers: listOf("carriers", values.carriers, carrierNames),
    sizes: listOf("sizes", values.sizes, SIZES.map(String)).map(Number) as Size[],
    seconds: wholeNumber("seconds", values.seconds, 5, 600),
    isBothWays: values["both-ways"],
    seed: wholeNumber("seed", values.seed, 0, 2 ** 31),
  };
  const reason =
    whyNoNetwork() ?? (findProgram("nginx") === undefined ? "nginx is not installed" : undefined);
  if (reason !== undefined) throw new Error(`Carriers cannot be compared here: ${reason}`);
  const lab = new Lab(options);
  if (parts.includes("answers") || parts.includes("bulk"))
    for (const link of options.links) await lab.runLink(link, parts);
  if (parts.includes("fairness")) await lab.runFairness();
  const { answers, bulk, fairness, cells, faults } = lab;
  const result = {
    lab: "link-wan" as const,
    date: new Date().toISOString(),
    commit: describeCommit(),
    machine: describeMachine(),
    options,
    goals: goalsOf(lab),
    answers,
    bulk,
    fairness,
    cells,
    faults,
  } satisfies LinkWanResult & Record<string, unknown>;
  const text = `${JSON.stringify(result, undefined, 1)}\n`;
  process.stdout.write(text);
  if (values.out !== undefined) writeFileSync(values.out, text);
  return faults.length === 0 ? 0 : 1;
}
