/**
 * The emulated wide-area network of a world on one machine: which address stands at which site and what each link costs.
 * A test and demonstration tool; on real machines none is set.
 */
import {
  array,
  type ClusterId,
  defaulted,
  id,
  map,
  number,
  object,
  type Parsed,
  record,
  string,
  tuple,
} from "#kit";

const pairText = () =>
  map(
    string({
      max: 127,
      pattern: /^[a-z][a-z0-9-]{0,62}\|[a-z][a-z0-9-]{0,62}$/,
      expected: 'two sites as "fra|iad"',
    }),
    (value) => value,
  );

const link = object({
  /** There and back, without queueing. */
  rttMs: number({ min: 0, max: 10_000, unit: "ms" }),
  /** Of a segment, 0..1. */
  lossRatio: defaulted(number({ min: 0, max: 1 }), 0),
  bandwidthMbps: defaulted(number({ min: 0.001, max: 1_000_000, unit: "Mbit/s" }), 1_000_000),
});
export type WanLink = Parsed<typeof link>;

export const wanState = object({
  /** "127.10.1.1" or, where servers share an address, "127.0.0.1:8081"; the second is looked up first. */
  siteOfAddress: record(string({ max: 80 }), id<ClusterId>(), { max: 100_000 }),
  /** The site of the process that reads this. */
  self: id<ClusterId>(),
  /** Either order of the two sites will do; the given order wins, so one-way figures are possible. */
  links: record(pairText(), link, { max: 1_000_000 }),
  /** Black holes, both ways. */
  cuts: defaulted(
    array(tuple(id<ClusterId>(), id<ClusterId>(), 'two sites as ["fra","iad"]'), { max: 100_000 }),
    [],
  ),
});
export type WanState = Parsed<typeof wanState>;

/** What lies between this process and an address. */
export type WanRoute = { readonly siteId: ClusterId; readonly isCut: boolean; readonly link: WanLink };

/**
 * The link to an address, or undefined where nothing is emulated: an address of no site, the own site, or a pair of
 * sites whose link the state does not know.
 */
export function wanRoute(state: WanState, address: string, port: number): WanRoute | undefined {
  const siteId = state.siteOfAddress[`${address}:${port}`] ?? state.siteOfAddress[address];
  if (siteId === undefined || siteId === state.self) return undefined;
  const link = state.links[`${state.self}|${siteId}`] ?? state.links[`${siteId}|${state.self}`];
  const isCut = state.cuts.some(
    ([a, b]) => (a === state.self && b === siteId) || (b === state.self && a === siteId),
  );
  if (link === undefined)
    return isCut ? { siteId, isCut, link: { rttMs: 0, lossRatio: 0, bandwidthMbps: 1_000_000 } } : undefined;
  return { siteId, isCut, link };
}
