import type { ControlClient } from "#control";
import { MAP_ID } from "../../mapping/core/publisher-election.ts";
import { formatTable } from "../table.ts";
import { UsageError } from "../usage.ts";
import { dateOf } from "./read.ts";

/** The versions that control keeps, newest first: when, by whom, why and what changed. */
export async function history(
  client: ControlClient,
  { isJson, limit }: { readonly isJson: boolean; readonly limit: number },
): Promise<void> {
  const versions = (await client.versions("map", MAP_ID)).toReversed().slice(0, limit);
  if (isJson) return console.log(JSON.stringify(versions, null, 2));
  if (versions.length === 0) throw new UsageError("No map has been published yet", 1);
  const rows = versions.map(({ version, activeVersion, createdAtEpochMs, author, note }) => [
    version,
    version === activeVersion ? "in force" : "",
    dateOf(createdAtEpochMs),
    author,
    note,
  ]);
  console.log(formatTable(["version", "state", "at", "by", "what"], rows));
}
