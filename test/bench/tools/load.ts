/** Load generators, their results parsed: wrk for HTTP/1.1 (clear and TLS), h2load for HTTP/2. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runToEnd, scratchDirectory } from "./program.ts";

/** What is asked for, and how. */
export interface Load {
  readonly port: number;
  readonly scheme: "http" | "https";
  readonly protocol: "http/1.1" | "h2";
  readonly connections: number;
  readonly seconds: number;
  /** One path, or many: then they are asked by a Zipf law in this order of popularity. */
  readonly paths: readonly string[];
  readonly headers: Readonly<Record<string, string>>;
  /** Concurrent streams of a connection; HTTP/2 only. */
  readonly streams?: number;
  /** Threads of the generator, default 1. */
  readonly threads?: number;
  /** Each request has a URL of its own: `paths[0]` with a number behind it that never comes again. */
  readonly isUnique?: boolean;
}

/** What the client saw. */
export interface LoadResult {
  readonly requests: number;
  readonly seconds: number;
  readonly requestsPerSecond: number;
  /** Bytes read, heads included. */
  readonly bytes: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Failed to connect, broken, timed out, or answered with a status of 400 and above. */
  readonly errors: number;
}

/** Exponent of the popularity law; 0.9 lies in the middle of what traces of CDNs show (0.6 to 1.2). */
const ZIPF_EXPONENT = 0.9;
/** Length of the precomputed sequence of requests: long enough that the tail is met, short enough for the client's cache. */
const ZIPF_SEQUENCE_LENGTH = 65_536;
const GENERATOR_GRACE_MS = 20_000;

/** Indexes of a Zipf law over `count` ranks, drawn by a fixed seed: every server gets the same sequence. */
export function zipfSequence(count: number, length: number): number[] {
  const cumulated: number[] = [];
  let sum = 0;
  for (let rank = 1; rank <= count; rank++) cumulated.push((sum += rank ** -ZIPF_EXPONENT));
  let state = 0x9e3779b9;
  return Array.from({ length }, () => {
    // xorshift32
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    const drawn = ((state >>> 0) / 2 ** 32) * sum;
    let low = 0;
    let high = count - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((cumulated[middle] ?? 0) < drawn) low = middle + 1;
      else high = middle;
    }
    return low;
  });
}

let scripts: string | undefined;
let scriptNumber = 0;
let uniqueNumber = 0;

/** A Lua script for wrk: prints the result as one line of JSON, and names the requests when there are several. */
function wrkScript(load: Load): string {
  const lines = [
    "done = function(summary, latency, requests)",
    "  local e = summary.errors",
    `  io.write(string.format('\\nRESULT {"requests":%d,"microseconds":%d,"bytes":%d,"p50":%d,"p99":%d,"errors":%d}\\n',`,
    "    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),",
    "    e.connect + e.read + e.write + e.status + e.timeout))",
    "end",
  ];
  if (load.paths.length > 1) {
    // Requests are formatted once and the order is drawn before: the client does one table look-up for each request.
    lines.push(
      `local paths = {${load.paths.map((path) => JSON.stringify(path)).join(",")}}`,
      `local order = {${zipfSequence(load.paths.length, ZIPF_SEQUENCE_LENGTH)
        .map((index) => index + 1)
        .join(",")}}`,
      "local ready, at, count = {}, 0, #order",
      "init = function()",
      "  local formatted = {}",
      "  for i = 1, #paths do formatted[i] = wrk.format('GET', paths[i]) end",
      "  for i = 1, count do ready[i] = formatted[order[i]] end",
      "end",
      "request = function()",
      "  at = at + 1",
      "  if at > count then at = 1 end",
      "  return ready[at]",
      "end",
    );
  } else if (load.isUnique === true) {
    lines.push(
      "local head, tail, at = '', '', 0",
      "local threads = 0",
      "setup = function(thread) threads = threads + 1; thread:set('number', threads) end",
      "init = function()",
      `  local whole = wrk.format('GET', ${JSON.stringify(`${load.paths[0] ?? "/"}-@`)})`,
      "  local place = string.find(whole, '@', 1, true)",
      `  head = string.sub(whole, 1, place - 1) .. '${process.pid}-${(uniqueNumber += 1)}-' .. number .. '-'`,
      "  tail = string.sub(whole, place + 1)",
      "end",
      "request = function()",
      "  at = at + 1",
      "  return head .. at .. tail",
      "end",
    );
  }
  scripts ??= scratchDirectory("scripts");
  const path = join(scripts, `load-${(scriptNumber += 1)}.lua`);
  writeFileSync(path, lines.join("\n"));
  return path;
}

async function runWrk(load: Load): Promise<LoadResult> {
  const args = [
    `-t${load.threads ?? 1}`,
    `-c${load.connections}`,
    `-d${load.seconds}s`,
    "--timeout=5s",
    "-s",
    wrkScript(load),
    ...Object.entries(load.headers).flatMap(([name, value]) => ["-H", `${name}: ${value}`]),
    `${load.scheme}://127.0.0.1:${load.port}${load.paths[0] ?? "/"}`,
  ];
  const output = await runToEnd("wrk", args, load.seconds * 1000 + GENERATOR_GRACE_MS);
  const line = /^RESULT (\{.*\})$/m.exec(output)?.[1];
  if (line === undefined) throw new Error(`wrk printed no result:\n${output}`);
  const result = JSON.parse(line) as Record<
    "requests" | "microseconds" | "bytes" | "p50" | "p99" | "errors",
    number
  >;
  const seconds = result.microseconds / 1e6;
  return {
    requests: result.requests,
    seconds,
    requestsPerSecond: result.requests / seconds,
    bytes: result.bytes,
    p50Ms: result.p50 / 1000,
    p99Ms: result.p99 / 1000,
    errors: result.errors,
  };
}

/** h2load's byte counts: "123", "1.23KB", "4.56MB"; the exact number stands in parentheses behind. */
function trafficBytes(output: string): number {
  return Number(/^traffic: \S+ \((\d+)\) total/m.exec(output)?.[1] ?? 0);
}

function quantile(sorted: Float64Array, q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0;
}

async function runH2load(load: Load): Promise<LoadResult> {
  scripts ??= scratchDirectory("scripts");
  const log = join(scripts, `h2load-${(scriptNumber += 1)}.log`);
  const list = join(scripts, `h2load-${scriptNumber}.txt`);
  // With a file of URLs the clients go through it one after the other: the drawn sequence is the popularity law.
  const paths =
    load.paths.length > 1
      ? zipfSequence(load.paths.length, ZIPF_SEQUENCE_LENGTH).map((index) => load.paths[index] ?? "/")
      : load.paths;
  writeFileSync(list, paths.map((path) => `${load.scheme}://127.0.0.1:${load.port}${path}`).join("\n"));
  const args = [
    `--threads=${load.threads ?? 1}`,
    `--clients=${load.connections}`,
    `--duration=${load.seconds}`,
    `--max-concurrent-streams=${load.protocol === "h2" ? (load.streams ?? 10) : 1}`,
    `--npn-list=${load.protocol}`,
    ...(load.protocol === "http/1.1" ? ["--h1"] : []),
    `--log-file=${log}`,
    `--input-file=${list}`,
    ...Object.entries(load.headers).map(([name, value]) => `--header=${name}: ${value}`),
  ];
  const output = await runToEnd("h2load", args, load.seconds * 1000 + GENERATOR_GRACE_MS);
  const counts =
    /^requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout/m.exec(
      output,
    );
  const finished = /^finished in ([\d.]+)(m?s), /m.exec(output);
  if (counts === null || finished === null) throw new Error(`h2load printed no result:\n${output}`);
  const done = Number(counts[1]);
  const seconds = Number(finished[1]) / (finished[2] === "ms" ? 1000 : 1);
  // Each line of the log: start (microseconds), status, duration (microseconds).
  const micros = new Float64Array(
    readFileSync(log, "latin1")
      .split("\n")
      .map((line) => Number(line.split("\t")[2] ?? Number.NaN))
      .filter((value) => value >= 0),
  ).toSorted();
  return {
    requests: done,
    seconds,
    requestsPerSecond: done / seconds,
    bytes: trafficBytes(output),
    p50Ms: quantile(micros, 0.5) / 1000,
    p99Ms: quantile(micros, 0.99) / 1000,
    errors: Number(counts[3]) + Number(counts[4]) + Number(counts[5]),
  };
}

/** Runs one load to its end. */
export function runLoad(load: Load): Promise<LoadResult> {
  return load.protocol === "h2" ? runH2load(load) : runWrk(load);
}
