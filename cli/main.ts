/**
 * The one command. Each subcommand is a file of its own, loaded only when it is asked for, so that `isochrone status`
 * does not pay for the portal. Data goes to stdout, talk to stderr; exit codes: 0 done, 1 the thing asked about is not
 * well, 2 bad usage or bad input.
 */
import { commandLineError, faultLine, UsageError } from "./usage.ts";

interface Command {
  readonly name: string;
  readonly summary: string;
  readonly load: () => Promise<{ readonly main: (argv: readonly string[]) => Promise<number> }>;
}

const groups: readonly { readonly title: string; readonly commands: readonly Command[] }[] = [
  {
    title: "A whole CDN on this machine",
    commands: [
      {
        name: "up",
        summary: "run a world: every server a process, with its links' delays",
        load: () => import("./up.ts"),
      },
      { name: "status", summary: "the processes of the running world", load: () => import("./status.ts") },
      {
        name: "world",
        summary: "sites, client networks and properties of a world",
        load: () => import("./world.ts"),
      },
      { name: "kill", summary: "kill a server and keep it down", load: () => import("./kill.ts") },
      { name: "cut", summary: "cut the link between two sites", load: () => import("./cut.ts") },
      { name: "visit", summary: "send visitors through the running world", load: () => import("./visit.ts") },
      { name: "heal", summary: "mend cut links, start killed servers", load: () => import("./heal.ts") },
    ],
  },
  {
    title: "Why did it do that?",
    commands: [
      {
        name: "where",
        summary: "which servers a client is sent to, and the score terms",
        load: () => import("./where.ts"),
      },
      {
        name: "explain",
        summary: "what each tier would do with a URL, and over which path",
        load: () => import("./explain.ts"),
      },
      {
        name: "map",
        summary: "the map: what it says, its history, what two differ in, and back",
        load: () => import("./map.ts"),
      },
      {
        name: "debug-token",
        summary: "a token with which answers tell how they came to be",
        load: () => import("./debug-token.ts"),
      },
      {
        name: "doctor",
        summary: "whether this machine's kernel is set as a server wants it",
        load: () => import("./doctor.ts"),
      },
      {
        name: "queries",
        summary: "who asks the name servers most, and for what",
        load: () => import("./queries.ts"),
      },
      { name: "traffic", summary: "roll up access records", load: () => import("../analytics/main.ts") },
    ],
  },
  {
    title: "Configuration",
    commands: [
      {
        name: "config",
        summary: "check, try, diff, push, activate and roll back properties",
        load: () => import("./config.ts"),
      },
      {
        name: "zone",
        summary: "zones of customers: check, push, set, delete",
        load: () => import("./zone.ts"),
      },
      {
        name: "policy",
        summary: "traffic management of customers: check, push, explain",
        load: () => import("./policy.ts"),
      },
      {
        name: "certificate",
        summary: "push, list and withdraw server certificates",
        load: () => import("./certificate.ts"),
      },
      {
        name: "node",
        summary: "servers' own certificates: whose key, revoke, forget",
        load: () => import("./node.ts"),
      },
      {
        name: "dnssec",
        summary: "signed zones: their keys, what the parent is to have, rolls",
        load: () => import("./dnssec.ts"),
      },
      {
        name: "steer",
        summary: "drain, weigh and pin: what operators say against the map",
        load: () => import("./steer.ts"),
      },
      {
        name: "token",
        summary: "keys and tokens of signed URLs",
        load: () => import("./token.ts"),
      },
      { name: "purge", summary: "forget URLs or tags at every server", load: () => import("./purge.ts") },
      {
        name: "warm",
        summary: "have every edge cluster fetch a list of URLs beforehand",
        load: () => import("./warm.ts"),
      },
    ],
  },
  {
    title: "What if, and how good",
    commands: [
      {
        name: "sim",
        summary: "the failover simulator: production cores, virtual time",
        load: () => import("../sim/main.ts"),
      },
      {
        name: "evaluate",
        summary: "mapping and overlay against measured matrices",
        load: () => import("./evaluate.ts"),
      },
      {
        name: "measurements",
        summary: "read files of measurements, routes and places; import samples",
        load: () => import("./measurements.ts"),
      },
      {
        name: "networks",
        summary: "client networks: cut from routes and places, shown, compared",
        load: () => import("./networks.ts"),
      },
    ],
  },
  {
    title: "One process each (what `up` starts; each works alone)",
    commands: [
      { name: "edge", summary: "caching reverse proxy", load: () => import("../edge/main.ts") },
      {
        name: "dns",
        summary: "authoritative name server that knows the map",
        load: () => import("../mapping/main-dns.ts"),
      },
      {
        name: "mapper",
        summary: "mapping engine: measurements to snapshots",
        load: () => import("../mapping/main-mapper.ts"),
      },
      {
        name: "probe",
        summary: "measures targets: ICMP, TCP, HTTP, traces; lines of JSON",
        load: () => import("../mapping/main-probe.ts"),
      },
      { name: "relay", summary: "forwards for its peers only", load: () => import("../transport/main.ts") },
      { name: "control", summary: "documents, watch, purge", load: () => import("../control/main.ts") },
      { name: "portal", summary: "customers' API and web page", load: () => import("../portal/main.ts") },
      { name: "origin", summary: "scripted origin", load: () => import("../origin-sim/main.ts") },
    ],
  },
];

const commands = groups.flatMap((group) => group.commands);

function help(): string {
  const lines = [
    "Isochrone: an edge CDN that you run on your own machines.",
    "",
    "Usage: isochrone COMMAND [options]",
    "",
  ];
  for (const group of groups) {
    lines.push(`${group.title}:`);
    for (const command of group.commands) lines.push(`  ${command.name.padEnd(12)} ${command.summary}`);
    lines.push("");
  }
  lines.push(
    "Examples:",
    "  isochrone up                         the demo world: 8 edge clusters on 6 continents",
    "  isochrone edge --listen 127.0.0.1:8080 --origin http://127.0.0.1:9000",
    "  isochrone COMMAND --help             options and examples of one command",
  );
  return lines.join("\n");
}

/** Levenshtein distance, for "did you mean"; both words are short. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(substitution, (previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1));
    }
    previous = row;
  }
  return previous[b.length] ?? 0;
}

/**
 * A child of `isochrone up` must not outlive it: when the supervisor's channel closes, for whatever reason, the child
 * drains as if it had been asked to. The channel itself must not keep a finished process alive.
 */
function followSupervisor(): void {
  if (process.env["ISOCHRONE_SUPERVISED"] !== "1" || process.channel === undefined) return;
  process.on("disconnect", () => process.kill(process.pid, "SIGTERM"));
  process.channel.unref();
}

export async function run(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv;
  if (name === undefined || name === "--help" || name === "-h" || name === "help") {
    console.log(help());
    return name === undefined ? 2 : 0;
  }
  if (name === "--version" || name === "-V") {
    const { default: manifest } = await import("../package.json", { with: { type: "json" } });
    console.log(manifest.version);
    return 0;
  }
  const command = commands.find((one) => one.name === name);
  if (command === undefined) {
    const near = commands.filter((one) => editDistance(one.name, name) <= 2).map((one) => one.name);
    const hint = near.length > 0 ? `did you mean ${near.join(" or ")}?` : "see isochrone --help";
    console.error(`isochrone: no such command ${JSON.stringify(name)}; ${hint}`);
    return 2;
  }
  followSupervisor();
  try {
    const { main } = await command.load();
    return await main(rest);
  } catch (error) {
    const line = commandLineError(error);
    console.error(`isochrone ${name}: ${line ?? faultLine(error)}`);
    if (line === undefined) return 1;
    return error instanceof UsageError ? error.exitCode : 2;
  }
}
