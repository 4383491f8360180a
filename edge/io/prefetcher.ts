/**
 * Asks for what a page names before the browser does, through the same way as any request, so that it is collapsed,
 * stored by its owner and counted. Low priority: few at once, a bounded queue, and nothing that was asked for lately.
 */
import { createBrotliDecompress, createGunzip, createInflate } from "node:zlib";
import type { Transform } from "node:stream";
import { LRUCache } from "lru-cache";
import { countBounded } from "./count-bounded.ts";
import { type Clock, epochMs } from "#kit";
import type { EdgeSettings } from "../config.ts";
import { type Field, fieldLines } from "../core/headers.ts";
import { HtmlReferences, type PageAddress } from "../core/html-prefetch.ts";
import type { Answer, Inbound } from "./exchange.ts";
import type { EdgeHandler } from "./handler.ts";
import type { EdgeMetrics } from "./metrics.ts";

/** What was asked for is not asked for again for so long, ms. */
const ASKED_MEMORY_MS = 10_000;
const ASKED_MAX = 20_000;

/** Fields of the page's request that its objects' requests will have too, and that answers vary by. */
const CARRIED = ["accept-encoding", "accept-language", "user-agent"] as const;

interface Wanted {
  readonly address: PageAddress;
  readonly fields: readonly Field[];
}

export class Prefetcher {
  readonly #handler: EdgeHandler;
  readonly #settings: EdgeSettings;
  readonly #metrics: EdgeMetrics;
  readonly #clock: Clock;
  readonly #asked = new LRUCache<string, true>({ ...countBounded(ASKED_MAX), ttl: ASKED_MEMORY_MS });
  readonly #queue: Wanted[] = [];
  #active = 0;
  #isClosed = false;
  #requests = 0;

  constructor(options: {
    readonly handler: EdgeHandler;
    readonly settings: EdgeSettings;
    readonly metrics: EdgeMetrics;
    readonly clock: Clock;
  }) {
    this.#handler = options.handler;
    this.#settings = options.settings;
    this.#metrics = options.metrics;
    this.#clock = options.clock;
  }

  get queued(): number {
    return this.#queue.length;
  }

  close(): void {
    this.#isClosed = true;
    this.#queue.length = 0;
  }

  /** The answer with its content watched, when it is a page of a property that wants this; else the answer as it is. */
  watch(inbound: Inbound, answer: Answer): Answer {
    if (answer.body === undefined || answer.status !== 200 || inbound.head.method !== "GET") return answer;
    if (!/^\s*text\/html\b/i.test(fieldLines(answer.fields, "content-type")[0] ?? "")) return answer;
    const plan = this.#handler.plan(inbound.head);
    if (plan === undefined || !plan.property.prefetch.isEnabled || plan.policy.bypass) return answer;
    const { property } = plan;
    const reader = new HtmlReferences(
      plan.head,
      (host) => property.hostnames.includes(host.replace(/:[0-9]+$/, "")),
      property.prefetch.objectsPerPageMax,
    );
    const fields = CARRIED.flatMap((name): readonly Field[] => {
      const value = fieldLines(inbound.head.fields, name)[0];
      return value === undefined ? [] : [[name, value]];
    });
    const decoder = decoderFor(fieldLines(answer.fields, "content-encoding")[0]);
    if (decoder === undefined) return answer;
    const text = new TextDecoder("latin1");
    const take = (bytes: Uint8Array): void => {
      for (const address of reader.write(text.decode(bytes, { stream: true })))
        this.#want({ address, fields });
    };
    return { ...answer, body: tapped(answer.body, decoder, take, () => reader.isDone) };
  }

  #want(wanted: Wanted): void {
    const { scheme, host, target } = wanted.address;
    const name = `${scheme}://${host}${target}`;
    if (this.#isClosed || this.#asked.has(name)) return;
    this.#asked.set(name, true);
    if (this.#queue.length >= this.#settings.prefetchQueueMax) {
      this.#metrics.prefetch("queue-full");
      return;
    }
    this.#queue.push(wanted);
    this.#next();
  }

  #next(): void {
    if (this.#active >= this.#settings.prefetchConcurrency) return;
    const wanted = this.#queue.shift();
    if (wanted === undefined) return;
    this.#active++;
    void this.#ask(wanted).finally(() => {
      this.#active--;
      this.#next();
    });
  }

  async #ask(wanted: Wanted): Promise<void> {
    const { scheme, host, target } = wanted.address;
    try {
      const head = { method: "GET", scheme, host, target, fields: wanted.fields };
      const plan = this.#handler.plan(head);
      if (plan === undefined) return;
      const decision = await this.#handler.decide(plan);
      if (decision.action !== "fetch" && decision.action !== "validate") {
        this.#metrics.prefetch("stored-already");
        return;
      }
      const answer = await this.#handler.handle({
        head,
        httpVersion: "1.1",
        remoteAddress: "unknown",
        body: undefined,
        bodyBytes: undefined,
        signal: new AbortController().signal,
        peer: undefined,
        hop: { tier: undefined, isOwner: false },
        requestId: `prefetch-${++this.#requests}`,
        receivedAt: epochMs(this.#clock.epoch()),
        startedAt: this.#clock.monotonic(),
        isBackground: true,
      });
      if (answer.body !== undefined) for await (const _chunk of answer.body);
      this.#metrics.prefetch(answer.status < 400 ? "asked" : "failed");
    } catch {
      // A prefetch that fails costs nobody anything; the browser will ask by itself.
      this.#metrics.prefetch("failed");
    }
  }
}

type Decoder = Transform | "identity";

/** Undefined: a coding that is not read here; the page is then not looked at. */
function decoderFor(coding: string | undefined): Decoder | undefined {
  switch (coding?.trim().toLowerCase()) {
    case undefined:
    case "":
    case "identity":
      return "identity";
    case "gzip":
      return createGunzip();
    case "deflate":
      return createInflate();
    case "br":
      return createBrotliDecompress();
    default:
      return undefined;
  }
}

/** Passes the content on unchanged while a decoded copy goes to `take`, until that has enough. */
function tapped(
  body: AsyncIterable<Uint8Array>,
  decoder: Decoder,
  take: (bytes: Uint8Array) => void,
  isDone: () => boolean,
): AsyncIterableIterator<Uint8Array> {
  let isOpen = true;
  if (decoder !== "identity") {
    decoder.on("data", (bytes: Uint8Array) => {
      take(bytes);
      // A small page may unpack to an endless one.
      if (isDone()) decoder.destroy();
    });
    // Damaged content is the browser's to judge.
    decoder.on("error", () => {});
    decoder.on("close", () => {
      isOpen = false;
    });
  }
  const source = body[Symbol.asyncIterator]();
  const end = (): void => {
    if (decoder !== "identity" && isOpen) decoder.end();
  };
  // Not a generator: one that was never begun would swallow return(), and the body would wait for its reader for ever.
  return {
    next: async () => {
      try {
        const result = await source.next();
        if (result.done === true) end();
        else if (decoder === "identity") {
          if (!isDone()) take(result.value);
        } else if (isOpen) decoder.write(result.value);
        return result;
      } catch (error) {
        end();
        throw error;
      }
    },
    return: async () => {
      end();
      await source.return?.();
      return { done: true, value: undefined };
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}
