/** `isochrone networks`: client networks cut from routes and places, looked at and compared. */
import { parseArgs } from "node:util";
import { quoteValue } from "#kit";
import { cutDefaults } from "#mapping";
import { build } from "./networks/build.ts";
import { demand } from "./networks/demand.ts";
import { diff } from "./networks/diff.ts";
import { show } from "./networks/show.ts";
import { UsageError } from "./usage.ts";

const help = `Usage: isochrone networks build --routes FILE... --out FILE [options]
       isochrone networks demand FILE... --out FILE [--half-life 7d] [--json]
       isochrone networks show ADDRESS [--file FILE | --mapper URL] [--state DIR] [--json]
       isochrone networks diff OLD NEW [--json]

A client network is the map's unit: a set of prefixes whose users are sent to the same place. build cuts the announced
address space into as few as decisions allow: prefixes of one AS in one place are one network, apart by AS path where
nothing else is known; what measurements want to send elsewhere is split off; where there are too many, those that lose
least are merged. Names stay: a network keeps the name that most of its demand had in the file before.
"isochrone mapper --client-networks FILE" takes the result. demand learns from the edges'
access records how much each block asks, older requests counting less: what build weighs networks by. show tells the network of an address; diff compares two files.

build:
  --routes FILE        BGP table: MRT, or what "bgpdump -m" prints; may be given several times, as all files may
  --places FILE        where addresses are: CSV (the npm package @ip-location-db/*-city), MMDB
  --as FILE            AS numbers of addresses: CSV (@ip-location-db/asn), MMDB; without --routes it stands for them
  --demand FILE        a line each: {"prefix":"192.0.2.0/24","demandPerSecond":3.5}
  --measured FILE      a line each: {"prefix":"192.0.2.0/24","rttMs":[{"clusterId":"fra","rttMs":9.5}]}
  --before FILE        whose names are kept; the file at --out unless told, if there is one
  --count N            networks at most, 1..500000 (default ${cutDefaults.countMax})
  --difference-ms MS   what a joint decision may cost a block, ms a request (default ${cutDefaults.differenceMsMax})
  --demand-total N     requests per second in all where --demand is not given, spread by size (default 0)
  --out FILE           the result; gzipped if its name ends in .gz. Replaced whole or not at all
demand:
  FILE                 access records of edges, as they write them; those of parents add nothing
  --half-life TIME     after which a request counts half, 1h..365d (default 7d)
  --out FILE           blocks of /24 and /48, for build's --demand
show:
  --file FILE          a result of build; unless given, the running world's mapper is asked
  --mapper URL         http://ADDRESS:PORT of the mapper, with its token in ISOCHRONE_CONTROL_TOKEN
  --state DIR          which running world, when several run
--json                 JSON on standard output

Exit code 0 done; 1 nothing could be read, or no network has the address, or the mapper cannot be asked; 2 bad usage or a
bad file.

Examples:
  isochrone networks build --routes rib.20261126.0000.gz --places city-ipv4.csv --places city-ipv6.csv \\
    --demand demand.ndjson --out networks.ndjson.gz
  isochrone networks demand .isochrone/nodes/*/access.ndjson --out demand.ndjson
  isochrone networks show 192.0.2.77 --file networks.ndjson.gz
  isochrone networks diff yesterday.ndjson.gz networks.ndjson.gz --json`;

export async function main(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      routes: { type: "string", multiple: true },
      places: { type: "string", multiple: true },
      as: { type: "string", multiple: true },
      demand: { type: "string", multiple: true },
      measured: { type: "string", multiple: true },
      before: { type: "string" },
      count: { type: "string" },
      "difference-ms": { type: "string" },
      "demand-total": { type: "string" },
      out: { type: "string" },
      "half-life": { type: "string" },
      file: { type: "string" },
      mapper: { type: "string" },
      state: { type: "string" },
      json: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    console.log(help);
    return 0;
  }
  const [what, ...rest] = positionals;
  if (what === "demand") return demand(rest, values);
  if (what === "show") return show(rest, values);
  if (what === "diff") return diff(rest, values);
  if (what !== "build")
    throw new UsageError(`got ${quoteValue(what ?? "")}, expected build, demand, show or diff; see --help`);
  if (rest.length > 0)
    throw new UsageError(`build takes options only, got ${quoteValue(rest[0])}; see --help`);
  return build(values);
}
