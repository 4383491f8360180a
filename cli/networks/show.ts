/** `isochrone networks show`. */
import {
  array,
  coordinates,
  formatPrefix,
  integer,
  type IpPrefix,
  nullable,
  number,
  object,
  type Parsed,
  parseAddress,
  parsePrefix,
  prefixContains,
  quoteValue,
  string,
} from "#kit";
import { type NetworkRecord, readNetworkFile } from "#mapping";
import { askFirst, askMapper, mappersOf, parseAnswer } from "../measurements/mapper.ts";
import { UsageError } from "../usage.ts";

const shown = object({
  clientNetworkId: string(),
  matchedPrefix: string(),
  prefixes: array(string()),
  demandPerSecond: number(),
  coordinates: nullable(coordinates),
  /** What only a file knows. */
  asNumber: nullable(integer()),
  country: nullable(string()),
  city: nullable(string()),
  routedPrefix: nullable(string()),
});
type Shown = Parsed<typeof shown>;

const PREFIXES_SHOWN = 20;

export async function show(
  names: readonly string[],
  options: {
    readonly file?: string | undefined;
    readonly mapper?: string | undefined;
    readonly state?: string | undefined;
    readonly json?: boolean | undefined;
  },
): Promise<number> {
  const [text, ...more] = names;
  if (text === undefined || more.length > 0) throw new UsageError("show takes one ADDRESS; see --help");
  if (parseAddress(text) === undefined)
    throw new UsageError(`got ${quoteValue(text)}, expected an IPv4 or IPv6 address`);
  if (options.file !== undefined && options.mapper !== undefined)
    throw new UsageError("give --file or --mapper, not both");
  const found =
    options.file === undefined
      ? await askFirst(mappersOf(options.mapper, options.state), async (mapper) => {
          const query = new URLSearchParams({ address: text });
          const { status, body } = await askMapper(mapper, `/.isochrone/network?${query}`, {});
          if (status === 404) return undefined;
          return parseAnswer(mapper, status, () => shown.parse(body));
        })
      : find((await readNetworkFile(options.file)).networks, text);
  if (found === undefined)
    throw new UsageError(`No client network has ${text}: it gets the map's fallback`, 1);
  console.log(options.json === true ? JSON.stringify(found) : format(text, found));
  return 0;
}

/** By the longest prefix. */
function find(networks: readonly NetworkRecord[], text: string): Shown | undefined {
  const address = parseAddress(text);
  let best: { readonly prefix: IpPrefix; readonly network: NetworkRecord } | undefined;
  for (const network of networks)
    for (const one of network.prefixes) {
      const prefix = parsePrefix(one);
      if (prefix === undefined || address === undefined || !prefixContains(prefix, address)) continue;
      if (best === undefined || prefix.prefixLength > best.prefix.prefixLength) best = { prefix, network };
    }
  return (
    best && {
      ...best.network,
      routedPrefix: best.network.routedPrefix ?? null,
      matchedPrefix: formatPrefix(best.prefix),
    }
  );
}

function format(text: string, found: Shown): string {
  const { prefixes, asNumber, city, country, coordinates: at, routedPrefix } = found;
  const place = [city, country, at === null ? null : `${at.latitude}, ${at.longitude}`].filter(
    (part) => part !== null,
  );
  return [
    `${text}: ${found.clientNetworkId}, by ${found.matchedPrefix}`,
    `  AS      ${asNumber ?? "unknown"}`,
    `  place   ${place.length === 0 ? "unknown" : place.join(", ")}`,
    `  route   ${routedPrefix ?? "unknown"}`,
    `  demand  ${found.demandPerSecond} requests per second`,
    `  ${prefixes.length} prefixes: ${prefixes.slice(0, PREFIXES_SHOWN).join(" ")}${prefixes.length > PREFIXES_SHOWN ? " ..." : ""}`,
  ].join("\n");
}
