/**
 * The last step of an answer to a client: in which coding it goes out. What the store holds stays as it came; other forms of it are kept
 * with it and made in the background, and until one is there the content is compressed as it goes by. Other workers get what is stored, and
 * so do servers of ours, unless they ask for a client and there is a form for it.
 */
import type { EdgeSettings } from "../../config.ts";
import {
  type Acceptance,
  acceptance,
  asStoredWish,
  type Coding,
  type DictionaryCoding,
  withCoding,
  withCodingFields,
} from "../../core/compression/accept-encoding.ts";
import {
  codingOf,
  notCodedReason,
  recodedFields,
  varying,
  weakened,
} from "../../core/compression/codable.ts";
import { isDictionary, useAsDictionary } from "../../core/compression/dictionaries.ts";
import {
  asStored,
  chooseForm,
  explainForm,
  type FormChoice,
  type FormContext,
  type FormExplanation,
  formName,
  PLAIN,
  withDictionary,
} from "../../core/compression/form-choice.ts";
import { decodedBytesMax, formatOf, streamLevel } from "../../core/compression/levels.ts";
import type { CacheKey } from "../../core/cache-key.ts";
import { type Fields, hasField } from "../../core/headers.ts";
import type { RequestHead } from "../../core/messages.ts";
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

/** An answer of a stored response, and all that its coding depends on. */
interface Negotiation {
  readonly request: RequestHead;
  readonly source: AnswerSource;
  /** Length of the content as it is stored; undefined: not known yet. */
  readonly bytes: number | undefined;
  readonly accepted: Acceptance;
  readonly sourceCoding: Coding | typeof PLAIN | "other";
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
  readonly #isBrief: (key: CacheKey) => boolean;
  #streams = 0;

  constructor(options: {
    readonly settings: EdgeSettings;
    readonly store: MemoryStore;
    readonly metrics: EdgeMetrics;
    readonly queue: CodingQueue;
    readonly dictionaries: DictionaryStore;
    /** Whether what is stored under a key is soon let go of: a copy of a hot key. */
    readonly isBrief: (key: CacheKey) => boolean;
  }) {
    this.#settings = options.settings;
    this.#store = options.store;
    this.#metrics = options.metrics;
    this.#queue = options.queue;
    this.#dictionaries = options.dictionaries;
    this.#isBrief = options.isBrief;
  }

  /** Answers that are being compressed as they go by. */
  get streams(): number {
    return this.#streams;
  }

  /** The answer in the coding that it goes out in; at once unless it has to be decoded. */
  code(inbound: Inbound, answer: Answer): Answer | Promise<Answer> {
    const { source } = answer;
    const request = codedRequest(inbound);
    if (source === undefined || request === undefined || !source.policy.isEnabled) return answer;
    const { head, body } = source;
    const bytes =
      head.sliced?.totalBytes ??
      (body?.isComplete === true ? body.bytes : answer.status === 200 ? answer.bodyBytes : undefined);
    const negotiation = negotiate(request, source, bytes);
    const { sourceCoding } = negotiation;
    const reason = notCodedReason(head, bytes);
    if (reason !== "secret") this.#keepDictionary(negotiation);
    if (reason !== undefined || sourceCoding === "other")
      return { ...answer, memo: memoByMeaning(answer.memo, request) };
    const dictionary = this.#dictionaryOf(negotiation);
    const context = this.#contextOf(negotiation, sourceCoding, dictionary);
    const wish = asStoredWish(request.fields);
    const choice = wish === undefined ? chooseForm(context) : asStored(wish);
    const isHit = answer.record.outcome === "hit" || answer.record.outcome === "hit-stale";
    if (wish === undefined && isHit) this.#improve(negotiation, context, dictionary);
    // What is not kept the server that speaks with the client makes by itself: until then another hop can go on where this one ends.
    if (inbound.peer !== undefined && choice.kind !== "kept") return answer;
    return this.#apply(answer, negotiation, choice, dictionary);
  }

  /** In which form a request would get what is stored, and why in no better one. Changes nothing. */
  explain(
    request: RequestHead,
    source: AnswerSource,
    bytes: number | undefined,
    { peer, hop }: Pick<Inbound, "peer" | "hop">,
  ): FormExplanation {
    const negotiation = negotiate(request, source, bytes);
    const { sourceCoding } = negotiation;
    const plainCoding = sourceCoding === "other" ? PLAIN : sourceCoding;
    const context = this.#contextOf(negotiation, plainCoding, this.#dictionaryOf(negotiation));
    const reason = source.policy.isEnabled
      ? (notCodedReason(source.head, bytes) ?? asStoredWish(request.fields))
      : "off";
    const choice = reason === undefined ? chooseForm(context) : asStored(reason);
    const isNotForPeer = peer !== undefined && !(hop.isOwner && choice.kind === "kept");
    return explainForm(isNotForPeer ? asStored("peer") : choice, { ...context, sourceCoding });
  }

  #contextOf(
    { accepted, source: { body }, bytes }: Negotiation,
    sourceCoding: FormContext["sourceCoding"],
    dictionary: Dictionary | undefined,
  ): FormContext {
    const { codingStreamsMax, codingStreamBytesMax } = this.#settings;
    return {
      accepted,
      sourceCoding,
      bytes,
      dictionary: dictionary?.hash,
      stateOf: (name) => {
        const form = body?.coded.get(name);
        return form instanceof ObjectBody ? form.bytes : form;
      },
      streamRefusal:
        this.#streams >= codingStreamsMax
          ? "busy"
          : (bytes ?? 0) > codingStreamBytesMax
            ? "too-long"
            : undefined,
    };
  }

  /** Has the best form that the client takes made in the background, of what was asked for again. */
  #improve(
    { source: { key, body }, origin }: Negotiation,
    context: FormContext,
    dictionary: Dictionary | undefined,
  ): void {
    if (body === undefined || !body.isComplete) return;
    const { sourceCoding } = context;
    const job = { key, body, sourceCoding, isBrief: this.#isBrief(key) };
    const [best] = context.accepted.ranked;
    if (best !== undefined && best !== sourceCoding)
      this.#queue.offer({ ...job, name: best, coding: best, dictionary: undefined });
    const [bestWithDictionary] = withDictionary(context);
    if (bestWithDictionary === undefined || dictionary === undefined) return;
    const { hash } = dictionary;
    const name = formName(bestWithDictionary, hash);
    if (body.coded.has(name)) return;
    const forms = [...body.coded].filter(([other]) => other.includes(":"));
    if (forms.length >= DICTIONARY_FORMS_MAX) {
      const [oldest] = forms.find(([, coded]) => coded !== "pending") ?? [];
      if (oldest === undefined) return;
      body.setCoded(oldest, undefined);
    }
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
    void this.#dictionaries.keep(origin, body, sourceCoding);
  }

  #apply(
    answer: Answer,
    negotiation: Negotiation,
    choice: FormChoice,
    dictionary: Dictionary | undefined,
  ): Answer | Promise<Answer> {
    const { request, source, accepted } = negotiation;
    const told = (fields: Fields): Fields => this.#told(fields, negotiation);
    const form = choice.kind === "kept" ? formOf(source.body, choice.name) : undefined;
    const memo = this.#memo(answer.memo, negotiation, choice, form);
    if (choice.kind === "as-stored") {
      if (choice.reason === "busy") this.#metrics.coded(accepted.ranked[0] ?? PLAIN, "busy");
      return { ...answer, fields: told(answer.fields), memo };
    }
    // A 304 stands for the form that the client would have got.
    if (answer.status !== 200) return { ...answer, fields: told(weakened(answer.fields)), memo };
    const coding = choice.kind === "decode" ? PLAIN : choice.coding;
    const recoded = { ...answer, fields: told(recodedFields(answer.fields, coding)), memo };
    switch (choice.kind) {
      case "kept": {
        this.#metrics.coded(coding, "kept");
        if (answer.body !== undefined) void discard(answer.body);
        return { ...recoded, body: answer.body && form?.read(), bodyBytes: choice.bytes };
      }
      case "stream":
        return {
          ...recoded,
          body: answer.body && this.#coded(answer.body, choice.coding, dictionary, answer.bodyBytes),
          bodyBytes: undefined,
        };
      case "decode":
        return request.method === "HEAD" || answer.body === undefined
          ? { ...recoded, bodyBytes: undefined }
          : this.#decoded(recoded, answer.body, source, choice.coding);
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
  #memo(
    memo: HitMemo | undefined,
    negotiation: Negotiation,
    choice: FormChoice,
    form: ObjectBody | undefined,
  ): HitMemo | undefined {
    const { request, source } = negotiation;
    const { fields } = source.head;
    if (choice.kind === "kept")
      return memoOf(memo, request, this.#told(recodedFields(fields, choice.coding), negotiation), form);
    return choice.kind === "as-stored" && choice.reason !== "busy"
      ? memoOf(memo, request, this.#told(fields, negotiation), undefined)
      : undefined;
  }
}

/** A request as far as the coding of its answer goes; undefined: of a server of ours, which gets what is stored. */
function codedRequest({ head, peer, hop }: Inbound): RequestHead | undefined {
  if (peer === undefined) return head;
  const { codings = [] } = hop;
  return codings.length === 0 ? undefined : { ...head, fields: withCodingFields(head.fields, codings) };
}

function negotiate(request: RequestHead, source: AnswerSource, bytes: number | undefined): Negotiation {
  const { fields } = source.head;
  return {
    request,
    source,
    bytes,
    accepted: acceptance(request.fields),
    sourceCoding: codingOf(fields),
    origin: `${request.scheme}://${request.host}`,
    useAsDictionary: hasField(fields, "use-as-dictionary")
      ? undefined
      : useAsDictionary(source.policy.dictionaries, request.target),
  };
}

function formOf(body: ObjectBody | undefined, name: string): ObjectBody | undefined {
  const form = body?.coded.get(name);
  return form instanceof ObjectBody ? form : undefined;
}

/** A memo of an answer with other fields, and other content unless `body` is undefined, for requests that take the same codings. */
function memoOf(
  memo: HitMemo | undefined,
  request: RequestHead,
  fields: Fields,
  body: ObjectBody | undefined,
): HitMemo | undefined {
  if (memo === undefined) return undefined;
  const { names, values } = withCoding(memo.nominatedFields, memo.nominatedValues, request.fields);
  return {
    ...memo,
    stored: { ...memo.stored, fields, body: body ?? memo.stored.body },
    nominatedFields: names,
    nominatedValues: values,
  };
}

/** A memo of an answer that is the same in whatever coding the client takes: what it selects by is told by its meaning. */
function memoByMeaning(memo: HitMemo | undefined, request: RequestHead): HitMemo | undefined {
  return memo?.nominatedFields.includes("accept-encoding") === true
    ? memoOf(memo, request, memo.stored.fields, undefined)
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
