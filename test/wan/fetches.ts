/**
 * Requests over HTTP/1.1 with kept connections, as a program for a host of a network:
 *
 *     node fetches.ts JSON     {@link FetchPlan}; prints {@link Fetched}[] as JSON
 */
import { createHash } from "node:crypto";
import { Agent, request } from "node:http";
import { setTimeout as pause } from "node:timers/promises";

export interface FetchPlan {
  /** Asked at the same moments. */
  readonly targets: readonly { readonly name: string; readonly address: string; readonly port: number }[];
  readonly host: string;
  /** "#" stands for a number that no other request has. */
  readonly path: string;
  readonly count: number;
  /** From the start of one to that of the next, whatever becomes of it; undefined: each begins when the last one has ended. */
  readonly intervalMs?: number | undefined;
  /** Of each body, hexadecimal. */
  readonly sha256: string;
  readonly timeoutMs: number;
}

export interface Fetched {
  readonly name: string;
  readonly startedAtEpochMs: number;
  /** Until the head, and until the last byte; of a failure without a head 0 for the first. */
  readonly headMs: number;
  readonly ms: number;
  /** Longest time within the body without a byte, ms. */
  readonly pauseMs: number;
  /** Undefined: the right bytes came. */
  readonly failure?: string;
}

/** Of what a refusal says. */
const REASON_BYTES_MAX = 200;

async function fetchOnce(
  plan: FetchPlan,
  target: FetchPlan["targets"][number],
  agent: Agent,
  number: number,
): Promise<Fetched> {
  const startedAtEpochMs = Date.now();
  const startMs = performance.now();
  let headMs = 0;
  let movedMs = 0;
  let pauseMs = 0;
  const failure = await new Promise<string | undefined>((resolve) => {
    const asked = request(
      {
        agent,
        host: target.address,
        port: target.port,
        path: plan.path.replace("#", `${startedAtEpochMs}-${number}`),
        headers: { Host: plan.host },
        signal: AbortSignal.timeout(plan.timeoutMs),
      },
      (response) => {
        const hash = createHash("sha256");
        let beginning = "";
        movedMs = performance.now();
        headMs = movedMs - startMs;
        response.on("data", (chunk: Buffer) => {
          const nowMs = performance.now();
          pauseMs = Math.max(pauseMs, nowMs - movedMs);
          movedMs = nowMs;
          hash.update(chunk);
          if (response.statusCode !== 200) beginning ||= chunk.toString("latin1", 0, REASON_BYTES_MAX);
        });
        response.on("error", (error) => resolve(error.message));
        response.on("end", () => {
          if (response.statusCode !== 200) resolve(`status ${response.statusCode}: ${beginning}`);
          else resolve(hash.digest("hex") === plan.sha256 ? undefined : "other bytes");
        });
      },
    );
    asked.on("error", (error) => resolve(error.message));
    asked.end();
  });
  const ms = performance.now() - startMs;
  return {
    name: target.name,
    startedAtEpochMs,
    headMs,
    ms,
    pauseMs,
    ...(failure !== undefined && { failure }),
  };
}

const plan = JSON.parse(String(process.argv[2])) as FetchPlan;
const results: Promise<Fetched>[] = [];
const agent = new Agent({ keepAlive: true });
for (let number = 0; number < plan.count; number++) {
  const round = plan.targets.map((target) => fetchOnce(plan, target, agent, number));
  results.push(...round);
  if (plan.intervalMs === undefined) await Promise.all(round);
  else await pause(plan.intervalMs);
}
process.stdout.write(`${JSON.stringify(await Promise.all(results))}\n`);
agent.destroy();
