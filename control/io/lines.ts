/** Lines of NDJSON that watchers are sent. */
import { fenceOfText } from "../core/fence.ts";
import type { PurgeProgress, WatchEvent } from "../core/words.ts";
import type { StoredEvent } from "./store.ts";

export function lineOf(value: WatchEvent | PurgeProgress): Uint8Array {
  return Buffer.from(`${JSON.stringify(value)}\n`);
}

/** An activation without its body, for those who fetch it; undefined: of a kind that is sent as it is. */
export function referenceOfStored(event: StoredEvent): Uint8Array | undefined {
  if (event.type === "purge" || event.kind !== "map") return undefined;
  const { seq, kind, id, version, bodyText } = event;
  const fence = fenceOfText(kind, bodyText);
  return fence && lineOf({ type: "reference", seq, kind, id, version, fence });
}

/** As {@link lineOf}, with the body put in as the text that it is stored as. */
export function lineOfStored(event: StoredEvent): Uint8Array {
  if (event.type === "purge") return lineOf(event);
  const { type, seq, kind, id, version, bodyText } = event;
  const head = JSON.stringify({ type, seq, kind, id, version });
  return Buffer.from(`${head.slice(0, -1)},"body":${bodyText}}\n`);
}
