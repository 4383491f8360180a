/** Tables of ranges and databases of addresses as runs of cells. A cell has what is said of its first address. */
import type { IpAddress } from "#kit";
import type { AddressRangeTable } from "../measurements/range-table.ts";
import { cellOf, isFirstOfCell } from "./cells.ts";
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
