/**
 * Bounds an lru-cache by the number of its entries without the room for all of them being taken at once: `max` allocates its
 * tables up front, about 8 MB for the 220,000 entries that an edge may remember and an idle one does not.
 */
export function countBounded(entriesMax: number): {
  readonly maxSize: number;
  readonly sizeCalculation: () => number;
} {
  return { maxSize: entriesMax, sizeCalculation: () => 1 };
}
