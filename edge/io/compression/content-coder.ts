/**
 * The last step of an answer to a client: in which coding it goes out. What the store holds stays as it came; other forms of it are kept
 * with it and made in the background, and until one is there the content is compressed as it goes by. Servers of ours and other workers
 * get what is stored: only who speaks with the client chooses.
 */
import type { EdgeSettings } from "../../config.ts";
import {
  type Acceptance,
  acceptance,
  type Coding,
  type DictionaryCoding,
  wantsAsStored,
  withCoding,
} from "../../core/compression/accept-encoding.ts";
import {
  codingOf,
  notCodedReason,
  recodedFields,
  varying,
  weakened,
} from "../../core/compression/codable.ts";
import { isDictionary, useAsDictionary } from "../../core/compression/dictionaries.ts";
import { decodedBytesMax, formatOf, STREAM_ORDER, streamLevel } from "../../core/compression/levels.ts";
import { type Fields, hasField } from "../../core/headers.ts";
import { discard } from "../answer-writing.ts";
import { type Answer, type AnswerSource, type HitMemo, type Inbound, textAnswer } from "../exchange.ts";
import type { MemoryStore } from "../memory-store.ts";
import type { EdgeMetrics } from "../metrics.ts";
import { ObjectBody } from "../object-body.ts";
import { codedStream, decodedWhole, type Dictionary } from "./coders.ts";
import type { CodingQueue } from "./coding-queue.ts";
import type { DictionaryStore } from "./dictionary-store.ts";

/** Forms with a dictionary that are kept with one body: the last versions that its clients have. */
const DICTIONARY_FORMS_MAX = 4;
/** The form without any coding, of content that came with one. */
const PLAIN = "identity";

/** In which form a request gets the content. */
type Choice =
  /** As it is stored; `isLasting`: the next one too, as long as nothing changes in the store. */
  | { readonly kind: "as-stored"; readonly isLasting: boolean }
  /** In a form that is kept. */
  | {
      readonly kind: "kept";
      readonly coding: Coding | DictionaryCoding | "identity";
      readonly body: ObjectBody;
    }
  /** Coded as it goes by. */
  | {
      readonly kind: "stream";
      readonly coding: Coding | DictionaryCoding;
      readonly dictionary: Dictionary | undefined;
    }
  /** Decoded: the client does not take what it came in. */
  | { readonly kind: "decode"; readonly coding: Coding };

const AS_STORED: Choice = { kind: "as-stored", isLasting: true };

/** An answer of a stored response, and all that its coding depends on. */
interface Negotiation {
  readonly inbound: Inbound;
  readonly source: AnswerSource;
  readonly accepted: Acceptance;
  readonly sourceCoding: Coding | "identity" | "other";
  readonly isHit: boolean;
  /** Scheme and authority, which dictionaries belong to. */
  readonly origin: string;
  readonly useAsDictionary: string | undefined;
}

export class ContentCoder {
  readonly #settings: EdgeSettings;
  readonly #store: MemoryStore;
  readonly #metrics: EdgeMetrics;
  readonly #queue: CodingQueue;
  readonly #dictionaries: DictionaryStore;
  #streams = 0;

  constructor(options: {
    readonly settings: EdgeSettings;
    readonly store: MemoryStore;
    readonly metrics: EdgeMetrics;
    readonly queue: CodingQueue;
    readonly dictionaries: DictionaryStore;
  }) {
    this.#settings = options.settings;
    this.#store = options.store;
    this.#metrics = options.metrics;
    this.#queue = options.queue;
    this.#dictionaries = options.dictionaries;
  }

  /** Answers that are being compressed as they go by. */
  get streams(): number {
    return this.#streams;
  }

  /** The answer in the coding that it goes out in; at once unless it has to be decoded. */
  code(inbound: Inbound, answer: Answer): Answer | Promise<Answer> {
    const { source } = answer;
    if (source === undefined || inbound.peer !== undefined || !source.policy.isEnabled) return answer;
    const { head, body } = source;
    const bytes =
      head.sliced?.totalBytes ??
      (body?.isComplete === true ? body.bytes : answer.status === 200 ? answer.bodyBytes : undefined);
    const sourceCoding = codingOf(head.fields);
    const reason = notCodedReason(head, bytes);
    const negotiation: Negotiation = {
      inbound,
      source,
      accepted: acceptance(inbound.head.fields),
      sourceCoding,
      isHit: answer.record.outcome === "hit" || answer.record.outcome === "hit-stale",
      origin: `${inbound.head.scheme}://${inbound.head.host}`,
      useAsDictionary: hasField(head.fields, "use-as-dictionary")
        ? undefined
        : useAsDictionary(source.policy.dictionaries, inbound.head.target),
    };
    if (reason !== "secret") this.#keepDictionary(negotiation);
    if (reason !== undefined) return { ...answer, memo: memoByMeaning(answer.memo, inbound) };
    const choice = this.#choose(negotiation, bytes);
    return this.#apply(answer, negotiation, choice);
  }

  #choose(negotiation: Negotiation, bytes: number | undefined): Choice {
    const { inbound, source, accepted, sourceCoding } = negotiation;
    if (wantsAsStored(inbound.head.fields)) return AS_STORED;
    const { body } = source;
    if (sourceCoding === "other") return AS_STORED;
    const isDecoded = sourceCoding !== "identity" && !accepted.acceptable.has(sourceCoding);
    const dictionary = this.#dictionaryOf(negotiation);
    const withDictionary = dictionary === undefined ? [] : accepted.rankedWithDictionary;
    this.#improve(negotiation, withDictionary, dictionary);
    const kept = smallestKept(body, [
      ...withDictionary.map((coding) => [formName(coding, dictionary), coding] as const),
      ...accepted.ranked.map((coding) => [coding, coding] as const),
    ]);
    if (isDecoded) {
      if (kept !== undefined) return kept;
      const plain = body?.coded.get(PLAIN);
      return plain instanceof ObjectBody
        ? { kind: "kept", coding: PLAIN, body: plain }
        : { kind: "decode", coding: sourceCoding };
    }
    if (sourceCoding !== "identity")
      return kept !== undefined && kept.body.bytes < (bytes ?? Number.POSITIVE_INFINITY) ? kept : AS_STORED;
    const [dictionaryCoding] = withDictionary.filter(
      (coding) => body?.coded.get(formName(coding, dictionary)) !== "useless",
    );
    // A form without a dictionary is many times what one with it is.
    if (dictionaryCoding !== undefined && (kept === undefined || !isWithDictionary(kept.coding)))
      return this.#stream(bytes, withDictionary.includes("dcz") ? "dcz" : dictionaryCoding, dictionary, kept);
    if (kept !== undefined) return kept;
    // What one compressor could not make smaller the others cannot.
    if (accepted.ranked.some((one) => body?.coded.get(one) === "useless")) return AS_STORED;
    const coding = STREAM_ORDER.find((one) => accepted.ranked.includes(one));
    return coding === undefined ? AS_STORED : this.#stream(bytes, coding, undefined, undefined);
  }

  /** Coded as it goes by, while there is room for that; else `instead`, or as it is stored. */
  #stream(
    bytes: number | undefined,
    coding: Coding | DictionaryCoding,
    dictionary: Dictionary | undefined,
    instead: Choice | undefined,
  ): Choice {
    const { codingStreamsMax, codingStreamBytesMax } = this.#settings;
    if (this.#streams < codingStreamsMax && (bytes ?? 0) <= codingStreamBytesMax)
      return { kind: "stream", coding, dictionary };
    this.#metrics.coded(coding, "busy");
    return instead ?? { kind: "as-stored", isLasting: false };
  }

  /** Has the best form that the client takes made in the background, of what was asked for again. */
  #improve(
    { source, accepted, sourceCoding, isHit, origin }: Negotiation,
    withDictionary: readonly DictionaryCoding[],
    dictionary: Dictionary | undefined,
  ): void {
    const { key, body } = source;
    if (!isHit || body === undefined || !body.isComplete || sourceCoding === "other") return;
    const job = { key, body, sourceCoding };
    const [best] = accepted.ranked;
    if (best !== undefined && best !== sourceCoding)
      this.#queue.offer({ ...job, name: best, coding: best, dictionary: undefined });
    const [bestWithDictionary] = withDictionary;
    if (bestWithDictionary === undefined || dictionary === undefined) return;
    const name = formName(bestWithDictionary, dictionary);
    if (body.coded.has(name)) return;
    const forms = [...body.coded].filter(([other]) => other.includes(":"));
    const [oldest] = forms.find(([, coded]) => coded !== "pending") ?? [];
    if (forms.length >= DICTIONARY_FORMS_MAX) {
      if (oldest === undefined) return;
      body.setCoded(oldest, undefined);
    }
    const { hash } = dictionary;
    this.#queue.offer({
      ...job,
      name,
      coding: bestWithDictionary,
      dictionary: () => this.#dictionaries.find(origin, hash),
    });
  }

  #dictionaryOf({ accepted, origin, source }: Negotiation): Dictionary | undefined {
    if (accepted.dictionary === undefined || source.head.sliced !== null) return undefined;
    return this.#dictionaries.find(origin, accepted.dictionary);
  }

  /** Keeps what clients will name as their dictionary, once it is complete. Browsers take codings with one when they have one, not before. */
  #keepDictionary({ source, origin, sourceCoding, useAsDictionary: added }: Negotiation): void {
    const { head, body } = source;
    if (body === undefined || sourceCoding === "other" || head.status !== 200) return;
    if (added === undefined && !isDictionary(head.fields)) return;
    if (this.#dictionaries.has(origin, body)) return;
    void this.#plainContent(body, sourceCoding).then((content) => {
      if (content !== undefined) this.#dictionaries.keep(origin, body, content);
      return undefined;
    });
  }

  /** All of a body, without its coding, once it is complete; undefined: it cannot be had, or is too large. Never rejects. */
  async #plainContent(body: ObjectBody, coding: Coding | "identity"): Promise<Uint8Array | undefined> {
    if (!body.isComplete && !(await whenComplete(body))) return undefined;
    const { bytesMax } = this.#dictionaries;
    if (body.bytes > bytesMax) return undefined;
    const content = Buffer.concat(body.chunks);
    if (coding === "identity") return content;
    const decoded = await decodedWhole(content, coding, bytesMax);
    return "bytes" in decoded ? decoded.bytes : undefined;
  }

  #apply(answer: Answer, negotiation: Negotiation, choice: Choice): Answer | Promise<Answer> {
    const { inbound, source } = negotiation;
    const told = (fields: Fields): Fields => this.#told(fields, negotiation);
    const memo = this.#memo(answer.memo, negotiation, choice);
    const isWhole = answer.status === 200;
    switch (choice.kind) {
      case "as-stored":
        return { ...answer, fields: told(answer.fields), memo };
      case "kept": {
        if (!isWhole) return { ...answer, fields: told(weakened(answer.fields)), memo };
        this.#metrics.coded(choice.coding, "kept");
        if (answer.body !== undefined) void discard(answer.body);
        return {
          ...answer,
          fields: told(recodedFields(answer.fields, choice.coding)),
          body: answer.body === undefined ? undefined : choice.body.read(),
          bodyBytes: choice.body.bytes,
          memo,
        };
      }
      case "stream": {
        if (!isWhole) return { ...answer, fields: told(weakened(answer.fields)), memo };
        const { coding, dictionary } = choice;
        return {
          ...answer,
          fields: told(recodedFields(answer.fields, coding)),
          body: answer.body && this.#coded(answer.body, coding, dictionary, answer.bodyBytes),
          bodyBytes: undefined,
          memo,
        };
      }
      case "decode": {
        if (!isWhole) return { ...answer, fields: told(weakened(answer.fields)), memo };
        const fields = told(recodedFields(answer.fields, PLAIN));
        if (inbound.head.method === "HEAD" || answer.body === undefined)
          return { ...answer, fields, bodyBytes: undefined, memo };
        return this.#decoded({ ...answer, fields, memo }, answer.body, source, choice.coding);
      }
      default:
        return choice satisfies never;
    }
  }

  #coded(
    content: AsyncIterable<Uint8Array>,
    coding: Coding | DictionaryCoding,
    dictionary: Dictionary | undefined,
    bytes: number | undefined,
  ): AsyncIterableIterator<Uint8Array> {
    this.#streams++;
    return codedStream(content, {
      coding,
      level: streamLevel(formatOf(coding)),
      bytes,
      dictionary,
      onEnd: (bytesIn, bytesOut) => {
        this.#streams--;
        this.#metrics.coded(coding, "streamed");
        this.#metrics.codedBytes("streamed", bytesIn, bytesOut);
      },
    });
  }

  /** The content decoded, within bounds; beyond them the answer is a 502. Rejects when the content breaks off. */
  async #decoded(
    answer: Answer,
    content: AsyncIterable<Uint8Array>,
    { key, body }: AnswerSource,
    coding: Coding,
  ): Promise<Answer> {
    const { decodedBytesMax: bytesMax, decodedRatioMax } = this.#settings;
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    let isWhole = true;
    for await (const chunk of content) {
      bytes += chunk.byteLength;
      if (bytes > bytesMax) {
        isWhole = false;
        break;
      }
      chunks.push(chunk);
    }
    const decoded = isWhole
      ? await decodedWhole(Buffer.concat(chunks), coding, decodedBytesMax(bytes, bytesMax, decodedRatioMax))
      : ({ fault: "too-large" } as const);
    if ("fault" in decoded) {
      this.#metrics.decodingRefused(decoded.fault);
      return refusedToDecode(answer, coding, decoded.fault);
    }
    this.#metrics.coded(PLAIN, "decoded");
    const plain = ObjectBody.of([decoded.bytes]);
    // Kept beside what it was made of, unless that has left the store meanwhile.
    if (body?.isComplete === true && this.#store.peek(key).some((object) => object.body === body)) {
      body.setCoded(PLAIN, plain);
      this.#store.recount(key, body);
    }
    return { ...answer, body: plain.read(), bodyBytes: plain.bytes };
  }

  /** Fields with what tells caches and the client about the choice. */
  #told(fields: Fields, { accepted, source, useAsDictionary: added }: Negotiation): Fields {
    const isOfDictionaries =
      accepted.dictionary !== undefined || added !== undefined || isDictionary(source.head.fields);
    const varied = varying(
      fields,
      isOfDictionaries ? ["Accept-Encoding", "Available-Dictionary"] : ["Accept-Encoding"],
    );
    return added === undefined ? varied : [...varied, ["Use-As-Dictionary", added]];
  }

  /** The hit as it may be remembered: only what the next request like it would get too. */
  #memo(memo: HitMemo | undefined, negotiation: Negotiation, choice: Choice): HitMemo | undefined {
    const { head } = negotiation.source;
    if (choice.kind === "stream" || choice.kind === "decode") return undefined;
    if (choice.kind === "as-stored")
      return choice.isLasting
        ? memoOf(memo, negotiation.inbound, this.#told(head.fields, negotiation), undefined)
        : undefined;
    const fields = this.#told(recodedFields(head.fields, choice.coding), negotiation);
    return memoOf(memo, negotiation.inbound, fields, choice.body);
  }
}

/** A memo of an answer with other fields, and other content unless `body` is undefined, for requests that take the same codings. */
function memoOf(
  memo: HitMemo | undefined,
  inbound: Inbound,
  fields: Fields,
  body: ObjectBody | undefined,
): HitMemo | undefined {
  if (memo === undefined) return undefined;
  const { names, values } = withCoding(memo.nominatedFields, memo.nominatedValues, inbound.head.fields);
  return {
    ...memo,
    stored: { ...memo.stored, fields, body: body ?? memo.stored.body },
    nominatedFields: names,
    nominatedValues: values,
  };
}

/** A memo of an answer that is the same in whatever coding the client takes: what it selects by is told by its meaning. */
function memoByMeaning(memo: HitMemo | undefined, inbound: Inbound): HitMemo | undefined {
  return memo?.nominatedFields.includes("accept-encoding") === true
    ? memoOf(memo, inbound, memo.stored.fields, undefined)
    : memo;
}

/** The answer when the content cannot be decoded: none of it goes out, and nobody is told to try again. */
function refusedToDecode(answer: Answer, coding: Coding, fault: "too-large" | "malformed"): Answer {
  const fields = answer.fields.filter(([name]) => OF_THE_ANSWER.has(name.toLowerCase()));
  const text = `The stored content cannot be decoded from ${coding} (${fault}).`;
  return {
    ...answer,
    ...textAnswer(502, `${text}\n`, { ...answer.record, outcome: "error" }, fields),
    memo: undefined,
    source: undefined,
    fault: { code: `content-coding-${fault}`, message: text, text },
  };
}

/** What stays of the fields of an answer whose content is replaced. */
const OF_THE_ANSWER: ReadonlySet<string> = new Set(["date", "via", "cache-status", "alt-svc"]);

const isWithDictionary = (coding: string): boolean => coding === "dcb" || coding === "dcz";

/** What a form is called: a form with a dictionary is one for each dictionary. */
function formName(coding: Coding | DictionaryCoding, dictionary: Dictionary | undefined): string {
  return dictionary === undefined || !isWithDictionary(coding) ? coding : `${coding}:${dictionary.hash}`;
}

/** Of the forms that are there the one with the fewest bytes. */
function smallestKept(
  body: ObjectBody | undefined,
  names: readonly (readonly [string, Coding | DictionaryCoding])[],
): Extract<Choice, { kind: "kept" }> | undefined {
  let smallest: Extract<Choice, { kind: "kept" }> | undefined;
  for (const [name, coding] of names) {
    const kept = body?.coded.get(name);
    if (kept instanceof ObjectBody && (smallest === undefined || kept.bytes < smallest.body.bytes))
      smallest = { kind: "kept", coding, body: kept };
  }
  return smallest;
}

/** Resolves when a body that is being filled has ended: whether it is whole and all of it here. */
async function whenComplete(body: ObjectBody): Promise<boolean> {
  if (!body.isRetained || !body.canJoin) return false;
  try {
    for await (const _chunk of body.read());
  } catch {
    return false;
  }
  return body.isRetained && body.isComplete;
}
