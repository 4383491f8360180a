/** `isochrone networks demand`: how much each block asks for, from the access records of the edges. */
import { epochMs, formatDurationMs, parseAddress, parseDurationMs, quoteValue } from "#kit";
import { writeFileDurable } from "#kit/io";
import { type BadLines, readRecords } from "#analytics";
import { DemandLearner, demandLearnerDefaults } from "#mapping";
import { UsageError } from "../usage.ts";

const HALF_LIFE_MS = { min: 3_600_000, max: 365 * 86_400_000 };

export async function demand(
  files: readonly string[],
  options: {
    readonly "half-life"?: string | undefined;
    readonly out?: string | undefined;
    readonly json?: boolean | undefined;
  },
): Promise<number> {
  const { out, "half-life": text } = options;
  if (out === undefined || out === "")
    throw new UsageError("--out is missing: where the result goes; see --help");
  if (files.length === 0) throw new UsageError("no file of access records is named; see --help");
  const halfLifeMs = text === undefined ? demandLearnerDefaults.halfLifeMs : parseDurationMs(text);
  if (halfLifeMs === undefined || !(halfLifeMs >= HALF_LIFE_MS.min && halfLifeMs <= HALF_LIFE_MS.max))
    throw new UsageError(`--half-life: got ${quoteValue(text)}, expected a time from 1h to 365d`);
  const learner = new DemandLearner({ halfLifeMs });
  const bad: BadLines = { count: 0, told: [] };
  const skipped = { "from a server of ours": 0, "client unknown": 0 };
  for (const file of files)
    for await (const { tier, clientAddress, atEpochMs } of readRecords(file, bad)) {
      const client = clientAddress === null ? undefined : parseAddress(clientAddress);
      // What a parent is asked by an edge, the edge was asked by a client.
      if (tier > 0) skipped["from a server of ours"]++;
      else if (client === undefined) skipped["client unknown"]++;
      else learner.handleRequest(client, epochMs(atEpochMs));
    }
  for (const told of bad.told) console.error(`isochrone networks: ${told}`);
  const { requests, overflow } = learner.counters;
  if (requests === 0)
    throw new UsageError(
      "The files have no request of a client whose address is known: nothing was written",
      1,
    );
  const lines: Buffer[] = [];
  let demandPerSecond = 0;
  for (const one of learner.demand()) {
    demandPerSecond += one.demandPerSecond;
    lines.push(Buffer.from(`${JSON.stringify(one)}\n`));
  }
  await writeFileDurable(out, Buffer.concat(lines));
  const result = {
    file: out,
    blocks: lines.length,
    requests,
    demandPerSecond,
    spanMs: learner.spanMs,
    skipped: { ...skipped, "no record": bad.count, "beyond the bound": overflow },
  };
  const left = Object.entries(result.skipped).filter(([, count]) => count > 0);
  console.log(
    options.json === true
      ? JSON.stringify(result)
      : [
          `${out}: ${result.blocks} blocks, ${demandPerSecond.toFixed(1)} requests per second, from ${requests} requests in ${formatDurationMs(result.spanMs)}`,
          ...left.map(([reason, count]) => `  skipped: ${count} ${reason}`),
        ].join("\n"),
  );
  return 0;
}
