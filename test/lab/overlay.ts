/** `npm run lab -- overlay`: an edge with our overlay and nginx, side by side over the same emulated links, distance, loss and cuts. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { parseArgs } from "node:util";
import { quantile } from "#kit";
import { describeCommit, describeMachine } from "../bench/tools/machine.ts";
import { dieWithUs, findProgram, scratchDirectory } from "../bench/tools/program.ts";
import { wholeNumber } from "../tools/flags.ts";
import { snapshotFrom } from "../tools/map-snapshot.ts";
import type { Fetched, FetchPlan } from "../wan/fetches.ts";
import { type NodeCredentials, topologyDocument } from "#kit";
import { testAuthority } from "../tools/node-credentials.ts";
import type { OverlayFile } from "../wan/overlay.ts";
import { type CongestionControl, WideAreaNetwork, whyNoNetwork } from "../wan/network.ts";

export const summary = "our edge over the overlay beside nginx, at a distance, with loss and cut paths";

const HELP = `Usage: npm run lab -- overlay [options]

${summary}: 10 KB, 1 MB and a large object, a path cut for seconds,
many short cuts, and such within bodies of 1 MB. Both ask the same origin (nginx) for the same, at the same moments. Exit code 1: a request of ours failed, or wrong
bytes came. Needs root, network namespaces, a C compiler and nginx.

  --kernels LIST  of cubic, bbr, doctor (default all): one congestion control everywhere, or the origin's cubic and ours as doctor sets it
  --parts LIST    of small, medium, large, cut, cuts, bodies (default all)
  --rtt N         from the edge to the origin over every path, ms, 2 to 500 (default 96)
  --loss N        packets lost of 1,000 toward the edge, 0 to 200 (default 14)
  --count N       small requests, 20 to 100000 (default 600)
  --cuts N        short cuts, 1 to 1000 (default 100)
  --seed N        of the losses (default 1)
  --help
`;

const HOST = "www.shop.example";
const EDGE = "edge";
const ORIGIN = "origin";
const RELAYS = ["relay-1", "relay-2"] as const;
const CLIENT = "client";
const PORT = 8080;
const NGINX_PORT = 8081;
const RATE_MBIT = 100;
/** From a relay to the origin that it stands near, one way, ms. */
const NEAR_MS = 2;
const CLIENT_MS = 0.2;
/** Of a client that downloads. */
const CLIENT_MBIT = 50;
const SMALL_INTERVAL_MS = 50;
/** A whole large object. */
const LARGE_MS_MAX = 60_000;
/** Until usual times are known. */
const WARM_UP = { count: 60, intervalMs: SMALL_INTERVAL_MS, timeoutMs: 10_000 };
const KERNELS = ["cubic", "bbr", "doctor"] as const;
const PARTS = ["small", "medium", "large", "cut", "cuts", "bodies"] as const;
export type Kernel = (typeof KERNELS)[number];
type Part = (typeof PARTS)[number];
const SIZES = { small: 10_000, medium: 1_000_000, large: 48 << 20 } as const;

export interface Options {
  /** Over every path, ms. */
  readonly rtt: number;
  /** Over the direct path instead. */
  readonly directRtt?: number;
  readonly transport?: OverlayFile["transport"];
  readonly loss: number;
  readonly count: number;
  readonly cuts: number;
  readonly seed: number;
}

type Line = Readonly<Record<string, unknown>> & { readonly time: string; readonly event: string };

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** Everything that runs on the hosts of one network. */
export class World {
  readonly network: WideAreaNetwork;
  readonly lines: Line[] = [];
  readonly #directory = scratchDirectory("overlay", true);
  readonly #hashes = new Map<string, string>();
  #edge: ReturnType<WideAreaNetwork["spawn"]> | undefined;
  #onLine: ((line: Line) => void) | undefined;
  readonly #options: Options;

  constructor(network: WideAreaNetwork, options: Options) {
    this.network = network;
    this.#options = options;
  }

  static async start(kernel: Kernel, options: Options): Promise<World> {
    const hosts = [EDGE, ORIGIN, ...RELAYS, CLIENT];
    const network = await WideAreaNetwork.start({ hosts, seed: options.seed, keepsAwake: true });
    const world = new World(network, options);
    try {
      await world.#setLinks();
      await world.#setKernels(kernel);
      await world.#startPrograms();
    } catch (error) {
      await world.stop();
      throw error;
    }
    return world;
  }

  async stop(): Promise<void> {
    await this.network.stop();
  }

  /** Every path between edge and origin has the same length if not asked otherwise, and the loss is on its long part. */
  async #setLinks(): Promise<void> {
    const { rtt, loss, directRtt = rtt } = this.#options;
    const both = async (host: string, delayMs: number): Promise<void> => {
      await this.network.setLink(host, EDGE, { delayMs, lossRatio: loss / 1000, rateMbit: RATE_MBIT });
      await this.network.setLink(EDGE, host, { delayMs, rateMbit: RATE_MBIT });
    };
    await both(ORIGIN, directRtt / 2);
    for (const relay of RELAYS) {
      await both(relay, rtt / 2 - NEAR_MS);
      await this.network.setLinks(relay, ORIGIN, { delayMs: NEAR_MS, rateMbit: RATE_MBIT });
    }
    await this.network.setLinks(EDGE, CLIENT, { delayMs: CLIENT_MS });
  }

  async #setKernels(kernel: Kernel): Promise<void> {
    const isOurs = (host: string): boolean => host === EDGE || (RELAYS as readonly string[]).includes(host);
    for (const host of this.network.hosts) {
      const ours = kernel === "doctor" && isOurs(host);
      const control: CongestionControl = kernel === "doctor" ? (ours ? "bbr" : "cubic") : kernel;
      await this.network.setCongestionControl(host, control);
      await this.network.setKernel(host, { "net.ipv4.tcp_no_metrics_save": 1 });
      if (!ours) continue;
      await this.network.setKernel(host, { "net.ipv4.tcp_slow_start_after_idle": 0 });
      await this.network.setRoute(host, "initcwnd 32 rto_min 40ms");
    }
  }

  async #startPrograms(): Promise<void> {
    const files = join(this.#directory, "files");
    mkdirSync(files);
    writeFileSync(join(files, "index.html"), "here\n");
    for (const [name, bytes] of Object.entries(SIZES)) {
      const content = Buffer.alloc(bytes);
      for (let at = 0; at + 4 <= bytes; at += 4)
        content.writeUInt32LE(Math.imul(at, 2_654_435_761) >>> 0, at);
      writeFileSync(join(files, name), content);
      this.#hashes.set(name, createHash("sha256").update(content).digest("hex"));
    }
    const origin = this.network.addressOf(ORIGIN);
    const edge = this.network.addressOf(EDGE);
    await this.#nginx(ORIGIN, [
      `access_log ${this.#directory}/origin.log;`,
      `server { listen ${origin}:${PORT}; root ${files}; add_header Cache-Control "max-age=60"; keepalive_requests 1000000; }`,
    ]);
    await this.#nginx(EDGE, [
      "access_log off;",
      `upstream origin { server ${origin}:${PORT}; keepalive 64; keepalive_requests 1000000; }`,
      `proxy_temp_path ${this.#directory}/proxy;`,
      `server { listen ${edge}:${NGINX_PORT}; location / { proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; } }`,
    ]);
    const path = join(this.#directory, "overlay.json");
    const documents = this.#documents();
    const authority = await testAuthority();
    const topology = topologyDocument.parse(documents.topology);
    const credentials: Record<string, NodeCredentials> = {};
    for (const { servers } of topology.clusters)
      for (const { serverId } of servers)
        credentials[serverId] = await authority.credentials(topology, serverId);
    writeFileSync(path, JSON.stringify({ ...documents, credentials }), { mode: 0o600 });
    for (const relay of RELAYS) await this.#ours(relay, ["relay", path, `${relay}-1`]);
    this.#edge = await this.#ours(EDGE, ["edge", path, "edge-1"]);
  }

  #documents() {
    const cluster = (clusterId: string, role: string) => ({
      clusterId,
      regionId: "r",
      role,
      city: clusterId,
      coordinates: { latitude: 50, longitude: 8 },
      servers: [{ serverId: `${clusterId}-1`, address: this.network.addressOf(clusterId), port: PORT }],
    });
    const ranked = [{ clusterId: EDGE, score: 1, terms: { rttMs: 1, lossRatio: 0, load: 0, confidence: 1 } }];
    const fallback = { interactive: ranked, bulk: ranked, live: ranked };
    return {
      transport: this.#options.transport,
      peerKey: "00112233445566778899aabbccddeeff",
      topology: {
        name: "overlay",
        clusters: [
          cluster(EDGE, "edge"),
          ...RELAYS.map((relay) => cluster(relay, "relay")),
          cluster(ORIGIN, "origin"),
        ],
        nameService: { zones: [], nameServers: [] },
      },
      map: snapshotFrom({
        clientNetworks: [{ clientNetworkId: "all", prefixes: ["0.0.0.0/0"], clusters: fallback }],
        fallback,
        paths: [
          {
            fromClusterId: EDGE,
            toClusterId: ORIGIN,
            candidates: [null, ...RELAYS].map((via) => ({ via, rttMs: this.#options.rtt, lossRatio: 0 })),
          },
        ],
      }),
      property: {
        propertyId: "shop",
        customerId: "acme",
        hostnames: [HOST],
        origins: [{ scheme: "http", host: this.network.addressOf(ORIGIN), port: PORT }],
      },
    };
  }

  async #nginx(host: string, http: readonly string[]): Promise<void> {
    const path = join(this.#directory, `${host}.conf`);
    const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
      (name) => `${name}_temp_path ${this.#directory}/${host}-${name};`,
    );
    writeFileSync(
      path,
      [
        "user root; worker_processes 1; daemon off;",
        `pid ${this.#directory}/${host}.pid; error_log ${this.#directory}/${host}.err;`,
        "events { worker_connections 1024; }",
        `http { ${[...temporary.filter((line) => !http.some((own) => own.startsWith(line.split(" ")[0]!))), ...http].join("\n")} }`,
      ].join("\n"),
    );
    const child = this.network.spawn(host, findProgram("nginx")!, ["-c", path], { stdio: "inherit" });
    dieWithUs(child.pid!);
    // It listens as soon as its file was read; whoever asks first waits for that.
    await pause(300);
    if (child.exitCode !== null) throw new Error(`nginx did not start on ${host}`);
  }

  async #ours(host: string, argv: readonly string[]) {
    const program = new URL("../wan/overlay.ts", import.meta.url).pathname;
    const child = this.network.spawn(host, process.execPath, [program, ...argv], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    dieWithUs(child.pid!);
    const reader = createInterface({ input: child.stdout! });
    const [line] = (await Promise.race([
      once(reader, "line"),
      once(child, "exit").then(() => ["ended"]),
    ])) as [string];
    if (line !== "ready") throw new Error(`overlay.ts did not start on ${host}: ${argv.join(" ")}`);
    reader.on("line", (text) => {
      const parsed = JSON.parse(text) as Line;
      this.lines.push(parsed);
      this.#onLine?.(parsed);
    });
    return child;
  }

  /** Transport's counters by name and labels, as the edge exports them. */
  async counters(): Promise<ReadonlyMap<string, number>> {
    const got = new Promise<string>((resolve) => {
      this.#onLine = (line) => {
        if (line.event === "overlay-metrics") resolve(String(line["text"]));
      };
    });
    this.#edge?.kill("SIGUSR2");
    const counters = new Map<string, number>();
    for (const line of (await got).split("\n")) {
      const at = line.lastIndexOf(" ");
      if (line.startsWith("isochrone_transport_"))
        counters.set(line.slice(20, at), Number(line.slice(at + 1)));
    }
    return counters;
  }

  async fetch(
    name: keyof typeof SIZES,
    plan: {
      readonly count: number;
      readonly intervalMs?: number;
      readonly timeoutMs: number;
      readonly path?: string;
    },
    who: "both" | "isochrone" | "nginx" = "both",
  ): Promise<Fetched[]> {
    const address = this.network.addressOf(EDGE);
    const all = [
      { name: "isochrone", address, port: PORT },
      { name: "nginx", address, port: NGINX_PORT },
    ];
    const whole: FetchPlan = {
      path: `/${name}?#`,
      ...plan,
      targets: all.filter((one) => who === "both" || one.name === who),
      host: HOST,
      sha256: this.#hashes.get(name)!,
    };
    const program = new URL("../wan/fetches.ts", import.meta.url).pathname;
    return JSON.parse(
      await this.network.run(CLIENT, process.execPath, [program, JSON.stringify(whole)]),
    ) as Fetched[];
  }
}

function tenth(value: number): number {
  return Math.round(value * 10) / 10;
}

/** Times of one server's answers, ms; what failed counts as never. */
export function timesOf(fetched: readonly Fetched[], name: string) {
  const own = fetched.filter((one) => one.name === name);
  const times = own
    .map(({ ms, failure }) => (failure === undefined ? ms : Infinity))
    .toSorted((a, b) => a - b);
  const at = (share: number): number => tenth(quantile(times, share));
  return {
    count: own.length,
    failures: own.filter(({ failure }) => failure !== undefined).map(({ failure }) => failure),
    over1s: own.filter(({ ms }) => ms > 1_000).length,
    p50: at(0.5),
    p90: at(0.9),
    p95: at(0.95),
    p99: at(0.99),
    max: at(1),
  };
}

const both = (fetched: readonly Fetched[]) => ({
  isochrone: timesOf(fetched, "isochrone"),
  nginx: timesOf(fetched, "nginx"),
});

/** How counters changed, those that did. */
function changed(
  before: ReadonlyMap<string, number>,
  after: ReadonlyMap<string, number>,
): Record<string, number> {
  const found: Record<string, number> = {};
  for (const [name, value] of after) {
    const by = value - (before.get(name) ?? 0);
    if (by !== 0 && !name.startsWith("connections")) found[name] = by;
  }
  return found;
}

async function counted<T>(
  world: World,
  work: () => Promise<T>,
): Promise<T & { counters: Record<string, number> }> {
  const before = await world.counters();
  const result = await work();
  return { ...result, counters: changed(before, await world.counters()) };
}

async function small(world: World, options: Options) {
  await world.fetch("small", WARM_UP);
  const result = await counted(world, async () =>
    both(
      await world.fetch("small", { count: options.count, intervalMs: SMALL_INTERVAL_MS, timeoutMs: 10_000 }),
    ),
  );
  const hedges = result.counters['hedging_total{event="hedges"}'] ?? 0;
  const extraRatio = (hedges + (result.counters["retries_total"] ?? 0)) / options.count;
  return { ...result, extraRatio };
}

/** In turn, so that the two do not share a link's rate. */
async function medium(world: World) {
  const warm = { count: 4, timeoutMs: 60_000 };
  await world.fetch("medium", warm, "isochrone");
  await world.fetch("medium", warm, "nginx");
  return await counted(world, async () =>
    both([
      ...(await world.fetch("medium", { count: 20, timeoutMs: 60_000 }, "isochrone")),
      ...(await world.fetch("medium", { count: 10, timeoutMs: 60_000 }, "nginx")),
    ]),
  );
}

/** What the paths carry is known by then: the first large object would come over whichever path it began on. */
async function large(world: World) {
  await world.fetch("medium", { count: 8, timeoutMs: LARGE_MS_MAX }, "isochrone");
  await world.network.setAccess(CLIENT, { downMbit: CLIENT_MBIT });
  try {
    const rate = (fetched: readonly Fetched[]): number =>
      tenth((SIZES.large * 8) / 1000 / (fetched[0]?.ms ?? Infinity));
    const path = `/large?${Date.now()}`;
    const miss = await world.fetch("large", { count: 1, timeoutMs: LARGE_MS_MAX, path }, "isochrone");
    const hit = await world.fetch("large", { count: 1, timeoutMs: LARGE_MS_MAX, path }, "isochrone");
    const nginx = await world.fetch("large", { count: 1, timeoutMs: LARGE_MS_MAX, path }, "nginx");
    return {
      missMbit: rate(miss),
      hitMbit: rate(hit),
      ratio: tenth((rate(miss) / rate(hit)) * 100) / 100,
      nginxMissMbit: nginx[0]?.failure === undefined ? rate(nginx) : `not done in ${LARGE_MS_MAX} ms`,
      failures: [...miss, ...hit].flatMap(({ failure }) => failure ?? []),
    };
  } finally {
    await world.network.setAccess(CLIENT, {});
  }
}

async function cutBoth(world: World, host: string, isCut: boolean): Promise<void> {
  const { network } = world;
  for (const [from, to] of [
    [EDGE, host],
    [host, EDGE],
  ] as const)
    await (isCut ? network.cut(from, to) : network.heal(from, to));
}

/** The host whose link carries the requests now, as the edge last said. */
function hostInUse(world: World): string {
  const last = world.lines.findLast(
    (line) =>
      line.event === "path-switched" &&
      line["requestClass"] === "small" &&
      String(line["target"]).startsWith("origin"),
  );
  return last === undefined || last["to"] === null ? ORIGIN : (last["to"] as string);
}

async function cut(world: World) {
  const before = world.lines.length;
  const asked = world.fetch("small", { count: 260, intervalMs: SMALL_INTERVAL_MS, timeoutMs: 30_000 });
  await pause(3_000);
  const host = hostInUse(world);
  // What nginx has is the direct path; ours loses the one in use, too.
  const hosts = new Set([ORIGIN, host]);
  const cutAtEpochMs = Date.now();
  for (const one of hosts) await cutBoth(world, one, true);
  await pause(8_000);
  for (const one of hosts) await cutBoth(world, one, false);
  const fetched = await asked;
  const switched = world.lines
    .slice(before)
    .find((line) => line.event === "path-switched" && Date.parse(line.time) >= cutAtEpochMs);
  return {
    hosts: [...hosts],
    switchedAfterMs: switched === undefined ? null : Date.parse(switched.time) - cutAtEpochMs,
    ...both(fetched),
  };
}

/** Short cuts of the path in use, one after the other; two paths are left each time. */
async function cuts(world: World, options: Options) {
  const periodMs = 1_600;
  const count = Math.ceil((options.cuts * periodMs) / SMALL_INTERVAL_MS);
  await world.fetch("small", WARM_UP, "isochrone");
  return await counted(world, async () => {
    const asked = world.fetch(
      "small",
      { count, intervalMs: SMALL_INTERVAL_MS, timeoutMs: 30_000 },
      "isochrone",
    );
    await pause(500);
    for (let n = 0; n < options.cuts; n++) {
      const host = hostInUse(world);
      await cutBoth(world, host, true);
      await pause(periodMs / 2);
      await cutBoth(world, host, false);
      await pause(periodMs / 2);
    }
    return { cuts: options.cuts, isochrone: timesOf(await asked, "isochrone") };
  });
}

/** Of bodies of 1 MB, one after the other, the path in use is cut at moments that know nothing of them. In round trips. */
async function bodies(world: World, options: Options) {
  const cutMs = 800;
  const periodMs = 5_000;
  await world.fetch("small", WARM_UP, "isochrone");
  const quiet = await counted(world, async () => ({
    bodies: await world.fetch("medium", { count: 40, timeoutMs: 60_000 }, "isochrone"),
  }));
  const usualMs = timesOf(quiet.bodies, "isochrone").p50;
  const count = Math.ceil((options.cuts * periodMs) / usualMs);
  const cutAtEpochMs: number[] = [];
  const { fetched, counters } = await counted(world, async () => {
    const asked = world.fetch("medium", { count, timeoutMs: 60_000 }, "isochrone");
    await pause(1_000);
    for (let n = 0; n < options.cuts; n++) {
      await pause((periodMs - cutMs) * (0.5 + Math.random()));
      const host = hostInUse(world);
      cutAtEpochMs.push(Date.now());
      await cutBoth(world, host, true);
      await pause(cutMs);
      await cutBoth(world, host, false);
    }
    return { fetched: await asked };
  });
  const isCut = ({ startedAtEpochMs, headMs, ms }: Fetched): boolean =>
    cutAtEpochMs.some((at) => startedAtEpochMs + headMs < at && startedAtEpochMs + ms > at);
  const met = fetched.filter(isCut);
  const inRoundTrips = (all: readonly Fetched[], of: (one: Fetched) => number) => {
    const values = all.map((one) => of(one) / options.rtt).toSorted((a, b) => a - b);
    const at = (share: number): number => Math.round(quantile(values, share) * 100) / 100;
    return { p10: at(0.1), p50: at(0.5), p90: at(0.9), max: at(1) };
  };
  return {
    cuts: options.cuts,
    metBodies: met.length,
    usualMs,
    longer: inRoundTrips(met, ({ ms }) => ms - usualMs),
    pause: inRoundTrips(met, ({ pauseMs }) => pauseMs),
    quietLonger: inRoundTrips(quiet.bodies, ({ ms }) => ms - usualMs),
    quietPause: inRoundTrips(quiet.bodies, ({ pauseMs }) => pauseMs),
    quietCounters: quiet.counters,
    counters,
    isochrone: timesOf(fetched, "isochrone"),
  };
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      kernels: { type: "string", default: KERNELS.join(",") },
      parts: { type: "string", default: PARTS.join(",") },
      rtt: { type: "string", default: "96" },
      loss: { type: "string", default: "14" },
      count: { type: "string", default: "600" },
      cuts: { type: "string", default: "100" },
      seed: { type: "string", default: "1" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const listOf = <T extends string>(name: string, text: string, known: readonly T[]): readonly T[] => {
    const asked = text.split(",");
    const bad = asked.find((one) => !(known as readonly string[]).includes(one));
    if (bad !== undefined)
      throw new RangeError(`--${name}: got ${JSON.stringify(bad)}, expected some of ${known.join(", ")}`);
    return known.filter((one) => asked.includes(one));
  };
  const kernels = listOf("kernels", values.kernels, KERNELS);
  const parts = listOf("parts", values.parts, PARTS);
  const options: Options = {
    rtt: wholeNumber("rtt", values.rtt, 2 * NEAR_MS + 2, 500),
    loss: wholeNumber("loss", values.loss, 0, 200),
    count: wholeNumber("count", values.count, 20, 100_000),
    cuts: wholeNumber("cuts", values.cuts, 1, 1_000),
    seed: wholeNumber("seed", values.seed, 0, 2 ** 31),
  };
  const reason =
    whyNoNetwork() ?? (findProgram("nginx") === undefined ? "nginx is not installed" : undefined);
  if (reason !== undefined) throw new Error(`The overlay cannot be shown here: ${reason}`);
  const programs: Record<Part, (world: World, options: Options) => Promise<object>> = {
    small,
    medium,
    large,
    cut,
    cuts,
    bodies,
  };
  const results: Record<string, Record<string, unknown>> = {};
  for (const kernel of kernels) {
    results[kernel] = {};
    for (const part of parts) {
      const world = await World.start(kernel, options);
      try {
        // Probes need some rounds before a relay may be used.
        await pause(4_000);
        const result = await programs[part](world, options);
        results[kernel][part] = { ...result, lateUsMax: (await world.network.stats()).lateUsMax };
        say(`${kernel} ${part}: ${JSON.stringify(results[kernel][part])}`);
      } finally {
        await world.stop();
      }
    }
  }
  const result = { lab: "overlay", commit: describeCommit(), machine: describeMachine(), options, results };
  process.stdout.write(`${JSON.stringify(result, undefined, 2)}\n`);
  return /"failures":\["/.test(
    JSON.stringify(results, (key, value: unknown) => (key === "nginx" ? undefined : value)),
  )
    ? 1
    : 0;
}
