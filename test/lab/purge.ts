/**
 * `npm run lab -- purge`: content changes at the origin, is purged, and is read all the time through a control process, two
 * edges of one cluster and a parent. A checker knows for each object which version was the newest when a purge of it was
 * acknowledged: an answer to a request that began later and has an older one is stale. What was purged softly may still be served
 * where a next hop fails or is silent, and says so: such an answer is held to the newest hard purge. Servers are killed
 * meanwhile, and come back from their disk.
 */
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { Agent, createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type PropertyId, Random, summary as summaryOf } from "#kit";
import { createLogger } from "#kit/io";
import { ControlClient } from "#control";
import { wholeNumber } from "../tools/flags.ts";
import { freePort, type IsochroneProcess, startIsochrone, waitFor } from "../tools/processes.ts";

export const summary =
  "10,000 purges under reads and crashes: stale answers after an acknowledgement, and its time";

const HELP = `Usage: npm run lab -- purge [options]

${summary}

  --purges N      how many (default 10000)
  --at-once N     purges under way at once, of different objects (default 16)
  --readers N     clients that read without a pause (default 16)
  --objects N     objects (default 400)
  --kills N       servers that are killed with SIGKILL and started again meanwhile (default 6)
  --seed N        of what is drawn (default 1)
  --help

JSON on stdout. Exit code: 0 no stale answer, 1 some, 2 bad usage.
`;

export interface PurgeLabOptions {
  readonly purges: number;
  readonly atOnce: number;
  readonly readers: number;
  readonly objects: number;
  readonly kills: number;
  readonly seed: number;
  readonly log: (line: string) => void;
}

export interface PurgeLabResult {
  readonly purges: number;
  /** How they named the object. */
  readonly purgesBy: Readonly<Record<string, number>>;
  /** Of these, those that not every server acknowledged: one was down. */
  readonly unacknowledged: number;
  readonly kills: number;
  readonly reads: number;
  /** Reads that a server of ours answered from its store. */
  readonly hits: number;
  /** Reads that began after a purge was acknowledged. */
  readonly readsChecked: number;
  /** Of these, those with what the purge meant. */
  readonly stale: number;
  /** Older answers of what was purged softly alone, since the next hop failed or was silent. */
  readonly covered: number;
  readonly staleExamples: readonly string[];
  /** Reads without an answer: their server was being killed. */
  readonly readsFailed: number;
  readonly originRequests: number;
  /** From sending a purge to the acknowledgement of all, of those during which all were up, ms. */
  readonly acknowledgedMs: { readonly p50: number; readonly p99: number; readonly max: number };
}

const HOST = "www.shop.example";
const TOKEN = "0123456789abcdef0123456789abcdef";
const ENVIRONMENT = {
  ISOCHRONE_CONTROL_TOKEN: TOKEN,
  ISOCHRONE_PEER_KEY: "00112233445566778899aabbccddeeff",
  ISOCHRONE_LOG: "error",
};
const SERVERS = ["fra-1", "fra-2", "par-1"] as const;
type ServerName = (typeof SERVERS)[number];
const WAYS = ["url", "tag", "prefix", "url-soft", "tag-soft"] as const;
/** Longest time that the origin keeps a request: fills must be in flight when purges come, ms. */
const ORIGIN_DELAY_MS_MAX = 30;
/** How long a killed server stays away, ms: purges of that time are what it must catch up with. */
const AWAY_MS = 400;

export async function purgeLab(options: PurgeLabOptions): Promise<PurgeLabResult> {
  const random = new Random(options.seed);
  const directory = await mkdtemp(join(tmpdir(), "isochrone-lab-"));
  /** Of each object: the version that the origin has, and the one that an acknowledged purge has made the least. */
  const current = Array.from({ length: options.objects }, () => 1);
  const least = Array.from({ length: options.objects }, () => 0);
  /** The same of hard purges alone. */
  const leastHard = Array.from({ length: options.objects }, () => 0);
  let originRequests = 0;
  const origin = createServer((asked, response) => {
    originRequests++;
    const object = Number(/^\/f\/([0-9]+)\//.exec(asked.url ?? "")?.[1] ?? "0");
    // Read when the request comes: an answer that is on its way while the object changes is old.
    const version = current[object] ?? 0;
    setTimeout(() => {
      response.writeHead(200, { "cache-control": "max-age=3600", "surrogate-key": `object-${object}` });
      response.end(String(version));
    }, random.float() * ORIGIN_DELAY_MS_MAX);
  }).listen(0, "127.0.0.1");
  await once(origin, "listening");
  const { port: originPort } = origin.address() as AddressInfo;
  const ports = { control: await freePort(), "fra-1": 0, "fra-2": 0, "par-1": 0 };
  for (const name of SERVERS) ports[name] = await freePort();
  const processes = new Map<string, IsochroneProcess>();
  const start = async (name: "control" | ServerName): Promise<void> => {
    const at = `--listen 127.0.0.1:${ports[name]} --state ${join(directory, name)}`.split(" ");
    const node = ["--node", name, "--control", `http://127.0.0.1:${ports.control}`];
    const args = name === "control" ? ["control", ...at] : ["edge", ...node, ...at];
    processes.set(name, await startIsochrone(args, { env: ENVIRONMENT }));
  };
  await start("control");
  const client = new ControlClient({
    url: `http://127.0.0.1:${ports.control}`,
    token: TOKEN,
    nodeId: "lab",
    logger: createLogger({ role: "test", id: "lab" }, { level: "silent" }),
  });
  const agent = new Agent({ keepAlive: true, maxSockets: options.readers * 2 });
  try {
    const cluster = (clusterId: string, role: string, servers: readonly ServerName[]) => ({
      clusterId,
      regionId: "eu",
      role,
      city: clusterId,
      coordinates: { latitude: 50, longitude: 8 },
      servers: servers.map((serverId) => ({ serverId, address: "127.0.0.1", port: ports[serverId] })),
    });
    await client.put(
      "topology",
      "world",
      {
        name: "world",
        clusters: [cluster("fra", "edge", ["fra-1", "fra-2"]), cluster("par", "parent", ["par-1"])],
        nameService: { zones: [], nameServers: [] },
      },
      { expectedVersion: 0 },
    );
    await client.put(
      "property",
      "shop",
      {
        propertyId: "shop",
        customerId: "acme",
        hostnames: [HOST],
        origins: [{ scheme: "http", host: "127.0.0.1", port: originPort }],
      },
      { expectedVersion: 0, activate: true },
    );
    await Promise.all(SERVERS.map(start));
    await waitFor(async () => (await client.reports()).length === SERVERS.length, {
      what: "reports of all servers",
      timeoutMs: 20_000,
    });

    let isDone = false;
    const reads = { all: 0, hits: 0, checked: 0, stale: 0, covered: 0, failed: 0 };
    const staleExamples: string[] = [];
    const path = (object: number): string => `/f/${object}/x.txt`;
    const read = async (server: ServerName, object: number): Promise<void> => {
      const begins = least[object] ?? 0;
      const beginsHard = leastHard[object] ?? 0;
      const answer = await fetchText(agent, ports[server], path(object)).catch(() => undefined);
      reads.all++;
      if (answer === undefined || answer.status !== 200) {
        reads.failed++;
        return;
      }
      if (answer.cacheStatus.includes("; hit")) reads.hits++;
      if (begins > 0) reads.checked++;
      if (Number(answer.text) >= begins) return;
      if (answer.cacheStatus.includes("detail=stale-if-error") && Number(answer.text) >= beginsHard) {
        reads.covered++;
        return;
      }
      reads.stale++;
      if (staleExamples.length < 10)
        staleExamples.push(`${server} ${path(object)}: ${answer.text} < ${begins}: ${answer.cacheStatus}`);
    };
    const readers = Array.from({ length: options.readers }, async () => {
      while (!isDone) await read(random.float() < 0.5 ? "fra-1" : "fra-2", random.int(options.objects));
    });

    const purgesBy: Record<string, number> = {};
    const times: number[] = [];
    let unacknowledged = 0;
    let begun = 0;
    let ended = 0;
    let kills = 0;
    /** Servers that are down or starting. */
    let away = 0;
    const busy = new Set<number>();
    const purgers = Array.from({ length: options.atOnce }, async () => {
      while (begun < options.purges) {
        begun++;
        let object = random.int(options.objects);
        while (busy.has(object)) object = (object + 1) % options.objects;
        busy.add(object);
        const way = WAYS[random.int(WAYS.length)] ?? "url";
        purgesBy[way] = (purgesBy[way] ?? 0) + 1;
        const version = (current[object] ?? 0) + 1;
        current[object] = version;
        const url = `http://${HOST}${path(object)}`;
        const startedAt = performance.now();
        const killsBefore = kills;
        const awayBefore = away;
        const result = await client.purge({
          propertyId: "shop" as PropertyId,
          urls: way.startsWith("url") ? [url] : [],
          tags: way.startsWith("tag") ? [`object-${object}`] : [],
          ...(way === "prefix" && { prefixes: [`http://${HOST}/f/${object}`] }),
          mode: way.endsWith("soft") ? "soft" : "hard",
        });
        // Who was away catches up before it serves, so that what is said here holds for all.
        if (result.acked < result.expected) unacknowledged++;
        else if (awayBefore + away === 0 && kills === killsBefore) times.push(performance.now() - startedAt);
        least[object] = version;
        if (!way.endsWith("soft")) leastHard[object] = version;
        busy.delete(object);
        if (++ended % 1_000 === 0) options.log(`${ended} purges, ${reads.all} reads, ${reads.stale} stale`);
      }
    });
    const killer = (async () => {
      while (kills < options.kills && begun < options.purges) {
        const due = ((kills + 1) * options.purges) / (options.kills + 1);
        await waitFor(() => begun >= due, { what: "the next kill", timeoutMs: 3_600_000, intervalMs: 50 });
        const victim = SERVERS[kills % SERVERS.length] ?? "fra-1";
        kills++;
        away++;
        processes.get(victim)?.signal("SIGKILL");
        await processes.get(victim)?.exit;
        await new Promise((resolve) => setTimeout(resolve, AWAY_MS));
        await start(victim);
        away--;
        options.log(`${victim} was killed and is back`);
      }
    })();
    await Promise.all([...purgers, killer]);
    isDone = true;
    await Promise.all(readers);
    // Once more, all of them, at both: what is still kept anywhere must be the newest.
    for (let object = 0; object < options.objects; object++)
      for (const server of ["fra-1", "fra-2"] as const) await read(server, object);
    const figures = summaryOf(times);
    return {
      purges: begun,
      purgesBy,
      unacknowledged,
      kills,
      reads: reads.all,
      hits: reads.hits,
      readsChecked: reads.checked,
      stale: reads.stale,
      covered: reads.covered,
      staleExamples,
      readsFailed: reads.failed,
      originRequests,
      acknowledgedMs: { p50: figures.p50, p99: figures.p99, max: figures.max },
    };
  } finally {
    agent.destroy();
    await client.close();
    await Promise.all(Array.from(processes.values(), (one) => one.stop(2_000)));
    origin.closeAllConnections();
    origin.close();
    await rm(directory, { recursive: true, force: true });
  }
}

interface TextAnswer {
  readonly status: number;
  readonly text: string;
  readonly cacheStatus: string;
}

function fetchText(agent: Agent, port: number, path: string): Promise<TextAnswer> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      { host: "127.0.0.1", port, path, agent, headers: { host: HOST } },
      (incoming) => {
        let text = "";
        incoming.setEncoding("latin1");
        incoming.on("data", (chunk: string) => {
          text += chunk;
        });
        incoming.once("error", reject);
        incoming.once("end", () =>
          resolve({
            status: incoming.statusCode ?? 0,
            text,
            cacheStatus: String(incoming.headers["cache-status"] ?? ""),
          }),
        );
      },
    );
    outgoing.once("error", reject);
    outgoing.end();
  });
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      purges: { type: "string", default: "10000" },
      "at-once": { type: "string", default: "16" },
      readers: { type: "string", default: "16" },
      objects: { type: "string", default: "400" },
      kills: { type: "string", default: "6" },
      seed: { type: "string", default: "1" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  const whole = (flag: string, value: string, min: number): number =>
    wholeNumber(flag, value, min, 1_000_000);
  const atOnce = whole("at-once", values["at-once"], 1);
  const result = await purgeLab({
    purges: whole("purges", values.purges, 1),
    atOnce,
    readers: whole("readers", values.readers, 1),
    objects: Math.max(whole("objects", values.objects, 1), 2 * atOnce),
    kills: whole("kills", values.kills, 0),
    seed: whole("seed", values.seed, 0),
    log: (line) => console.error(line),
  });
  console.log(JSON.stringify(result, undefined, 2));
  return result.stale === 0 ? 0 : 1;
}
