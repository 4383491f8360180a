/**
 * Round-trip time matrices that others measured, in their own formats: JSON with names, coordinates and matrices, or plain
 * text with one row a line; either of them gzipped, the latter also as a member of a tar archive.
 */
import { gunzipSync } from "node:zlib";
import {
  array,
  type Coordinates,
  IsochroneError,
  nullable,
  number,
  object,
  optional,
  ParseError,
  type Schema,
  string,
} from "#kit";
import { readFileIfThere } from "#kit/io";
import { isTar, readTar, type TarMember } from "./tar.ts";

export interface RttMatrix {
  readonly names: readonly string[];
  /** One a site, null for a site without; null when the data has none. May be wrong: labels lie. */
  readonly coordinates: readonly (Coordinates | null)[] | null;
  /** ms, row = source; NaN: missing. `rttMs(i, j)` for i = j is 0. */
  readonly rttMs: (from: number, to: number) => number;
  readonly size: number;
}

const FILE_BYTES_MAX = 256 * 2 ** 20;
const TEXT_BYTES_MAX = 512 * 2 ** 20;
const SITES_MAX = 5_000;
const RTT_MS_MAX = 60_000;
/** Matrices in a JSON document, in the order in which one is taken when none is asked for. */
const STATISTICS = ["avg", "m", "min"] as const;
export type Statistic = (typeof STATISTICS)[number];
export const statistics: readonly Statistic[] = STATISTICS;

/**
 * Reads a matrix. `source` is a path, with `#member` behind it to name a file of a tar archive; without, the first file in
 * natural order that begins with a number. Throws IsochroneError with one line: file, place, what was found and expected.
 */
export function readMatrix(source: string, statistic?: Statistic): RttMatrix {
  const [path, member] = splitSource(source);
  const bytes = unpacked(path);
  if (!isTar(bytes)) {
    if (member !== undefined)
      throw refused(path, `it is no tar archive and has no member ${JSON.stringify(member)}`);
    return parseMatrix(path, bytes, statistic);
  }
  const taken = takeMember(path, bytes, member);
  return parseMatrix(`${path}#${taken.name}`, taken.body, statistic);
}

/** Every matrix of a tar archive, in natural order of their names; all of one size. Throws as `readMatrix` does. */
export function readSlices(path: string): RttMatrix[] {
  const bytes = unpacked(path);
  if (!isTar(bytes)) throw refused(path, "it is no tar archive of time slices");
  const slices = matrixMembers(path, bytes).map(({ name, body }) =>
    parseMatrix(`${path}#${name}`, body, undefined),
  );
  const size = slices[0]?.size;
  if (size === undefined) throw refused(path, "no file of the archive begins with a number");
  for (const [n, slice] of slices.entries())
    if (slice.size !== size)
      throw refused(
        path,
        `slice ${n + 1} has ${slice.size} sites, expected ${size}, as many as the first one`,
      );
  return slices;
}

function unpacked(path: string): Uint8Array {
  const file = readFileIfThere(path, FILE_BYTES_MAX);
  if (file === undefined) throw refused(path, "there is no such file");
  try {
    return file[0] === 0x1f && file[1] === 0x8b
      ? gunzipSync(file, { maxOutputLength: TEXT_BYTES_MAX })
      : file;
  } catch (cause) {
    throw refused(path, `it cannot be unpacked: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
}

function parseMatrix(name: string, bytes: Uint8Array, statistic: Statistic | undefined): RttMatrix {
  const text = new TextDecoder().decode(bytes);
  return /^\s*[{[]/.test(text) ? fromJson(name, text, statistic) : fromText(name, text);
}

function splitSource(source: string): [string, string | undefined] {
  const hash = source.indexOf("#");
  return hash < 0 ? [source, undefined] : [source.slice(0, hash), source.slice(hash + 1)];
}

function refused(name: string, why: string): IsochroneError {
  return new IsochroneError(`Cannot read the matrix ${JSON.stringify(name)}: ${why}`, {
    code: "bad-matrix",
    source: "configuration",
    retry: "never",
  });
}

function members(path: string, archive: Uint8Array): TarMember[] {
  try {
    return readTar(archive);
  } catch (cause) {
    throw refused(path, cause instanceof Error ? cause.message : String(cause));
  }
}

/** The files of an archive that begin with a number, in natural order. */
function matrixMembers(path: string, archive: Uint8Array): TarMember[] {
  return members(path, archive)
    .filter(({ body }) => /^\s*[0-9]/.test(new TextDecoder("latin1").decode(body.subarray(0, 64))))
    .sort((a, b) => naturalOrder(a.name, b.name));
}

function takeMember(path: string, archive: Uint8Array, wanted: string | undefined): TarMember {
  if (wanted === undefined) {
    const first = matrixMembers(path, archive)[0];
    if (first === undefined) throw refused(path, "no file of the archive begins with a number");
    return first;
  }
  const all = members(path, archive);
  const found = all.find(({ name }) => name === wanted || name.endsWith(`/${wanted}`));
  if (found === undefined)
    throw refused(
      path,
      `the archive has no member ${JSON.stringify(wanted)}; it has ${all
        .map(({ name }) => name)
        .slice(0, 8)
        .join(", ")}`,
    );
  return found;
}

/** Numbers in names by value: `slice_2` before `slice_10`. */
function naturalOrder(a: string, b: string): number {
  const padded = (name: string): string => name.replaceAll(/[0-9]+/g, (digits) => digits.padStart(12, "0"));
  const one = padded(a);
  const other = padded(b);
  return one < other ? -1 : one > other ? 1 : 0;
}

/** `[latitude, longitude]`, and a place name that some files add. */
const coordinatePair: Schema<Coordinates> = {
  parse(value, path = []) {
    if (!Array.isArray(value) || value.length < 2 || value.length > 3)
      throw new ParseError(path, value, "[latitude, longitude] in degrees");
    return {
      latitude: number({ min: -90, max: 90, unit: "degrees" }).parse(value[0], [...path, 0]),
      longitude: number({ min: -180, max: 180, unit: "degrees" }).parse(value[1], [...path, 1]),
    };
  },
  jsonSchema: () => ({ type: "array", minItems: 2, maxItems: 3 }),
};
const rows = () =>
  array(array(nullable(number({ min: 0, max: RTT_MS_MAX, unit: "ms" })), { max: SITES_MAX }), {
    max: SITES_MAX,
  });
const matrices = { avg: optional(rows()), m: optional(rows()), min: optional(rows()) };
const matrixDocument = object({
  source: optional(string({ max: 2_000 })),
  unit: optional(string({ max: 200 })),
  names: array(string({ max: 200 }), { min: 2, max: SITES_MAX }),
  coord: optional(array(nullable(coordinatePair), { max: SITES_MAX })),
  ...matrices,
  matrices: optional(object(matrices)),
});

function fromJson(name: string, text: string, statistic: Statistic | undefined): RttMatrix {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw refused(name, `it is not JSON: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
  try {
    const document = matrixDocument.parse(value);
    const given = { ...document.matrices, ...document };
    const chosen = statistic ?? STATISTICS.find((one) => given[one] !== undefined);
    const matrix = chosen === undefined ? undefined : given[chosen];
    if (chosen === undefined || matrix === undefined)
      throw new ParseError(
        [chosen ?? "avg"],
        undefined,
        `a matrix with one of the names ${STATISTICS.join(", ")}`,
      );
    const size = document.names.length;
    if (matrix.length !== size)
      throw new ParseError([chosen], matrix.length, `${size} rows, one for each name`);
    for (const [index, row] of matrix.entries())
      if (row.length !== size)
        throw new ParseError([chosen, index], row.length, `${size} columns, one for each name`);
    if (document.coord !== undefined && document.coord.length !== size)
      throw new ParseError(["coord"], document.coord.length, `${size} pairs, one for each name`);
    return make(document.names, document.coord ?? null, (i, j) => matrix[i]?.[j] ?? Number.NaN);
  } catch (error) {
    if (error instanceof ParseError) throw refused(name, error.message);
    throw error;
  }
}

/** One row a line, numbers parted by tabs or blanks, as many columns as rows; NaN stands for a missing value. */
function fromText(name: string, text: string): RttMatrix {
  const lines = text.replace(/\s+$/, "").split(/\r?\n/);
  const size = lines.length;
  if (size < 2 || size > SITES_MAX)
    throw refused(name, `got ${size} lines, expected a square matrix of 2 to ${SITES_MAX} rows`);
  const values = new Float64Array(size * size);
  for (const [i, line] of lines.entries()) {
    const fields = line.trim().split(/[\t ]+/);
    if (fields.length !== size)
      throw refused(
        `${name}:${i + 1}`,
        `got ${fields.length} numbers, expected ${size}, as many as there are lines`,
      );
    for (const [j, field] of fields.entries()) {
      const value = field === "NaN" ? Number.NaN : /^[0-9.eE+-]+$/.test(field) ? Number(field) : -1;
      if (value < 0 || value > RTT_MS_MAX || (Number.isNaN(value) && field !== "NaN"))
        throw refused(
          `${name}:${i + 1}:${j + 1}`,
          `got ${JSON.stringify(field.slice(0, 40))}, expected a time of 0 to ${RTT_MS_MAX} ms or NaN`,
        );
      values[i * size + j] = value;
    }
  }
  const names = lines.map((_, index) => `site-${index + 1}`);
  return make(names, null, (i, j) => values[i * size + j] ?? Number.NaN);
}

/** A missing value is taken from the other direction, if that one is there. */
function make(
  names: readonly string[],
  coordinates: readonly (Coordinates | null)[] | null,
  at: (from: number, to: number) => number,
): RttMatrix {
  return {
    names,
    coordinates,
    size: names.length,
    rttMs: (from, to) => {
      if (from === to) return 0;
      const there = at(from, to);
      return Number.isNaN(there) ? at(to, from) : there;
    },
  };
}
