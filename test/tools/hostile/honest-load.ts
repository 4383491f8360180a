/**
 * Honest clients in a thread of their own: an open loop of requests at a fixed rate, hits and misses in turn, each timed from
 * the moment at which it was due. The parent says `{ phase }` to begin a phase and gets what the one before measured.
 */
import { Agent, get } from "node:http";
import { parentPort, workerData } from "node:worker_threads";

const { port, perSecond } = workerData as { readonly port: number; readonly perSecond: number };
/** A request that takes longer is counted as failed. ms. */
const TIMEOUT_MS = 10_000;
const HIT_KEYS = 100;

export interface HonestResult {
  readonly phase: string;
  readonly requests: number;
  readonly failed: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

const agent = new Agent({ keepAlive: true, maxSockets: 256 });
let phase = "";
let latencies: number[] = [];
let failed = 0;
let sent = 0;
let next = performance.now();

function ask(dueMs: number): void {
  const into = latencies;
  const began = phase;
  const path = sent % 2 === 0 ? `/hit/${(sent / 2) % HIT_KEYS}` : `/miss/${sent}`;
  sent += 1;
  const fail = (): void => {
    if (began === phase) failed += 1;
  };
  const request = get(
    { port, host: "127.0.0.1", path, agent, timeout: TIMEOUT_MS, headers: { host: "honest.test" } },
    (response) => {
      response.on("error", fail);
      response.resume();
      response.on("end", () => {
        if (response.statusCode === 200) into.push(performance.now() - dueMs);
        else fail();
      });
    },
  );
  request.on("timeout", () => request.destroy(new Error("timeout")));
  request.on("error", fail);
}

setInterval(() => {
  const nowMs = performance.now();
  for (; next <= nowMs; next += 1_000 / perSecond) ask(next);
}, 5);

const round = (ms: number | undefined): number => Math.round((ms ?? 0) * 10) / 10;

function result(): HonestResult {
  const sorted = latencies.toSorted((a, b) => a - b);
  const at = (share: number): number =>
    round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]);
  return { phase, requests: sorted.length + failed, failed, p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) };
}

parentPort?.on("message", (message: { readonly phase: string }) => {
  parentPort?.postMessage(result());
  phase = message.phase;
  latencies = [];
  failed = 0;
});
