/** The command line of `isochrone probe`, parsed strictly. */
import { readFileSync, statSync } from "node:fs";
import { hostname } from "node:os";
import { parseArgs } from "node:util";
import { formatAddress, parseAddress, parseDurationMs } from "#kit";
import {
  PROBE_TARGETS_MAX,
  type ProbeTarget,
  ProbeTargetError,
  parseProbeTargets,
} from "../../core/measurements/probe-target.ts";

export interface ProbeOptions {
  readonly targets: readonly ProbeTarget[];
  readonly agent: string;
  readonly from: string | null;
  readonly count: number;
  readonly concurrency: number;
  readonly timeoutMs: number;
  readonly intervalMs: number;
  /** Infinity: until it is stopped. */
  readonly rounds: number;
  /** Undefined: the list of targets alone. */
  readonly plan: PlanOptions | undefined;
}

/** Of an agent that does what a mapper plans. */
export interface PlanOptions {
  readonly mappers: readonly string[];
  readonly clusterId: string;
  readonly ratePerSecond: number;
  readonly targetIntervalMs: number;
  readonly isSpecialAllowed: boolean;
}

/** The command line or the list of targets is wrong; the message is one line. */
export class ProbeOptionError extends Error {}

const MAPPERS_MAX = 4;
const TARGETS_BYTES_MAX = 4 * 1024 * 1024;

export const probeHelp = `Usage: isochrone probe --targets FILE [options]
       isochrone probe --plan URL --cluster ID --from ADDRESS [--targets FILE] [options]

Measures a list of targets from this machine and writes one line of JSON for each packet, handshake, request or
trace to standard output: feed it to "isochrone measurements import". A lost packet has "rttMs": null; what could
not be measured at all has "error" and says nothing of the path.

FILE has one target a line; blank lines and lines that begin with # are left out; at most ${PROBE_TARGETS_MAX}:
  icmp HOST         echo requests, by the system's ping
  tcp HOST:PORT     time of a handshake; a refused connection was answered as well
  http URL          DNS, connect, TLS and time to first byte of one GET on a new connection
  trace HOST        the routers on the way: by the system's traceroute, else by ping with a growing time to live

  --targets FILE     "-" reads standard input
  --agent NAME       what the agent is called in the records; this machine's name unless told
  --from ADDRESS     this machine's address as others see it: by it the mapper knows whose path was measured
  --count N          packets or connections for each target and round, 1..100; 3 unless told
  --concurrency N    targets measured at a time, 1..64; 8 unless told
  --timeout TIME     for each measurement, 100ms..30s; 3s unless told
  --interval TIME    from the start of a round to the next, 1s..1d; 60s unless told
  --rounds N         0: until it is stopped (SIGTERM or SIGINT); 1 unless told

With --plan it is the agent of a cluster: it asks the mapper at URL what to measure (addresses of the map's client networks, by
ping), does so once a cycle, and hands the results back; they are written to standard output as well. Without a plan, or when the
last one is over, it measures the list of --targets, if there is one. The token comes in ISOCHRONE_CONTROL_TOKEN.

  --plan URL         http://ADDRESS:PORT of a mapper's admin surface; may be given up to 4 times: the first that has a plan
                     tells what to do, all are told the results
  --cluster ID       of the topology; --from is then the address of one of its servers
  --rate N           targets begun with a second, 1..1000; 20 unless told
  --target-interval TIME  for how long a target is left alone after it was measured, 1s..1h; 5s unless told
  --allow-private    plans may name private and other special addresses (RFC 6890); else those are left out and counted

Exit code 0 done, 2 bad option or list.

Examples:
  printf 'icmp 192.0.2.1\\ntcp 192.0.2.1:443\\nhttp https://www.shop.example/\\n' | isochrone probe --targets -
  isochrone probe --targets targets.txt --agent fra-1 --from 198.51.100.7 --rounds 0 --interval 4m >> probe.ndjson
  isochrone probe --plan http://10.0.0.2:8080 --cluster fra --from 198.51.100.7 --rounds 0 > /dev/null`;

/** Throws {@link ProbeOptionError}. "help": `--help` was given. */
export function parseProbeOptions(argv: readonly string[]): ProbeOptions | "help" {
  const values = parsed(argv);
  if (values.help === true) return "help";
  const name = values.agent ?? hostname().split(".", 1)[0] ?? "";
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(name))
    throw new ProbeOptionError(
      `--agent: got ${JSON.stringify(name)}, expected a name of letters, digits, points, hyphens and underscores`,
    );
  const from = values.from === undefined ? undefined : parseAddress(values.from);
  if (values.from !== undefined && from === undefined)
    throw new ProbeOptionError(`--from: got ${JSON.stringify(values.from)}, expected an IP address`);
  const plan = planOf(values);
  if (plan !== undefined && from === undefined)
    throw new ProbeOptionError(
      "--plan needs --from: by the address of a server of the cluster the mapper knows whose path was measured",
    );
  const rounds = whole("--rounds", values.rounds, 0, 1_000_000, 1);
  return {
    targets: plan !== undefined && values.targets === undefined ? [] : targetsOf(values.targets),
    plan,
    agent: name,
    from: from === undefined ? null : formatAddress(from),
    count: whole("--count", values.count, 1, 100, 3),
    concurrency: whole("--concurrency", values.concurrency, 1, 64, 8),
    timeoutMs: duration("--timeout", values.timeout, 100, 30_000, 3_000),
    intervalMs: duration("--interval", values.interval, 1_000, 86_400_000, 60_000),
    rounds: rounds === 0 ? Infinity : rounds,
  };
}

function parsed(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: false,
      options: {
        help: { type: "boolean", short: "h" },
        targets: { type: "string" },
        agent: { type: "string" },
        from: { type: "string" },
        count: { type: "string" },
        concurrency: { type: "string" },
        timeout: { type: "string" },
        interval: { type: "string" },
        rounds: { type: "string" },
        plan: { type: "string", multiple: true },
        cluster: { type: "string" },
        rate: { type: "string" },
        "target-interval": { type: "string" },
        "allow-private": { type: "boolean" },
      },
    }).values;
  } catch (error) {
    throw new ProbeOptionError(`${messageOf(error).replaceAll(/\s+/g, " ")}; see --help`);
  }
}

function planOf(values: ReturnType<typeof parsed>): PlanOptions | undefined {
  const { plan: mappers, cluster } = values;
  if (mappers === undefined) {
    for (const name of ["cluster", "rate", "target-interval", "allow-private"] as const)
      if (values[name] !== undefined) throw new ProbeOptionError(`--${name} goes with --plan; see --help`);
    return undefined;
  }
  if (mappers.length > MAPPERS_MAX)
    throw new ProbeOptionError(`--plan: got ${mappers.length} of them, expected at most ${MAPPERS_MAX}`);
  for (const url of mappers)
    if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol))
      throw new ProbeOptionError(`--plan: got ${JSON.stringify(url)}, expected http://ADDRESS:PORT`);
  if (cluster === undefined || !/^[a-z][a-z0-9-]{0,62}$/.test(cluster))
    throw new ProbeOptionError(
      cluster === undefined
        ? "--plan needs --cluster: whose plan; see --help"
        : `--cluster: got ${JSON.stringify(cluster)}, expected the id of a cluster, such as "fra"`,
    );
  return {
    mappers,
    clusterId: cluster,
    ratePerSecond: whole("--rate", values.rate, 1, 1_000, 20),
    targetIntervalMs: duration("--target-interval", values["target-interval"], 1_000, 3_600_000, 5_000),
    isSpecialAllowed: values["allow-private"] ?? false,
  };
}

function targetsOf(path: string | undefined): ProbeTarget[] {
  if (path === undefined) throw new ProbeOptionError("--targets is missing; see --help");
  let text: string;
  try {
    const file = path === "-" ? 0 : path;
    if (file !== 0 && statSync(file).size > TARGETS_BYTES_MAX)
      throw new Error(`it has more than ${TARGETS_BYTES_MAX} bytes`);
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new ProbeOptionError(`--targets: cannot read ${JSON.stringify(path)}: ${messageOf(error)}`);
  }
  try {
    return parseProbeTargets(text);
  } catch (error) {
    if (!(error instanceof ProbeTargetError)) throw error;
    throw new ProbeOptionError(`--targets ${JSON.stringify(path)}: ${error.message}`);
  }
}

function whole(name: string, text: string | undefined, min: number, max: number, fallback: number): number {
  if (text === undefined) return fallback;
  const value = /^[0-9]{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= max))
    throw new ProbeOptionError(
      `${name}: got ${JSON.stringify(text)}, expected a whole number from ${min} to ${max}`,
    );
  return value;
}

function duration(
  name: string,
  text: string | undefined,
  min: number,
  max: number,
  fallback: number,
): number {
  if (text === undefined) return fallback;
  const value = parseDurationMs(text);
  if (value === undefined || value < min || value > max)
    throw new ProbeOptionError(
      `${name}: got ${JSON.stringify(text)}, expected a time such as 500ms, 3s or 4m from ${min} ms to ${max} ms`,
    );
  return value;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
