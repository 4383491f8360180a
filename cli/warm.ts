/** `isochrone warm`: has the edges fetch a list of URLs before anybody asks for them. */
import { writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { parseArgs } from "node:util";
import { type TopologyDocument, topologyDocument } from "#kit";
import { LISTEN_ADDRESS_EXPECTED, parseListenAddress } from "#kit/io";
import { ControlError } from "#control";
import { withControl } from "./resolve-control.ts";
import { formatTable } from "./table.ts";
import { UsageError, wholeNumber } from "./usage.ts";
import { type Place, warm, type WarmTally } from "./warm/job.ts";
import { LIST_BYTES_MAX, readList, URLS_MAX } from "./warm/list.ts";
import { controlOptions } from "./options.ts";

const help = `Usage: isochrone warm [LIST]... [--regions ID,...] [--clusters ID,...] [--parents]
                      [--rate N] [--concurrency N] [--header LINE]... [--left FILE] [--json]
       isochrone warm [LIST]... --server ADDRESS:PORT [...]

Asks every edge cluster for the URLs of the lists, so that what may be stored is there before users
come. A LIST is a file, or - for standard input (also without any): one URL a line, with # for
comments, or a sitemap; also gzipped. The clusters are those of the topology that control has.
Requests go to the servers' ordinary port with the URL's host; they carry Priority: u=7 (RFC 9218):
servers give them spare room only and answer 503 when there is none, and they are sent again then.

  --regions ID,...   only clusters of these regions
  --clusters ID,...  only these clusters
  --parents          the parent clusters instead of the edges
  --server ADDRESS:PORT  this server instead of any cluster; may be repeated
  --rate N           requests begun in a second, at most (default 50, 1 to 10000)
  --concurrency N    requests at once (default 16, 1 to 256)
  --header LINE      a field of every request, such as "Accept-Language: de"; may be repeated
  --tls-port N       where https URLs are asked for (default 443); the certificate must be good
  --left FILE        keep the URLs that are not at every place yet there, as a list to go on with
  --json             the summary as JSON; progress goes to standard error
Options: --control URL, or ISOCHRONE_CONTROL_URL (token by ISOCHRONE_CONTROL_TOKEN; without it the world that runs here), --state DIR
Exit code: 0 all are there, 1 some are not or it was interrupted, 2 bad usage.

Examples:
  isochrone warm urls.txt
  curl -s http://www.shop.example/sitemap.xml | isochrone warm --regions europe --rate 200
  isochrone warm urls.txt --left left.txt || isochrone warm left.txt
  echo http://localhost:8080/ | isochrone warm --server 127.0.0.1:8080`;

const PROGRESS_MS = 2_000;
/** What browsers send, so that answers that vary by it are those that they get. */
const HEADERS = {
  accept: "*/*",
  "accept-encoding": "gzip, deflate, br, zstd",
  "user-agent": "isochrone-warm",
  priority: "u=7",
};

export async function main(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      ...controlOptions,
      regions: { type: "string" },
      clusters: { type: "string" },
      parents: { type: "boolean" },
      server: { type: "string", multiple: true },
      rate: { type: "string" },
      concurrency: { type: "string" },
      header: { type: "string", multiple: true },
      "tls-port": { type: "string" },
      left: { type: "string" },
    },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  const options = {
    perSecond: wholeNumber("--rate", values.rate, 1, 10_000, 50),
    concurrency: wholeNumber("--concurrency", values.concurrency, 1, 256, 16),
    tlsPort: wholeNumber("--tls-port", values["tls-port"], 1, 65_535, 443),
    headers: { ...HEADERS, ...fieldsOf(values.header ?? []) },
  };
  const chosen = serversOf(values.server ?? []);
  if (chosen.length > 0 && (values.regions ?? values.clusters ?? values.parents) !== undefined)
    throw new UsageError("--server names the servers; --regions, --clusters and --parents do not go with it");
  const urls = await readLists(positionals);
  const places = chosen.length > 0 ? chosen : placesOf(await topologies(values), values);
  // All of them to begin with: it can be written, and stands even when this process is killed.
  writeLeft(values.left, urls);
  const interrupted = new AbortController();
  const interrupt = (): void => interrupted.abort();
  process.once("SIGINT", interrupt).once("SIGTERM", interrupt);
  const startedMs = performance.now();
  let toldMs = startedMs;
  const tally = await warm({
    ...options,
    urls,
    places,
    signal: interrupted.signal,
    onProgress: (now) => {
      if (performance.now() - toldMs < PROGRESS_MS) return;
      toldMs = performance.now();
      console.error(progressLine(now, toldMs - startedMs));
    },
  });
  process.off("SIGINT", interrupt).off("SIGTERM", interrupt);
  const left = urls.filter((_, number) => tally.left.has(number));
  writeLeft(values.left, left);
  const summary = summaryOf(tally, urls.length, performance.now() - startedMs);
  console.log(values.json ? JSON.stringify(summary, null, 2) : formatSummary(summary));
  return left.length === 0 ? 0 : 1;
}

function writeLeft(file: string | undefined, urls: readonly URL[]): void {
  if (file !== undefined) writeFileSync(file, urls.map(({ href }) => `${href}\n`).join(""));
}

function fieldsOf(lines: readonly string[]): Record<string, string> {
  const fields: Record<string, string> = {};
  for (const line of lines) {
    // RFC 9110, sections 5.1 and 5.5.
    const match = /^([!#$%&'*+.^_`|~0-9a-z-]+):[ \t]*([\x20-\x7e\t]*)$/i.exec(line);
    if (match === null) throw new UsageError(`--header: got ${JSON.stringify(line)}, expected "Name: value"`);
    fields[(match[1] ?? "").toLowerCase()] = match[2] ?? "";
  }
  return fields;
}

function serversOf(texts: readonly string[]): readonly Place[] {
  return texts.map((text) => {
    const at = parseListenAddress(text);
    if (at === undefined)
      throw new UsageError(`--server: got ${JSON.stringify(text)}, expected ${LISTEN_ADDRESS_EXPECTED}`);
    return { name: text, servers: [{ address: at.host, port: at.port }] };
  });
}

/** Every URL once, in the order of the lists. */
async function readLists(names: readonly string[]): Promise<readonly URL[]> {
  if (names.length === 0 && process.stdin.isTTY)
    throw new UsageError("give a LIST of URLs: a file, or - for standard input; see --help");
  const urls = new Map<string, URL>();
  for (const name of names.length === 0 ? ["-"] : names) {
    const list = name === "-" ? "standard input" : name;
    for (const url of readList(await bytesOf(name), list)) urls.set(url.href, url);
    if (urls.size > URLS_MAX) throw new UsageError(`More than ${URLS_MAX} URLs; split the lists`);
  }
  if (urls.size === 0) throw new UsageError("The lists name no URL");
  return [...urls.values()];
}

async function bytesOf(name: string): Promise<Uint8Array> {
  const stream = name === "-" ? process.stdin : (await open(name)).createReadStream();
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    bytes += chunk.byteLength;
    // One chunk beyond the bound, so that the list is refused and not cut.
    if (bytes > LIST_BYTES_MAX) break;
  }
  return Buffer.concat(chunks);
}

async function topologies(choice: {
  readonly control?: string | undefined;
  readonly state?: string | undefined;
}): Promise<readonly TopologyDocument[]> {
  try {
    return await withControl(choice, async (client) => {
      const found = await client.documents("topology");
      const documents = await Promise.all(found.map(({ id }) => client.document("topology", id)));
      return documents.flatMap((one) => (one === undefined ? [] : [topologyDocument.parse(one.body)]));
    });
  } catch (error) {
    if (error instanceof ControlError) throw new UsageError(error.message, error.code === "refused" ? 2 : 1);
    throw error;
  }
}

function placesOf(
  documents: readonly TopologyDocument[],
  choice: {
    readonly regions?: string | undefined;
    readonly clusters?: string | undefined;
    readonly parents?: boolean | undefined;
  },
): readonly Place[] {
  const role = choice.parents === true ? "parent" : "edge";
  const all = documents.flatMap(({ clusters }) => clusters.filter((one) => one.role === role));
  const regions = named("--regions", choice.regions, new Set(all.map(({ regionId }) => regionId)));
  const clusters = named("--clusters", choice.clusters, new Set(all.map(({ clusterId }) => clusterId)));
  const places = all.filter(
    ({ regionId, clusterId, servers }) =>
      (regions?.has(regionId) ?? true) && (clusters?.has(clusterId) ?? true) && servers.length > 0,
  );
  if (places.length === 0) throw new UsageError(`The topology has no such ${role} cluster`, 1);
  return places.map(({ clusterId, servers }) => ({ name: clusterId, servers }));
}

/** The ids of a list with commas; undefined: the option is absent. */
function named(option: string, text: string | undefined, known: ReadonlySet<string>) {
  if (text === undefined) return undefined;
  const ids = text.split(",").map((one) => one.trim());
  for (const id of ids)
    if (!known.has(id))
      throw new UsageError(`${option}: got ${JSON.stringify(id)}, expected of ${[...known].join(", ")}`);
  return new Set(ids);
}

function progressLine(tally: WarmTally, elapsedMs: number): string {
  const { warmed, present, failed } = sums(tally);
  const perSecond = Math.round(tally.done / (elapsedMs / 1_000));
  return `${tally.done} of ${tally.requests} requests, ${warmed} warmed, ${present} already there, ${failed} failed, ${perSecond} a second`;
}

function sums({ places }: WarmTally) {
  const sum = { warmed: 0, present: 0, failed: 0 };
  for (const one of places.values())
    for (const name of ["warmed", "present", "failed"] as const) sum[name] += one[name];
  return sum;
}

function summaryOf(tally: WarmTally, urls: number, elapsedMs: number) {
  return {
    urls,
    requests: tally.requests,
    ...sums(tally),
    notAsked: tally.requests - tally.done,
    repeated: tally.repeated,
    bytes: tally.bytes,
    elapsedMs: Math.round(elapsedMs),
    /** URLs that are not at every place yet. */
    left: tally.left.size,
    places: Array.from(tally.places, ([name, one]) => ({ name, ...one })),
    failures: [...tally.failures.values()].sort((a, b) => b.count - a.count),
  };
}

function formatSummary(summary: ReturnType<typeof summaryOf>): string {
  const rows = summary.places.map(({ name, warmed, present, failed }) => [name, warmed, present, failed]);
  const lines = [formatTable(["place", "warmed", "already there", "failed"], rows)];
  for (const { reason, count, examples } of summary.failures)
    lines.push(
      `${count} x ${reason}, such as ${examples.map(({ url, place }) => `${url} (${place})`).join(", ")}`,
    );
  lines.push(
    `${summary.urls - summary.left} of ${summary.urls} URLs are at ${summary.places.length === 1 ? "the place" : `all ${summary.places.length} places`}, ` +
      `${(summary.bytes / 1e6).toFixed(1)} MB in ${(summary.elapsedMs / 1_000).toFixed(1)} s` +
      (summary.notAsked > 0 ? `; ${summary.notAsked} requests were not made` : ""),
  );
  return lines.join("\n");
}
