/**
 * Asks for what an answer names before the client does, through the same way as any request, so that it is collapsed, stored
 * by its owner and counted; in the spare room of the overload gate alone. It runs at the server that a client asked, and
 * tells origins nothing of it: an answer to `Sec-Purpose: prefetch` may be another one, and would be stored for everybody.
 */
import { LRUCache } from "lru-cache";
import { type Clock, epochMs, type PrefetchKind } from "#kit";
import type { EdgeSettings } from "../config.ts";
import { fieldLines, type Fields, fieldValue, hasField, listMembers } from "../core/headers.ts";
import type { RequestHead } from "../core/messages.ts";
import { cmcdHint } from "../core/prefetch/cmcd.ts";
import { CssSheetReader } from "../core/prefetch/css-sheet.ts";
import { DashReader } from "../core/prefetch/dash.ts";
import { EarlyHints } from "../core/prefetch/early-hints.ts";
import { HlsReader } from "../core/prefetch/hls.ts";
import { HtmlReader } from "../core/prefetch/html.ts";
import { PrefetchLedger } from "../core/prefetch/ledger.ts";
import { linkReferences } from "../core/prefetch/link-header.ts";
import {
  carriedFields,
  type ContentKind,
  contentKind,
  prefetchFields,
  screenOf,
  statedRange,
} from "../core/prefetch/prefetch-fields.ts";
import type { Reference, ReferenceReader, ReferenceScope } from "../core/prefetch/reference.ts";
import { ruleSetOf } from "../core/rules/rule-set.ts";
import { addressName, type MediaPlan } from "../core/prefetch/sequence.ts";
import { type SequenceKind, SequenceTable } from "../core/prefetch/sequence-table.ts";
import { countBounded } from "./count-bounded.ts";
import type { Answer, Inbound } from "./exchange.ts";
import type { EdgeHandler } from "./handler.ts";
import type { EdgeMetrics } from "./metrics.ts";
import { type PrefetchNews, PrefetchNewsLine } from "./prefetch-news.ts";
import { tapped, type TapReader } from "./prefetch-tap.ts";
import type { RequestPlan } from "./request-plan.ts";
import { type PropertyView, type Routing, withKeyHost } from "./routing.ts";
import type { SiblingTier } from "./sibling-tier.ts";

/** An answer that was read is not read again for so long, ms: what it names was asked for. Playlists change sooner. */
const READ_MEMORY_MS = 10_000;
const READ_MAX = 5_000;
/** From a page: its style sheet, what that imports, the fonts of that. */
const DEPTH_MAX = 3;

/** Where references were found: what every one of them needs to be asked for. */
interface Finding {
  readonly property: PropertyView;
  readonly kind: PrefetchKind;
  readonly fields: Fields;
  readonly depth: number;
}

export class Prefetcher {
  readonly #handler: EdgeHandler;
  readonly #routing: Routing;
  readonly #settings: Pick<EdgeSettings, "prefetchConcurrency" | "prefetchPropertyMax">;
  readonly #metrics: EdgeMetrics;
  readonly #clock: Clock;
  readonly #siblings: SiblingTier | undefined;
  readonly #news: PrefetchNewsLine | undefined;
  readonly #ledger = new PrefetchLedger();
  readonly #sequences = new SequenceTable();
  readonly #hints = new EarlyHints();
  readonly #read = new LRUCache<string, true>({ ...countBounded(READ_MAX), ttl: READ_MEMORY_MS });
  #active = 0;
  #isClosed = false;
  #requests = 0;

  constructor(options: {
    readonly handler: EdgeHandler;
    readonly routing: Routing;
    /** Read each time: workers divide it among those that live. */
    readonly settings: Pick<EdgeSettings, "prefetchConcurrency" | "prefetchPropertyMax">;
    readonly metrics: EdgeMetrics;
    readonly clock: Clock;
    /** The other workers of this server; undefined when it is one process. */
    readonly siblings: SiblingTier | undefined;
  }) {
    this.#handler = options.handler;
    this.#routing = options.routing;
    this.#settings = options.settings;
    this.#metrics = options.metrics;
    this.#clock = options.clock;
    const { siblings } = options;
    this.#siblings = siblings;
    this.#news = siblings && new PrefetchNewsLine((news) => void siblings.tellPrefetched(news));
  }

  gauges(): void {
    const { counters } = this.#ledger;
    const gauge = (name: string, what: string, read: () => number): void =>
      this.#metrics.gauge(`prefetch_${name}`, what, read);
    const total = (name: string, what: string, read: () => number): void =>
      this.#metrics.total(`prefetch_${name}_total`, what, read);
    gauge("active", "Prefetches in flight", () => this.#active);
    total("fetched", "Objects that were fetched beforehand", () => counters.fetched);
    total("used", "Of these, those that a client asked for in time", () => counters.used);
    total("wasted", "Of these, those that nobody asked for in time", () => counters.wasted);
    total("wasted_bytes", "Bytes of objects that nobody asked for in time", () => counters.wastedBytes);
    gauge("sources_paused", "Kinds of properties that rest because too little was used", () =>
      this.#ledger.paused(this.#clock.monotonic()),
    );
    gauge("segments_known", "Segments whose successors are known", () => this.#sequences.size);
    total(
      "news_dropped",
      "Names of which other workers were not told, there being too many",
      () => this.#news?.dropped ?? 0,
    );
    gauge("early_hints_pages", "Pages whose early hints are known", () => this.#hints.size);
  }

  close(): void {
    this.#isClosed = true;
    this.#news?.close();
  }

  /** What another worker of this server tells. */
  hear({ issued, used }: PrefetchNews): void {
    const now = this.#clock.monotonic();
    for (const name of issued) this.#ledger.handleElsewhere(name, now);
    for (const name of used) this.#ledger.use(name, now);
  }

  /** A request of a client, before it is answered: what it uses, and what follows it. */
  observe(inbound: Inbound): void {
    if (inbound.peer !== undefined || inbound.head.method !== "GET") return;
    const isPlayer = inbound.head.target.includes("CMCD=") || hasField(inbound.head.fields, "cmcd-request");
    if (this.#ledger.size === 0 && this.#sequences.size === 0 && !isPlayer) return;
    const found = this.#routing.propertyOf(inbound.head.host);
    if (found === undefined) return;
    const head = withKeyHost(inbound.head, found.keyHost);
    const name = addressName({ ...head, bytes: statedRange(head.fields) });
    if (this.#ledger.use(name, this.#clock.monotonic()) === "elsewhere") this.#news?.tell("used", name);
    const property = ruleSetOf(found.property).statesPrefetch
      ? this.#handler.plan(inbound.head, inbound)?.property
      : found.property;
    if (property?.prefetch.isEnabled !== true) return;
    const { kinds, segmentsAheadMax } = property.prefetch;
    const fields = carriedFields(head.fields);
    const followed = this.#sequences.after(name, segmentsAheadMax);
    if (followed !== undefined)
      for (const one of followed.next)
        this.#want({ property, kind: followed.kind, fields, depth: DEPTH_MAX }, one);
    const hint =
      isPlayer && kinds.includes("cmcd") ? cmcdHint(head.fields, scopeOf(head, property, 1)) : undefined;
    if (hint !== undefined) this.#want({ property, kind: "cmcd", fields, depth: DEPTH_MAX }, hint);
  }

  /** Link values for a 103 to a navigation that has to wait for its page. */
  earlyHints(inbound: Inbound): readonly string[] | undefined {
    const { head } = inbound;
    // As browsers do it: others take an interim answer for the answer.
    if (this.#hints.size === 0 || fieldValue(head.fields, "sec-fetch-mode") !== "navigate") return undefined;
    const found = this.#routing.propertyOf(head.host);
    if (found?.property.prefetch.hasEarlyHints !== true || head.method !== "GET") return undefined;
    const links = this.#hints.linksOf(withKeyHost(head, found.keyHost));
    if (links === undefined) return undefined;
    // What a page names is for those who will get the page.
    const plan = this.#handler.plan(head, inbound);
    if (plan === undefined || this.#handler.isRuled(inbound, plan)) return undefined;
    this.#metrics.earlyHints();
    return links;
  }

  /** The answer with its content watched, when it is one that names what comes next; else the answer as it is. */
  watch(inbound: Inbound, answer: Answer): Answer {
    if (answer.body === undefined || answer.status !== 200) return answer;
    if (inbound.peer !== undefined || inbound.head.method !== "GET") return answer;
    const type = contentKind(answer.fields);
    if (type === undefined) return answer;
    const plan = this.#handler.plan(inbound.head);
    if (plan === undefined || plan.policy.bypass) return answer;
    const { prefetch } = plan.property;
    if (!prefetch.isEnabled && !prefetch.hasEarlyHints) return answer;
    return this.#watched(plan.head, plan.property, answer, type, 0);
  }

  #watched(
    head: RequestHead,
    property: PropertyView,
    answer: Answer,
    kind: ContentKind,
    depth: number,
  ): Answer {
    const { prefetch } = property;
    const isWanted =
      prefetch.isEnabled &&
      (prefetch.kinds.includes(kind) || (kind === "html" && prefetch.kinds.includes("link")));
    if (!isWanted && !(kind === "html" && prefetch.hasEarlyHints)) return answer;
    const name = addressName(head);
    if (kind !== "hls" && kind !== "dash") {
      if (this.#read.has(name)) return answer;
      this.#read.set(name, true);
    }
    const finding: Finding = { property, kind, fields: carriedFields(head.fields), depth };
    const reader =
      kind === "html"
        ? this.#page(head, answer, finding)
        : kind === "css"
          ? this.#references(new CssSheetReader(this.#scope(head, property)), finding, () => {})
          : this.#manifest(name, head, { ...finding, kind });
    const coding = fieldLines(answer.fields, "content-encoding")[0];
    const body = answer.body && tapped(answer.body, coding, reader);
    return body === undefined ? answer : { ...answer, body };
  }

  #scope(head: RequestHead, property: PropertyView): ReferenceScope {
    return scopeOf(head, property, property.prefetch.objectsPerPageMax);
  }

  #page(head: RequestHead, answer: Answer, finding: Finding): TapReader {
    const { property } = finding;
    const { prefetch } = property;
    const linked = linkReferences(fieldLines(answer.fields, "link"), this.#scope(head, property));
    const critical: Reference[] = linked.filter(({ role }) => role !== "document");
    if (prefetch.isEnabled && prefetch.kinds.includes("link"))
      for (const one of linked) this.#want({ ...finding, kind: "link" }, one);
    const isRead = prefetch.isEnabled && prefetch.kinds.includes("html");
    const mayHint = prefetch.hasEarlyHints && isForEverybody(head, answer);
    const reader = new HtmlReader(this.#scope(head, property), screenOf(head.fields));
    return {
      get isDone() {
        return reader.isDone;
      },
      write: (text) => {
        for (const one of reader.write(text)) {
          if (mayHint) critical.push(one);
          if (isRead) this.#want(finding, one);
        }
      },
      end: () => {
        if (mayHint) this.#hints.learn(head, unique(critical));
      },
    };
  }

  #references(reader: ReferenceReader, finding: Finding, end: () => void): TapReader {
    return {
      get isDone() {
        return reader.isDone;
      },
      write: (text) => {
        for (const one of reader.write(text)) this.#want(finding, one);
      },
      end,
    };
  }

  #manifest(name: string, head: RequestHead, finding: Finding & { readonly kind: SequenceKind }): TapReader {
    const { property, kind } = finding;
    const { segmentsAheadMax } = property.prefetch;
    const scope = this.#scope(head, property);
    const reader = kind === "hls" ? new HlsReader(scope) : new DashReader(scope, this.#clock.epoch());
    return {
      get isDone() {
        return reader.isDone;
      },
      write: (text) => {
        reader.write(text);
      },
      end: () => {
        const plan: MediaPlan | undefined =
          reader instanceof HlsReader ? reader.plan(segmentsAheadMax) : reader.plan();
        if (plan === undefined) return;
        const sequences = plan.sequences.map((one) => one.map((reference) => this.#keyed(reference)));
        if (sequences.length > 0) this.#sequences.set(name, kind, sequences);
        if (segmentsAheadMax > 0) for (const one of plan.first) this.#want(finding, one);
      },
    };
  }

  /** As observe() names it: content may state the port that it was asked for at. */
  #keyed(reference: Reference): Reference {
    const { keyHost = reference.host } = this.#routing.propertyOf(reference.host) ?? {};
    return keyHost === reference.host ? reference : { ...reference, host: keyHost };
  }

  #want(finding: Finding, reference: Reference): void {
    if (this.#isClosed) return;
    const { property, kind } = finding;
    const metrics = this.#metrics;
    const settings = this.#settings;
    const name = addressName(this.#keyed(reference));
    const propertyId = property.propertyId ?? "";
    const suppressed =
      this.#active >= settings.prefetchConcurrency
        ? "busy"
        : this.#ledger.begin(propertyId, kind, name, this.#clock.monotonic(), {
            // The budget is the server's.
            bytesPerSecond: property.prefetch.bytesPerSecondMax / (this.#siblings?.living ?? 1),
            inFlightMax: settings.prefetchPropertyMax,
          });
    if (suppressed !== undefined) {
      metrics.prefetch(kind, suppressed);
      return;
    }
    this.#news?.tell("issued", name);
    this.#active++;
    void this.#ask(finding, reference)
      // A prefetch that fails costs nobody anything; the browser will ask by itself.
      .catch(() => ({ result: "failed" as const, bytes: 0 }))
      .then(({ result, bytes }) => {
        this.#active--;
        this.#ledger.end(propertyId, name, result === "asked" ? bytes : undefined);
        metrics.prefetch(kind, result);
        return undefined;
      });
  }

  async #ask(
    finding: Finding,
    reference: Reference,
  ): Promise<{ readonly result: "asked" | "stored-already" | "failed" | "rule"; readonly bytes: number }> {
    const { scheme, host, target } = reference;
    const fields = prefetchFields(finding.kind, reference, finding.fields);
    const plan = this.#handler.plan({ method: "GET", scheme, host, target, fields });
    if (plan === undefined || plan.policy.bypass) return { result: "failed", bytes: 0 };
    if (plan.rules.prefetch === false) return { result: "rule", bytes: 0 };
    const decision = await this.#handler.decide(plan);
    if (decision.action !== "fetch" && decision.action !== "validate")
      return { result: "stored-already", bytes: 0 };
    const answer = await this.#answer(plan);
    if (answer.body === undefined) return { result: answer.status < 400 ? "asked" : "failed", bytes: 0 };
    // Its bytes are not moved within the cluster, and it is not judged.
    if (isThere(answer)) {
      await answer.body[Symbol.asyncIterator]().return?.();
      return { result: "stored-already", bytes: 0 };
    }
    const kind = answer.status === 200 ? contentKind(answer.fields) : undefined;
    const isFollowed = kind !== undefined && kind !== "html" && finding.depth < DEPTH_MAX;
    const { body } = isFollowed
      ? this.#watched(plan.head, plan.property, answer, kind, finding.depth + 1)
      : answer;
    let received = 0;
    if (body !== undefined) for await (const chunk of body) received += chunk.byteLength;
    return { result: answer.status < 400 ? "asked" : "failed", bytes: received };
  }

  async #answer(plan: RequestPlan): Promise<Answer> {
    return await this.#handler.handle({
      head: plan.head,
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
  }
}

function scopeOf(page: RequestHead, property: PropertyView, referencesMax: number): ReferenceScope {
  return {
    page,
    // The page's own host is, whatever it is called: an edge alone has no list of names.
    isOwnHost: (host) => host === page.host || property.hostnames.includes(host.replace(/:[0-9]+$/, "")),
    referencesMax,
  };
}

/** What one user's page names may be known to nobody else. */
function isForEverybody(head: RequestHead, answer: Answer): boolean {
  if (hasField(head.fields, "authorization") || hasField(answer.fields, "set-cookie")) return false;
  if (/\b(?:private|no-store)\b/i.test(fieldValue(answer.fields, "cache-control") ?? "")) return false;
  const { status } = answer.record;
  return status?.isHit === true || status?.isStored === true || status?.detail === "not-owner";
}

/** Whether somebody else has fetched an object, or is fetching it: a client that did not wait for its name, another worker, the key's owner. */
function isThere(answer: Answer): boolean {
  const { status } = answer.record;
  if (status?.isHit === true || status?.isCollapsed === true) return true;
  if (status?.detail !== "not-owner") return false;
  // Members stand nearest last (RFC 9211, section 2): this server's, and before it that of the owner it asked.
  const owners = listMembers(fieldValue(answer.fields, "cache-status") ?? "").at(-2);
  return owners !== undefined && /;\s*(?:hit|collapsed)\b/.test(owners);
}

function unique(references: readonly Reference[]): readonly Reference[] {
  return [...new Map(references.map((one) => [addressName(one), one])).values()];
}
