/** Tables of ranges and databases of addresses as runs of cells. A cell has what is said of its first address. */
import type { IpAddress } from "#kit";
import type { AddressRangeTable } from "../measurements/range-table.ts";
import { type MmdbReader, type MmdbValue } from "../measurements/mmdb.ts";
import { CELL_PREFIX_LENGTH, cellOf, isFirstOfCell, prefixesOfCells } from "./cells.ts";
import { CellRunsBuilder } from "./cell-runs.ts";
import type { LabelledRuns } from "./client-networks.ts";

/** Ranges within one cell that do not hold its first address are left out. */
export function runsOfRanges<T>(table: AddressRangeTable<T>): LabelledRuns<T> {
  const runs = new CellRunsBuilder();
  const add = (first: IpAddress, last: IpAddress, value: number): void =>
    runs.push(cellOf(first) + (isFirstOfCell(first) ? 0 : 1), cellOf(last) + 1, value);
  table.forEach(4, add);
  table.forEach(6, add);
  return { runs: runs.build(), values: table.values };
}

/** The ranges of AS numbers as if each were announced: for deployments that have no table of routes. */
export function routesOfRanges(systems: LabelledRuns<{ readonly asNumber: number }>) {
  return {
    runs: systems.runs,
    classes: systems.values.map(({ asNumber }) => ({ originAs: asNumber, signature: 0 })),
  };
}

/**
 * A database walked down to cells; equal records are one value. Records of which `valueOf` makes nothing are left out. Throws ParseError where
 * the file is damaged.
 */
export function runsOfDatabase<T>(
  database: MmdbReader,
  valueOf: (value: MmdbValue) => T | undefined,
): LabelledRuns<T> {
  const runs = new CellRunsBuilder();
  const values: T[] = [];
  const numberOf = new Map<number, number>();
  for (const family of [4, 6] as const)
    database.walk(family, CELL_PREFIX_LENGTH[family], (address, prefixLength, record) => {
      let number = numberOf.get(record);
      if (number === undefined) {
        const value = valueOf(database.valueAt(record));
        number = value === undefined ? -1 : values.push(value) - 1;
        numberOf.set(record, number);
      }
      const first = cellOf(address);
      if (number >= 0) runs.push(first, first + 2 ** (CELL_PREFIX_LENGTH[family] - prefixLength), number);
    });
  return { runs: runs.build(), values };
}

/** Several tables as one. Throws RangeError where two of them speak of one cell. */
export function joinLabelled<T>(tables: readonly LabelledRuns<T>[]): LabelledRuns<T> {
  const [only] = tables;
  if (only !== undefined && tables.length === 1) return only;
  const values: T[] = [];
  const all: { readonly first: number; readonly end: number; readonly value: number }[] = [];
  for (const table of tables) {
    for (let run = 0; run < table.runs.count; run++)
      all.push({
        first: table.runs.firsts[run] as number,
        end: table.runs.ends[run] as number,
        value: (table.runs.values[run] as number) + values.length,
      });
    for (const value of table.values) values.push(value);
  }
  all.sort((a, b) => a.first - b.first);
  const joined = new CellRunsBuilder();
  let end = 0;
  for (const run of all) {
    if (run.first < end)
      throw new RangeError(`${prefixesOfCells(run.first, run.first + 1)[0]} is in two tables`);
    end = run.end;
    joined.push(run.first, run.end, run.value);
  }
  return { runs: joined.build(), values };
}
