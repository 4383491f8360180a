/** `isochrone explain`: what each tier would do with a URL, and over which path it would ask the next. */
import { parseArgs } from "node:util";
import { formatAddress, parseAddress, parsePrefix } from "#kit";
import { type FormExplanation, parseReference, type RuleExplanation } from "#edge";
import type { CandidateReport, PathExplanation, UdpExplanation } from "#transport";
import { explainReference } from "./explain-reference.ts";
import { row, rulingLines } from "./ruling.ts";
import { requireRunningWorld } from "./runtime.ts";
import { formatTable } from "./table.ts";
import { askAdmin } from "./up/admin.ts";
import { askServer } from "./ask-server.ts";
import { UsageError } from "./usage.ts";
import { where } from "./where.ts";
import type { WorldDescription } from "./world.ts";

/** A server of an older version does not say what it asks by. */
type ToldPath = Omit<PathExplanation, "protocol" | "link"> &
  Partial<Pick<PathExplanation, "protocol" | "link">>;

const help = `Usage: isochrone explain URL [--from CITY | --server ID] [--method M] [--header LINE]...
                              [--json] [--state DIR]
       isochrone explain REFERENCE [--json] [--state DIR]

Follows a request for URL through the running world without sending it: the edge that a client in
CITY (a city, client network or address) is sent to, and tier by tier the property, key, what is
stored, in which form it goes out and why in no better one, hit or forward and why, which rules
hold and what the others fail at, and the path to the next tier with its measured cost beside the
direct one's. Of a REFERENCE, as an error page shows it, what each server that remembers the
request knows (the last 1,000 failures of each).

Examples:
  isochrone explain http://app.shop.example/ --from "Rio de Janeiro"
  isochrone explain http://www.shop.example/ --server fra-1 --json | jq .hops
  isochrone explain http://app.shop.example/app.js --header "Accept-Encoding: br, gzip"
  isochrone explain fra-1.Xy12ab340007`;

const TIMEOUT_MS = 15_000;

interface ForwardsExplanation {
  readonly active: number;
  readonly activeMax: number;
  readonly shedReason: string | null;
}

interface OriginsExplanation {
  readonly group: string;
  readonly servers: readonly {
    readonly name: string;
    readonly protocol: string;
    readonly priority: number;
    readonly weight: number;
    readonly rampRatio: number;
    readonly bar: string | null;
    readonly barredForMs: number | null;
    readonly check: string;
    readonly breaker: string;
    readonly ejection: string | null;
    readonly active: number;
    readonly requestsMax: number | null;
    readonly recentRequests: number;
    readonly recentFailures: number;
  }[];
}

/** What one server answers (edge/io/admin.ts), as far as this command reads it. */
interface TierExplanation extends Partial<RuleExplanation> {
  readonly serverId: string;
  readonly tier: number;
  /** Of the map that it goes by; null: none. */
  readonly mapVersion?: number | null;
  readonly property: string | null;
  readonly decision: { readonly action: string; readonly reason: string };
  readonly stored?: {
    readonly state: string;
    readonly ageSeconds: number;
    readonly lifetimeSeconds: number;
  } | null;
  readonly form?: FormExplanation | null;
  readonly forwards?: ForwardsExplanation;
  readonly owner?: string | null;
  readonly origins?: OriginsExplanation | null;
  readonly nextHop?: { readonly kind: string; readonly name: string; readonly path: ToldPath } | null;
  readonly next?: TierExplanation | { readonly error: string } | null;
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      from: { type: "string" },
      server: { type: "string" },
      method: { type: "string" },
      header: { type: "string", multiple: true },
      json: { type: "boolean" },
      state: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  const [only] = positionals;
  if (only !== undefined && positionals.length === 1 && parseReference(only) !== undefined)
    return await explainReference(only, { state: values.state, isJson: values.json ?? false });
  const url = parseUrl(positionals);
  const running = requireRunningWorld(values.state);
  const world = (await askAdmin(running.adminSocket, "/world")) as WorldDescription;
  const client = values.server === undefined ? clientOf(world, values.from) : undefined;
  const answer =
    client === undefined
      ? undefined
      : await askNameServers(running.nameServerAdminUrls, {
          name: url.hostname,
          address: client.address,
          token: running.token,
        });
  const serverId = values.server ?? answer?.servers.find((one) => one.rank === 1)?.serverId;
  const server = world.sites.flatMap((site) => site.servers).find((one) => one.id === serverId);
  if (server === undefined) {
    throw new UsageError(
      serverId === undefined
        ? `No server answers for ${url.hostname}`
        : `No server ${JSON.stringify(serverId)}; \`isochrone status\` lists them`,
      serverId === undefined ? 1 : 2,
    );
  }
  const edge = await askEdge(server, running.token, [
    ["url", url.href],
    ...(values.method === undefined ? [] : [["method", values.method]]),
    ...(values.header ?? []).map((line) => ["header", line]),
    ...(client === undefined ? [] : [["address", client.address]]),
  ]);
  const hops = hopsOf(edge);
  if (values.json)
    console.log(
      JSON.stringify({ url: url.href, client: client ?? null, answer: answer ?? null, hops, edge }, null, 2),
    );
  else {
    if (client !== undefined)
      console.log(
        `${client.city} (${client.address}) is sent to ${server.id}: ${answer?.reason}, map ${answer?.mapVersion ?? "none"}\n`,
      );
    console.log(describe(edge));
  }
  return 0;
}

function parseUrl(positionals: readonly string[]): URL {
  const [text] = positionals;
  if (
    text === undefined ||
    positionals.length > 1 ||
    !URL.canParse(text) ||
    !/^https?:$/.test(new URL(text).protocol)
  ) {
    throw new UsageError(
      `expected one http or https URL, got ${positionals.length === 0 ? "none" : JSON.stringify(positionals.join(" "))}`,
    );
  }
  return new URL(text);
}

/** A client network by city or id, or any address; without `from` the first client network of the world. */
function clientOf(
  world: WorldDescription,
  from: string | undefined,
): { readonly city: string; readonly address: string } {
  const address = from === undefined ? undefined : parseAddress(from);
  if (address !== undefined) return { city: "a client", address: formatAddress(address) };
  const wanted = from?.toLowerCase();
  const network = world.clientNetworks.find(
    (one) => wanted === undefined || one.city.toLowerCase() === wanted || one.id === wanted,
  );
  const prefix = parsePrefix(network?.prefixes[0] ?? "");
  if (network === undefined || prefix === undefined) {
    const known = world.clientNetworks.map((one) => one.city).join(", ");
    throw new UsageError(`--from: got ${JSON.stringify(from)}, expected an address or one of ${known}`);
  }
  return { city: network.city, address: formatAddress(prefix.address) };
}

/** The first name server that answers; each of them must do. */
async function askNameServers(
  adminUrls: readonly string[],
  query: { readonly name: string; readonly address: string; readonly token: string },
): ReturnType<typeof where> {
  let failure: unknown = new UsageError("This world has no name server", 1);
  for (const adminUrl of adminUrls) {
    try {
      return await where({ ...query, adminUrl });
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

async function askEdge(
  server: { readonly id: string; readonly address: string; readonly port: number },
  token: string,
  query: string[][],
): Promise<TierExplanation> {
  const at = `http://${server.address}:${server.port}/.isochrone/explain?${new URLSearchParams(query)}`;
  const { status, text, body } = await askServer({ who: server.id, url: at, token, timeoutMs: TIMEOUT_MS });
  if (status !== 200 || body === undefined)
    throw new UsageError(`${server.id} does not explain: status ${status}: ${text.trim().slice(0, 200)}`, 1);
  return body as TierExplanation;
}

const candidateOf = (path: ToldPath, via: string | null): CandidateReport | undefined =>
  path.candidates.find((one) => one.via === via);

/** One entry for each step from server to server and to the origin: what was chosen, and what going directly would cost. */
function hopsOf(edge: TierExplanation) {
  const hops = [];
  let tier: TierExplanation | undefined = edge;
  while (tier !== undefined) {
    const { nextHop, next }: TierExplanation = tier;
    if (nextHop) {
      const { path } = nextHop;
      const chosen = candidateOf(path, path.chosen.via);
      const direct = candidateOf(path, null);
      hops.push({
        from: tier.serverId,
        to: nextHop.name,
        kind: nextHop.kind,
        via: path.chosen.via,
        reason: path.chosen.reason,
        protocol: path.protocol ?? null,
        costMs: chosen?.costMs ?? null,
        srttMs: chosen?.srttMs ?? null,
        lossRatio: chosen?.lossRatio ?? null,
        directCostMs: direct?.costMs ?? null,
        directSrttMs: direct?.srttMs ?? null,
      });
    }
    tier = next && !("error" in next) ? next : undefined;
  }
  return hops;
}

const ms = (value: number | null | undefined) =>
  value === null || value === undefined ? "-" : value.toFixed(1);

function describe(edge: TierExplanation): string {
  const lines: string[] = [];
  let tier: TierExplanation | undefined = edge;
  while (tier !== undefined) {
    const { serverId, property, decision, stored, owner, nextHop, next }: TierExplanation = tier;
    const map = typeof tier.mapVersion === "number" ? `, map ${tier.mapVersion}` : "";
    lines.push(`${serverId} (tier ${tier.tier}${map}): ${decision.action}, ${decision.reason}`);
    if (property === null) {
      lines.push("  no property has this host name");
      break;
    }
    lines.push(
      `  property  ${property}${tier.ruleIndex === null || tier.ruleIndex === undefined ? "" : `, rule ${tier.ruleIndex}`}`,
    );
    const { ruleIndex, rules, ruled, policy, key } = tier;
    if (ruleIndex !== undefined && rules && ruled && policy && key !== undefined)
      lines.push(...rulingLines({ ruleIndex, rules, ruled, policy, key }));
    if (owner) lines.push(row("owner", owner));
    lines.push(
      `  stored    ${stored ? `${stored.state}, age ${Math.round(stored.ageSeconds)} s of ${stored.lifetimeSeconds} s` : "nothing"}`,
    );
    if (tier.form) lines.push(`  form      ${describeForm(tier.form)}`);
    if (tier.forwards) lines.push(`  forwards  ${describeForwards(tier.forwards)}`);
    if (nextHop) {
      const { via, reason } = nextHop.path.chosen;
      lines.push(
        `  next      ${nextHop.kind} ${nextHop.name}, ${via === null ? "direct" : `via ${via}`}: ${reason}`,
      );
      lines.push(row("asked by", describeProtocol(nextHop.path)));
      if (nextHop.path.candidates.length > 0) lines.push(indent(candidateTable(nextHop.path)));
    }
    if (tier.origins) lines.push(...originLines(tier.origins));
    lines.push("");
    if (next && "error" in next) lines.push(`The next tier does not explain: ${next.error}`);
    tier = next && !("error" in next) ? next : undefined;
  }
  return lines.join("\n").trimEnd();
}

/** `link, 2 of 4 sessions, 5 requests under way, 48.2 ms` or `http/1.1; link refused`. */
function describeProtocol({ protocol = "http/1.1", link = null }: ToldPath): string {
  if (link === null) return protocol;
  const { state, sessions, sessionsMax, stuckSessions, streams, rttMs, udp } = link;
  if (protocol !== "link") return `${protocol}; link ${sessions > 0 ? "stuck" : state}`;
  const stuck = stuckSessions === 0 ? "" : ` (${stuckSessions} stuck)`;
  return `link, ${sessions} of ${sessionsMax} sessions${stuck}, ${streams} requests under way, ${ms(rttMs)} ms${describeUdp(udp)}`;
}

/** `; by UDP: pays, loss 1.40 %`, and nothing where there is none. */
function describeUdp(udp: UdpExplanation | null | undefined): string {
  // A server of before knows no UDP.
  if (udp === null || udp === undefined || udp.reason === "none") return "";
  return `; by UDP: ${udp.reason}, loss ${(100 * udp.lossRatio).toFixed(2)} %`;
}

/** `3 of 50 under way`, and why one more would be shed. */
function describeForwards({ active, activeMax, shedReason }: ForwardsExplanation): string {
  return `${active} of ${activeMax} under way${shedReason === null ? "" : `, one more is shed: ${shedReason}`}`;
}

/** `br, kept` or `as stored: not-accepted`, then how each coding stands. */
function describeForm({ coding, from, reason, forms }: FormExplanation): string {
  const states = forms.map(
    (form) =>
      `${form.coding} ${form.state}${form.bytes === null ? "" : ` ${form.bytes} bytes`}${form.isAccepted ? "" : " (not accepted)"}`,
  );
  return `${from === "as-stored" ? `as stored: ${reason}` : `${coding}, ${from}`}; ${states.join(", ")}`;
}

/** Nothing of an origin of one server that is well: there is nothing to choose. */
function originLines({ group, servers }: OriginsExplanation): string[] {
  const [only] = servers;
  if (servers.length === 1 && only?.bar === null && only.protocol === "http/1.1") return [];
  const rows = servers.map((one) => [
    one.name,
    one.protocol,
    one.priority,
    one.rampRatio === 1 ? String(one.weight) : `${one.weight} x ${one.rampRatio.toFixed(2)}`,
    one.requestsMax === null ? one.active : `${one.active} of ${one.requestsMax}`,
    `${one.recentFailures} of ${one.recentRequests}`,
    one.check,
    one.breaker,
    one.bar === null
      ? "may be asked"
      : `${one.bar}${one.ejection === null ? "" : `: ${one.ejection}`}${one.barredForMs === null ? "" : `, for ${(one.barredForMs / 1_000).toFixed(1)} s`}`,
  ]);
  const head = [
    "server",
    "protocol",
    "priority",
    "weight",
    "under way",
    "failed lately",
    "check",
    "breaker",
    "",
  ];
  return [row("origins", `of ${group}`), indent(formatTable(head, rows))];
}

function candidateTable(path: ToldPath): string {
  const rows = path.candidates.map((one) => [
    one.via === path.chosen.via ? "*" : "",
    one.via ?? "direct",
    ms(one.costMs),
    ms(one.srttMs),
    (one.lossRatio * 100).toFixed(2),
    one.samples,
    one.isFailed ? "failed" : "",
  ]);
  return formatTable(["", "path", "cost ms", "srtt ms", "loss %", "samples", ""], rows);
}

function indent(text: string): string {
  return text.replaceAll(/^/gm, "            ");
}
