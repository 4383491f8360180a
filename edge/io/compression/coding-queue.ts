/**
 * Compressing what is stored, once and well, in the background: one after the other, with rests in between so that it takes its share
 * of one core and no more. What waits is named, not held: content that leaves the store meanwhile is not kept by it.
 */
import type { Clock } from "#kit";
import type { EdgeSettings } from "../../config.ts";
import type { CacheKey } from "../../core/cache-key.ts";
import type { Coding, DictionaryCoding } from "../../core/compression/accept-encoding.ts";
import { decodedBytesMax, formatOf, isWorthwhile, storedLevel } from "../../core/compression/levels.ts";
import type { EdgeMetrics } from "../metrics.ts";
import { type Coded, ObjectBody } from "../object-body.ts";
import type { ObjectStore } from "../object-store.ts";
import { codedWhole, decodedWhole, type Dictionary } from "./coders.ts";

/** One form of one body that is to be made. */
export interface CodingJob {
  readonly key: CacheKey;
  readonly body: ObjectBody;
  /** What the form is called among those of the body. */
  readonly name: string;
  readonly coding: Coding | DictionaryCoding;
  /** What the body is coded in. */
  readonly sourceCoding: Coding | "identity";
  /** Looked up when the job's turn comes; undefined: it needs none. */
  readonly dictionary: (() => Dictionary | undefined) | undefined;
}

type Waiting = Omit<CodingJob, "body"> & { readonly body: WeakRef<ObjectBody> };

export class CodingQueue {
  readonly #store: ObjectStore;
  readonly #settings: EdgeSettings;
  readonly #metrics: EdgeMetrics;
  readonly #clock: Clock;
  readonly #waiting: Waiting[] = [];
  #rest: NodeJS.Timeout | undefined;
  #isBusy = false;
  #isClosed = false;

  constructor(options: {
    readonly store: ObjectStore;
    readonly settings: EdgeSettings;
    readonly metrics: EdgeMetrics;
    readonly clock: Clock;
  }) {
    this.#store = options.store;
    this.#settings = options.settings;
    this.#metrics = options.metrics;
    this.#clock = options.clock;
  }

  /** Jobs that wait. */
  get length(): number {
    return this.#waiting.length;
  }

  /** Takes a job, unless the form is made already, on its way, or there is no room: then a later request brings it again. */
  offer(job: CodingJob): void {
    const { body } = job;
    if (this.#isClosed || body.coded.has(job.name) || body.bytes > this.#settings.codingJobBytesMax) return;
    if (this.#waiting.length >= this.#settings.codingQueueMax) {
      this.#metrics.codingJob(job.coding, "queue-full");
      return;
    }
    body.setCoded(job.name, "pending");
    this.#waiting.push({ ...job, body: new WeakRef(body) });
    this.#next();
  }

  close(): void {
    this.#isClosed = true;
    this.#waiting.length = 0;
    clearTimeout(this.#rest);
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
  async #run({ body: ref, ...job }: Waiting): Promise<void> {
    const body = ref.deref();
    // Replaced, purged or evicted meanwhile: nobody will be sent it.
    if (body === undefined || !this.#store.memory.peek(job.key).some((object) => object.body === body)) {
      body?.setCoded(job.name, undefined);
      this.#metrics.codingJob(job.coding, "gone");
      return;
    }
    let coded: Coded = "useless";
    try {
      coded = await this.#coded({ ...job, body });
    } catch {
      // A fault of the compressor is none of the content's clients: they get what there is.
      this.#metrics.codingJob(job.coding, "failed");
    }
    body.setCoded(job.name, coded);
    if (coded instanceof ObjectBody) this.#store.keepForm(job.key, body);
  }

  async #coded({ body, coding, sourceCoding, dictionary: dictionaryOf }: CodingJob): Promise<Coded> {
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
    const level = storedLevel(formatOf(coding), content.byteLength);
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
