/** What a week of measurements takes in the store, how fast it takes them, and what its compaction costs in truth. */
import { parseArgs } from "node:util";
import { epochMs, quantile, Random, summary as summaryOf } from "#kit";
import { MeasurementStore, noiseDefaults, noisySample } from "#mapping";
import { describeCommit, describeMachine } from "./tools/machine.ts";

export const summary =
  "the measurement store: bytes of a week of samples, samples a second, error of its quantiles";

const HELP = `Usage: npm run bench -- measurements [options]

${summary}

  --pairs N      pairs that are measured, 100..100000 (default: 10000)
  --seconds N    from one sample of a pair to the next, 10..3600 (default: 240, as RIPE Atlas anchors do)
`;

const WEEK_MS = 7 * 86_400_000;
const START = 1_700_000_000_000;
/** Pairs of which every sample is kept besides, to compare with. */
const EXACT_PAIRS = 50;
const QUANTILES = [0.1, 0.25, 0.5, 0.75, 0.9];
const SPANS = { hour: 3_600_000, sixHours: 21_600_000, day: 86_400_000, week: WEEK_MS };
const QUERIES = 20_000;

export function main(argv: readonly string[]): number {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      pairs: { type: "string" },
      seconds: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  const pairs = Number(values.pairs ?? 10_000);
  const intervalMs = Number(values.seconds ?? 240) * 1_000;
  if (
    !(
      Number.isSafeInteger(pairs) &&
      pairs >= 100 &&
      pairs <= 100_000 &&
      intervalMs >= 10_000 &&
      intervalMs <= 3.6e6
    )
  ) {
    console.error("measurements: --pairs wants 100..100000, --seconds 10..3600; see --help");
    return 2;
  }
  console.log(JSON.stringify(measure(pairs, intervalMs), undefined, 2));
  return 0;
}

function measure(pairs: number, intervalMs: number) {
  const random = new Random(1);
  const names = Array.from({ length: pairs }, (_, n) => ({ from: `net-${n >> 3}`, to: `edge-${n & 7}` }));
  const base = names.map(() => 5 + random.float() * 250);
  // Drawn beforehand: the store is measured, not the generator.
  const noise = Float64Array.from(
    { length: 1 << 20 },
    () => noisySample(1, 0.01, random, noiseDefaults) ?? NaN,
  );
  const exact = names.slice(0, EXACT_PAIRS).map((): { at: number; rttMs: number }[] => []);
  globalThis.gc?.();
  const rssBefore = process.memoryUsage.rss();
  const store = new MeasurementStore({ seriesMax: pairs });
  let samples = 0;
  const began = process.cpuUsage();
  for (let at = START; at < START + WEEK_MS; at += intervalMs)
    for (const [n, { from, to }] of names.entries()) {
      const extraMs = noise[(samples++ * 7 + n) & (noise.length - 1)] as number;
      const rttMs = Number.isNaN(extraMs) ? null : Math.max(0.5, (base[n] as number) + extraMs);
      // Probes do not all fire at once.
      const sentAt = epochMs(at + ((n * 7_919) % intervalMs));
      const of = { from, to, source: "probe", method: "icmp", agent: "bench", at: sentAt, rttMs } as const;
      if (store.handleSample(of, sentAt) !== undefined) throw new Error(`refused: ${JSON.stringify(of)}`);
      if (rttMs !== null) exact[n]?.push({ at: sentAt, rttMs });
    }
  const { user, system } = process.cpuUsage(began);
  globalThis.gc?.();
  const rssBytes = process.memoryUsage.rss() - rssBefore;
  const now = epochMs(START + WEEK_MS);
  const queriesBegan = process.cpuUsage();
  for (let n = 0; n < QUERIES; n++) {
    const { from, to } = names[n % pairs] as { from: string; to: string };
    if (store.figures(from, to, { spanMs: SPANS.sixHours, quantiles: [0.25] }, now) === undefined)
      throw new Error(`nothing is known of ${from} ${to}`);
  }
  const queries = process.cpuUsage(queriesBegan);
  return {
    machine: describeMachine(),
    commit: describeCommit(),
    pairs,
    intervalSeconds: intervalMs / 1_000,
    samples,
    cpuMicrosecondsPerSample: (user + system) / samples,
    windowBytes: store.bytes,
    windowBytesPerPair: store.bytes / pairs,
    rssBytes,
    rawBytes: samples * 16,
    cpuMicrosecondsPerQuery: (queries.user + queries.system) / QUERIES,
    relativeError: errors(store, names, exact, now),
  };
}

/** |stored / exact - 1| over the pairs, by span and quantile. */
function errors(
  store: MeasurementStore,
  names: readonly { readonly from: string; readonly to: string }[],
  exact: readonly (readonly { readonly at: number; readonly rttMs: number }[])[],
  now: ReturnType<typeof epochMs>,
) {
  return Object.entries(SPANS).map(([span, spanMs]) => {
    const { windowMs } = spanMs <= SPANS.sixHours ? { windowMs: 600_000 } : { windowMs: 3_600_000 };
    const since = Math.ceil((now - spanMs) / windowMs) * windowMs;
    const found = exact.map((all, n) => {
      const { from, to } = names[n] as { from: string; to: string };
      const sorted = all.flatMap(({ at, rttMs }) => (at >= since ? rttMs : [])).sort((a, b) => a - b);
      const stored = store.figures(from, to, { spanMs, quantiles: QUANTILES }, now)?.rttMs ?? [];
      return QUANTILES.map((q, at) => Math.abs((stored[at] ?? NaN) / quantile(sorted, q) - 1));
    });
    const byQuantile = QUANTILES.map((q, at) => {
      const { mean, max } = summaryOf(found.map((one) => one[at] ?? NaN));
      return { quantile: q, mean, max };
    });
    return { span, byQuantile };
  });
}
