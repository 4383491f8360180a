/** `npm run lab -- delegation`: unbound from a root hint to an edge's address over two levels of name servers, while they come and go. */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { UsageError } from "../../cli/usage.ts";
import {
  CUSTOMER_NAME,
  DELEGATED,
  DelegatedWorld,
  rootHints,
  whyNoPort53,
} from "../tools/delegated-world.ts";
import { wholeNumber } from "../tools/flags.ts";
import { requireProgram } from "../tools/processes.ts";
import { ValidatingResolver } from "../tools/validating-resolver.ts";

export const summary =
  "a resolver's walk from the root to an edge over two levels; name servers die, clusters come";

const HELP = `Usage: npm run lab -- delegation [options]

${summary}. Wants unbound, dig and port 53 of 127.61.0.0/16. Every phase asks names that the resolver has not heard of.
Exit code: 1 when a name did not resolve or was bogus.

  --names N   names asked in each phase (default 50)
  --help
`;

interface Phase {
  readonly phase: string;
  readonly asked: number;
  readonly failed: number;
  /** Waits of the resolver's client, ms. */
  readonly p50Ms: number;
  readonly mostMs: number;
  /** Queries that each name server had. */
  readonly queries: Readonly<Record<string, number>>;
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: { names: { type: "string", default: "50" }, help: { type: "boolean" } },
  });
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  const names = wholeNumber("names", values.names, 1, 10_000);
  const unbound = requireProgram("unbound");
  const dig = requireProgram("dig");
  const noPort = await whyNoPort53();
  if (unbound === undefined || dig === undefined || noPort !== undefined)
    throw new UsageError(noPort ?? "unbound and dig are wanted: apt-get install unbound bind9-dnsutils");

  const directory = mkdtempSync(join(tmpdir(), "isochrone-hints-"));
  const hints = join(directory, "root.hints");
  writeFileSync(hints, rootHints);
  const world = await DelegatedWorld.start({ clusters: ["fra", "nyc", "sin"], ttlSeconds: 3_600 });
  let resolver: ValidatingResolver | undefined;
  let failed = 0;
  let asked = 0;
  const phases: Phase[] = [];
  const phase = async (title: string): Promise<void> => {
    if (resolver === undefined) return;
    const servers = ["top", "fra", "nyc", "sin", "ams"];
    const before = servers.map((one) => world.queriesOf(one));
    const waits: number[] = [];
    let bad = 0;
    for (let n = 0; n < names; n++) {
      const startMs = performance.now();
      const said = await resolver.ask(`x${asked++}.${DELEGATED}`).catch(() => undefined);
      waits.push(performance.now() - startMs);
      if (said?.isAuthentic !== true) bad++;
    }
    waits.sort((a, b) => a - b);
    failed += bad;
    phases.push({
      phase: title,
      asked: names,
      failed: bad,
      p50Ms: Math.round(waits[waits.length >> 1] ?? 0),
      mostMs: Math.round(waits.at(-1) ?? 0),
      queries: Object.fromEntries(servers.map((one, n) => [one, world.queriesOf(one) - (before[n] ?? 0)])),
    });
  };
  try {
    // Who sees the walk step by step: each server asked as a resolver would, then the resolver itself.
    const walk: string[] = [];
    for (const [address, name] of [
      [world.rootAddress, CUSTOMER_NAME],
      [world.rootAddress, `shop.${DELEGATED}`],
      [world.topAddress, `shop.${DELEGATED}`],
      [world.nameServerAddressOf("fra"), `shop.${DELEGATED}`],
    ] as const) {
      const args = [`@${address}`, "+norecurse", "+noall", "+answer", "+authority", "+additional", name, "A"];
      const { stdout } = await promisify(execFile)(dig, args);
      walk.push(`; ${name} A at ${address}`, ...stdout.split("\n").filter((line) => /^[a-z]/.test(line)));
    }
    console.error(walk.join("\n"));
    resolver = await ValidatingResolver.start(
      {
        program: unbound,
        server: [`root-hints: "${hints}"`, `trust-anchor: "${world.trustAnchor}"`, "cache-max-ttl: 1"],
        more: [],
      },
      dig,
    );
    const first = await resolver.ask(CUSTOMER_NAME);
    if (first.answers.at(-1) !== world.edgeAddressOf("fra")) failed++;
    await phase("all alive");
    await world.kill("fra");
    await phase("the nearest one dead, nobody told");
    world.tellDown("fra");
    await phase("told");
    await world.setClusters(["ams", "nyc", "sin"]);
    await phase("a new cluster, nearest by the map");
    const last = await resolver.ask(`news.${DELEGATED}`);
    if (last.answers.at(-1) !== world.edgeAddressOf("ams")) failed++;
    const answers = { [CUSTOMER_NAME]: first.answers, [`news.${DELEGATED}`]: last.answers };
    console.log(JSON.stringify({ lab: "delegation", answers, phases, failed }, undefined, 2));
    return failed > 0 ? 1 : 0;
  } finally {
    await resolver?.stop();
    await world.close();
    rmSync(directory, { recursive: true, force: true });
  }
}
