/**
 * Address space as a line of cells: a /24 of IPv4 or a /48 of IPv6 is one cell, a number that a double holds exactly. Nothing finer is told
 * apart: longer prefixes are not routed between networks (RFC 7454 section 6.1.3), and resolvers tell no more than 24 and 56 bits of
 * a client (RFC 7871 section 11.1). IPv4 comes first; IPv6 begins at 2^48, so that its prefixes are aligned on the line as they are by themselves.
 */
import { type IpAddress, type IpPrefix, formatPrefix } from "#kit";

export const CELL_PREFIX_LENGTH = { 4: 24, 6: 48 } as const;
const IPV6_CELL = 2 ** 48;

/** The cell that holds the address. */
export function cellOf({ family, words }: IpAddress): number {
  const first = words[0] as number;
  if (family === 4) return first >>> 8;
  return IPV6_CELL + first * 65_536 + ((words[1] as number) >>> 16);
}

/** Whether the address is the first one of its cell. */
export function isFirstOfCell({ family, words }: IpAddress): boolean {
  if (family === 4) return ((words[0] as number) & 0xff) === 0;
  return ((words[1] as number) & 0xffff) === 0 && words[2] === 0 && words[3] === 0;
}

/** Cells of a prefix that is no longer than a cell's. */
export function cellCount({ address, prefixLength }: IpPrefix): number {
  return 2 ** (CELL_PREFIX_LENGTH[address.family] - prefixLength);
}

/** The least prefixes that are these cells: `first` up to, and without, `end`. Both of one family. */
export function prefixesOfCells(first: number, end: number): string[] {
  const prefixes: string[] = [];
  for (let at = first; at < end; ) {
    const size = blockAt(at, end);
    prefixes.push(prefixTextOf(at, size));
    at += size;
  }
  return prefixes;
}

/** How many they are. */
export function prefixCountOfCells(first: number, end: number): number {
  let count = 0;
  for (let at = first; at < end; at += blockAt(at, end)) count++;
  return count;
}

/** The largest block that begins at a cell, is aligned and ends no later than `end`. */
function blockAt(at: number, end: number): number {
  const family = at < IPV6_CELL ? 4 : 6;
  let size = 1;
  const sizeMax = 2 ** CELL_PREFIX_LENGTH[family];
  while (size < sizeMax && at % (size * 2) === 0 && at + size * 2 <= end) size *= 2;
  return size;
}

/** The prefix of `size` cells, a power of two, that begins at `cell`. */
export function prefixTextOf(cell: number, size: number): string {
  const bits = Math.round(Math.log2(size));
  if (cell < IPV6_CELL)
    return formatPrefix({
      address: { family: 4, words: [(cell * 256) >>> 0] },
      prefixLength: CELL_PREFIX_LENGTH[4] - bits,
    });
  const own = cell - IPV6_CELL;
  const words = [Math.floor(own / 65_536), ((own % 65_536) * 65_536) >>> 0, 0, 0];
  return formatPrefix({ address: { family: 6, words }, prefixLength: CELL_PREFIX_LENGTH[6] - bits });
}

/** Where IPv6 begins: no run reaches over it. */
export function isOneFamily(first: number, last: number): boolean {
  return first < IPV6_CELL === last < IPV6_CELL;
}
