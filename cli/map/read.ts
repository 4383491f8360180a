/** Reading maps: versions that control keeps, and files. */
import { readFileSync, statSync } from "node:fs";
import type { ControlClient, DocumentSummary } from "#control";
import { type MapSnapshot, mapSnapshot, ParseError, quoteValue } from "#kit";
import { MAP_ID } from "../../mapping/core/publisher-election.ts";
import { type ControlChoice, withControl } from "../resolve-control.ts";
import { messageOf, UsageError } from "../usage.ts";

/** A map of 444,000 client networks is 20 MB. */
const FILE_BYTES_MAX = 512 * 1024 * 1024;

export interface ReadMap {
  /** A file's name, or `version 7`. */
  readonly name: string;
  readonly snapshot: MapSnapshot;
  /** Undefined: from a file that does not say. */
  readonly summary: DocumentSummary | undefined;
  /** As control sent it or as the file holds it. */
  readonly raw: unknown;
}

/** `41` is a version; everything else a file. */
export function isVersion(text: string): boolean {
  return /^\d+$/.test(text);
}

export function versionOf(text: string): number {
  const version = /^\d{1,15}$/.test(text) ? Number(text) : 0;
  if (version < 1)
    throw new UsageError(
      `got ${quoteValue(text)}, expected a version from 1, as "isochrone map history" lists them`,
    );
  return version;
}

/** The version, or the one in force. Throws {@link UsageError} when there is none or it cannot be read. */
export async function readVersion(client: ControlClient, version: number | undefined): Promise<ReadMap> {
  const found = await client.document("map", MAP_ID, version);
  if (found === undefined)
    throw new UsageError(
      version === undefined
        ? "No map is in force: no mapper has published one yet"
        : `Control keeps no version ${version} of the map; "isochrone map history" lists those that it keeps`,
      1,
    );
  const { body, ...summary } = found;
  const name = `version ${found.version}`;
  return { name, snapshot: parse(body, name), summary, raw: found };
}

/** A file with a map alone, or with what control says of it around it (`body`). */
export function readMapFile(path: string): ReadMap {
  let value: unknown;
  try {
    const { size } = statSync(path);
    if (size > FILE_BYTES_MAX) throw new Error(`it has ${size} bytes, more than ${FILE_BYTES_MAX}`);
    value = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    throw new UsageError(
      `Cannot read ${quoteValue(path)}: ${messageOf(error)}; expected a version, or a file of "isochrone map show --json"`,
    );
  }
  const body = typeof value === "object" && value !== null && "body" in value ? value.body : value;
  return { name: path, snapshot: parse(body, path), summary: undefined, raw: value };
}

/** Both, asking control only for what is a version. */
export async function readPair(choice: ControlChoice, a: string, b: string): Promise<[ReadMap, ReadMap]> {
  if (!isVersion(a) && !isVersion(b)) return [readMapFile(a), readMapFile(b)];
  return await withControl(choice, async (client) => {
    const read = async (text: string): Promise<ReadMap> =>
      isVersion(text) ? await readVersion(client, versionOf(text)) : readMapFile(text);
    return [await read(a), await read(b)];
  });
}

function parse(body: unknown, name: string): MapSnapshot {
  try {
    const snapshot = mapSnapshot.parse(body);
    snapshot.clusterMap.table();
    return snapshot;
  } catch (error) {
    if (!(error instanceof ParseError)) throw error;
    throw new UsageError(`Cannot read the map of ${name}: ${error.message}`);
  }
}

/** `version 7 of term 3 by mapper-2`: the publisher's own number, not control's. */
export function publicationText({ mapVersion, publication }: MapSnapshot): string {
  return publication === undefined
    ? `map ${mapVersion}`
    : `map ${mapVersion} of term ${publication.term} by ${publication.publisherId}`;
}

/** To the second. */
export function dateOf(epochMs: number): string {
  return new Date(epochMs).toISOString().replace(/\.\d+Z$/, "Z");
}
