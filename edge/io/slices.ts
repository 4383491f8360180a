/**
 * The slices of large objects in motion: which are being fetched, which a streamed whole will bring, and readers that put an
 * object together from what is stored and what is arriving. Each slice is asked for once, however many clients wait for it,
 * and a fetch belongs to no client. Which slices exist and what an answer means is decided in core/slices.ts.
 */
import type { Readable } from "node:stream";
import { IsochroneError, type ServerId } from "#kit";
import type { EdgeSettings } from "../config.ts";
import type { CacheKey } from "../core/cache-key.ts";
import type { Field } from "../core/headers.ts";
import type { PurgeIndex } from "../core/purge-index.ts";
import type { ByteSpan } from "../core/range.ts";
import {
  judgeSlice,
  type SlicedHead,
  sliceIndices,
  sliceKey,
  sliceSetKey,
  sliceSpan,
  type SliceVerdict,
} from "../core/slices.ts";
import { UNCONDITIONAL } from "../core/validation.ts";
import type { CollapseTable } from "./collapse.ts";
import { type FillBudget, incomplete } from "./fill-budget.ts";
import type { Forwarded, Forwarder, ForwardRequest } from "./forwarder.ts";
import type { StoredObject } from "./memory-store.ts";
import type { EdgeMetrics } from "./metrics.ts";
import { ObjectBody } from "./object-body.ts";
import type { ObjectStore } from "./object-store.ts";
import { ShedError } from "./overload-gate.ts";
import { type Hop, isCircle, serversOf } from "./routing.ts";
import {
  type ArrivingSlice,
  fastestIndex,
  hasStraggler,
  RecentSlices,
  type SliceSet,
  type Stream,
  wake,
} from "./slice-set.ts";
import { type Place, SlicedReadable } from "./sliced-readable.ts";

/** How a client's request for slices is put to the next hop. */
export interface SliceRequest
  extends Pick<
    ForwardRequest,
    "head" | "httpVersion" | "clientAddress" | "requestId" | "purgeScope" | "isBackground" | "isBegun"
  > {
  readonly hops: readonly Hop[];
}

/** Slices beyond its fastest reader that a streamed whole may bring: hides a pause of either side, bounds what waits unread. */
const STREAM_AHEAD = 2;

/**
 * How long a streamed whole waits before it brings a slice for which one must go that a reader will want, ms. Readers of like
 * speed stay together; one that is slower than a slice in this time falls out once and then asks for its slices by itself.
 */
const STRAGGLER_MS = 250;

/** A slice that is arriving. */
interface Flight {
  readonly body: ObjectBody;
  readonly generation: number;
  /** Servers of ours that it may come from. */
  readonly servers: readonly ServerId[];
  /** Resolves when the answer's head was found good; rejects with the reason when it was not. */
  readonly ready: Promise<void>;
}

/** The error that ends those who wait for a slice that the next hop did not give. */
function refused(verdict: Exclude<SliceVerdict, "ok">, status: number): IsochroneError {
  return new IsochroneError(`The next hop answered the request for a slice with ${status} (${verdict})`, {
    code: verdict === "failed" ? `status-${status}` : verdict,
    source: "upstream",
    retry: "never",
  });
}

/** Whether an error says that the head of the object is out of date: to decide anew finds out what is true now. */
export function isOutOfDate(error: unknown): boolean {
  return error instanceof IsochroneError && (error.code === "changed" || error.code === "rangeless");
}

export class Slices {
  readonly #forwarder: Forwarder;
  readonly #store: ObjectStore;
  readonly #purges: PurgeIndex;
  readonly #collapse: CollapseTable;
  readonly #budget: FillBudget;
  readonly #metrics: EdgeMetrics;
  readonly #readAheadMax: number;
  readonly #flights = new Map<CacheKey, Flight>();
  readonly #sets = new Map<string, SliceSet>();
  readonly #recent: RecentSlices;

  constructor(options: {
    readonly forwarder: Forwarder;
    readonly store: ObjectStore;
    readonly purges: PurgeIndex;
    readonly collapse: CollapseTable;
    readonly budget: FillBudget;
    readonly metrics: EdgeMetrics;
    readonly settings: EdgeSettings;
  }) {
    this.#forwarder = options.forwarder;
    this.#store = options.store;
    this.#purges = options.purges;
    this.#collapse = options.collapse;
    this.#budget = options.budget;
    this.#recent = new RecentSlices(options.budget);
    this.#metrics = options.metrics;
    this.#readAheadMax = options.settings.sliceReadAheadMax;
  }

  /** Slices that are arriving. */
  get active(): number {
    return this.#flights.size;
  }
  /** Objects that are being read or streamed. */
  get objects(): number {
    return this.#sets.size;
  }

  /**
   * The content of a sliced object for one request. `request` is called when something has to be fetched. `asker`: the server of
   * ours that asks.
   */
  contentOf(
    key: CacheKey,
    purgeScope: string,
    head: SlicedHead,
    request: () => SliceRequest,
    asker: ServerId | undefined,
  ): SlicedReadable {
    let set = this.#setOf(key, purgeScope, head);
    return new SlicedReadable(
      {
        sliced: head.sliced,
        holds: (spans) => this.#holds(set, spans),
        enter: (place) => {
          set = this.#enter(set, place);
        },
        leave: (place) => this.#leave(set, place),
        moved: () => {
          this.#recent.letGo(set);
          wake(set.stream);
        },
        bodyOf: (index, isBegun) => this.#bodyOf(set, index, () => ({ ...request(), isBegun }), asker),
        fetchAhead: (index) => this.#fetchAhead(set, index, () => ({ ...request(), isBegun: true })),
      },
      this.#readAheadMax,
    );
  }

  /**
   * Takes the content of an answer that is `span` of the object and cuts it into slices: all of a whole, or the part that an
   * opening brought. Its first slice can be read from this call on. Resolves when it has ended; never rejects. `servers`: those of
   * ours that it may come from.
   */
  async take(
    key: CacheKey,
    purgeScope: string,
    head: SlicedHead,
    content: Readable,
    { first, last }: ByteSpan,
    servers: readonly ServerId[],
  ): Promise<void> {
    const set = this.#setOf(key, purgeScope, head);
    const { sliceBytes } = head.sliced;
    // The part before the first whole slice is of no use: `last` openings begin within one.
    const firstIndex = Math.ceil(first / sliceBytes);
    const end = last + 1;
    const stream: Stream = {
      generation: head.generation,
      index: firstIndex,
      lastIndex: Math.floor(last / sliceBytes),
      piece: undefined,
      wake: new Set(),
      content,
      servers,
    };
    if (set.stream === undefined) {
      set.stream = stream;
      this.#sets.set(set.setKey, set);
    }
    let at = first;
    stream.piece = this.#arriving(set, firstIndex, head.generation, servers);
    try {
      for await (const whole of content as AsyncIterable<Uint8Array>) {
        const skipped = Math.min(whole.byteLength, Math.max(0, firstIndex * sliceBytes - at));
        let chunk = whole.subarray(skipped);
        at += skipped;
        while (chunk.byteLength > 0) {
          const { piece } = stream;
          if (piece === undefined) throw incomplete(at - first, end - first);
          const part = chunk.subarray(0, piece.missingBytes);
          piece.body.append(part);
          at += part.byteLength;
          chunk = chunk.subarray(part.byteLength);
          await piece.body.room();
          if (piece.missingBytes > 0) continue;
          this.#metrics.slice("streamed");
          piece.finish(head.generation);
          stream.piece = undefined;
          if (at >= end) continue;
          stream.index++;
          if (!(await this.#mayGoOn(set, stream))) return;
          stream.piece = this.#arriving(set, stream.index, head.generation, servers);
          wake(stream);
        }
      }
      if (at !== end) throw incomplete(at - first, end - first);
    } catch (error) {
      this.#metrics.slice("failed");
      stream.piece?.body.fail(error);
    } finally {
      stream.piece?.finish(head.generation);
      stream.piece = undefined;
      if (set.stream === stream) set.stream = undefined;
      wake(stream);
      content.destroy();
      this.#release(set);
    }
  }

  /**
   * Whether a streamed whole goes on with its next slice. It waits while its readers are far behind; it ends when nobody reads
   * (what came is kept, the rest can be asked for) and before a slice that is there already, so that no byte is paid twice.
   */
  async #mayGoOn(set: SliceSet, stream: Stream): Promise<boolean> {
    let hasWaited = false;
    let timer: NodeJS.Timeout | undefined;
    const giveUp = (): void => {
      hasWaited = true;
      wake(stream);
    };
    try {
      return await this.#whenWanted(
        set,
        stream,
        () => hasWaited,
        () => {
          timer ??= setTimeout(giveUp, STRAGGLER_MS);
        },
      );
    } finally {
      clearTimeout(timer);
    }
  }

  /** See {@link #mayGoOn}. `hasWaited`: for stragglers, long enough; `wait` begins to. */
  async #whenWanted(
    set: SliceSet,
    stream: Stream,
    hasWaited: () => boolean,
    wait: () => void,
  ): Promise<boolean> {
    for (;;) {
      if (set.places.size === 0) return false;
      const key = sliceKey(set.setKey, stream.index);
      if (this.#flights.has(key) || this.#isStored(set, stream.index)) return false;
      const isWanted = stream.index <= fastestIndex(set) + STREAM_AHEAD;
      if (isWanted && (hasWaited() || !hasStraggler(set, stream.index))) return true;
      if (isWanted) wait();
      await new Promise<void>((resolve) => stream.wake.add(resolve));
    }
  }

  #setOf(key: CacheKey, purgeScope: string, head: SlicedHead): SliceSet {
    const setKey = sliceSetKey(key, head);
    return (
      this.#sets.get(setKey) ?? {
        setKey,
        key,
        purgeScope,
        head,
        places: new Set(),
        stream: undefined,
        recent: [],
      }
    );
  }

  /** A reader takes its place; `#leave` gives it up. */
  #enter(set: SliceSet, place: Place): SliceSet {
    const present = this.#sets.get(set.setKey) ?? set;
    this.#sets.set(set.setKey, present);
    present.places.add(place);
    return present;
  }
  #leave(set: SliceSet, place: Place): void {
    if (!set.places.delete(place)) return;
    const { stream } = set;
    wake(stream);
    // A stream that waits for room in a slice that is not retained, and that nobody will read, would wait for ever.
    if (set.places.size === 0 && stream?.piece?.body.isRetained === false) {
      stream.content.destroy();
      stream.piece.body.fail(incomplete(stream.piece.body.bytes, set.head.sliced.sliceBytes));
    }
    this.#release(set);
  }

  #recentOf(set: SliceSet, index: number): ObjectBody | undefined {
    return set.recent.find((recent) => recent.index === index && this.#mayJoin(set, recent.generation))?.body;
  }

  #release(set: SliceSet): void {
    this.#recent.letGo(set);
    if (set.places.size === 0 && set.stream === undefined && this.#sets.get(set.setKey) === set)
      this.#sets.delete(set.setKey);
  }

  #holds(set: SliceSet, spans: readonly ByteSpan[]): boolean {
    return sliceIndices(set.head.sliced, spans).every((index) => this.#isStored(set, index));
  }

  /** Whether a slice is stored and may be used; not a use of it. On disk it counts as usable until it has been read. */
  #isStored(set: SliceSet, index: number): boolean {
    const key = sliceKey(set.setKey, index);
    if (this.#recentOf(set, index) !== undefined) return true;
    const objects = this.#store.memory.peek(key);
    return objects.length > 0
      ? objects.some((object) => this.#isUsable(set, index, object))
      : this.#store.has(key);
  }

  /** Whether a stored object is the whole slice, and not purged: a hard purge means the bytes too, whatever their validator. */
  #isUsable(set: SliceSet, index: number, object: StoredObject): boolean {
    const { first, last } = sliceSpan(set.head.sliced, index);
    return (
      object.body.bytes === last - first + 1 &&
      this.#purges.stateOf(set.purgeScope, set.key, object) !== "hard"
    );
  }

  /** The body of a slice: stored, arriving, or fetched now. Rejects when it cannot be had. */
  async #bodyOf(
    set: SliceSet,
    index: number,
    request: () => SliceRequest,
    asker: ServerId | undefined,
  ): Promise<ObjectBody> {
    const key = sliceKey(set.setKey, index);
    for (;;) {
      const flight = this.#flights.get(key);
      if (
        flight?.body.canJoin === true &&
        !isCircle(asker, flight.servers) &&
        this.#mayJoin(set, flight.generation)
      ) {
        await flight.ready;
        if (flight.body.canJoin) return flight.body;
        continue;
      }
      const recent = this.#recentOf(set, index);
      if (recent !== undefined) return recent;
      const found = this.#store.lookup(key);
      const stored = found instanceof Promise ? await found : found;
      const usable = stored.find((object) => this.#isUsable(set, index, object));
      if (usable !== undefined) {
        this.#touch(set);
        return usable.body;
      }
      const { stream } = set;
      if (
        stream !== undefined &&
        // Between two slices the next one is not entered yet.
        (index > stream.index || (index === stream.index && stream.piece === undefined)) &&
        index <= Math.min(stream.index + STREAM_AHEAD, stream.lastIndex) &&
        !isCircle(asker, stream.servers) &&
        this.#mayJoin(set, stream.generation)
      ) {
        await new Promise<void>((resolve) => stream.wake.add(resolve));
        continue;
      }
      if (this.#flights.get(key) !== flight) continue;
      return await this.#fetch(set, index, request());
    }
  }

  /** Asks for a slice that will be wanted soon, unless it is there, on its way, or there is no room for it. */
  #fetchAhead(set: SliceSet, index: number, request: () => SliceRequest): void {
    if (this.#budget.isFull || this.#flights.has(sliceKey(set.setKey, index))) return;
    if (this.#isStored(set, index)) return;
    const { stream } = set;
    if (stream !== undefined && index >= stream.index && index <= stream.lastIndex) return;
    // Whoever comes to need it hears of the failure, or asks again.
    this.#fetch(set, index, request()).catch(() => {});
  }

  /** A use of a slice is one of its head, which must not be evicted before its slices: without it they are lost. */
  #touch(set: SliceSet): void {
    this.#store.memory.lookup(set.key);
  }

  #mayJoin(set: SliceSet, generation: number): boolean {
    return this.#purges.mayJoin(set.purgeScope, set.key, generation, set.head.tags);
  }

  /** A slice's body, entered so that others find it; it goes to the store when it is whole. */
  #arriving(
    set: SliceSet,
    index: number,
    generation: number,
    servers: readonly ServerId[],
    ready?: Promise<void>,
  ): ArrivingSlice {
    const key = sliceKey(set.setKey, index);
    const span = sliceSpan(set.head.sliced, index);
    const bytes = span.last - span.first + 1;
    const isRetained = this.#budget.reserve(bytes);
    const body = new ObjectBody(isRetained, isRetained ? undefined : this.#budget.windows.share());
    const flight: Flight = { body, generation, servers, ready: ready ?? Promise.resolve() };
    this.#flights.set(key, flight);
    let isOpen = true;
    return {
      body,
      get missingBytes() {
        return bytes - body.bytes;
      },
      finish: (kept) => {
        if (!isOpen) return;
        isOpen = false;
        if (body.bytes === bytes && !body.isFailed) body.finish();
        else body.fail(incomplete(body.bytes, bytes));
        if (body.isComplete && isRetained) {
          const own = body.compact();
          this.#keep(set, key, own, kept);
          this.#recent.keep(set, { index, generation: kept, body: own, bytes });
        } else if (isRetained) this.#budget.unreserve(bytes);
        if (this.#flights.get(key) === flight) this.#flights.delete(key);
      },
    };
  }

  #keep(set: SliceSet, key: CacheKey, body: ObjectBody, generation: number): void {
    const { tags, requestTime, responseTime } = set.head;
    // Purged while it arrived: to store it would bring back what the purge has taken away.
    if (this.#purges.stateOf(set.purgeScope, set.key, { generation, tags }) === "hard") return;
    const object: StoredObject = {
      status: 206,
      // The head has the fields; a slice is never an answer by itself.
      fields: NO_FIELDS,
      requestTime,
      responseTime,
      nominatedFields: NO_NAMES,
      nominatedValues: NO_NAMES,
      generation,
      tags,
      isInvalidated: false,
      sliced: null,
      part: null,
      body,
    };
    if (!this.#store.put(key, object)) this.#metrics.notStored("too-large");
    this.#touch(set);
  }

  /** Fetches one slice. Resolves with its body as soon as the answer's head was found good. */
  async #fetch(set: SliceSet, index: number, request: SliceRequest): Promise<ObjectBody> {
    // Of this slice alone: one that the next hop cannot give says nothing of the others.
    const known = this.#collapse.failureOf(sliceKey(set.setKey, index));
    if (known !== undefined) throw known;
    if (this.#budget.isFull) {
      this.#metrics.shed("server-limit");
      throw new ShedError("next hop", { reason: "server-limit", retryAfterSeconds: 1 });
    }
    const generation = this.#purges.generation;
    const ready = Promise.withResolvers<void>();
    // Nobody may be waiting when it rejects.
    ready.promise.catch(() => {});
    const arriving = this.#arriving(set, index, generation, serversOf(request.hops), ready.promise);
    void this.#run(set, index, request, arriving, ready);
    await ready.promise;
    return arriving.body;
  }

  /** Never rejects. */
  async #run(
    set: SliceSet,
    index: number,
    request: SliceRequest,
    arriving: ArrivingSlice,
    ready: PromiseWithResolvers<void>,
  ): Promise<void> {
    const done = this.#budget.begin();
    let { generation } = this.#purges;
    try {
      const forwarded = await this.#ask(set, index, request);
      const { response, content, contentLength } = forwarded;
      const verdict = judgeSlice(set.head.sliced, index, response, contentLength);
      if (verdict !== "ok") {
        content.on("error", () => {});
        content.destroy();
        this.#metrics.slice(verdict);
        if (verdict === "rangeless") this.#collapse.setUnsliceable(set.key);
        // The head names what is no longer there: the next request learns what is.
        if (verdict !== "failed") this.#store.delete(set.key);
        throw refused(verdict, response.status);
      }
      generation = Math.min(generation, forwarded.generation ?? generation);
      ready.resolve();
      const { body } = arriving;
      body.onAbandoned = () => content.destroy();
      for await (const chunk of content as AsyncIterable<Uint8Array>) {
        if (chunk.byteLength > arriving.missingBytes)
          throw incomplete(body.bytes, set.head.sliced.sliceBytes);
        body.append(chunk);
        await body.room();
      }
      this.#metrics.slice("fetched");
    } catch (error) {
      arriving.body.fail(error);
      ready.reject(error);
    } finally {
      arriving.finish(generation);
      done();
    }
  }

  /** Rejects, and remembers for a moment, that the next hop gave no answer. */
  async #ask(set: SliceSet, index: number, request: SliceRequest): Promise<Forwarded> {
    const span = sliceSpan(set.head.sliced, index);
    try {
      return await this.#forwarder.forward(
        {
          ...request,
          body: undefined,
          bodyBytes: undefined,
          signal: undefined,
          without: UNCONDITIONAL,
          extra: [["Range", `bytes=${span.first}-${span.last}`]],
          sendInterim: undefined,
        },
        request.hops,
      );
    } catch (error) {
      this.#metrics.slice("failed");
      this.#collapse.setFailure(sliceKey(set.setKey, index), error);
      throw error;
    }
  }
}

const NO_FIELDS: readonly Field[] = [];
const NO_NAMES: readonly string[] = [];
