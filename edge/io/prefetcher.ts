/**
 * Asks for what an answer names before the client does, through the same way as any request, so that it is collapsed, stored
 * by its owner and counted; in the spare room of the overload gate alone. It runs at the server that a client asked, and
 * tells origins nothing of it: an answer to `Sec-Purpose: prefetch` may be another one, and would be stored for everybody.
 */
import { LRUCache } from "lru-cache";
import { type Clock, epochMs, type PrefetchKind } from "#kit";
import type { EdgeSettings } from "../config.ts";
import { type Field, fieldLines, type Fields, fieldValue, hasField, listMembers } from "../core/headers.ts";
import type { RequestHead } from "../core/messages.ts";
import { cmcdHint } from "../core/prefetch/cmcd.ts";
import { CssSheetReader } from "../core/prefetch/css-sheet.ts";
import { DashReader } from "../core/prefetch/dash.ts";
import { EarlyHints } from "../core/prefetch/early-hints.ts";
import { HlsReader } from "../core/prefetch/hls.ts";
import { HtmlReader } from "../core/prefetch/html.ts";
import { PrefetchLedger } from "../core/prefetch/ledger.ts";
import { linkReferences } from "../core/prefetch/link-header.ts";
import type {
  Reference,
  ReferenceReader,
  ReferenceRole,
  ReferenceScope,
} from "../core/prefetch/reference.ts";
import { addressName, type MediaPlan } from "../core/prefetch/sequence.ts";
import { SequenceTable } from "../core/prefetch/sequence-table.ts";
import type { Screen } from "../core/prefetch/srcset.ts";
import { countBounded } from "./count-bounded.ts";
import type { Answer, Inbound } from "./exchange.ts";
import type { EdgeHandler } from "./handler.ts";
import type { EdgeMetrics } from "./metrics.ts";
import { tapped, type TapReader } from "./prefetch-tap.ts";
import type { RequestPlan } from "./request-plan.ts";
import type { PropertyView, Routing } from "./routing.ts";

/** An answer that was read is not read again for so long, ms: what it names was asked for. Playlists change sooner. */
const READ_MEMORY_MS = 10_000;
const READ_MAX = 5_000;
/** From a page: its style sheet, what that imports, the fonts of that. */
const DEPTH_MAX = 3;

/** Fields of the page's request that its objects' requests will have too, and that answers vary by. */
const CARRIED = ["accept-encoding", "accept-language", "user-agent"] as const;
/** What browsers accept, by what they ask for (WHATWG Fetch, section 2.2.5); images as Chromium states it. */
const ACCEPT: Readonly<Partial<Record<ReferenceRole, string>>> = {
  style: "text/css,*/*;q=0.1",
  image: "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
};

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
  }) {
    this.#handler = options.handler;
    this.#routing = options.routing;
    this.#settings = options.settings;
    this.#metrics = options.metrics;
    this.#clock = options.clock;
  }

  gauges(): void {
    const { counters } = this.#ledger;
    const gauge = (name: string, what: string, read: () => number): void =>
      this.#metrics.gauge(`prefetch_${name}`, what, read);
    gauge("active", "Prefetches in flight", () => this.#active);
    gauge("issued", "Objects that were asked for beforehand", () => counters.issued);
    gauge("used", "Of these, those that a client asked for in time", () => counters.used);
    gauge("wasted", "Of these, those that nobody asked for in time", () => counters.wasted);
    gauge("wasted_bytes", "Bytes of objects that nobody asked for in time", () => counters.wastedBytes);
    gauge("sources_paused", "Kinds of properties that rest because too little was used", () =>
      this.#ledger.paused(this.#clock.monotonic()),
    );
    gauge("segments_known", "Segments whose successors are known", () => this.#sequences.size);
    gauge("early_hints_pages", "Pages whose early hints are known", () => this.#hints.size);
  }

  close(): void {
    this.#isClosed = true;
  }

  /** A request of a client, before it is answered: what it uses, and what follows it. */
  observe(inbound: Inbound): void {
    const { head } = inbound;
    if (inbound.peer !== undefined || head.method !== "GET") return;
    const isPlayer = head.target.includes("CMCD=") || hasField(head.fields, "cmcd-request");
    if (this.#ledger.size === 0 && this.#sequences.size === 0 && !isPlayer) return;
    const name = addressName({ ...head, bytes: rangeOf(head.fields) });
    this.#ledger.use(name, this.#clock.monotonic());
    const property = this.#routing.propertyOf(head.host)?.property;
    if (property?.prefetch.isEnabled !== true) return;
    const { kinds, segmentsAheadMax } = property.prefetch;
    const fields = carried(head.fields);
    const next = this.#sequences.after(name, segmentsAheadMax);
    if (next.length > 0) {
      const kind = kinds.includes("hls") ? "hls" : "dash";
      for (const one of next) this.#want({ property, kind, fields, depth: DEPTH_MAX }, one);
    }
    const hint =
      isPlayer && kinds.includes("cmcd") ? cmcdHint(head.fields, scopeOf(head, property, 1)) : undefined;
    if (hint !== undefined) this.#want({ property, kind: "cmcd", fields, depth: DEPTH_MAX }, hint);
  }

  /** Link values for a 103 to a navigation that has to wait for its page. */
  earlyHints(inbound: Inbound): readonly string[] | undefined {
    const { head } = inbound;
    // As browsers do it: others take an interim answer for the answer.
    if (this.#hints.size === 0 || fieldValue(head.fields, "sec-fetch-mode") !== "navigate") return undefined;
    const property = this.#routing.propertyOf(head.host)?.property;
    if (property?.prefetch.hasEarlyHints !== true || head.method !== "GET") return undefined;
    const links = this.#hints.linksOf(head);
    if (links !== undefined) this.#metrics.earlyHints();
    return links;
  }

  /** The answer with its content watched, when it is one that names what comes next; else the answer as it is. */
  watch(inbound: Inbound, answer: Answer): Answer {
    if (answer.body === undefined || answer.status !== 200) return answer;
    if (inbound.peer !== undefined || inbound.head.method !== "GET") return answer;
    const type = kindOf(answer.fields);
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
    kind: PrefetchKind,
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
    const finding: Finding = { property, kind, fields: carried(head.fields), depth };
    const reader =
      kind === "html"
        ? this.#page(head, answer, finding)
        : kind === "css"
          ? this.#references(new CssSheetReader(this.#scope(head, property)), finding, () => {})
          : this.#manifest(name, head, finding);
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

  #manifest(name: string, head: RequestHead, finding: Finding): TapReader {
    const { property } = finding;
    const { segmentsAheadMax } = property.prefetch;
    const scope = this.#scope(head, property);
    const reader = finding.kind === "hls" ? new HlsReader(scope) : new DashReader(scope, this.#clock.epoch());
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
        if (plan.sequences.length > 0) this.#sequences.set(name, plan.sequences);
        if (segmentsAheadMax > 0) for (const one of plan.first) this.#want(finding, one);
      },
    };
  }

  #want(finding: Finding, reference: Reference): void {
    if (this.#isClosed) return;
    const { property, kind } = finding;
    const metrics = this.#metrics;
    const settings = this.#settings;
    const name = addressName(reference);
    const propertyId = property.propertyId ?? "";
    const suppressed =
      this.#active >= settings.prefetchConcurrency
        ? "busy"
        : this.#ledger.begin(propertyId, kind, name, this.#clock.monotonic(), {
            bytesPerSecond: property.prefetch.bytesPerSecondMax,
            inFlightMax: settings.prefetchPropertyMax,
          });
    if (suppressed !== undefined) {
      metrics.prefetch(kind, suppressed);
      return;
    }
    this.#active++;
    void this.#ask(finding, reference)
      // A prefetch that fails costs nobody anything; the browser will ask by itself.
      .catch(() => ({ result: "failed" as const, bytes: 0 }))
      .then(({ result, bytes }) => {
        this.#active--;
        this.#ledger.end(propertyId, name, bytes);
        if (result !== "asked") this.#ledger.forget(name);
        metrics.prefetch(kind, result);
        return undefined;
      });
  }

  async #ask(
    finding: Finding,
    reference: Reference,
  ): Promise<{ readonly result: "asked" | "stored-already" | "failed"; readonly bytes: number }> {
    const { scheme, host, target, bytes, role } = reference;
    const accept =
      finding.kind === "html" || finding.kind === "css" || finding.kind === "link"
        ? (ACCEPT[role] ?? "*/*")
        : "*/*";
    const range: readonly Field[] = bytes === undefined ? [] : [["Range", `bytes=${bytes.from}-${bytes.to}`]];
    const head = {
      method: "GET",
      scheme,
      host,
      target,
      fields: [["accept", accept] as const, ...finding.fields, ...range],
    };
    const plan = this.#handler.plan(head);
    if (plan === undefined || plan.policy.bypass) return { result: "failed", bytes: 0 };
    const decision = await this.#handler.decide(plan);
    if (decision.action !== "fetch" && decision.action !== "validate")
      return { result: "stored-already", bytes: 0 };
    const answer = await this.#answer(plan);
    if (answer.body === undefined) return { result: answer.status < 400 ? "asked" : "failed", bytes: 0 };
    // The key's owner had it: its bytes are not moved within the cluster.
    if (isOwnersHit(answer)) {
      await answer.body[Symbol.asyncIterator]().return?.();
      return { result: "stored-already", bytes: 0 };
    }
    const kind = answer.status === 200 ? kindOf(answer.fields) : undefined;
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
    isOwnHost: (host) => property.hostnames.includes(host.replace(/:[0-9]+$/, "")),
    referencesMax,
  };
}

/** What kind of reader an answer needs; undefined: none. */
function kindOf(fields: Fields): PrefetchKind | undefined {
  const type = fieldLines(fields, "content-type")[0]?.split(";", 1)[0]?.trim().toLowerCase();
  switch (type ?? "") {
    case "text/html":
      return "html";
    case "text/css":
      return "css";
    // RFC 8216, section 4; the second is what is widely sent.
    case "application/vnd.apple.mpegurl":
    case "application/x-mpegurl":
    case "audio/mpegurl":
      return "hls";
    case "application/dash+xml":
      return "dash";
    default:
      return undefined;
  }
}

function carried(fields: Fields): Fields {
  return CARRIED.flatMap((name): readonly Field[] => {
    const value = fieldLines(fields, name)[0];
    return value === undefined ? [] : [[name, value]];
  });
}

/** The one range that a request states; undefined: none, or another form. */
function rangeOf(fields: Fields): Reference["bytes"] {
  const match = /^bytes=(\d{1,15})-(\d{1,15})$/.exec(fieldLines(fields, "range")[0] ?? "");
  return match === null ? undefined : { from: Number(match[1]), to: Number(match[2]) };
}

/** What the client's hints say; their older names are those of current Android browsers. */
function screenOf(fields: Fields): Screen {
  const of = (...names: readonly string[]): number | undefined => {
    const value = Number(names.map((name) => fieldValue(fields, name)).find((text) => text !== undefined));
    return value > 0 && value < 100_000 ? value : undefined;
  };
  return {
    pixelRatio: of("sec-ch-dpr", "dpr") ?? 1,
    viewportWidth: of("sec-ch-viewport-width", "viewport-width"),
  };
}

/** What one user's page names may be known to nobody else. */
function isForEverybody(head: RequestHead, answer: Answer): boolean {
  if (hasField(head.fields, "authorization") || hasField(answer.fields, "set-cookie")) return false;
  if (/\b(?:private|no-store)\b/i.test(fieldValue(answer.fields, "cache-control") ?? "")) return false;
  const { status } = answer.record;
  return status?.isHit === true || status?.isStored === true || status?.detail === "not-owner";
}

/** Members stand nearest last (RFC 9211, section 2): this server's, and before it that of the owner it asked. */
function isOwnersHit(answer: Answer): boolean {
  if (answer.record.status?.detail !== "not-owner") return false;
  const owners = listMembers(fieldValue(answer.fields, "cache-status") ?? "").at(-2);
  return owners !== undefined && /;\s*hit\b/.test(owners);
}

function unique(references: readonly Reference[]): readonly Reference[] {
  return [...new Map(references.map((one) => [addressName(one), one])).values()];
}
