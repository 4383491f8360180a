/** `npm run lab -- dns-crash`: queries that end the worker that looks at them; whether the others drop them, counted by workers that died. */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { setTimeout as pause } from "node:timers/promises";
import { scratchDirectory } from "../bench/tools/program.ts";
import { wholeNumber } from "../tools/flags.ts";
import { startIsochrone, waitFor } from "../tools/processes.ts";
import { query } from "../unit/mapping-dns/fixture.ts";

export const summary =
  "queries that end a worker: each is kept for the operator and dropped by the other workers within a second";

const HELP = `Usage: npm run lab -- dns-crash [options]

${summary}. The name server has a fault that the command has no flag for. Each deadly query is sent once, a second later
fifty times more from as many ports. Exit code 1: more workers died than deadly queries were sent, one was not kept, or a
good query between them got no answer.

  --crashes N   deadly queries, all different (default 10)
  --workers N   workers of the server, 2 to 16 (default 3)
  --help
`;

const AGAIN = 50;
const LATER_MS = 1_000;
const RESTART_TIMEOUT_MS = 60_000;

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      crashes: { type: "string", default: "10" },
      workers: { type: "string", default: "3" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const crashes = wholeNumber("crashes", values.crashes, 1, 60);
  const workers = wholeNumber("workers", values.workers, 2, 16);
  const directory = scratchDirectory("isochrone-dns-crash");
  const crashFile = join(directory, "crashes.ndjson");
  const server = await startIsochrone(
    [
      "--world",
      "demo",
      "--listen",
      "127.0.0.1:0",
      "--admin",
      "127.0.0.1:0",
      "--workers",
      String(workers),
    ].concat("--crash-file", crashFile),
    {
      script: "test/tools/dns-with-fault.ts",
      env: { ISOCHRONE_LOG: "error" },
      timeoutMs: RESTART_TIMEOUT_MS,
    },
  );
  const port = Number(/:(\d+)\b/.exec(server.readyLine)?.[1]);
  const admin = /admin (\S+)/.exec(server.readyLine)?.[1] ?? "";
  const metric = async (pattern: RegExp): Promise<number> => {
    const text = await (await fetch(`${admin}/metrics`)).text();
    return [...text.matchAll(pattern)].reduce((sum, [, count]) => sum + Number(count), 0);
  };
  const droppedSoFar = () => metric(/reason="quarantined".*\} (\d+)/g);
  const noticedMs: number[] = [];
  let good = 0;
  let unanswered = 0;
  try {
    for (let n = 0; n < crashes; n++) {
      const deadly = query({ name: `crash.n${n}.shop.example` });
      const beganMs = performance.now();
      await send(port, deadly);
      await waitFor(async () => (await metric(/event="query-ended-worker"\} (\d+)/g)) > n, {
        timeoutMs: RESTART_TIMEOUT_MS,
        what: "its record",
        intervalMs: 10,
      });
      noticedMs.push(Math.round(performance.now() - beganMs));
      await pause(LATER_MS);
      for (let again = 0; again < AGAIN; again++) {
        await send(port, deadly);
        good++;
        if (!(await isAnswered(port))) unanswered++;
      }
      // Workers tell their counts now and then, and the next one that ends takes along what it has not told.
      await waitFor(async () => (await droppedSoFar()) === (n + 1) * AGAIN, {
        timeoutMs: RESTART_TIMEOUT_MS,
        what: "all repeats dropped",
      });
      await waitFor(async () => (await metric(/^isochrone_dns_workers (\d+)/gm)) === workers, {
        timeoutMs: RESTART_TIMEOUT_MS,
        what: "as many workers as before",
      });
    }
    const died = await metric(/event="worker-died"\} (\d+)/g);
    const dropped = await droppedSoFar();
    const kept = readFileSync(crashFile, "utf8").trim().split("\n").length;
    console.log(
      JSON.stringify({
        crashes,
        workers,
        died,
        kept,
        sentAgain: crashes * AGAIN,
        dropped,
        good,
        unanswered,
        noticedMs,
      }),
    );
    return died === crashes && kept === crashes && dropped === crashes * AGAIN && unanswered === 0 ? 0 : 1;
  } finally {
    await server.stop();
    rmSync(directory, { recursive: true });
  }
}

/** From a port of its own: the kernel gives it to any worker. */
async function send(port: number, bytes: Uint8Array): Promise<void> {
  const socket = createSocket("udp4");
  await new Promise((resolve) => socket.send(bytes, port, "127.0.0.1", resolve));
  socket.close();
}

async function isAnswered(port: number): Promise<boolean> {
  const socket = createSocket("udp4");
  try {
    const reply = once(socket, "message", { signal: AbortSignal.timeout(5_000) });
    socket.send(query(), port, "127.0.0.1");
    await reply;
    return true;
  } catch {
    return false;
  } finally {
    socket.close();
  }
}
