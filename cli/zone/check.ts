/** `isochrone zone check`: a zone file, read and looked over. */
import { readFile } from "node:fs/promises";
import { text as textOfStream } from "node:stream/consumers";
import {
  type DomainName,
  nameFromText,
  nameToText,
  quoteValue,
  readZoneFile,
  zoneDataOf,
  ZoneTextError,
} from "#kit";
import { checkZone } from "#mapping";
import { UsageError } from "../usage.ts";

export interface CheckOptions {
  readonly origin: string | undefined;
  readonly serial: number | undefined;
  readonly isJson: boolean;
}

/** @returns the exit code */
export async function check(file: string, { origin, serial, isJson }: CheckOptions): Promise<number> {
  const read = readWhole(file, await textOf(file), originOf(origin));
  const findings = checkZone(read.zone, read.records, serial);
  const errors = findings.filter(({ severity }) => severity === "error").length;
  const head = {
    origin: nameToText(read.zone.origin),
    serial: read.zone.serial,
    records: read.records.length,
    names: read.zone.sets.size,
  };
  if (isJson) console.log(JSON.stringify({ ...head, errors, findings }, undefined, 2));
  else {
    for (const { severity, rule, line, name, type, text: says } of findings)
      console.log(`${file}:${line}: ${severity}: ${name} ${type}: ${says} [${rule}]`);
    console.log(
      `${head.origin} serial ${head.serial}: ${head.records} records at ${head.names} names; ${errors} errors, ${findings.length - errors} warnings`,
    );
  }
  return errors > 0 ? 1 : 0;
}

/** Of a file, or of stdin for "-". */
export async function textOf(file: string): Promise<string> {
  return file === "-" ? await textOfStream(process.stdin) : await readFile(file, "utf8");
}

/** Throws {@link UsageError}. */
export function originOf(text: string | undefined): DomainName | undefined {
  const origin = text === undefined ? undefined : nameFromText(text);
  if (text !== undefined && origin === undefined)
    throw new UsageError(`--origin: got ${quoteValue(text)}, expected a domain name such as example.com`);
  return origin;
}

/** A zone that could be served. Throws {@link UsageError} with file and line. */
export function readWhole(file: string, text: string, origin: DomainName | undefined) {
  try {
    const { records, origin: apex } = readZoneFile(text, { origin });
    const read = zoneDataOf(apex, records);
    if (read.ok) return { records, zone: read.zone };
    const { line, name, type, expected } = read.problem;
    throw new UsageError(`${file}:${line}: ${name} ${type}: expected ${expected}; the zone is refused whole`);
  } catch (error) {
    if (error instanceof ZoneTextError)
      throw new UsageError(
        `${file}:${error.line}:${error.column}: got ${quoteValue(error.value)}, expected ${error.expected}`,
      );
    throw error;
  }
}
