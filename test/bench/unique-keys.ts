/** What one edge process takes while keys come that nobody asks for twice: resident memory beside its cap. */
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { parseBytes } from "#kit";
import { ask } from "../tools/hostile/slow-clients.ts";
import { startIsochrone } from "../tools/processes.ts";
import { residentBytesOf } from "../tools/resident.ts";
import { describeCommit, describeMachine } from "./tools/machine.ts";
import { usageOf } from "./tools/process-tree.ts";

export const summary = "resident memory of an edge process under unique keys, beside its cap";

const HELP = `Usage: npm run bench -- unique-keys [options]

${summary}

  --memory SIZE   memory store (default 256MiB)
  --bytes LIST    bytes of the bodies, at most 1048576 (default 1024,16384,102400,1048576)
  --fills N       how many times the cap comes in, counted in bodies and 1,500 bytes for each (default 3)
  --keys N        unique keys of every size, instead of --fills
  --out FILE      the JSON to a file too

The cap is --memory and what the process takes at rest: 500 answers that are not stored have made its code warm.
`;

/** What a stored response takes beside its content, about: only to choose how many come. */
const BESIDE_BYTES = 1_500;
const WARM_REQUESTS = 500;
const SAMPLE_MS = 100;
/** A million keys take minutes, all of them the edge's and the origin's CPU time: so often it is told how far they are. */
const TOLD_KEYS = 100_000;

async function measure(memoryBytes: number, bodyBytes: number, keys: number) {
  const origin = new Worker(new URL("../tools/hostile/lab-origin.ts", import.meta.url));
  const [originPort] = (await once(origin, "message")) as [number];
  const edge = await startIsochrone([
    "edge",
    "--listen",
    "127.0.0.1:0",
    "--origin",
    `http://127.0.0.1:${originPort}`,
    "--memory",
    String(memoryBytes),
  ]);
  const port = Number(/^ready edge [^ ]*:([0-9]+) /.exec(edge.readyLine)?.[1]);
  const load = async (count: number, target: (index: number) => string) =>
    await ask({
      port,
      connections: 64,
      pipelined: 4,
      count,
      bytes: (index) => `GET ${target(index)} HTTP/1.1\r\nHost: keys.test\r\n\r\n`,
    });
  await load(WARM_REQUESTS, (index) => `/warm/${index}`);
  const restBytes = residentBytesOf(edge.pid);
  let mostBytes = restBytes;
  const sample = (): void => {
    mostBytes = Math.max(mostBytes, residentBytesOf(edge.pid));
  };
  const sampler = setInterval(sample, SAMPLE_MS);
  const startedMs = performance.now();
  const startedCpu = usageOf([edge.pid]).cpuSeconds;
  const statuses = await load(keys, (index) => {
    if (index > 0 && index % TOLD_KEYS === 0)
      console.error(
        `${index} keys after ${Math.round((performance.now() - startedMs) / 1_000)} s: at most ${toMiB(mostBytes)} MiB`,
      );
    return `/sized/${bodyBytes}/${index}`;
  });
  sample();
  clearInterval(sampler);
  const seconds = (performance.now() - startedMs) / 1_000;
  const cpuSeconds = usageOf([edge.pid]).cpuSeconds - startedCpu;
  await edge.stop();
  await origin.terminate();
  return {
    memoryBytes,
    bodyBytes,
    keys,
    statuses,
    restBytes,
    mostBytes,
    ofCap: Math.round((mostBytes / (memoryBytes + restBytes)) * 1_000) / 1_000,
    seconds: Math.round(seconds * 10) / 10,
    /** Of the edge, all threads. */
    cpuMicrosecondsPerKey: Math.round((cpuSeconds / keys) * 1e6),
  };
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      memory: { type: "string", default: "256MiB" },
      bytes: { type: "string", default: "1024,16384,102400,1048576" },
      fills: { type: "string", default: "3" },
      keys: { type: "string" },
      out: { type: "string" },
      help: { type: "boolean" },
    },
  });
  const memoryBytes = parseBytes(values.memory);
  const sizes = values.bytes.split(",").map(Number);
  const isUsable = sizes.every((bytes) => Number.isInteger(bytes) && bytes > 0 && bytes <= 2 ** 20);
  if (values.help === true || memoryBytes === undefined || !isUsable) {
    (values.help === true ? process.stdout : process.stderr).write(HELP);
    return values.help === true ? 0 : 2;
  }
  const runs = [];
  for (const bytes of sizes) {
    const keys = Math.ceil(
      Number(values.keys ?? (memoryBytes * Number(values.fills)) / (bytes + BESIDE_BYTES)),
    );
    const run = await measure(memoryBytes, bytes, keys);
    runs.push(run);
    console.error(
      `${bytes} bytes, ${keys} keys: at rest ${toMiB(run.restBytes)} MiB, at most ${toMiB(run.mostBytes)} MiB, ${run.ofCap} x cap, ${run.seconds} s`,
    );
  }
  const text = JSON.stringify(
    { name: "unique-keys", machine: describeMachine(), commit: describeCommit(), runs },
    undefined,
    1,
  );
  console.log(text);
  if (values.out !== undefined) {
    mkdirSync(dirname(values.out), { recursive: true });
    writeFileSync(values.out, `${text}\n`);
  }
  return 0;
}

const toMiB = (bytes: number): number => Math.round(bytes / 2 ** 20);
