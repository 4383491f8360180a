/**
 * Which differences lead from what a receiver has to the version that it is to have. Every version that was published with a difference says
 * of which content it is one (`base`) and to which it leads (`result`); names of contents, so that a control that was set up anew, a
 * publisher that changed, or a roll-back can bring about no wrong one.
 */

/** What is kept of the difference of one version. */
export interface KeptDifference {
  readonly version: number;
  readonly base: string;
  readonly result: string;
  /** Bytes of its text. */
  readonly bytes: number;
}

/** Versions of a document whose differences are kept: a receiver that is further behind gets the whole. */
export const DIFFERENCES_MAX = 16;
/** A difference, or several in a row, of more than this share of the whole is not worth it. */
export const BYTES_RATIO_MAX = 0.5;

/**
 * Versions whose differences lead from `have` to `version`, in the order in which they are to be applied; undefined: there is no such way, or
 * none of at most `bytesMax`. Empty: what the receiver has is that.
 * @param kept ascending by version
 */
export function differenceChain(
  kept: readonly KeptDifference[],
  version: number,
  have: string,
  bytesMax: number,
): readonly number[] | undefined {
  const chain: number[] = [];
  let at = kept.findLast((one) => one.version === version);
  if (at?.result === have) return chain;
  let bytes = 0;
  while (at !== undefined && chain.length < DIFFERENCES_MAX) {
    const { base, version: before } = at;
    bytes += at.bytes;
    if (bytes > bytesMax) return undefined;
    chain.unshift(before);
    if (base === have) return chain;
    at = kept.findLast((one) => one.version < before && one.result === base);
  }
  return undefined;
}
