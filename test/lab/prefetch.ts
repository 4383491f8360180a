/**
 * `npm run lab -- prefetch`: a browser loads a page of 30 objects that no tier has, through a real edge and a real parent, over
 * links with the latencies of the demo world; with prefetch and without it in turn, over HTTP/1.1 and over HTTP/2, there also with
 * early hints. Each round loads a page of its own, or one that was purged, so every cache is cold for it; connections between
 * servers are warm, as they are in production.
 */
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, get } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import type { Browser } from "playwright-core";
import { type EpochMs, type PropertyId, summary as summaryOf } from "#kit";
import { createLogger, readWorldText } from "#kit/io";
import { parseWorld, WorldLinks } from "#kit/world";
import { makeCertificateDocument } from "#edge";
import { ControlClient } from "#control";
import { CHROMIUM_NAMES, launchChromium } from "../tools/browser.ts";
import { makeCertificate } from "../tools/certificates.ts";
import { wholeNumber } from "../tools/flags.ts";
import {
  freePort,
  type IsochroneProcess,
  requireProgram,
  startIsochrone,
  waitFor,
} from "../tools/processes.ts";
import { tierWorld } from "../tools/tier-world.ts";

export const summary =
  "a browser loads a page of 30 objects through edge and parent: time and waits, with prefetch and without";

const HELP = `Usage: npm run lab -- prefetch [options]

${summary}

  --edge, --parent, --origin SITE   sites of the demo world between which the links lie
                                    (default sin, ams-parent, dub-origin); loss is left out
  --rounds N   page loads of each kind that count, after one that does not (default 5)
  --help

JSON on stdout: of each protocol, off and on, and with 103 Early Hints too, medians of the time to the load event, of answers that
waited for a whole miss, for the rest of one that was under way, and for none, of objects asked for
because of a 103, of prefetched ones, of these used, and of requests to the origin. The browser's own way to the edge is not
emulated. Without chromium it says so and measures nothing.
Exit code: 0 every page came whole and no object was asked of the origin twice, 1 not, 2 bad usage.
`;

export interface PrefetchLabOptions {
  readonly edge: string;
  readonly parent: string;
  readonly origin: string;
  readonly rounds: number;
  readonly chromiumPath: string;
  readonly log: (line: string) => void;
}

/** One page load. */
interface Round {
  readonly loadMs: number;
  /** Answers that began a miss and waited for all of it; that joined one under way; from the store. */
  readonly waited: number;
  readonly joined: number;
  readonly hits: number;
  /** Objects that the browser asked for because a 103 named them. */
  readonly hinted: number;
  readonly prefetched: number;
  readonly used: number;
  readonly originRequests: number;
  /** Objects that did not come, or came twice from the origin. */
  readonly faults: readonly string[];
}

type Medians = Omit<Round, "faults"> & { readonly loadMsAll: readonly number[] };

export interface PrefetchLabResult {
  readonly links: Readonly<Record<string, number>>;
  readonly objects: number;
  readonly rounds: number;
  readonly http1: { readonly off: Medians; readonly on: Medians };
  readonly http2: { readonly off: Medians; readonly on: Medians; readonly hints: Medians };
  readonly faults: readonly string[];
  readonly isGood: boolean;
}

const ENVIRONMENT = {
  ISOCHRONE_CONTROL_TOKEN: "0123456789abcdef0123456789abcdef",
  ISOCHRONE_PEER_KEY: "00112233445566778899aabbccddeeff",
  ISOCHRONE_LOG: "error",
};
const DEMO_WORLD = join(import.meta.dirname, "..", "..", "deploy", "worlds", "demo.yaml");
/** `hints`: on, and the page was seen before. */
const VARIANTS = ["off", "on", "hints"] as const;
type Variant = (typeof VARIANTS)[number];
const RUNS = [
  ["http1", "off"],
  ["http1", "on"],
  ["http2", "off"],
  ["http2", "on"],
  ["http2", "hints"],
] as const;
/** An object that was prefetched is not for 30 s (edge/core/prefetch/ledger.ts), a page that was read is not for 10 s. */
const REMEMBERED_MS = 31_000;
const hostOf = (variant: Variant): string => `${variant}.shop.example`;

const SCRIPTS = 5;
const IMAGES = 21;
const IMAGE_BYTES = 12_000;
/** One transparent pixel; what stands behind its end is ignored. */
const PIXEL = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==",
  "base64",
);
const named = (count: number, name: (n: number) => string): string[] =>
  Array.from({ length: count }, (_, n) => name(n));

/** Name -> type and content; a page with two style sheets, of which one imports a third and names a font. */
const SITE = new Map<string, readonly [string, string | Buffer]>([
  [
    "",
    [
      "text/html",
      `<!doctype html><title>shop</title><link rel=stylesheet href="a.css"><link rel=stylesheet href="b.css">
${named(SCRIPTS, (n) => `<script defer src="${n}.js"></script>`).join("\n")}
<h1>Shop</h1>${named(IMAGES, (n) => `<img src="${n}.png" alt="">`).join("\n")}`,
    ],
  ],
  ["a.css", ["text/css", '@import "c.css"; @font-face { font-family: f; src: url(f.woff2) }']],
  ["b.css", ["text/css", "h1 { font-family: f, serif }"]],
  ["c.css", ["text/css", "img { width: 20px }"]],
  ["f.woff2", ["font/woff2", Buffer.alloc(20_000, 1)]],
  ...named(SCRIPTS, (n) => `${n}.js`).map(
    (name) => [name, ["text/javascript", "//".padEnd(8_000, "x")]] as const,
  ),
  ...named(IMAGES, (n) => `${n}.png`).map(
    (name) => [name, ["image/png", Buffer.concat([PIXEL, Buffer.alloc(IMAGE_BYTES)])]] as const,
  ),
]);

export async function prefetchLab(options: PrefetchLabOptions): Promise<PrefetchLabResult> {
  const directory = await mkdtemp(join(tmpdir(), "isochrone-lab-"));
  const seen: string[] = [];
  const origin = createServer((asked, response) => {
    const [round = "", name = "none"] = (asked.url ?? "").split("/").slice(1);
    const [type, content] = SITE.get(name) ?? [];
    if (!round.startsWith("round-") || content === undefined) return void response.writeHead(404).end();
    seen.push(asked.url ?? "");
    response.writeHead(200, { "cache-control": "max-age=3600", "content-type": type }).end(content);
  }).listen(0, "127.0.0.1");
  await once(origin, "listening");
  const { port: originPort } = origin.address() as AddressInfo;
  const ports = { control: await freePort(), "e1-1": await freePort(), "p1-1": await freePort() };
  const tlsPort = await freePort();
  const portOf = (id: string): number => ports[id as keyof typeof ports];
  const world = tierWorld({ edgeClusters: 1, edgesPerCluster: 1, parents: 1, originPort, portOf });
  const links = linksOf(options);
  const siteOfAddress = {
    [`127.0.0.1:${ports["e1-1"]}`]: "e1",
    [`127.0.0.1:${ports["p1-1"]}`]: "p1",
    [`127.0.0.1:${originPort}`]: "origin",
  };
  const processes: IsochroneProcess[] = [];
  const start = async (name: "control" | "e1-1" | "p1-1", ...more: readonly string[]): Promise<void> => {
    const wan = join(directory, `${name}.json`);
    const self = name.split("-")[0];
    const rtts = Object.entries(links).map(([pair, rttMs]) => [pair, { rttMs }]);
    await writeFile(wan, JSON.stringify({ siteOfAddress, self, links: Object.fromEntries(rtts) }));
    const at = `--listen 127.0.0.1:${ports[name]} --state ${join(directory, name)}`.split(" ");
    const node = ["edge", "--node", name, "--control", `http://127.0.0.1:${ports.control}`];
    const env = name === "control" ? ENVIRONMENT : { ...ENVIRONMENT, ISOCHRONE_WAN: wan };
    processes.push(await startIsochrone([...(name === "control" ? [name] : node), ...at, ...more], { env }));
  };
  await start("control");
  const client = new ControlClient({
    url: `http://127.0.0.1:${ports.control}`,
    token: ENVIRONMENT.ISOCHRONE_CONTROL_TOKEN,
    nodeId: "lab",
    logger: createLogger({ role: "test", id: "lab" }, { level: "silent" }),
  });
  let browser: Browser | undefined;
  try {
    await client.put("topology", "world", world.topology, { expectedVersion: 0 });
    await client.put("map", "world", world.map, { expectedVersion: 0 });
    for (const variant of VARIANTS) {
      const property = {
        ...world.property,
        propertyId: variant,
        hostnames: [hostOf(variant)],
        prefetch: { isEnabled: variant !== "off", hasEarlyHints: variant === "hints" },
      };
      await client.put("property", variant, property, { expectedVersion: 0, activate: true });
    }
    const { certPem, keyPem, spkiHash } = makeCertificate({ names: VARIANTS.map(hostOf) });
    const peerKey = Buffer.from(ENVIRONMENT.ISOCHRONE_PEER_KEY, "hex");
    const { document } = makeCertificateDocument("lab", certPem, keyPem, peerKey, Date.now() as EpochMs);
    await client.put("certificate", "lab", document, { expectedVersion: 0, activate: true });
    await start("p1-1");
    await start("e1-1", "--tls-listen", `127.0.0.1:${tlsPort}`);
    await waitFor(
      async () => {
        const reports = await client.reports();
        return reports.length === 2 && reports.every(({ applied }) => "property/on" in applied);
      },
      { what: "all documents at both servers", timeoutMs: 60_000 },
    );
    const started = await launchChromium(options.chromiumPath, [
      "--host-resolver-rules=MAP *.shop.example 127.0.0.1",
      // Early hints are not taken from a server whose certificate is not trusted.
      `--ignore-certificate-errors-spki-list=${spkiHash}`,
    ]);
    browser = started;
    const edge = ports["e1-1"];
    const rounds = new Map<string, Round[]>(RUNS.map((run) => [run.join(" "), []]));
    const bases = { http1: ["http", edge], http2: ["https", tlsPort] } as const;
    const round = async ([protocol, variant]: (typeof RUNS)[number], n: number): Promise<Round> => {
      const path = `/round-${protocol}-${variant}-${n}/`;
      const [scheme, port] = bases[protocol];
      const before = await figures(edge);
      seen.length = 0;
      const loaded = await load(started, `${scheme}://${hostOf(variant)}:${port}${path}`);
      await waitFor(async () => (await figures(edge)).active === 0, {
        what: "the last prefetch",
        timeoutMs: 30_000,
      });
      const after = await figures(edge);
      const names = seen.map((one) => one.slice(path.length));
      const twice = names.filter((name, at) => names.indexOf(name) < at);
      const result = {
        ...loaded,
        prefetched: after.fetched - before.fetched,
        used: after.used - before.used,
        originRequests: names.length,
        faults: [...loaded.faults, ...twice.map((name) => `${path}${name} came twice from the origin`)],
      };
      options.log(`${path}: ${JSON.stringify(result)}`);
      return result;
    };
    // What does not count opens connections, and shows the edge what the pages need that it will hint at.
    for (const run of RUNS) if (run[1] !== "hints") await round(run, 0);
    for (let n = 1; n <= options.rounds; n++) await round(["http2", "hints"], n);
    await client.purge({
      propertyId: "hints" as PropertyId,
      urls: [],
      tags: [],
      isWholeProperty: true,
      mode: "hard",
    });
    options.log(
      `the pages that were seen are purged; ${REMEMBERED_MS / 1_000} s until none of their objects is remembered`,
    );
    await delay(REMEMBERED_MS);
    for (let n = 1; n <= options.rounds; n++)
      for (const run of RUNS) rounds.get(run.join(" "))?.push(await round(run, n));
    const of = (run: string): Medians => mediansOf(rounds.get(run) ?? []);
    const faults = [...rounds.values()].flat().flatMap((one) => one.faults);
    const http1 = { off: of("http1 off"), on: of("http1 on") };
    const http2 = { off: of("http2 off"), on: of("http2 on"), hints: of("http2 hints") };
    return {
      links,
      objects: SITE.size - 1,
      rounds: options.rounds,
      http1,
      http2,
      faults,
      // A run in which nothing was prefetched, or hinted at, shows nothing.
      isGood: faults.length === 0 && http1.on.used > 0 && http2.on.used > 0 && http2.hints.hinted > 0,
    };
  } finally {
    await browser?.close();
    await client.close();
    await Promise.all(processes.map((one) => one.stop()));
    origin.closeAllConnections();
    origin.close();
    await rm(directory, { recursive: true, force: true });
  }
}

/** Round-trip times of the demo world, ms, under the names that the lab's clusters have. */
function linksOf({ edge, parent, origin }: PrefetchLabOptions): Record<string, number> {
  const links = new WorldLinks(parseWorld(readWorldText(DEMO_WORLD), DEMO_WORLD));
  const rttMs = (from: string, to: string): number => Math.round(links.between(from, to).rttMs * 10) / 10;
  return {
    "e1|p1": rttMs(edge, parent),
    "p1|origin": rttMs(parent, origin),
    "e1|origin": rttMs(edge, origin),
  };
}

/** Loads a page in a profile of its own. */
async function load(browser: Browser, url: string) {
  const context = await browser.newContext();
  try {
    const page = await context.newPage();
    const counts = { waited: 0, joined: 0, hits: 0 };
    const missing = new Set(SITE.keys());
    const judged: Promise<void>[] = [];
    page.on("response", (response) => {
      const name = response.url().slice(url.length);
      if (response.status() === 200) missing.delete(name);
      judged.push(
        response.allHeaders().then((headers) => {
          const status = headers["cache-status"]?.split(",").at(-1) ?? "";
          if (/; hit\b/.test(status)) counts.hits++;
          else if (/; collapsed\b/.test(status)) counts.joined++;
          else if (/; fwd=/.test(status)) counts.waited++;
          return undefined;
        }),
      );
    });
    await page.goto(url, { waitUntil: "load", timeout: 60_000 });
    const [loadMs = 0, hinted = 0] = await page.evaluate<number[]>(`[
      Math.round(performance.getEntriesByType("navigation")[0].loadEventStart),
      performance.getEntriesByType("resource").filter((one) => one.initiatorType === "early-hints").length,
    ]`);
    await Promise.all(judged);
    return { loadMs, ...counts, hinted, faults: Array.from(missing, (name) => `${url}${name} did not come`) };
  } finally {
    await context.close();
  }
}

/** What the edge counts. */
async function figures(port: number): Promise<Record<"fetched" | "used" | "active", number>> {
  const headers = { authorization: `Bearer ${ENVIRONMENT.ISOCHRONE_CONTROL_TOKEN}` };
  const text = await new Promise<string>((resolve, reject) => {
    get({ host: "127.0.0.1", port, path: "/metrics", headers }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.once("end", () => resolve(Buffer.concat(chunks).toString()));
      response.once("error", reject);
    }).once("error", reject);
  });
  const of = (name: string): number =>
    Number(new RegExp(`^isochrone_edge_${name} ([0-9]+)$`, "m").exec(text)?.[1]);
  return {
    fetched: of("prefetch_fetched_total"),
    used: of("prefetch_used_total"),
    active: of("prefetch_active"),
  };
}

function mediansOf(rounds: readonly Round[]): Medians {
  const median = (of: (round: Round) => number): number => summaryOf(rounds.map(of)).p50;
  return {
    loadMs: median(({ loadMs }) => loadMs),
    waited: median(({ waited }) => waited),
    joined: median(({ joined }) => joined),
    hits: median(({ hits }) => hits),
    hinted: median(({ hinted }) => hinted),
    prefetched: median(({ prefetched }) => prefetched),
    used: median(({ used }) => used),
    originRequests: median(({ originRequests }) => originRequests),
    loadMsAll: rounds.map(({ loadMs }) => loadMs),
  };
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      edge: { type: "string", default: "sin" },
      parent: { type: "string", default: "ams-parent" },
      origin: { type: "string", default: "dub-origin" },
      rounds: { type: "string", default: "5" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  const { edge, parent, origin } = values;
  const rounds = wholeNumber("rounds", values.rounds, 1, 100);
  const chromiumPath = requireProgram(...CHROMIUM_NAMES);
  if (chromiumPath === undefined) {
    console.log(JSON.stringify({ skipped: `none of ${CHROMIUM_NAMES.join(", ")} is in PATH` }));
    return 0;
  }
  const log = (line: string): void => console.error(line);
  const result = await prefetchLab({ edge, parent, origin, rounds, chromiumPath, log });
  console.log(JSON.stringify(result, undefined, 2));
  return result.isGood ? 0 : 1;
}
