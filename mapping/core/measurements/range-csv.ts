/**
 * Tables of address ranges in CSV, as the npm packages `@ip-location-db/*` have them, one inclusive range a line without heading:
 * `first,last,country`; `first,last,as,organisation`; `first,last,country,state1,state2,city,postcode,latitude,longitude,timezone`.
 * Addresses are texts or, in the `-num` files, decimal numbers.
 */
import { type IpAddress, type IpFamily, parseAddress } from "#kit";
import { type AutonomousSystem, asNumberOf, coordinatesOf, countryOf, nameOf, type Place } from "./places.ts";
import { AddressRangeTable, addressOfNumber, type RangeRefusal } from "./range-table.ts";
import { ReadTally } from "./tally.ts";
import { LineRecords } from "./text-records.ts";

export type RangeSkipReason = "too-long" | "malformed" | RangeRefusal;

/** City tables have some millions of ranges; as many again are allowed. */
const RANGES_MAX = 16_000_000;
const LINE_CHARACTERS_MAX = 4_096;

/** One table from one file, or from one of each family. The lines must be sorted; a range that lies in others is skipped. */
export class RangeCsvReader<T> {
  readonly table: AddressRangeTable<T>;
  readonly tally = new ReadTally<RangeSkipReason>();
  readonly #lines: LineRecords;
  readonly #valueOf: (fields: readonly string[]) => T | string;
  readonly #numbers: IpFamily | undefined;

  /**
   * @param valueOf what a line says of its range (fields from the third on), or why it cannot be taken
   * @param numbers the family when addresses are decimal numbers, which alone do not tell it
   */
  private constructor(
    valueOf: (fields: readonly string[]) => T | string,
    keyOf: (value: T) => string,
    numbers: IpFamily | undefined,
  ) {
    this.table = new AddressRangeTable(keyOf, RANGES_MAX);
    this.#valueOf = valueOf;
    this.#numbers = numbers;
    this.#lines = new LineRecords(LINE_CHARACTERS_MAX, {
      record: (line, number) => {
        const problem = this.#take(line);
        if (problem === undefined) this.tally.take();
        else this.tally.skip(problem.reason, `line ${number}`, problem.why);
      },
      unreadable: (_reason, number) =>
        this.tally.skip("too-long", `line ${number}`, `more than ${LINE_CHARACTERS_MAX} characters`),
    });
  }

  /** `first,last,as[,organisation]`. */
  static ofAutonomousSystems(numbers?: IpFamily): RangeCsvReader<AutonomousSystem> {
    return new RangeCsvReader(
      autonomousSystem,
      (value) => `${value.asNumber} ${value.organisation}`,
      numbers,
    );
  }

  /** `first,last,country`, or with state, city, postcode and coordinates behind it. */
  static ofPlaces(numbers?: IpFamily): RangeCsvReader<Place> {
    return new RangeCsvReader(
      place,
      ({ country, city, coordinates }) =>
        `${country}|${coordinates?.latitude}|${coordinates?.longitude}|${city}`,
      numbers,
    );
  }

  read(chunk: Uint8Array): void {
    this.#lines.read(chunk);
  }

  end(): void {
    this.#lines.end();
  }

  #take(line: string): { reason: RangeSkipReason; why: string } | undefined {
    const fields = csvFields(line);
    if (fields === undefined) return { reason: "malformed", why: "a quoted field that does not end" };
    const [firstText = "", lastText = "", ...rest] = fields;
    const [first, last] = [this.#address(firstText), this.#address(lastText)];
    if (first === undefined || last === undefined || first.family !== last.family)
      return {
        reason: "malformed",
        why: `got ${JSON.stringify(`${firstText},${lastText}`)}, expected two addresses of one family`,
      };
    const value = this.#valueOf(rest);
    if (typeof value === "string") return { reason: "malformed", why: value };
    const reason = this.table.add(first, last, value);
    return reason && { reason, why: `${firstText} to ${lastText}: ${REFUSED[reason]}` };
  }

  #address(text: string): IpAddress | undefined {
    return this.#numbers === undefined ? parseAddress(text) : addressOfNumber(text, this.#numbers);
  }
}

const REFUSED: Readonly<Record<RangeRefusal, string>> = {
  backwards: "the first address is behind the last one",
  "out-of-order": "begins within or before the range of the line above",
  full: `the table has ${RANGES_MAX} ranges already`,
};

function autonomousSystem([as = "", organisation]: readonly string[]): AutonomousSystem | string {
  const asNumber = asNumberOf(as);
  if (asNumber === undefined) return `the third field: got ${JSON.stringify(as)}, expected an AS number`;
  return { asNumber, organisation: nameOf(organisation) };
}

function place(fields: readonly string[]): Place | string {
  const [countryText = "", , , cityText, , latitude, longitude] = fields;
  const country = countryOf(countryText);
  if (country === undefined)
    return `the third field: got ${JSON.stringify(countryText)}, expected a country of two capital letters`;
  const coordinates = coordinatesOf(latitude, longitude);
  if (coordinates === undefined)
    return `coordinates: got ${JSON.stringify(`${latitude},${longitude}`)}, expected degrees of latitude and longitude`;
  return { country, city: nameOf(cityText), coordinates };
}

/** RFC 4180 within one line; undefined when a quoted field does not end. */
function csvFields(line: string): string[] | undefined {
  if (!line.includes('"')) return line.split(",");
  const fields: string[] = [];
  for (let at = 0; at <= line.length; ) {
    if (line[at] !== '"') {
      const end = line.indexOf(",", at);
      const stop = end < 0 ? line.length : end;
      fields.push(line.slice(at, stop));
      at = stop + 1;
      continue;
    }
    let field = "";
    let from = at + 1;
    for (;;) {
      const quote = line.indexOf('"', from);
      if (quote < 0) return undefined;
      field += line.slice(from, quote);
      from = quote + 1;
      if (line[from] !== '"') break;
      field += '"';
      from++;
    }
    if (from < line.length && line[from] !== ",") return undefined;
    fields.push(field);
    at = from + 1;
  }
  return fields;
}
