/** The sampled query log: what the sockets hand over is formatted later, written to a file if there is one, and counted by name and resolver. */
import { AccessLog } from "#analytics";
import { type Logger, systemClock } from "#kit/io";
import { QueryRing, Sampler, type SampledQuery } from "../core/dns/query-log/query-ring.ts";
import { type AddressCut, queryLine } from "../core/dns/query-log/query-record.ts";
import { type TopFigures, TopQueries } from "../core/dns/query-log/top-queries.ts";

/** How to log; it travels as JSON. */
export interface QueryLogSettings {
  /** One query in so many is looked at; 0: none. */
  readonly oneIn: number;
  readonly seed: number;
  readonly cut: AddressCut;
  /** NDJSON, rotated; undefined: only the top lists are kept. */
  readonly path: string | undefined;
  /** What the server is called in the records. */
  readonly serverId: string;
}

/** Queries that may wait: at one in 100 of 400,000 a second, a stall of two seconds. */
const RING_QUERIES = 8_192;
/** How long a query waits for others. */
const DRAIN_MS = 100;
/** Queries that are formatted in one turn of the event loop: a millisecond or two. */
const DRAINED_MAX = 256;

/** A line of ASCII, as the log's writer takes it. */
class AsciiLine {
  text = "";

  write(bytes: Uint8Array, at: number): number {
    const { text } = this;
    for (let index = 0; index < text.length; index++) bytes[at + index] = text.charCodeAt(index);
    return at + text.length;
  }
}

export class DnsQueryLog {
  readonly sampler: Sampler;
  readonly #settings: QueryLogSettings;
  readonly #ring = new QueryRing(RING_QUERIES);
  readonly #top: TopQueries;
  readonly #file: AccessLog | undefined;
  readonly #line = new AsciiLine();
  #timer: NodeJS.Timeout | undefined;
  #sampled = 0;

  private constructor(settings: QueryLogSettings, file: AccessLog | undefined) {
    this.#settings = settings;
    this.sampler = new Sampler(settings.oneIn, settings.seed);
    this.#top = new TopQueries(settings.oneIn, settings.cut, systemClock.monotonic());
    this.#file = file;
  }

  /** Undefined where nothing is to be looked at. Rejects with the system's error when the file cannot be written. */
  static async open(settings: QueryLogSettings, logger: Logger): Promise<DnsQueryLog | undefined> {
    const { oneIn, path } = settings;
    if (oneIn === 0) return undefined;
    const file = path === undefined ? undefined : new AccessLog({ path, logger });
    await file?.open();
    return new DnsQueryLog(settings, file);
  }

  /** Never blocks, never throws: where no room is, the query is counted. */
  take(query: SampledQuery): void {
    this.#sampled++;
    this.#ring.push(query);
    this.#timer ??= setTimeout(() => this.#turn(), DRAIN_MS).unref();
  }

  get top(): TopFigures {
    return this.#top.figures(systemClock.monotonic());
  }

  get counters(): Readonly<Record<string, number>> {
    const written = this.#file?.counters;
    return {
      "query-sampled": this.#sampled,
      "query-log-written": written?.recordsWritten ?? 0,
      "query-log-dropped": this.#ring.dropped + (written?.recordsDroppedFull ?? 0),
      "query-log-disk-refused": written?.recordsDroppedDisk ?? 0,
    };
  }

  #turn(): void {
    this.#timer = undefined;
    this.#drain(DRAINED_MAX);
    if (this.#ring.length > 0) this.#timer = setTimeout(() => this.#turn(), 1).unref();
  }

  #drain(most: number): void {
    const nowMs = systemClock.monotonic();
    const { serverId, cut } = this.#settings;
    for (let count = 0; count < most; count++) {
      const query = this.#ring.shift();
      if (query === undefined) return;
      this.#top.handleQuery(query, nowMs);
      if (this.#file !== undefined) {
        this.#line.text = queryLine(query, serverId, cut);
        this.#file.writeLine(this.#line, this.#line.text.length);
      }
    }
  }

  /** Writes what waits. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    this.#drain(RING_QUERIES);
    await this.#file?.close();
  }
}
