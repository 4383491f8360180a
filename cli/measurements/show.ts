/** What the mapper keeps of one pair, for people. */
import { array, integer, nullable, number, object, type Parsed, string } from "#kit";
import { formatTable } from "../table.ts";
import { UsageError } from "../usage.ts";
import { askFirst, askMapper, mappersOf, parseAnswer } from "./mapper.ts";

/** `isochrone measurements show FROM TO`. Throws {@link UsageError}: exit code 1 when nothing is kept of the pair. */
export async function show(
  names: readonly string[],
  values: {
    readonly span?: string;
    readonly mapper?: string;
    readonly state?: string;
    readonly json?: boolean;
  },
): Promise<number> {
  const [from, to, ...more] = names;
  if (from === undefined || to === undefined || more.length > 0)
    throw new UsageError("show takes FROM and TO; see --help");
  const query = new URLSearchParams({ from, to, ...(values.span !== undefined && { span: values.span }) });
  const { mapper, status, body } = await askFirst(mappersOf(values.mapper, values.state), async (one) => ({
    mapper: one,
    ...(await askMapper(one, `/.isochrone/measurements?${query}`, {})),
  }));
  if (status === 400 || status === 404) {
    const { error } = object({ error: string() }).parse(body);
    throw new UsageError(error, status === 400 ? 2 : 1);
  }
  const found = parseAnswer(mapper, status, () => pairMeasurements.parse(body));
  console.log(values.json === true ? JSON.stringify(found) : formatPair(found, Date.now()));
  return 0;
}

const count = integer();
const rtts = array(nullable(number({ min: 0, unit: "ms" })), { min: 3, max: 3 });
const pairMeasurements = object({
  from: string(),
  to: string(),
  spanMs: count,
  quantiles: array(number(), { min: 3, max: 3 }),
  figures: object({ rttMs: rtts, answered: count, lost: count, ageMs: number({ min: 0 }), agents: count }),
  provenance: array(
    object({ source: string(), method: string(), agent: string(), samples: count, newestAt: count }),
    { max: 100_000 },
  ),
  windows: array(object({ at: count, answered: count, lost: count, rttMs: rtts })),
});

function formatPair(found: Parsed<typeof pairMeasurements>, nowEpochMs: number): string {
  const { from, to, figures, provenance, windows } = found;
  const ms = (value: number | null): string => (value === null ? "-" : value.toFixed(2));
  const row = (name: string, of: Pick<typeof figures, "answered" | "lost" | "rttMs">): string[] => [
    name,
    ...of.rttMs.map(ms),
    String(of.answered),
    String(of.lost),
  ];
  const header = ["from on", "p25 ms", "p50 ms", "p75 ms", "answered", "lost"];
  const all = row("all", figures);
  return [
    `${from} to ${to}: newest sample ${Math.round(figures.ageMs / 1_000)} s old, by ${figures.agents} agents`,
    formatTable(header, [
      ...windows.map((one) => row(new Date(one.at).toISOString().slice(0, 16), one)),
      all,
    ]),
    "",
    formatTable(
      ["source", "method", "agent", "samples", "newest"],
      provenance.map(({ source, method, agent, samples, newestAt }) => [
        source,
        method,
        agent,
        samples,
        `${Math.max(0, Math.round((nowEpochMs - newestAt) / 1_000))} s ago`,
      ]),
    ),
  ].join("\n");
}
