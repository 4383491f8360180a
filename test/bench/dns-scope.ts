/**
 * What a scope from the map saves a resolver and us: the cache of one large resolver (RFC 7871 section 7.3) in front of our answers, once
 * with the scope that the map gives and once with scope = source, as servers without a map of their own say it. Deterministic.
 */
import { parseArgs } from "node:util";
import { parsePrefix, Random } from "#kit";
import { choiceTableOf, scopeOfLookup } from "../../mapping/core/dns/choice-table.ts";
import type { DnsContext } from "../../mapping/core/dns/decision.ts";
import { ZoneTable } from "../../mapping/core/dns/zone-table.ts";
import { MapIndex } from "../../mapping/core/map-index.ts";
import { TopologyIndex } from "../../mapping/core/topology-index.ts";
import { wholeNumber } from "../tools/flags.ts";
import { ANSWER_TTL_SECONDS, type Deployment, drawDeployment } from "./name-servers/deployment.ts";
import { describeCommit, describeMachine } from "./tools/machine.ts";

export const summary =
  "a resolver's cache entries and queries with the scope of the map and with scope = source";

const HELP = `Usage: npm run bench -- dns-scope [options]

${summary}

  --networks N   client networks (default 10000)
  --clusters N   clusters (default 30)
  --rate N       requests of clients a second at the resolver (default 5000)
  --seconds N    of the model's time (default 120)
  --seed N       (default 1)
  --help
`;

/** Share of requests by rank of the client network: Zipf's law with this exponent. */
const ZIPF_EXPONENT = 0.9;

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      networks: { type: "string", default: "10000" },
      clusters: { type: "string", default: "30" },
      rate: { type: "string", default: "5000" },
      seconds: { type: "string", default: "120" },
      seed: { type: "string", default: "1" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  const options = {
    networks: wholeNumber("networks", values.networks, 10, 1_000_000),
    clusters: wholeNumber("clusters", values.clusters, 3, 200),
    ratePerSecond: wholeNumber("rate", values.rate, 1, 1_000_000),
    seconds: wholeNumber("seconds", values.seconds, 1, 86_400),
    seed: wholeNumber("seed", values.seed, 0, 2 ** 31 - 1),
  };
  const deployment = drawDeployment({ ...options, port: 80, dnsPort: 53 });
  const byMap = run(deployment, options, "map");
  const bySource = run(deployment, options, "source");
  const result = {
    name: "dns-scope",
    date: new Date().toISOString(),
    commit: describeCommit(),
    machine: describeMachine(),
    options,
    byMap,
    bySource,
    entriesRatio: byMap.entriesMax / bySource.entriesMax,
    queriesRatio: byMap.queries / bySource.queries,
  };
  console.log(JSON.stringify(result, undefined, 1));
  console.error(
    `scope by the map: ${byMap.queries} queries, ${byMap.entriesMax} entries at most, hit ratio ${byMap.hitRatio.toFixed(3)}\n` +
      `scope = source:   ${bySource.queries} queries, ${bySource.entriesMax} entries at most, hit ratio ${bySource.hitRatio.toFixed(3)}`,
  );
  return 0;
}

interface Figures {
  readonly requests: number;
  /** That reached our name servers. */
  readonly queries: number;
  readonly hitRatio: number;
  /** Distinct entries that were fresh at one time. */
  readonly entriesMax: number;
}

function run(
  deployment: Deployment,
  options: { readonly ratePerSecond: number; readonly seconds: number; readonly seed: number },
  scopeFrom: "map" | "source",
): Figures {
  const { topology, properties, snapshot, hostnames } = deployment;
  const context: DnsContext = {
    zones: new ZoneTable({ topology, properties, serial: 1 }),
    topology: new TopologyIndex(topology),
    snapshot: new MapIndex(snapshot),
    isUp: () => true,
  };
  const clients = deployment.networks.map(({ prefix }) => {
    const parsed = parsePrefix(prefix);
    if (parsed === undefined) throw new Error(`The deployment has drawn ${prefix}, which is no prefix`);
    return parsed;
  });
  // The same requests in both runs. Which network has which rank is drawn too.
  const random = new Random(options.seed);
  const ranked = clients.map((client) => ({ client, key: random.float() })).toSorted((a, b) => a.key - b.key);
  const cumulative = new Float64Array(ranked.length);
  let sum = 0;
  for (let rank = 0; rank < ranked.length; rank++) cumulative[rank] = sum += (rank + 1) ** -ZIPF_EXPONENT;
  const pick = (): (typeof clients)[number] => {
    const at = random.float() * sum;
    let low = 0;
    let high = ranked.length - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((cumulative[middle] as number) <= at) low = middle + 1;
      else high = middle;
    }
    return (ranked[low] as (typeof ranked)[number]).client;
  };
  /** Key of an entry -> when it ends, in the order of their ends. */
  const cache = new Map<string, number>();
  const requests = options.ratePerSecond * options.seconds;
  let queries = 0;
  let entriesMax = 0;
  for (let request = 0; request < requests; request++) {
    const now = request / options.ratePerSecond;
    for (const [key, endsAt] of cache) {
      if (endsAt > now) break;
      cache.delete(key);
    }
    const { address, prefixLength } = pick();
    const isIpv4 = address.family === 4;
    const source = isIpv4 ? 24 : 56;
    // Anyone within the network: each of its /24 or /56 as likely as the other.
    const words = [...address.words];
    const word = isIpv4 ? 0 : 1;
    words[word] = ((words[word] as number) + random.int(2 ** (source - prefixLength)) * 256) >>> 0;
    const name = random.int(hostnames.length);
    const property = properties[name];
    if (property === undefined) continue;
    const found = choiceTableOf(context, property, 4).lookup(address.family, words);
    const scope = scopeFrom === "source" ? source : Math.min(scopeOfLookup(found), source);
    const key = `${name} ${prefixText(words, scope)}`;
    if (cache.has(key)) continue;
    queries++;
    cache.set(key, now + ANSWER_TTL_SECONDS);
    entriesMax = Math.max(entriesMax, cache.size);
  }
  return { requests, queries, hitRatio: 1 - queries / requests, entriesMax };
}

function prefixText(words: readonly number[], length: number): string {
  const kept = words.map((word, index) => {
    const bits = Math.max(0, Math.min(32, length - index * 32));
    return bits === 0 ? 0 : ((word >>> (32 - bits)) << (32 - bits)) >>> 0;
  });
  return `${words.length} ${kept.join(".")}/${length}`;
}
