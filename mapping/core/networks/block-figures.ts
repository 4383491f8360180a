/** What is known of single blocks: how much they ask for, and what was measured of them. One JSON document a line. */
import {
  array,
  type ClusterId,
  id,
  type IpPrefix,
  map,
  number,
  object,
  type Parsed,
  parsePrefix,
  prefixText,
  type Schema,
} from "#kit";
import { JsonReader } from "../measurements/json-reader.ts";
import { RTT_MS_MAX } from "../measurements/sample.ts";
import { ReadTally } from "../measurements/tally.ts";
import { CELL_PREFIX_LENGTH, cellCount, cellOf } from "./cells.ts";
import { type CellRuns, flattenPrefixes } from "./cell-runs.ts";

const prefix: Schema<IpPrefix> = map(prefixText(), (text) => parsePrefix(text) as IpPrefix);

const demandRecord = object({
  prefix,
  /** Of all traffic classes together. */
  demandPerSecond: number({ min: 0, max: 1e9, unit: "requests per second" }),
});
const measuredRecord = object({
  prefix,
  /** To the clusters that were measured, in any order. */
  rttMs: array(
    object({ clusterId: id<ClusterId>(), rttMs: number({ min: 0, max: RTT_MS_MAX, unit: "ms" }) }),
    {
      min: 1,
      max: 64,
      uniqueBy: (entry) => entry.clusterId,
    },
  ),
});

/** `too-long`: finer than a cell (/24, /48); `full`: as many as are taken. */
export type BlockSkipReason = "too-long" | "full";

const BLOCKS_MAX = 8_000_000;
/** 64 clusters of long names fit. */
const RECORD_CHARACTERS_MAX = 8_192;

/** Common to both: where the blocks lie. */
class Blocks {
  readonly tally = new ReadTally<BlockSkipReason>();
  readonly firsts: number[] = [];
  readonly sizes: number[] = [];

  /** False: not taken. */
  add(of: IpPrefix): boolean {
    const isTooLong = of.prefixLength > CELL_PREFIX_LENGTH[of.address.family];
    if (isTooLong || this.firsts.length >= BLOCKS_MAX) {
      this.tally.skip(isTooLong ? "too-long" : "full", "blocks", `a prefix of ${of.prefixLength} bits`);
      return false;
    }
    this.tally.take();
    this.firsts.push(cellOf(of.address));
    this.sizes.push(cellCount(of));
    return true;
  }
}

/** Demand by block. Blocks that nest or occur twice add up. */
export class BlockDemand {
  readonly #blocks = new Blocks();
  readonly #demands: number[] = [];

  get tally(): ReadTally<BlockSkipReason> {
    return this.#blocks.tally;
  }
  /** By address, so that sums do not hang on the order of the input. */
  *sorted(): Generator<{ readonly first: number; readonly end: number; readonly perSecond: number }> {
    const { firsts, sizes } = this.#blocks;
    const order = Uint32Array.from(firsts.keys()).sort(
      (a, b) =>
        (firsts[a] as number) - (firsts[b] as number) ||
        (sizes[a] as number) - (sizes[b] as number) ||
        (this.#demands[a] as number) - (this.#demands[b] as number),
    );
    for (const n of order) {
      const first = firsts[n] as number;
      yield { first, end: first + (sizes[n] as number), perSecond: this.#demands[n] as number };
    }
  }

  add(of: IpPrefix, demandPerSecond: number): void {
    if (this.#blocks.add(of)) this.#demands.push(demandPerSecond);
  }
}

/** What was measured, sparse: of profile `p` the entries from `offsets[p]` up to `offsets[p + 1]`. */
export interface Profiles {
  readonly offsets: Uint32Array;
  /** Numbers of sites. */
  readonly sites: Uint16Array;
  readonly rttMs: Float32Array;
  readonly siteCount: number;
}

/** Travel times by block. The longest prefix counts; of one that occurs twice, the last one. */
export class MeasuredBlocks {
  readonly #blocks = new Blocks();
  readonly #siteOf = new Map<string, number>();
  readonly #offsets: number[] = [0];
  readonly #sites: number[] = [];
  readonly #rttMs: number[] = [];

  get tally(): ReadTally<BlockSkipReason> {
    return this.#blocks.tally;
  }

  add(of: IpPrefix, figures: readonly { readonly clusterId: string; readonly rttMs: number }[]): void {
    if (!this.#blocks.add(of)) return;
    for (const { clusterId, rttMs } of figures) {
      let site = this.#siteOf.get(clusterId);
      if (site === undefined) {
        site = this.#siteOf.size;
        if (site > SITE_MAX) throw new RangeError(`Measured blocks name more than ${SITE_MAX + 1} clusters`);
        this.#siteOf.set(clusterId, site);
      }
      this.#sites.push(site);
      this.#rttMs.push(rttMs);
    }
    this.#offsets.push(this.#sites.length);
  }

  /** Sites are numbered by name and profiles sorted by them, so that ties do not hang on the order of the input. */
  build(): { readonly runs: CellRuns; readonly profiles: Profiles } {
    const { firsts, sizes } = this.#blocks;
    const names = [...this.#siteOf.keys()].sort();
    const numberOf = new Uint16Array(names.length);
    for (const [number, name] of names.entries()) numberOf[this.#siteOf.get(name) as number] = number;
    const sites = Uint16Array.from(this.#sites, (site) => numberOf[site] as number);
    const rttMs = Float32Array.from(this.#rttMs);
    for (let profile = 0; profile < firsts.length; profile++)
      sortBySite(sites, rttMs, this.#offsets[profile] as number, this.#offsets[profile + 1] as number);
    return {
      runs: flattenPrefixes(firsts, sizes, Int32Array.from(firsts.keys())),
      profiles: { offsets: Uint32Array.from(this.#offsets), sites, rttMs, siteCount: names.length },
    };
  }
}

/** A profile has a few sites: insertion. */
function sortBySite(sites: Uint16Array, rttMs: Float32Array, from: number, end: number): void {
  for (let at = from + 1; at < end; at++) {
    const [site, ms] = [sites[at] as number, rttMs[at] as number];
    let to = at;
    for (; to > from && (sites[to - 1] as number) > site; to--) {
      sites[to] = sites[to - 1] as number;
      rttMs[to] = rttMs[to - 1] as number;
    }
    sites[to] = site;
    rttMs[to] = ms;
  }
}
const SITE_MAX = 65_534;

/** `{"prefix":"192.0.2.0/24","demandPerSecond":3.5}`, one a line. */
export class BlockDemandReader extends JsonReader<Parsed<typeof demandRecord>> {
  constructor(into: BlockDemand) {
    super(
      (value) => demandRecord.parse(value),
      RECORD_CHARACTERS_MAX,
      (one) => into.add(one.prefix, one.demandPerSecond),
    );
  }
}

/** `{"prefix":"192.0.2.0/24","rttMs":[{"clusterId":"fra","rttMs":9.5}]}`, one a line. */
export class MeasuredBlockReader extends JsonReader<Parsed<typeof measuredRecord>> {
  constructor(into: MeasuredBlocks) {
    super(
      (value) => measuredRecord.parse(value),
      RECORD_CHARACTERS_MAX,
      (one) => into.add(one.prefix, one.rttMs),
    );
  }
}
