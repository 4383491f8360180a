/**
 * Compressing what is stored, once and well, in the background: one after the other, with rests in between so that it takes its share
 * of one core and no more. What waits is named, not held: content that leaves the store meanwhile is not kept by it. Of several workers
 * the one that owns the key does it, and the others ask that one for what it has made.
 */
import type { Clock } from "#kit";
import type { EdgeSettings } from "../../config.ts";
import type { CacheKey } from "../../core/cache-key.ts";
import type { Coding, DictionaryCoding } from "../../core/compression/accept-encoding.ts";
import {
  decodedBytesMax,
  formatOf,
  isWithDictionary,
  isWorthwhile,
  storedLevel,
  streamLevel,
} from "../../core/compression/levels.ts";
import type { EdgeMetrics } from "../metrics.ts";
import { type Coded, ObjectBody } from "../object-body.ts";
import type { ObjectStore } from "../object-store.ts";
import type { SiblingTier } from "../sibling-tier.ts";
import { codedWhole, decodedWhole, type Dictionary } from "./coders.ts";

/** One form of one body that is to be made. */
export interface CodingJob {
  readonly key: CacheKey;
  readonly body: ObjectBody;
  /** What the form is called among those of the body. */
  readonly name: string;
  readonly coding: Coding | DictionaryCoding;
  /** Whether the body is here for a second only, as copies of hot keys are: then as cheap as it goes by. */
  readonly isBrief: boolean;
  /** What the body is coded in. */
  readonly sourceCoding: Coding | "identity";
  /** Looked up when the job's turn comes; undefined: it needs none. */
  readonly dictionary: (() => Dictionary | undefined) | undefined;
}

type Waiting = Omit<CodingJob, "body"> & { readonly body: WeakRef<ObjectBody> };

export class CodingQueue {
  readonly #store: ObjectStore;
  readonly #siblings: Pick<SiblingTier, "form"> | undefined;
  readonly #settings: EdgeSettings;
  readonly #metrics: EdgeMetrics;
  readonly #clock: Clock;
  readonly #waiting: Waiting[] = [];
  /** Jobs that another worker was asked for. */
  #asked = 0;
  /** Told when any job has ended. */
  #onEnd: (() => void)[] = [];
  #rest: NodeJS.Timeout | undefined;
  #isBusy = false;
  #isClosed = false;

  constructor(options: {
    readonly store: ObjectStore;
    /** The other workers of this server; undefined when it is one process. */
    readonly siblings: Pick<SiblingTier, "form"> | undefined;
    readonly settings: EdgeSettings;
    readonly metrics: EdgeMetrics;
    readonly clock: Clock;
  }) {
    this.#store = options.store;
    this.#siblings = options.siblings;
    this.#settings = options.settings;
    this.#metrics = options.metrics;
    this.#clock = options.clock;
  }

  /** Jobs that wait, here or at another worker. */
  get length(): number {
    return this.#waiting.length + this.#asked;
  }

  /** Takes a job, unless the form is made already, on its way, or there is no room: then a later request brings it again. */
  offer(job: CodingJob): void {
    const waiting = this.#accept(job);
    if (waiting === undefined) return;
    const { key, coding, body } = job;
    // A dictionary is known to the process that has served it.
    const theirs = isWithDictionary(coding) ? undefined : this.#siblings?.form(key, coding, body);
    if (theirs === undefined) this.#enqueue(waiting);
    else void this.#take(waiting, theirs);
  }

  /** The form once it is made, here; undefined: it is not to be had now. Never rejects. */
  async make(job: CodingJob): Promise<Coded | undefined> {
    const waiting = this.#accept(job);
    if (waiting !== undefined) this.#enqueue(waiting);
    const { body, name } = job;
    while (body.coded.get(name) === "pending" && !this.#isClosed)
      await new Promise<void>((resolve) => this.#onEnd.push(resolve));
    const coded = body.coded.get(name);
    return coded === "pending" ? undefined : coded;
  }

  close(): void {
    this.#isClosed = true;
    this.#waiting.length = 0;
    clearTimeout(this.#rest);
    this.#tellEnd();
  }

  #accept(job: CodingJob): Waiting | undefined {
    const { body } = job;
    const { codingJobBytesMax, codingQueueMax } = this.#settings;
    if (this.#isClosed || body.coded.has(job.name) || body.bytes > codingJobBytesMax) return undefined;
    if (this.#waiting.length + this.#asked >= codingQueueMax) {
      this.#metrics.codingJob(job.coding, "queue-full");
      return undefined;
    }
    body.setCoded(job.name, "pending");
    return { ...job, body: new WeakRef(body) };
  }

  #enqueue(waiting: Waiting): void {
    this.#waiting.push(waiting);
    this.#next();
  }

  /** Waits for another worker's form; what it does not have is made here. */
  async #take(waiting: Waiting, theirs: Promise<Coded | undefined>): Promise<void> {
    this.#asked++;
    const coded = await theirs;
    this.#asked--;
    if (coded === undefined) {
      if (!this.#isClosed) this.#enqueue(waiting);
      return;
    }
    this.#metrics.codingJob(waiting.coding, "copied");
    this.#end(waiting, waiting.body.deref(), coded);
  }

  /** Keeps what became of a job; undefined: nothing, and a later request may bring it again. */
  #end({ key, name }: Waiting, body: ObjectBody | undefined, coded: Coded | undefined): void {
    body?.setCoded(name, coded);
    if (body !== undefined && coded instanceof ObjectBody) this.#store.keepForm(key, body);
    this.#tellEnd();
  }

  #tellEnd(): void {
    for (const tell of this.#onEnd.splice(0)) tell();
  }

  #next(): void {
    if (this.#isBusy || this.#isClosed) return;
    const job = this.#waiting.shift();
    if (job === undefined) return;
    this.#isBusy = true;
    const begunAt = this.#clock.monotonic();
    void this.#run(job).finally(() => {
      const share = this.#settings.codingCpuShare;
      const restMs = (this.#clock.monotonic() - begunAt) * (1 / share - 1);
      this.#rest = setTimeout(() => {
        this.#isBusy = false;
        this.#next();
      }, restMs);
      this.#rest.unref();
    });
  }

  /** Never rejects. */
  async #run(waiting: Waiting): Promise<void> {
    const body = waiting.body.deref();
    // Replaced, purged or evicted meanwhile: nobody will be sent it.
    if (body === undefined || !this.#store.memory.peek(waiting.key).some((object) => object.body === body)) {
      this.#metrics.codingJob(waiting.coding, "gone");
      this.#end(waiting, body, undefined);
      return;
    }
    let coded: Coded = "useless";
    try {
      coded = await this.#coded({ ...waiting, body });
    } catch {
      // A fault of the compressor is none of the content's clients: they get what there is.
      this.#metrics.codingJob(waiting.coding, "failed");
    }
    this.#end(waiting, body, coded);
  }

  async #coded({ body, coding, isBrief, sourceCoding, dictionary: dictionaryOf }: CodingJob): Promise<Coded> {
    const { decodedBytesMax: bytesMax, decodedRatioMax } = this.#settings;
    const dictionary = dictionaryOf?.();
    if (dictionaryOf !== undefined && dictionary === undefined) {
      this.#metrics.codingJob(coding, "gone");
      return "useless";
    }
    let content: Uint8Array = Buffer.concat(body.chunks);
    if (sourceCoding !== "identity") {
      const max = decodedBytesMax(body.bytes, bytesMax, decodedRatioMax);
      const decoded = await decodedWhole(content, sourceCoding, max);
      if ("fault" in decoded) {
        this.#metrics.decodingRefused(decoded.fault);
        return "useless";
      }
      content = decoded.bytes;
    }
    const format = formatOf(coding);
    const level = isBrief ? streamLevel(format) : storedLevel(format, content.byteLength);
    const coded = await codedWhole(content, coding, level, dictionary);
    if (!isWorthwhile(body.bytes, coded.byteLength)) {
      this.#metrics.codingJob(coding, "useless");
      return "useless";
    }
    this.#metrics.codingJob(coding, "done");
    this.#metrics.codedBytes("stored", content.byteLength, coded.byteLength);
    return ObjectBody.of([coded]);
  }
}
