/** Reads record files as a stream: bounded lines, bad ones counted and the first few told. */
import { createReadStream } from "node:fs";
import { IsochroneError, ParseError } from "#kit";
import { analyticsSettings } from "../config.ts";
import { type AccessRecord, accessRecord } from "../core/access-record.ts";

/** Bad lines that are told one by one. */
const TOLD_MAX = 5;

export interface BadLines {
  count: number;
  /** `FILE:LINE: what`, the first {@link TOLD_MAX}. */
  readonly told: string[];
}

/**
 * The records of a file in order. A line that is no record is counted in `bad` and skipped; empty lines are none.
 * Throws IsochroneError when the file cannot be read.
 */
export async function* readRecords(file: string, bad: BadLines): AsyncGenerator<AccessRecord> {
  let number = 0;
  for await (const line of readLines(file)) {
    number++;
    if (line !== undefined && line.trim() === "") continue;
    const record =
      line === undefined ? `a line of more than ${analyticsSettings.lineBytesMax} bytes` : parseLine(line);
    if (typeof record !== "string") {
      yield record;
      continue;
    }
    bad.count++;
    if (bad.told.length < TOLD_MAX) bad.told.push(`${file}:${number}: ${record}`);
  }
}

/** The record, or what is wrong. */
function parseLine(line: string): AccessRecord | string {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return `got ${JSON.stringify(line.slice(0, 60))}, expected JSON`;
  }
  try {
    return accessRecord.parse(value);
  } catch (error) {
    if (error instanceof ParseError) return error.message;
    throw error;
  }
}

/** Lines without their line feed; undefined for one beyond the bound, which is skipped to its end. */
async function* readLines(file: string): AsyncGenerator<string | undefined> {
  const { lineBytesMax } = analyticsSettings;
  let held: Buffer[] = [];
  let heldBytes = 0;
  const take = (): string | undefined => {
    const line = heldBytes > lineBytesMax ? undefined : Buffer.concat(held).toString("utf8");
    held = [];
    heldBytes = 0;
    return line;
  };
  const hold = (part: Buffer): void => {
    heldBytes += part.length;
    if (heldBytes <= lineBytesMax) held.push(part);
    else held = [];
  };
  try {
    for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
      let start = 0;
      for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
        hold(chunk.subarray(start, end));
        start = end + 1;
        yield take();
      }
      if (start < chunk.length) hold(chunk.subarray(start));
    }
  } catch (cause) {
    const { code = "unknown", message } = cause as NodeJS.ErrnoException;
    const why = code === "ENOENT" ? "no such file" : message;
    throw new IsochroneError(`Cannot read records from ${JSON.stringify(file)}: ${why} (${code})`, {
      code,
      source: "configuration",
      retry: "never",
      cause,
    });
  }
  if (heldBytes > 0) yield take();
}
