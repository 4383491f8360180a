/** The probe agent: `isochrone probe`. */
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { stopSignal, systemClock } from "#kit/io";
import type { ProbeRecord } from "./core/measurements/probe-record.ts";
import { probeRound } from "./io/probe/agent.ts";
import { timeTcp } from "./io/probe/connect.ts";
import { PlannedProbing, type PlannedProbingOptions } from "./io/probe/planned.ts";
import { ProbeOptionError, parseProbeOptions, probeHelp } from "./io/probe/options.ts";

/** Exit codes: 0 done, stopped, or nobody reads on; 2 bad option or list of targets. */
export async function main(argv: readonly string[]): Promise<number> {
  let options: ReturnType<typeof parseProbeOptions>;
  try {
    options = parseProbeOptions(argv);
  } catch (error) {
    if (!(error instanceof ProbeOptionError)) throw error;
    process.stderr.write(`isochrone probe: ${error.message}\n`);
    return 2;
  }
  if (options === "help") {
    console.log(probeHelp);
    return 0;
  }
  const stop = new AbortController();
  void stopSignal().then(() => stop.abort());
  // Who read the records is gone (EPIPE): there is nothing left to measure for.
  process.stdout.on("error", () => stop.abort());
  const { rounds, intervalMs, plan, ...round } = options;
  const token = process.env["ISOCHRONE_CONTROL_TOKEN"];
  if (plan !== undefined && (token === undefined || token === "")) {
    process.stderr.write(
      "isochrone probe: the environment variable ISOCHRONE_CONTROL_TOKEN is not set; give it the mapper's token\n",
    );
    return 2;
  }
  try {
    // Thrown away: the first handshake of a process pays for code that was never run.
    await timeTcp({ address: "127.0.0.1", port: 9 }, 1_000, systemClock, stop.signal);
    if (plan !== undefined) {
      await follow({ ...round, ...plan, rounds, intervalMs }, token ?? "", stop.signal);
      return 0;
    }
    for (let n = 0; n < rounds; n++) {
      const began = systemClock.monotonic();
      await probeRound({
        ...round,
        clock: systemClock,
        signal: stop.signal,
        onRecord: (one) => write(one, stop.signal),
      });
      if (n + 1 === rounds) break;
      const leftMs = intervalMs - (systemClock.monotonic() - began);
      await sleep(Math.max(0, leftMs), undefined, { signal: stop.signal });
    }
  } catch (error) {
    if (!stop.signal.aborted) throw error;
  }
  return 0;
}

/** At the end one line tells what was done. */
async function follow(
  {
    targets: standing,
    ...options
  }: Omit<PlannedProbingOptions, "standing" | "token" | "clock" | "signal" | "onRecord" | "onNote"> & {
    readonly targets: PlannedProbingOptions["standing"];
  },
  token: string,
  signal: AbortSignal,
): Promise<void> {
  const say = (text: string): void => void process.stderr.write(`isochrone probe: ${text}\n`);
  const probing = new PlannedProbing({
    ...options,
    standing,
    token,
    clock: systemClock,
    signal,
    onRecord: (one) => write(one, signal),
    onNote: say,
  });
  try {
    await probing.run();
  } finally {
    say(JSON.stringify(probing.counters));
  }
}

async function write(record: ProbeRecord, signal: AbortSignal): Promise<void> {
  if (!process.stdout.write(`${JSON.stringify(record)}\n`)) await once(process.stdout, "drain", { signal });
}
