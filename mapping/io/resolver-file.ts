/** Which clients stand behind which resolver, on the disk: learning it anew takes a week. */
import { join } from "node:path";
import type { Clock } from "#kit";
import type { Logger } from "#kit/io";
import { keptResolverLines, type ResolverTable, restoreResolvers } from "../core/resolver-pairs.ts";
import { KeptFile } from "./kept-file.ts";

const SAVE_MS = 60_000;
/** A million pairs, the most that there are, are 30 MB. */
const FILE_BYTES_MAX = 128 * 1024 * 1024;
const STEP_RESOLVERS = 16;

export type ResolverFile = KeptFile<{ readonly resolversRestored: number }>;

export function resolverFile(options: {
  readonly table: ResolverTable;
  readonly stateDirectory: string;
  readonly clock: Clock;
  readonly logger: Logger;
}): ResolverFile {
  const { table, stateDirectory, clock, logger } = options;
  return new KeptFile({
    name: "resolvers",
    path: join(stateDirectory, "resolvers.ndjson"),
    bytesMax: FILE_BYTES_MAX,
    saveMs: SAVE_MS,
    restore: (file) => {
      const text = new TextDecoder("utf-8", { fatal: true }).decode(file);
      return { resolversRestored: restoreResolvers(table, text, clock.epoch()) };
    },
    nothing: { resolversRestored: 0 },
    learnt: () => table.counters.pairs,
    pieces: () => octets(keptResolverLines(table, clock.epoch())),
    stepPieces: STEP_RESOLVERS,
    logger,
  });
}

function* octets(lines: Iterable<string>): Generator<Uint8Array> {
  for (const line of lines) yield Buffer.from(`${line}\n`);
}
