/** `isochrone where`: which servers a client is sent to, and the score terms that decided. */
import { parseArgs } from "node:util";
import { ParseError } from "#kit";
import { readWorldText, systemClock } from "#kit/io";
import { parseWorld } from "#kit/world";
import { type EstimateReport, estimateReport } from "../mapping/core/estimate-report.ts";
import { explainWhere, type WhereReport, whereReport } from "../mapping/core/where.ts";
import { measuredContext } from "../mapping/main-dns.ts";
import { type PolicyReport, policyReport } from "../mapping/core/policy/explain.ts";
import { askFirst, askMapper, mappersOf, parseAnswer } from "./measurements/mapper.ts";
import { formatPolicy } from "./policy/format.ts";
import { findRunningWorld } from "./runtime.ts";
import { formatTable } from "./table.ts";
import { askServer } from "./ask-server.ts";
import { UsageError } from "./usage.ts";

const help = `Usage: isochrone where NAME ADDRESS [--resolver] [--json] [--server URL | --world FILE] [--mapper URL] [--state DIR]

Tells which servers a client at ADDRESS (or in a prefix, as a client subnet would say it) gets for
NAME, and why: client network, every cluster that was considered with its score terms, the servers
with their liveness, and for how wide a prefix the answer holds. With --resolver the address is
that of a resolver that tells no client subnet: if enough is known of the clients behind it, the answer is
the one that is best for them.

Of a name that a customer's policy decides: the steps of its rule, and each target with its state and how often
it comes first.

Then how a request goes on by the same map: the parents of that cluster for the property, and the paths
to its origin, each with its terms and the runners-up.

In a running world its mapper tells on what each travel time rests: measured of this network, remembered from the
map before a restart, or borrowed, and from whom; and each addend of the score for the winner and the runners-up. A
cluster that was passed over costs in the map at least what the chosen one does. With --mapper URL that mapper is asked.

Asks a name server of the running world; with --server the one whose admin surface is at URL (token
in ISOCHRONE_CONTROL_TOKEN); with --world nobody: the map is measured from the world file here.

Exit code 0 explained, 1 there is nothing to explain (no such name, no name server answers).

Examples:
  isochrone where www.shop.example 198.18.0.1
  isochrone where www.shop.example 198.18.0.0/24 --json | jq '.candidates[].terms'
  isochrone where www.shop.example 198.18.0.1 --world deploy/worlds/demo.yaml`;

/** A report with what the mapper says of its figures; null: no mapper could be asked. */
export interface ExplainedReport extends WhereReport {
  readonly estimates: EstimateReport["estimates"] | null;
}

const LENDERS_SHOWN = 4;
const SCORES_SHOWN = 8;
const TIMEOUT_MS = 5_000;
/** A report lists every edge cluster; thousands fit. */

export interface WhereQuery {
  readonly name: string;
  /** An address, or a prefix such as "198.18.0.0/24". */
  readonly address: string;
  /** The address is a resolver's that tells no client subnet. */
  readonly isResolver?: boolean;
  /** `http://ADDRESS:PORT` of a name server's admin surface. */
  readonly adminUrl: string;
  readonly token: string;
}

type Asked = Required<Pick<WhereQuery, "name" | "address" | "isResolver">>;

/**
 * Asks one name server about a property's name. Throws {@link UsageError}: exit code 2 when name or address are wrong, 1 when the server
 * cannot be reached, refuses the token, or has nothing to explain.
 */
export async function where(query: WhereQuery): Promise<WhereReport> {
  const report = await ask(query);
  if ("policyId" in report)
    throw new UsageError(
      `${query.name} is decided by policy ${report.policyId}: isochrone where ${query.name} ${query.address}`,
      1,
    );
  return report;
}

/** The same, also about a name that a policy decides. */
async function ask({
  name,
  address,
  isResolver,
  adminUrl,
  token,
}: WhereQuery): Promise<WhereReport | PolicyReport> {
  const url = new URL("/.isochrone/where", adminUrl);
  url.searchParams.set("name", name);
  url.searchParams.set("address", address);
  if (isResolver === true) url.searchParams.set("resolver", "1");
  const who = `the name server at ${adminUrl}`;
  const { status, body } = await askServer({ who, url, token, timeoutMs: TIMEOUT_MS });
  if (status !== 200) {
    const said =
      typeof body === "object" && body !== null && "error" in body ? String(body.error) : `status ${status}`;
    throw new UsageError(said, status === 400 ? 2 : 1);
  }
  try {
    const isOfPolicy = typeof body === "object" && body !== null && "policyId" in body;
    return isOfPolicy ? policyReport.parse(body) : whereReport.parse(body);
  } catch (error) {
    if (!(error instanceof ParseError)) throw error;
    throw new UsageError(
      `Cannot read the answer of ${adminUrl}: ${error.message}; is it a name server of this version?`,
      1,
    );
  }
}

/** The report for people. `nowEpochMs` is for the age of the map. */
export function formatWhere(report: ExplainedReport, nowEpochMs: number): string {
  const facts: [string, string][] = [
    ["property", `${report.propertyId} of ${report.customerId}, ${report.trafficClass}`],
    [
      "client network",
      report.clientNetworkId === null
        ? "none holds this address"
        : `${report.clientNetworkId}, by ${report.matchedPrefix}`,
    ],
    ...(report.resolver === null
      ? []
      : [
          [
            "resolver",
            `for the ${report.resolver.clientNetworks} client networks behind it, by ${report.resolver.weight} requests seen`,
          ] satisfies [string, string],
        ]),
    [
      "map",
      report.mapVersion === null
        ? "none yet"
        : `version ${report.mapVersion}${report.mapCreatedAtEpochMs === null ? "" : `, ${ageText(nowEpochMs - report.mapCreatedAtEpochMs)} old`}, made for: ${report.mapReason}`,
    ],
    [
      "answer",
      report.clusterId === null
        ? `none: ${report.reason}`
        : `${report.clusterId} (${report.city}): ${report.reason}`,
    ],
    ["valid", `${report.ttlSeconds} s, for everyone in the same /${report.scopePrefixLength}`],
  ];
  const width = Math.max(...facts.map(([title]) => title.length));
  const servers = report.servers.map((server) => [
    server.rank ?? "-",
    server.serverId,
    `${server.address}:${server.port}`,
    server.isUp ? "up" : "down",
  ]);
  const candidates = report.candidates.map(
    ({ clusterId, city, outcome, score, terms, serversUp, servers }) => [
      clusterId,
      city,
      outcome,
      score === null ? "-" : score.toFixed(1),
      terms === null ? "-" : terms.rttMs.toFixed(1),
      terms === null ? "-" : (terms.lossRatio * 100).toFixed(2),
      terms === null ? "-" : terms.load.toFixed(2),
      terms === null ? "-" : terms.confidence.toFixed(2),
      `${serversUp}/${servers}`,
    ],
  );
  return [
    `${report.name} for ${report.client}`,
    ...facts.map(([title, text]) => `  ${title.padEnd(width)}  ${text}`),
    "",
    formatTable(["answer", "server", "address", "state"], servers),
    "",
    formatTable(
      ["cluster", "city", "outcome", "score", "rtt ms", "loss %", "load", "confidence", "servers up"],
      candidates,
    ),
    ...scoreLines(report),
    ...basisLines(report.estimates),
    ...wayLines(report),
  ].join("\n");
}

/** What the scores of the first candidates are the sum of, as the map's maker has it now. */
function scoreLines({ estimates, candidates, trafficClass }: ExplainedReport): string[] {
  const known = new Map((estimates ?? []).map((one) => [one.clusterId, one.scores?.[trafficClass]]));
  const rows = candidates.slice(0, SCORES_SHOWN).flatMap(({ clusterId }) => {
    const found = known.get(clusterId);
    if (found === undefined) return [];
    const { terms, factor, isInService, score } = found;
    const { rtt, spread, loss, throughput, load, doubt, age, price } = terms;
    const addends = [rtt, spread, loss, throughput, load, doubt, age, price];
    return [
      [
        clusterId,
        ...addends.map((one) => one.toFixed(2)),
        `x ${factor}`,
        isInService ? score.toFixed(2) : `${score.toFixed(2)}, out of service`,
      ],
    ];
  });
  if (rows.length === 0) return [];
  const titles = ["rtt", "spread", "loss", "throughput", "load", "doubt", "age", "price"];
  return [
    "",
    formatTable(
      ["cluster", ...titles.map((title, n) => (n === 0 ? title : `+ ${title}`)), "weight", "= score"],
      rows,
    ),
  ];
}

/** On what the travel times of the map's maker rest now. */
function basisLines(estimates: ExplainedReport["estimates"]): string[] {
  if (estimates === null) return [];
  const rows = estimates.map((one) => [
    one.clusterId,
    one.rttMs.toFixed(1),
    one.source,
    one.samples === 0 ? "-" : one.samples,
    one.ageMs === null ? "-" : ageText(one.ageMs),
    one.lenders.length === 0 ? "-" : one.lenders.slice(0, LENDERS_SHOWN).join(" "),
    one.correctedBy === 0 ? "-" : one.correctedBy,
  ]);
  return [
    "",
    formatTable(["cluster", "rtt ms", "basis", "samples", "age", "borrowed from", "corrected by"], rows),
  ];
}

/** Parents and paths that the same map names, with what each figure rests on. */
function wayLines({ way, clusterId }: WhereReport): string[] {
  if (way === null) return [];
  const known = (isMeasured: boolean | null | undefined): string =>
    isMeasured === null || isMeasured === undefined ? "-" : isMeasured ? "measured" : "guessed";
  const parents = (way.tier?.parents ?? []).map(({ clusterId: parent, costMs, terms }) => [
    parent,
    costMs.toFixed(1),
    terms === undefined ? "-" : terms.toParentMs.toFixed(1),
    known(terms?.isToParentMeasured),
    typeof terms?.toOriginMs === "number" ? terms.toOriginMs.toFixed(1) : "-",
    known(terms?.isToOriginMeasured),
    ...[terms?.lossMs, terms?.ageMs, terms?.loadMs].map((ms) => (ms === undefined ? "-" : ms.toFixed(2))),
  ]);
  const paths = way.paths.flatMap(({ fromClusterId, toClusterId, candidates }) =>
    candidates.map((one, place) => [
      place === 0 ? fromClusterId : "",
      place === 0 ? toClusterId : "",
      one.via ?? "direct",
      one.rttMs.toFixed(1),
      (one.lossRatio * 100).toFixed(2),
      one.costMs === undefined ? "-" : one.costMs.toFixed(1),
      one.basis ?? "-",
    ]),
  );
  const origin = way.originClusterId ?? "an origin outside of the topology";
  return [
    "",
    way.tiering === "direct"
      ? `${clusterId} asks ${origin} itself`
      : `${clusterId} asks a parent for what ${origin} has; by the same map:`,
    ...(parents.length === 0
      ? []
      : [
          formatTable(
            ["parent", "cost ms", "= to parent", "", "+ to origin", "", "+ loss", "+ age", "+ load"],
            parents,
          ),
        ]),
    ...(paths.length === 0
      ? []
      : ["", formatTable(["from", "to", "path", "rtt ms", "loss %", "cost ms", "known"], paths)]),
  ];
}

function ageText(ms: number): string {
  const seconds = Math.max(0, ms) / 1_000;
  return seconds < 100 ? `${seconds.toFixed(1)} s` : `${Math.round(seconds / 60)} min`;
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      resolver: { type: "boolean" },
      json: { type: "boolean" },
      server: { type: "string" },
      mapper: { type: "string" },
      world: { type: "string" },
      state: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  const [name, address, ...rest] = positionals;
  if (name === undefined || address === undefined || rest.length > 0) {
    throw new UsageError("give a host name and a client's address: isochrone where NAME ADDRESS; see --help");
  }
  if (values.server !== undefined && values.world !== undefined) {
    throw new UsageError("give --server or --world, not both");
  }
  const asked: Asked = { name, address, isResolver: values.resolver ?? false };
  const found =
    values.world === undefined
      ? await askOne(asked, values.server, values.state)
      : explainAlone(asked, values.world);
  if ("policyId" in found) {
    console.log(values.json ? JSON.stringify(found, null, 2) : formatPolicy(found));
    return 0;
  }
  const estimates =
    // The mapper of another world would tell of networks of the same names.
    values.world !== undefined || (values.server !== undefined && values.mapper === undefined)
      ? null
      : await estimatesOf(found, values.mapper, values.state);
  const report: ExplainedReport = { ...found, estimates };
  console.log(values.json ? JSON.stringify(report, null, 2) : formatWhere(report, systemClock.epoch()));
  return 0;
}

/** Null when there is no client network, or no mapper that knows it; a mapper that was named must answer. */
async function estimatesOf(
  { clientNetworkId }: WhereReport,
  mapper: string | undefined,
  state: string | undefined,
): Promise<ExplainedReport["estimates"]> {
  if (clientNetworkId === null) return null;
  const query = new URLSearchParams({ network: clientNetworkId });
  try {
    return await askFirst(mappersOf(mapper, state), async (one) => {
      const { status, body } = await askMapper(one, `/.isochrone/estimates?${query}`, {});
      return parseAnswer(one, status, () => estimateReport.parse(body)).estimates;
    });
  } catch (error) {
    if (mapper !== undefined || !(error instanceof UsageError)) throw error;
    return null;
  }
}

/** The first name server that answers; one of them may be dead. */
async function askOne(
  asked: Asked,
  server: string | undefined,
  state: string | undefined,
): Promise<WhereReport | PolicyReport> {
  if (server !== undefined) {
    if (!URL.canParse(server) || !/^https?:/.test(server)) {
      throw new UsageError(`--server: got ${JSON.stringify(server)}, expected http://ADDRESS:PORT`);
    }
    const token = process.env["ISOCHRONE_CONTROL_TOKEN"];
    if (token === undefined || token === "") {
      throw new UsageError("--server needs the token in the environment variable ISOCHRONE_CONTROL_TOKEN");
    }
    return ask({ ...asked, adminUrl: server, token });
  }
  const world = findRunningWorld(state);
  if (world === undefined) {
    throw new UsageError(
      "No running world; start one with: isochrone up, or give --server URL or --world FILE",
      1,
    );
  }
  let last: unknown = new UsageError(`World "${world.world}" has no name server`, 1);
  for (const adminUrl of world.nameServerAdminUrls) {
    try {
      return await ask({ ...asked, adminUrl, token: world.token });
    } catch (error) {
      if (!(error instanceof UsageError) || error.exitCode === 2) throw error;
      last = error;
    }
  }
  throw last;
}

function explainAlone({ name, address, isResolver }: Asked, worldFile: string): WhereReport | PolicyReport {
  const world = parseWorld(readWorldText(worldFile), worldFile);
  const result = explainWhere(name, address, measuredContext(world), isResolver);
  if (result.ok) return result.report;
  if (result.reason === "policy") return result.policy;
  throw new UsageError(
    result.message,
    result.reason === "bad-name" || result.reason === "bad-address" ? 2 : 1,
  );
}
