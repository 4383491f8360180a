/** `isochrone visit`: visitors for the running world, so that there is something to see. */
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { formatPrefix, Random, summary } from "#kit";
import { http } from "#kit/io";
import { clusterCacheStatus } from "./cache-status.ts";
import { requireRunningWorld } from "./runtime.ts";
import { formatTable } from "./table.ts";
import { askAdmin } from "./up/admin.ts";
import { messageOf, UsageError } from "./usage.ts";
import { type ResolvedAddresses, resolveFor } from "./visit/dns-client.ts";
import { type Visit, VisitPlan } from "./visit/plan.ts";
import type { WorldDescription } from "./world.ts";

const help = `Usage: isochrone visit [--rate N] [--seconds N] [--from CITY] [--seed N] [--json] [--state DIR]

Sends visitors through the running world: each asks a name server for its own client network, then
fetches a page, a file or a stream from the edge it was sent to. Prints, for each city, which edges
answered, the hit ratio, and how long it took. Times are those of the edge and what is behind it;
the visitor's own way to the edge is not emulated.

  --rate N      visits a second (default 20, at most 500)
  --seconds N   for how long (default 30, at most 3600)
  --from CITY   only visitors of this city (or client network)
  --seed N      who visits what follows from it (default 1)

Exit code 0, or 1 when a visit failed.

Examples:
  isochrone visit
  isochrone visit --from Tokyo --rate 5 --seconds 10 --json`;

const IN_FLIGHT_MAX = 500;
const ANSWER_TIMEOUT_MS = 15_000;

interface CityTally {
  visits: number;
  requests: number;
  hits: number;
  failures: number;
  readonly edges: Map<string, number>;
  readonly durationsMs: number[];
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      rate: { type: "string" },
      seconds: { type: "string" },
      from: { type: "string" },
      seed: { type: "string" },
      json: { type: "boolean" },
      state: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  const rate = numberOf("--rate", values.rate, 20, 500);
  const seconds = numberOf("--seconds", values.seconds, 30, 3_600);
  const running = requireRunningWorld(values.state);
  const world = (await askAdmin(running.adminSocket, "/world")) as WorldDescription;
  const visitors = new Visitors(world, new Random(values.seed ?? "1"), values.from);
  await visitors.run(rate, seconds);
  if (values.json) console.log(JSON.stringify(visitors.report(), null, 2));
  else console.log(visitors.table());
  for (const [message, count] of visitors.problems) console.error(`${count} x ${message}`);
  return visitors.problems.size === 0 ? 0 : 1;
}

function numberOf(option: string, text: string | undefined, fallback: number, max: number): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!(value > 0 && value <= max)) {
    throw new UsageError(
      `${option}: got ${JSON.stringify(text)}, expected a number above 0 and at most ${max}`,
    );
  }
  return value;
}

class Visitors {
  readonly problems = new Map<string, number>();
  readonly #world: WorldDescription;
  readonly #plan: VisitPlan;
  readonly #random: Random;
  readonly #agent = new http.Agent({ keepAlive: true, maxSockets: 64, timeout: ANSWER_TIMEOUT_MS });
  readonly #tallies = new Map<string, CityTally>();
  readonly #answers = new Map<string, { readonly result: ResolvedAddresses; readonly untilMs: number }>();
  readonly #serverAt: ReadonlyMap<string, { readonly id: string; readonly port: number }>;

  constructor(world: WorldDescription, random: Random, city: string | undefined) {
    this.#world = world;
    this.#random = random.split("client");
    try {
      this.#plan = new VisitPlan(world, random.split("plan"), city);
    } catch (error) {
      throw new UsageError(messageOf(error));
    }
    this.#serverAt = new Map(
      world.sites.flatMap((site) =>
        site.servers.map((one) => [one.address, { id: one.id, port: one.port }] as const),
      ),
    );
  }

  /** Visits begin evenly spaced; slow ones overlap, up to a limit. */
  async run(rate: number, seconds: number): Promise<void> {
    const startMs = performance.now();
    const total = Math.max(1, Math.round(rate * seconds));
    const inFlight = new Set<Promise<void>>();
    for (let n = 0; n < total; n++) {
      const waitMs = startMs + (n * 1_000) / rate - performance.now();
      if (waitMs > 0) await delay(waitMs);
      if (inFlight.size >= IN_FLIGHT_MAX) await Promise.race(inFlight);
      const visit = this.#visit(this.#plan.next(Date.now())).finally(() => inFlight.delete(visit));
      inFlight.add(visit);
      if (n % Math.max(1, Math.round(rate * 5)) === 0 && n > 0)
        console.error(`${n} of ${total} visits begun`);
    }
    await Promise.all(inFlight);
    this.#agent.destroy();
  }

  async #visit(visit: Visit): Promise<void> {
    const tally = this.#tally(visit.city);
    tally.visits += 1;
    try {
      const { addresses } = await this.#resolve(visit);
      // Resolvers rotate what they were told.
      const order = this.#random.shuffle(addresses);
      for (const path of visit.paths) await this.#fetchFromAny(tally, order, visit.host, path);
    } catch (error) {
      this.#note(tally, messageOf(error));
    }
  }

  async #resolve(visit: Visit): Promise<ResolvedAddresses> {
    const key = `${visit.host} ${formatPrefix(visit.subnet)}`;
    const known = this.#answers.get(key);
    if (known !== undefined && known.untilMs > performance.now()) return known.result;
    const result = await this.#ask(visit);
    this.#answers.set(key, { result, untilMs: performance.now() + result.ttlSeconds * 1_000 });
    return result;
  }

  /** As a resolver does: the next name server when one does not answer. */
  async #ask(visit: Visit): Promise<ResolvedAddresses> {
    let failure: unknown = new Error("This world has no name server");
    for (const server of this.#random.shuffle(this.#world.nameServers)) {
      try {
        return await resolveFor(server, visit.host, visit.subnet, this.#random.int(65_536));
      } catch (error) {
        failure = error;
      }
    }
    throw failure;
  }

  /** As a browser does: the next address when one takes no connection. */
  async #fetchFromAny(
    tally: CityTally,
    addresses: readonly string[],
    host: string,
    path: string,
  ): Promise<void> {
    for (const [n, address] of addresses.entries()) {
      const server = this.#serverAt.get(address);
      if (server === undefined)
        throw new Error(`The answer names ${address}, which is no server of this world`);
      try {
        await this.#fetch(tally, address, server.port, host, path);
        tally.edges.set(server.id, (tally.edges.get(server.id) ?? 0) + 1);
        return;
      } catch (error) {
        const isRefused = error instanceof Error && "code" in error && error.code === "ECONNREFUSED";
        if (!isRefused || n === addresses.length - 1) throw error;
      }
    }
  }

  #fetch(tally: CityTally, address: string, port: number, host: string, path: string): Promise<void> {
    const startMs = performance.now();
    return new Promise((resolve, reject) => {
      const outgoing = http.request(
        { host: address, port, path, headers: { host }, agent: this.#agent },
        (incoming) => {
          incoming.resume();
          incoming.on("error", reject);
          incoming.on("end", () => {
            tally.requests += 1;
            tally.durationsMs.push(performance.now() - startMs);
            const status = incoming.statusCode ?? 0;
            if (status >= 400) this.#note(tally, `status ${status} for http://${host}${path}`);
            if (clusterCacheStatus(String(incoming.headers["cache-status"] ?? "")).isHit) tally.hits += 1;
            resolve();
          });
        },
      );
      outgoing.setTimeout(ANSWER_TIMEOUT_MS, () =>
        outgoing.destroy(new Error(`${address} did not answer in ${ANSWER_TIMEOUT_MS} ms`)),
      );
      outgoing.on("error", reject);
      outgoing.end();
    });
  }

  #tally(city: string): CityTally {
    let tally = this.#tallies.get(city);
    if (tally === undefined) {
      tally = { visits: 0, requests: 0, hits: 0, failures: 0, edges: new Map(), durationsMs: [] };
      this.#tallies.set(city, tally);
    }
    return tally;
  }

  #note(tally: CityTally, message: string): void {
    tally.failures += 1;
    if (this.problems.size < 100 || this.problems.has(message))
      this.problems.set(message, (this.problems.get(message) ?? 0) + 1);
  }

  report() {
    return [...this.#tallies]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([city, tally]) => {
        const { p50, p95 } = summary(tally.durationsMs);
        return {
          city,
          visits: tally.visits,
          requests: tally.requests,
          failures: tally.failures,
          hitRatio: tally.requests === 0 ? null : tally.hits / tally.requests,
          p50Ms: tally.requests === 0 ? null : p50,
          p95Ms: tally.requests === 0 ? null : p95,
          edges: Object.fromEntries([...tally.edges].sort((a, b) => b[1] - a[1])),
        };
      });
  }

  table(): string {
    const rows = this.report().map((one) => [
      one.city,
      one.visits,
      one.requests,
      one.failures,
      one.hitRatio === null ? "-" : `${(one.hitRatio * 100).toFixed(0)} %`,
      one.p50Ms === null ? "-" : one.p50Ms.toFixed(1),
      one.p95Ms === null ? "-" : one.p95Ms.toFixed(1),
      Object.entries(one.edges)
        .map(([id, count]) => `${id} ${count}`)
        .join(", "),
    ]);
    return formatTable(["city", "visits", "requests", "failed", "hits", "p50 ms", "p95 ms", "edges"], rows);
  }
}
