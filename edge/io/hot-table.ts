/**
 * Hits remembered as bytes. A decision of the handler that was a plain hit is kept with everything it rested on (the store's
 * cell, the purges applied, the routing, the freshness window, the variant), and the head of its answer is kept rendered;
 * a request that looks the same is then answered without the handler. Nothing is decided here: when anything that the
 * decision rested on has changed, the request takes the long way and the decision is made anew.
 *
 * Bounded by bytes, two generations: an entry that was not used while a whole generation came in is gone, and from then on a hit has to
 * come twice to be remembered. Each scope is one
 * scheme and host, so that a look-up is one map by target.
 */
import type { Clock, EpochMs } from "#kit";
import type { CacheStatus } from "../core/cache-status.ts";
import { isNotModified } from "../core/validation.ts";
import type { PurgeIndex } from "../core/purge-index.ts";
import { type Fields, fieldValue } from "../core/headers.ts";
import type { RequestHead } from "../core/messages.ts";
import { editFields } from "../core/rules/edits.ts";
import type { Answer, HitMemo } from "./exchange.ts";
import { headText } from "./http1/answer-writer.ts";
import type { EntryCell, MemoryStore } from "./memory-store.ts";
import type { Routing } from "./routing.ts";
import { type AnswerContext, storedAnswer } from "./stored-answer.ts";

/** Largest content that is kept beside its head in one buffer, so that a hit is one write. */
const WHOLE_BYTES_MAX = 16 * 1_024;
/** What an entry costs beside its buffers: measured with 20,000 entries. */
const ENTRY_OVERHEAD_BYTES = 1_200;
/** Scopes, so that a million made-up hosts do not fill the memory with maps. */
const SCOPES_MAX = 20_000;
/** Variants of one target that are kept hot. */
const VARIANTS_MAX = 8;

/** What the table looks at in the header section of a request; the same object for equal sections of one connection. */
interface RequestSection {
  readonly fields: Fields;
  /** Has Cache-Control or Pragma. */
  readonly hasDirectives: boolean;
  /** The values of fields that a Vary nominates, as one text; `key` stands for `names`. */
  variantText(key: string, names: readonly string[]): string;
  /** The last entry whose validators its conditions were compared with, and what came of it. */
  compared: { readonly entry: HotEntry; readonly isNotModified: boolean } | undefined;
}

/**
 * The head of an answer (and its content when that is small) with the places where Age and ttl stand. The bytes are all that is held:
 * for numbers of another length they are laid out again from themselves.
 */
class Rendered {
  #bytes: Buffer;
  #headBytes: number;
  #ageAt: number;
  #ttlAt: number;
  #age: number;
  #ttl: number;
  #isInFlight = false;

  private constructor(
    bytes: Buffer,
    headBytes: number,
    places: readonly [number, number],
    age: number,
    ttl: number,
  ) {
    this.#bytes = bytes;
    this.#headBytes = headBytes;
    [this.#ageAt, this.#ttlAt] = places;
    this.#age = age;
    this.#ttl = ttl;
  }

  /**
   * Renders `answer` and finds its Age and the ttl of its Cache-Status. Undefined when it has not the form of a plain
   * hit, whose last two changing numbers these are.
   */
  static of(
    answer: Pick<Answer, "status" | "fields" | "bodyBytes" | "body" | "record">,
    content: readonly Uint8Array[],
    ageSeconds: number,
    ttlSeconds: number,
  ): Rendered | undefined {
    const head = headText(answer, "GET", false);
    const age = `\r\nAge: ${ageSeconds}\r\n`;
    const ttl = `; hit; ttl=${ttlSeconds}\r\n`;
    const ageAt = head.lastIndexOf(age);
    const ttlAt = head.lastIndexOf(ttl);
    if (ageAt === -1 || ttlAt < ageAt) return undefined;
    let bytesMax = head.length;
    for (const chunk of content) bytesMax += chunk.byteLength;
    // Not from the pool: a small piece would hold a whole slab for as long as it is hot.
    const bytes = Buffer.allocUnsafeSlow(bytesMax);
    let at = bytes.write(head, 0, "latin1");
    for (const chunk of content) {
      bytes.set(chunk, at);
      at += chunk.byteLength;
    }
    return new Rendered(bytes, head.length, [ageAt + 7, ttlAt + 11], ageSeconds, ttlSeconds);
  }

  /** Bytes that rendering holds. */
  get heldBytes(): number {
    return this.#bytes.byteLength;
  }
  get headBytes(): number {
    return this.#headBytes;
  }

  /** The bytes for an age and a ttl, seconds; valid until the next call, unless {@link keep} was called. */
  at(ageSeconds: number, ttlSeconds: number): Buffer {
    if (ageSeconds === this.#age && ttlSeconds === this.#ttl) return this.#bytes;
    const age = String(ageSeconds);
    const ttl = String(ttlSeconds);
    const ageEnd = this.#ageAt + String(this.#age).length;
    const ttlEnd = this.#ttlAt + String(this.#ttl).length;
    const ttlAt = this.#ttlAt + this.#ageAt + age.length - ageEnd;
    if (this.#isInFlight || ttlAt !== this.#ttlAt || ttlAt + ttl.length !== ttlEnd) {
      const old = this.#bytes;
      const grown = ttlAt + ttl.length - ttlEnd;
      this.#bytes = Buffer.allocUnsafeSlow(old.byteLength + grown);
      old.copy(this.#bytes, 0, 0, this.#ageAt);
      old.copy(this.#bytes, this.#ageAt + age.length, ageEnd, this.#ttlAt);
      old.copy(this.#bytes, ttlAt + ttl.length, ttlEnd);
      this.#headBytes += grown;
      this.#ttlAt = ttlAt;
      this.#isInFlight = false;
    }
    this.#bytes.write(age, this.#ageAt, "latin1");
    this.#bytes.write(ttl, ttlAt, "latin1");
    this.#age = ageSeconds;
    this.#ttl = ttlSeconds;
    return this.#bytes;
  }

  /** The socket still holds the bytes of the last call: they must not change any more. */
  keep(): void {
    this.#isInFlight = true;
  }
}

/** One remembered hit. */
export class HotEntry {
  readonly memo: HitMemo;
  readonly status: number;
  /** Content of the whole answer; empty when it lies in the rendered bytes. */
  readonly pieces: readonly Uint8Array[];
  readonly bodyBytes: number;
  readonly whole: Rendered;
  readonly nominatedKey: string;
  readonly nominatedText: string;
  /** Another variant of the same target. */
  next: HotEntry | undefined = undefined;
  /** The head for HTTP/2 that was made last: names and values in turn, for one age and ttl. */
  http2: { readonly age: number; readonly ttl: number; readonly raw: string[] } | undefined = undefined;
  /** The same as a header block of our own HTTP/2. */
  http2Block: { readonly age: number; readonly ttl: number; readonly bytes: Uint8Array } | undefined =
    undefined;
  /** What a recorder keeps with the entry. */
  record: Uint8Array | undefined = undefined;
  /** The same for its 304. */
  recordNotModified: Uint8Array | undefined = undefined;
  // What each hit looks at lies here, not three objects away: with 10,000 entries each of them is a cache miss.
  readonly #cell: EntryCell;
  readonly #freshUntil: number;
  readonly #bornAt: number;
  readonly #responseTime: number;
  readonly #propertyVersion: number;
  readonly lifetimeSeconds: number;
  #purgeGeneration: number;
  #untoldUses = 0;
  #toldInSecond = 0;
  /** Rendered when the first client has it already. */
  notModified: Rendered | undefined = undefined;

  constructor(memo: HitMemo, whole: Rendered, pieces: readonly Uint8Array[]) {
    this.memo = memo;
    this.status = memo.stored.status;
    this.whole = whole;
    this.pieces = pieces;
    this.bodyBytes = memo.stored.body.bytes;
    this.nominatedKey = memo.nominatedFields.join(",");
    this.nominatedText = JSON.stringify(memo.nominatedValues);
    this.#purgeGeneration = memo.purgeGeneration;
    this.#cell = memo.cell;
    this.#freshUntil = memo.window.freshUntil;
    this.#bornAt = memo.window.bornAt;
    this.#responseTime = memo.stored.responseTime;
    this.#propertyVersion = memo.propertyVersion;
    this.lifetimeSeconds = memo.window.lifetimeSeconds;
  }

  /**
   * Counts a use, of which the store is told once a second: its order and its sketch lie all over the memory, and that a hundred
   * more came within the second moves neither. What is not told when the last hit was is lost.
   */
  use(store: MemoryStore, now: number): void {
    this.#untoldUses++;
    // A small integer lies in the entry itself, a number of milliseconds elsewhere.
    const second = Math.floor(now / 1_000);
    if (second === this.#toldInSecond) return;
    store.touch(this.#cell, this.#untoldUses);
    this.#untoldUses = 0;
    this.#toldInSecond = second;
  }

  /** Whether the decision still stands at `now` (epoch ms). */
  holds(now: number, purges: PurgeIndex, propertyVersion: number): boolean {
    if (!this.#cell.isLive || now >= this.#freshUntil || this.#propertyVersion !== propertyVersion)
      return false;
    // A clock that was set back: the long way knows what to make of it.
    if (now < this.#responseTime) return false;
    if (this.#purgeGeneration === purges.generation) return true;
    const { memo } = this;
    if (purges.stateOf(memo.purgeScope, memo.key, memo.stored) !== "none") return false;
    this.#purgeGeneration = purges.generation;
    return true;
  }

  ageSeconds(now: number): number {
    return Math.floor((now - this.#bornAt) / 1_000);
  }

  /** Whether the conditions of a request say that the client has it already (RFC 9110, section 13.2.2). */
  isNotModified(block: RequestSection, now: EpochMs): boolean {
    // Kept with the section, not here: a hundred connections send a hundred sections to one entry.
    if (block.compared?.entry !== this)
      block.compared = { entry: this, isNotModified: isNotModified(block.fields, this.memo.stored, now) };
    return block.compared.isNotModified;
  }
}

/** The hot entries of one scheme and host. */
export class HotScope {
  /** Empty and let go: whoever holds it asks the table again. */
  isGone = false;
  young = new Map<string, HotEntry>();
  old = new Map<string, HotEntry>();
  generation: number;

  constructor(generation: number) {
    this.generation = generation;
  }
}

/** An answer with its content. */
interface HotPart {
  readonly answer: Answer;
  readonly pieces: readonly Uint8Array[];
}

export interface HotTableOptions {
  readonly bytesMax: number;
  readonly store: MemoryStore;
  readonly purges: PurgeIndex;
  readonly routing: Routing;
  readonly clock: Clock;
  readonly cacheName: string;
  readonly altSvc?: string | undefined;
}

export class HotTable {
  readonly #o: HotTableOptions;
  readonly #scopes = new Map<string, HotScope>();
  #generation = 0;
  #youngBytes = 0;
  #oldBytes = 0;
  readonly counters = { hits: 0, ended: 0 };

  constructor(options: HotTableOptions) {
    this.#o = options;
  }

  /** Bytes that the entries hold, at most: entries that have ended count until their generation goes. */
  get bytes(): number {
    return this.#youngBytes + this.#oldBytes;
  }

  scopeOf(scheme: string, host: string): HotScope | undefined {
    return this.#scopes.get(`${scheme}://${host}`);
  }

  /** The entry that answers `block` for `target` at `now` (epoch ms), if there is one whose decision stands. */
  find(scope: HotScope, target: string, block: RequestSection, now: number): HotEntry | undefined {
    if (scope.generation !== this.#generation) this.#age(scope);
    let entry = scope.young.get(target);
    if (entry === undefined) {
      entry = scope.old.get(target);
      if (entry === undefined) return undefined;
      scope.old.delete(target);
      scope.young.set(target, entry);
      for (let each: HotEntry | undefined = entry; each !== undefined; each = each.next)
        this.#youngBytes += bytesOf(each);
      this.#rotate();
    }
    const { purges, routing, store } = this.#o;
    for (let each: HotEntry | undefined = entry; each !== undefined; each = each.next) {
      if (!each.holds(now, purges, routing.propertyVersion)) {
        // One cell, one routing, one purge index: what has ended for one has ended, or soon will, for its variants.
        scope.young.delete(target);
        this.counters.ended++;
        return undefined;
      }
      if (block.hasDirectives && each.memo.hearsDirectives) return undefined;
      if (
        each.nominatedKey !== "" &&
        block.variantText(each.nominatedKey, each.memo.nominatedFields) !== each.nominatedText
      )
        continue;
      each.use(store, now);
      this.counters.hits++;
      return each;
    }
    return undefined;
  }

  /** Remembers a hit that was just answered for `head`. */
  offer(head: RequestHead, memo: HitMemo): void {
    const { stored } = memo;
    if (!stored.body.isComplete || this.#o.bytesMax === 0 || !this.#isWorthwhile(memo.cell)) return;
    const now = this.#o.clock.epoch();
    const age = Math.floor((now - memo.window.bornAt) / 1_000);
    const ttl = memo.window.lifetimeSeconds - age;
    const answer = this.#answer(memo, PLAIN_REQUEST, age, ttl);
    if (answer.status !== stored.status) return;
    const isWhole = stored.body.bytes <= WHOLE_BYTES_MAX;
    const rendered = Rendered.of(answer, isWhole ? stored.body.chunks : [], age, ttl);
    if (rendered === undefined) return;
    const entry = new HotEntry(memo, rendered, isWhole ? NO_PIECES : stored.body.chunks);
    const name = `${head.scheme}://${head.host}`;
    let scope = this.#scopes.get(name);
    if (scope === undefined) {
      if (this.#scopes.size >= SCOPES_MAX) return;
      scope = new HotScope(this.#generation);
      this.#scopes.set(name, scope);
    }
    if (scope.generation !== this.#generation) this.#age(scope);
    // Of the entries under the target those stay that rest on the same cell and are another variant.
    let kept = 0;
    for (let each = scope.young.get(head.target); each !== undefined && kept < VARIANTS_MAX; ) {
      const { next } = each;
      if (each.memo.cell === memo.cell && each.nominatedText !== entry.nominatedText) {
        each.next = entry.next;
        entry.next = each;
        kept++;
      }
      each = next;
    }
    scope.young.set(head.target, entry);
    this.#youngBytes += bytesOf(entry) + head.target.length;
    this.#rotate();
  }

  /**
   * Whether a hit is remembered. Once entries have had to go, one that nobody asks for again would only push out others, and making it
   * costs more than the hit: so the second hit of a generation or the one before is the first to be remembered.
   */
  #isWorthwhile(cell: EntryCell): boolean {
    if (this.#generation === 0) return true;
    const isSeen = cell.offeredIn >= this.#generation - 1;
    cell.offeredIn = this.#generation;
    return isSeen;
  }

  /** The rendered 304 of an entry; undefined when it has none of the plain form. `block`: of a request that gets one. */
  notModified(entry: HotEntry, block: RequestSection, age: number, ttl: number): Rendered | undefined {
    entry.notModified ??= Rendered.of(
      this.#answer(entry.memo, { ...PLAIN_REQUEST, fields: block.fields }, age, ttl),
      NO_PIECES,
      age,
      ttl,
    );
    return entry.notModified;
  }

  /**
   * The answer to a request with a range, made as the handler makes it, with its content at once. Undefined when it is of
   * several parts.
   */
  part(entry: HotEntry, block: RequestSection, age: number, ttl: number): HotPart | undefined {
    const { memo } = entry;
    const answer = this.#answer(memo, { ...PLAIN_REQUEST, fields: block.fields }, age, ttl);
    // All of it lies in memory: no need to wait for it piece by piece.
    void answer.body?.[Symbol.asyncIterator]().return?.(undefined);
    const { chunks } = memo.stored.body;
    if (answer.body === undefined) return { answer, pieces: NO_PIECES };
    if (answer.status !== 206) return { answer, pieces: chunks };
    const range = /^bytes ([0-9]+)-([0-9]+)/.exec(fieldValue(answer.fields, "content-range") ?? "");
    if (range === null) return undefined;
    return { answer, pieces: slice(chunks, Number(range[1]), Number(range[2])) };
  }

  /** The whole answer, for who renders it in another way. Its content is `memo.stored.body`. */
  plain(entry: HotEntry, age: number, ttl: number): Answer {
    const answer = this.#answer(entry.memo, PLAIN_REQUEST, age, ttl);
    void answer.body?.[Symbol.asyncIterator]().return?.(undefined);
    return answer;
  }

  /** The answer to any request that an entry was found for. */
  #answer(memo: HitMemo, request: RequestHead, age: number, ttl: number): Answer {
    const { stored } = memo;
    const context = this.#context(memo, request, ttl);
    const answer = storedAnswer(stored, stored.body, stored.body.bytes, true, age, context);
    return memo.responseHeaders === undefined
      ? answer
      : { ...answer, fields: editFields(answer.fields, memo.responseHeaders) };
  }

  #context(memo: HitMemo, request: RequestHead, ttl: number): AnswerContext {
    const cacheStatus: CacheStatus = { cache: this.#o.cacheName, isHit: true, ttlSeconds: ttl };
    return {
      request: memo.key.startsWith("https:") ? { ...request, scheme: "https" } : request,
      cacheName: this.#o.cacheName,
      altSvc: this.#o.altSvc,
      now: this.#o.clock.epoch(),
      record: memo.record,
      cacheStatus,
      upstreamCacheStatus: undefined,
      generation: undefined,
    };
  }

  /** A scope that has not been looked at since the table's generation went on. */
  #age(scope: HotScope): void {
    scope.old = this.#generation - scope.generation === 1 ? scope.young : new Map();
    scope.young = new Map();
    scope.generation = this.#generation;
  }

  /** Begins a new generation when the young one has half of the bytes; the old one's entries are let go. */
  #rotate(): void {
    if (this.#youngBytes < this.#o.bytesMax / 2) return;
    this.#generation++;
    this.#oldBytes = this.#youngBytes;
    this.#youngBytes = 0;
    for (const [name, scope] of this.#scopes) {
      this.#age(scope);
      if (scope.old.size > 0) continue;
      scope.isGone = true;
      this.#scopes.delete(name);
    }
  }
}

const NO_PIECES: readonly Uint8Array[] = [];
const PLAIN_REQUEST: RequestHead = { method: "GET", scheme: "http", host: "", target: "/", fields: [] };

/** Bytes `first..last` of a list of chunks. */
function slice(chunks: readonly Uint8Array[], first: number, last: number): readonly Uint8Array[] {
  const pieces: Uint8Array[] = [];
  let at = 0;
  for (const chunk of chunks) {
    const from = Math.max(0, first - at);
    const to = Math.min(chunk.byteLength, last - at + 1);
    if (from < to) pieces.push(chunk.subarray(from, to));
    at += chunk.byteLength;
  }
  return pieces;
}

function bytesOf(entry: HotEntry): number {
  return ENTRY_OVERHEAD_BYTES + entry.whole.heldBytes;
}
