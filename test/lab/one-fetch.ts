/**
 * `npm run lab -- one-fetch`: real edges in several clusters, whose first parents differ, and all clients of all of them ask
 * for the same object at once. Then again while an edge, and then the parent, that fetches it is killed half-way. At the end
 * the parents that live are stopped (SIGSTOP), the origin falls silent, and what is stale is asked for.
 */
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { Agent, createServer, request, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { createLogger } from "#kit/io";
import { ControlClient } from "#control";
import { wholeNumber } from "../tools/flags.ts";
import { freePort, type IsochroneProcess, startIsochrone, waitFor } from "../tools/processes.ts";
import { HOST, tierWorld } from "../tools/tier-world.ts";

export const summary =
  "one object at all edges at once: origin requests, also when the server that fetches it dies; stale when all are silent";

const HELP = `Usage: npm run lab -- one-fetch [options]

${summary}

  --clusters N    edge clusters (default 4)
  --edges N       edges in each (default 5)
  --clients N     clients of each edge (default 200)
  --parents N     parent clusters of one server (default 3)
  --stale N       objects that are asked for when parents and origin are silent (default 50)
  --help

JSON on stdout. Exit code: 0 as it should be, 1 not, 2 bad usage.
`;

export interface OneFetchOptions {
  readonly clusters: number;
  readonly edges: number;
  readonly clients: number;
  readonly parents: number;
  readonly stale: number;
  readonly log: (line: string) => void;
}

interface Burst {
  readonly killed: string | undefined;
  /** Clients of edges that were not killed. */
  readonly clients: number;
  /** Of these, those that did not get the whole object. */
  readonly failed: number;
  /** Of each the range, and the servers that it came through. */
  readonly originRequests: readonly string[];
  /** Requests that servers gave up before the kill because their path was silent: beyond 0 the machine was too slow to tell anything. */
  readonly givenUp: number;
}

export interface OneFetchResult {
  readonly bursts: readonly Burst[];
  /** The same objects at one edge of a cluster before and after another one of it was killed. */
  readonly ownerDeath: {
    readonly objects: number;
    readonly failed: number;
    readonly moved: number;
    readonly refetched: number;
    readonly refetchedOfOthers: number;
  };
  readonly silent: { readonly asked: number; readonly served: number; readonly longestMs: number };
  readonly isGood: boolean;
}

const ENVIRONMENT = {
  ISOCHRONE_CONTROL_TOKEN: "0123456789abcdef0123456789abcdef",
  ISOCHRONE_PEER_KEY: "00112233445566778899aabbccddeeff",
  ISOCHRONE_LOG: "error",
};
/** The object, and its halves: the second one waits until the origin is told to go on. */
const OBJECT = Buffer.alloc(400_000, "0123456789abcdef");
const HALF_BYTES = OBJECT.length / 2;
/** Objects whose owners are looked at before and after a death. */
const OWNED = 60;

export async function oneFetchLab(options: OneFetchOptions): Promise<OneFetchResult> {
  const directory = await mkdtemp(join(tmpdir(), "isochrone-lab-"));
  const seen: { readonly path: string; readonly range: string; readonly via: string }[] = [];
  const held = new Set<ServerResponse>();
  let isHolding = true;
  let isSilent = false;
  const origin = createServer((asked, response) => {
    const path = asked.url ?? "";
    if (asked.method !== "GET") return void response.end();
    seen.push({ path, range: asked.headers.range ?? "", via: asked.headers.via ?? "" });
    if (isSilent) return;
    if (!path.startsWith("/burst")) {
      const life = path.startsWith("/stale") ? "max-age=1, stale-if-error=3600" : "max-age=3600";
      response.writeHead(200, { "cache-control": life, etag: `"${path}"` });
      return void response.end(path);
    }
    const [first = 0, last = OBJECT.length - 1] = (
      /^bytes=([0-9]+)-([0-9]*)$/.exec(asked.headers.range ?? "")?.slice(1) ?? []
    ).map((text) => (text === "" ? OBJECT.length - 1 : Math.min(Number(text), OBJECT.length - 1)));
    const isPart = asked.headers.range !== undefined;
    response.writeHead(isPart ? 206 : 200, {
      "cache-control": "max-age=3600",
      etag: '"burst"',
      "content-length": last - first + 1,
      ...(isPart && { "content-range": `bytes ${first}-${last}/${OBJECT.length}` }),
    });
    if (!isHolding) return void response.end(OBJECT.subarray(first, last + 1));
    response.write(OBJECT.subarray(first, HALF_BYTES));
    held.add(response);
    response.once("close", () => held.delete(response));
  }).listen(0, "127.0.0.1");
  await once(origin, "listening");
  const { port: originPort } = origin.address() as AddressInfo;
  const ports = new Map<string, number>();
  const ids = tierWorld({ ...shape(options), originPort, portOf: () => 1 }).servers;
  for (const id of ["control", ...Object.values(ids).flat()]) ports.set(id, await freePort());
  const portOf = (id: string): number => ports.get(id) ?? 0;
  const world = tierWorld({ ...shape(options), originPort, portOf });
  const processes = new Map<string, IsochroneProcess>();
  const start = async (name: string): Promise<void> => {
    const at = `--listen 127.0.0.1:${portOf(name)} --state ${join(directory, name)}`.split(" ");
    const node = ["--node", name, "--control", `http://127.0.0.1:${portOf("control")}`];
    const args = name === "control" ? ["control", ...at] : ["edge", ...node, "--memory", "32MiB", ...at];
    processes.set(name, await startIsochrone(args, { env: ENVIRONMENT, timeoutMs: 120_000 }));
  };
  const kill = async (name: string): Promise<void> => {
    processes.get(name)?.signal("SIGKILL");
    await processes.get(name)?.exit;
    processes.delete(name);
  };
  await start("control");
  const client = new ControlClient({
    url: `http://127.0.0.1:${portOf("control")}`,
    token: ENVIRONMENT.ISOCHRONE_CONTROL_TOKEN,
    nodeId: "lab",
    logger: createLogger({ role: "test", id: "lab" }, { level: "silent" }),
  });
  const agent = new Agent({ keepAlive: true });
  const ask = (edge: string, path: string): Promise<Got> => get(agent, portOf(edge), path);
  try {
    await client.put("topology", "world", world.topology, { expectedVersion: 0 });
    await client.put("map", "world", world.map, { expectedVersion: 0 });
    await client.put("property", "shop", world.property, { expectedVersion: 0, activate: true });
    const all = Object.values(world.servers).flat();
    // A few at a time: all at once would take each other's time.
    for (let at = 0; at < all.length; at += 4) await Promise.all(all.slice(at, at + 4).map(start));
    await waitFor(
      async () => {
        const reports = await client.reports();
        return (
          reports.length === all.length &&
          reports.every(({ applied }) => "map/world" in applied && "property/shop" in applied)
        );
      },
      { what: "all documents at all servers", timeoutMs: 60_000 },
    );
    const edges = (): string[] => all.filter((id) => id.startsWith("e") && processes.has(id));
    // Who was up before the others takes them for dead until two probes have told otherwise, and asks the origin itself.
    await waitFor(
      async () => {
        const last = await Promise.all(edges().map((edge) => lastServer(portOf(edge), "/burst-1")));
        return new Set(last).size === 1 && last[0] !== undefined;
      },
      { what: "the same last server on the way of all edges", timeoutMs: 60_000 },
    );
    options.log(`${all.length} servers are ready`);

    const burst = async (
      number: number,
      victimOf: ((via: readonly string[]) => string | undefined) | undefined,
    ): Promise<Burst> => {
      const path = `/burst-${number}`;
      const before = seen.length;
      const givenUpBefore = await total(processes.keys(), portOf, "isochrone_transport_given_up_total");
      isHolding = true;
      const asked = edges().map((edge) => ({
        edge,
        answers: Promise.all(
          Array.from({ length: options.clients }, () =>
            ask(edge, path).catch(() => void beginnings.set(path, begun(path) + 1)),
          ),
        ),
      }));
      // Half of it is out, and all clients wait.
      await waitFor(() => held.size > 0, { what: "a request at the origin", timeoutMs: 60_000 });
      await waitFor(() => begun(path) >= edges().length * options.clients, {
        what: "the first half at all clients",
        timeoutMs: 180_000,
      });
      const givenUp = await total(processes.keys(), portOf, "isochrone_transport_given_up_total");
      const via = (seen.at(-1)?.via ?? "").split(", ").map((one) => one.replace("1.1 ", ""));
      const victim = victimOf?.(via);
      isHolding = false;
      if (victim !== undefined) await kill(victim);
      for (const response of held) response.end(OBJECT.subarray(HALF_BYTES));
      let clients = 0;
      let failed = 0;
      for (const { edge, answers } of asked) {
        const got = await answers;
        if (edge === victim) continue;
        clients += got.length;
        failed += got.filter((one) => one?.body.equals(OBJECT) !== true).length;
      }
      const originRequests = seen.slice(before).map(({ range, via }) => `${range} ${via}`.trim());
      const result = { killed: victim, clients, failed, originRequests, givenUp: givenUp - givenUpBefore };
      options.log(JSON.stringify(result));
      return result;
    };
    const bursts = [
      await burst(1, undefined),
      // The last of the edges on the way owns the key in its cluster; the parent behind it is the shield.
      await burst(2, (via) => via.findLast((name) => name.startsWith("e"))),
      await burst(3, (via) => via.at(-1)),
    ];

    // A cluster in which nobody has died yet: the owner of most objects but the one that is asked.
    const cluster =
      Object.entries(world.servers).find(
        ([id, servers]) => id.startsWith("e") && servers.every((one) => processes.has(one)),
      )?.[1] ?? [];
    const [asker = ""] = cluster;
    const paths = Array.from({ length: OWNED }, (_, n) => `/owned-${n}`);
    for (const path of paths) await ask(asker, path);
    const owners = new Map<string, string>();
    for (const path of paths) owners.set(path, (await ask(asker, path)).cacheStatus.split(";")[0] ?? "");
    const victim = cluster.find((id) => id !== asker) ?? "";
    const death = { objects: OWNED, failed: 0, moved: 0, refetched: 0, refetchedOfOthers: 0 };
    await kill(victim);
    for (const path of paths) {
      const got = await ask(asker, path).catch(() => undefined);
      if (got?.status !== 200) death.failed++;
      const isMoved = owners.get(path) === victim;
      if (isMoved) death.moved++;
      if (/^p[0-9]/.test(got?.cacheStatus ?? "")) {
        death.refetched++;
        if (!isMoved) death.refetchedOfOthers++;
      }
    }
    options.log(JSON.stringify(death));

    const stale = Array.from({ length: options.stale }, (_, n) => `/stale-${n}`);
    for (const path of stale) for (const edge of edges()) await ask(edge, path);
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    isSilent = true;
    const parents = all.filter((id) => id.startsWith("p") && processes.has(id));
    for (const id of parents) processes.get(id)?.signal("SIGSTOP");
    const silent = { asked: 0, served: 0, longestMs: 0 };
    await Promise.all(
      edges().map(async (edge) => {
        for (const path of stale) {
          const startedAt = performance.now();
          const got = await ask(edge, path).catch(() => undefined);
          silent.asked++;
          if (got?.status === 200 && got.body.toString() === path) silent.served++;
          silent.longestMs = Math.max(silent.longestMs, Math.round(performance.now() - startedAt));
        }
      }),
    );
    for (const id of parents) processes.get(id)?.signal("SIGCONT");
    const [plain, ...killed] = bursts;
    const isGood =
      plain?.originRequests.length === 1 &&
      killed.every(({ originRequests }) => originRequests.length <= 2) &&
      bursts.every(({ failed }) => failed === 0) &&
      death.failed === 0 &&
      death.refetchedOfOthers === 0 &&
      silent.served === silent.asked;
    return { bursts, ownerDeath: death, silent, isGood };
  } finally {
    agent.destroy();
    await client.close();
    await Promise.all(
      Array.from(processes.values(), (one) => {
        one.signal("SIGKILL");
        return one.exit;
      }),
    );
    origin.closeAllConnections();
    origin.close();
    await rm(directory, { recursive: true, force: true });
  }
}

const shape = ({ clusters, edges, parents }: OneFetchOptions) => ({
  edgeClusters: clusters,
  edgesPerCluster: edges,
  parents,
});

interface Got {
  readonly status: number;
  readonly body: Buffer;
  readonly cacheStatus: string;
}

/** The last server of ours on the way from an edge to the origin, by its explanation; undefined: it has none now. */
async function lastServer(port: number, path: string): Promise<string | undefined> {
  interface Explanation {
    readonly serverId?: string;
    readonly next?: Explanation | null;
  }
  const url = `http://127.0.0.1:${port}/.isochrone/explain?url=${encodeURIComponent(`http://${HOST}${path}`)}`;
  const authorization = `Bearer ${ENVIRONMENT.ISOCHRONE_CONTROL_TOKEN}`;
  const response = await fetch(url, { headers: { authorization } });
  let at = response.ok ? ((await response.json()) as Explanation) : undefined;
  while (at?.next) at = at.next;
  return at?.serverId;
}

/** Sum of a metric over servers. */
async function total(
  servers: Iterable<string>,
  portOf: (id: string) => number,
  metric: string,
): Promise<number> {
  const values = Array.from(servers, async (id) => {
    if (id === "control") return 0;
    const text = await (await fetch(`http://127.0.0.1:${portOf(id)}/metrics`)).text();
    return Number(new RegExp(`^${metric} ([0-9]+)$`, "m").exec(text)?.[1] ?? 0);
  });
  return (await Promise.all(values)).reduce((sum, value) => sum + value, 0);
}

/** Clients that have the first bytes of a path's answer, or have failed. */
const beginnings = new Map<string, number>();
const begun = (path: string): number => beginnings.get(path) ?? 0;

function get(agent: Agent, port: number, path: string): Promise<Got> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      { host: "127.0.0.1", port, path, agent, headers: { host: HOST } },
      (incoming) => {
        const chunks: Buffer[] = [];
        incoming.once("data", () => beginnings.set(path, begun(path) + 1));
        incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
        incoming.once("error", reject);
        incoming.once("end", () =>
          resolve({
            status: incoming.statusCode ?? 0,
            body: Buffer.concat(chunks),
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
      clusters: { type: "string", default: "4" },
      edges: { type: "string", default: "5" },
      clients: { type: "string", default: "200" },
      parents: { type: "string", default: "3" },
      stale: { type: "string", default: "50" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  const whole = (flag: "clusters" | "edges" | "clients" | "parents" | "stale", min: number): number =>
    wholeNumber(flag, values[flag], min, 1_000);
  const result = await oneFetchLab({
    clusters: whole("clusters", 2),
    edges: whole("edges", 2),
    clients: whole("clients", 1),
    parents: whole("parents", 2),
    stale: whole("stale", 1),
    log: (line) => console.error(line),
  });
  console.log(JSON.stringify(result, undefined, 2));
  return result.isGood ? 0 : 1;
}
