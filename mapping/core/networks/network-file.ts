/**
 * Client networks as a file: one JSON document a line. The first line says what it is, the last one how many there were and a checksum over all lines before it;
 * so a file that is cut, mixed or still being written is refused whole, and whoever has a good one keeps it.
 */
import {
  array,
  type ClientNetworkId,
  coordinates,
  id,
  integer,
  line,
  nullable,
  number,
  object,
  oneOf,
  optional,
  ParseError,
  type Parsed,
  type Path,
  prefixText,
  string,
  xxh64,
} from "#kit";
import type { ClientNetworkInput } from "../cluster-map.ts";
import { nameOf } from "../measurements/places.ts";
import { LineRecords } from "../measurements/text-records.ts";
import { prefixesOfCells } from "./cells.ts";
import type { NetworkSets } from "./client-networks.ts";

const FORMAT = "isochrone-client-networks";

const head = object({
  format: oneOf([FORMAT]),
  version: integer({ min: 1, max: 1 }),
  createdAtEpochMs: integer({ min: 0, max: 4_102_444_800_000, unit: "ms since 1970" }),
});
const network = object({
  clientNetworkId: id<ClientNetworkId>(),
  prefixes: array(prefixText(), { min: 1, max: 10_000 }),
  demandPerSecond: number({ min: 0, max: 1e9, unit: "requests per second" }),
  /** Null where the space is announced by nobody in particular. */
  asNumber: nullable(integer({ max: 0xffff_ffff })),
  country: nullable(string({ max: 2, pattern: /^[A-Z]{2}$/, expected: "a country of two capital letters" })),
  city: nullable(line(200)),
  coordinates: nullable(coordinates),
  /** The announced prefix that holds most of it, each run of it going by its beginning; absent where the file was not cut from a table of routes. */
  routedPrefix: optional(prefixText()),
});
const foot = object({
  networks: integer({ min: 1, max: 500_000 }),
  checksum: string({ max: 16, pattern: /^[0-9a-f]{16}$/, expected: "16 hexadecimal digits" }),
});

export type NetworkRecord = Parsed<typeof network>;

export interface NetworkFile {
  readonly createdAtEpochMs: number;
  /** Distinct names, no prefix twice; at least one. */
  readonly networks: readonly NetworkRecord[];
}

/** 10,000 prefixes of IPv6 fit. */
const LINE_CHARACTERS_MAX = 524_288;
const NETWORKS_MAX = 500_000;
const PREFIXES_MAX = 8_000_000;

/** A checksum that goes on from line to line. */
function chained(checksum: bigint, text: string): bigint {
  return xxh64(text, checksum);
}

/** The lines of a file, each with its line feed. */
export function* networkFileLines(
  networks: Iterable<NetworkRecord>,
  createdAtEpochMs: number,
): Generator<string> {
  let checksum = 0n;
  const lineOf = (value: unknown): string => {
    const text = JSON.stringify(value);
    checksum = chained(checksum, text);
    return `${text}\n`;
  };
  yield lineOf({ format: FORMAT, version: 1, createdAtEpochMs });
  let count = 0;
  for (const one of networks) {
    count++;
    yield lineOf(one);
  }
  yield `${JSON.stringify({ networks: count, checksum: hex(checksum) })}\n`;
}

function hex(checksum: bigint): string {
  return checksum.toString(16).padStart(16, "0");
}

/**
 * Sets with their names as records, in the order of the sets.
 *
 * @param routedPrefixOf the announced prefix that holds a cell
 */
export function* networkRecords(
  sets: NetworkSets,
  names: readonly ClientNetworkId[],
  routedPrefixOf: (cell: number) => string | undefined = () => undefined,
): Generator<NetworkRecord> {
  const prefixes: string[][] = Array.from({ length: sets.count }, () => []);
  const routed: (Map<string, number> | undefined)[] = [];
  for (let run = 0; run < sets.runs.count; run++) {
    const set = sets.runs.values[run] as number;
    const [first, end] = [sets.runs.firsts[run] as number, sets.runs.ends[run] as number];
    prefixes[set]?.push(...prefixesOfCells(first, end));
    const route = routedPrefixOf(first);
    if (route === undefined) continue;
    const cells = (routed[set] ??= new Map<string, number>());
    cells.set(route, (cells.get(route) ?? 0) + end - first);
  }
  for (const [set, clientNetworkId] of names.entries()) {
    const place = sets.placeOf(set);
    const routedPrefix = mostCells(routed[set]);
    yield {
      clientNetworkId,
      prefixes: prefixes[set] ?? [],
      demandPerSecond: sets.demandPerSecond[set] as number,
      asNumber: sets.asNumbers[set] as number,
      country: place?.country ?? null,
      city: nameOf(place?.city),
      coordinates: place?.coordinates ?? null,
      ...(routedPrefix !== undefined && { routedPrefix }),
    };
  }
}

/** Ties: the one that came first. */
function mostCells(cells: ReadonlyMap<string, number> | undefined): string | undefined {
  let best: string | undefined;
  for (const [prefix, count] of cells ?? [])
    if (best === undefined || count > (cells?.get(best) ?? 0)) best = prefix;
  return best;
}

/** Records as the engine is told of them, with all that tells who their neighbours are. */
export function clientNetworkInputs(records: readonly NetworkRecord[]): ClientNetworkInput[] {
  // One text for each city, however many networks it has.
  const cities = new Map<string, string>();
  return records.map(
    ({ clientNetworkId, prefixes, coordinates: place, demandPerSecond, asNumber, ...rest }) => {
      const { country, city, routedPrefix } = rest;
      // Cities of several countries have one name.
      const named = city === null ? undefined : `${country ?? ""}/${city}`;
      if (named !== undefined && !cities.has(named)) cities.set(named, named);
      const key = named === undefined ? undefined : cities.get(named);
      return {
        clientNetworkId,
        prefixes,
        coordinates: place,
        demandPerSecond,
        // 0: announced by nobody in particular (RFC 7607).
        ...(asNumber !== null && asNumber !== 0 && { asNumber }),
        ...(key !== undefined && { city: key }),
        ...(routedPrefix !== undefined && { routedPrefix }),
      };
    },
  );
}

/** Reads a file as it comes. Everything that is wrong throws {@link ParseError}, whose path begins with the line. */
export class NetworkFileReader {
  readonly #networks: NetworkRecord[] = [];
  readonly #names = new Set<string>();
  readonly #prefixes = new Set<string>();
  readonly #lines = new LineRecords(LINE_CHARACTERS_MAX, {
    record: (text, number) => this.#take(text, number),
    unreadable: (_reason, number) => {
      throw new ParseError(["line", number], "...", `a line of at most ${LINE_CHARACTERS_MAX} characters`);
    },
  });
  #createdAtEpochMs: number | undefined;
  #checksum = 0n;
  #isComplete = false;

  read(chunk: Uint8Array): void {
    this.#lines.read(chunk);
  }

  /** What was in it, once all of it has been read. */
  end(): NetworkFile {
    this.#lines.end();
    if (this.#createdAtEpochMs === undefined || !this.#isComplete)
      throw new ParseError(
        [],
        `${this.#networks.length} client networks and no last line`,
        "a whole file, whose last line has their number and a checksum",
      );
    return { createdAtEpochMs: this.#createdAtEpochMs, networks: this.#networks };
  }

  #take(text: string, lineNumber: number): void {
    const at: Path = ["line", lineNumber];
    if (this.#isComplete)
      throw new ParseError(at, text.slice(0, 80), "nothing behind the line with the checksum");
    const value = jsonOf(text, at);
    if (this.#createdAtEpochMs === undefined) this.#createdAtEpochMs = head.parse(value, at).createdAtEpochMs;
    else if (typeof value === "object" && value !== null && "checksum" in value) this.#takeFoot(value, at);
    else this.#takeNetwork(network.parse(value, at), at);
    this.#checksum = chained(this.#checksum, text);
  }

  #takeFoot(value: unknown, at: Path): void {
    const { networks, checksum } = foot.parse(value, at);
    if (networks !== this.#networks.length)
      throw new ParseError([...at, "networks"], networks, `${this.#networks.length}, as many as stand above`);
    if (checksum !== hex(this.#checksum))
      throw new ParseError(
        [...at, "checksum"],
        checksum,
        `${hex(this.#checksum)}, which the lines above have`,
      );
    this.#isComplete = true;
  }

  #takeNetwork(one: NetworkRecord, at: Path): void {
    if (this.#networks.length >= NETWORKS_MAX)
      throw new ParseError(at, one.clientNetworkId, `at most ${NETWORKS_MAX} client networks`);
    if (this.#names.has(one.clientNetworkId))
      throw new ParseError(
        [...at, "clientNetworkId"],
        one.clientNetworkId,
        "a name that no other network has",
      );
    this.#names.add(one.clientNetworkId);
    for (const [n, prefix] of one.prefixes.entries()) {
      if (this.#prefixes.has(prefix))
        throw new ParseError([...at, "prefixes", n], prefix, "a prefix that stands nowhere above");
      if (this.#prefixes.size >= PREFIXES_MAX)
        throw new ParseError([...at, "prefixes", n], prefix, `at most ${PREFIXES_MAX} prefixes in all`);
      this.#prefixes.add(prefix);
    }
    this.#networks.push(one);
  }
}

function jsonOf(text: string, at: Path): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ParseError(
      at,
      text.slice(0, 80),
      `JSON (${error instanceof Error ? error.message : String(error)})`,
    );
  }
}
