/**
 * Which queries are logged, and where they wait for that: packed into typed arrays, so that taking one in costs the query's answer no
 * garbage. A ring that is full takes no more and counts.
 */
import type { IpFamily } from "#kit";
import type { CookieState } from "../cookie.ts";
import {
  type DnsTransport,
  dnsTransports,
  type DropReason,
  dropReasons,
  type ReplyReason,
  replyReasons,
} from "../decision.ts";

/** Of a query that carried no cookie: `none`. */
export type LoggedCookie = CookieState | "none";
const cookies: readonly LoggedCookie[] = ["none", "client", "valid", "malformed"];
const reasons: readonly (ReplyReason | DropReason)[] = [...replyReasons, ...dropReasons];

/** One query and what became of it; the fields of dnstap's messages, and why the answer is what it is. */
export interface SampledQuery {
  readonly atEpochMs: number;
  readonly latencyUs: number;
  readonly transport: DnsTransport;
  readonly family: IpFamily;
  /** The sender's, network order; family 4: the first word. */
  readonly words: ArrayLike<number>;
  readonly port: number;
  /** The second 16 bits of the query's header. */
  readonly flags: number;
  /** Wire form, case as asked; undefined when no question could be read. */
  readonly name: Uint8Array | undefined;
  readonly type: number;
  readonly class: number;
  /** RFC 7871: family 0 none, 1 IPv4, 2 IPv6; undefined without the option. */
  readonly clientSubnet:
    | {
        readonly family: 0 | 1 | 2;
        readonly sourcePrefixLength: number;
        /** Of the answer. */
        readonly scopePrefixLength: number;
        readonly words: ArrayLike<number>;
      }
    | undefined;
  readonly reason: ReplyReason | DropReason;
  /** -1: no answer. */
  readonly rcode: number;
  readonly cookie: LoggedCookie;
  readonly clusterId: string | null;
  /** 0: none. */
  readonly mapVersion: number;
  readonly queryBytes: number;
  /** 0: none was sent. */
  readonly answerBytes: number;
}

/**
 * One in N, by a linear congruential sequence (Knuth, with the constants of "Numerical Recipes"): no period that traffic could share, and
 * the same for the same seed.
 */
export class Sampler {
  readonly oneIn: number;
  readonly #threshold: number;
  #state: number;

  /** @param oneIn 1: all, 0: none */
  constructor(oneIn: number, seed: number) {
    this.oneIn = oneIn;
    this.#threshold = oneIn === 0 ? 0 : Math.ceil(2 ** 32 / oneIn);
    this.#state = seed | 0;
  }

  next(): boolean {
    this.#state = (Math.imul(this.#state, 1_664_525) + 1_013_904_223) | 0;
    return this.#state >>> 0 < this.#threshold;
  }
}

const NAME_STRIDE = 256;
/** Words of a record: two addresses of four, and what stands beside them. */
const columns = [
  "transport",
  "family",
  "port",
  "flags",
  "nameBytes",
  "type",
  "class",
  "ecsFamily",
  "ecsSource",
  "ecsScope",
  "reason",
  "rcode",
  "cookie",
  "mapVersion",
  "latencyUs",
  "queryBytes",
  "answerBytes",
] as const;
const ADDRESS_AT = columns.length;
const CLIENT_AT = ADDRESS_AT + 4;
const STRIDE = CLIENT_AT + 4;
/** In `ecsFamily`: there was no option. In `nameBytes`: there was no question. In `rcode`: there was no answer. */
const NONE = 0xffff_ffff;

export class QueryRing {
  readonly #capacity: number;
  readonly #words: Uint32Array;
  readonly #atEpochMs: Float64Array;
  readonly #names: Uint8Array;
  readonly #clusters: (string | null)[];
  #head = 0;
  #length = 0;
  #dropped = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
    this.#words = new Uint32Array(capacity * STRIDE);
    this.#atEpochMs = new Float64Array(capacity);
    this.#names = new Uint8Array(capacity * NAME_STRIDE);
    this.#clusters = Array.from({ length: capacity }, () => null);
  }

  get length(): number {
    return this.#length;
  }
  /** Queries that found no room. */
  get dropped(): number {
    return this.#dropped;
  }

  push(query: SampledQuery): boolean {
    if (this.#length === this.#capacity) {
      this.#dropped++;
      return false;
    }
    const slot = (this.#head + this.#length++) % this.#capacity;
    const words = this.#words;
    const { name, clientSubnet } = query;
    let at = slot * STRIDE;
    words[at++] = dnsTransports.indexOf(query.transport);
    words[at++] = query.family;
    words[at++] = query.port;
    words[at++] = query.flags;
    words[at++] = name === undefined ? NONE : name.length;
    words[at++] = query.type;
    words[at++] = query.class;
    words[at++] = clientSubnet?.family ?? NONE;
    words[at++] = clientSubnet?.sourcePrefixLength ?? 0;
    words[at++] = clientSubnet?.scopePrefixLength ?? 0;
    words[at++] = reasons.indexOf(query.reason);
    words[at++] = query.rcode;
    words[at++] = cookies.indexOf(query.cookie);
    words[at++] = query.mapVersion;
    words[at++] = query.latencyUs;
    words[at++] = query.queryBytes;
    words[at++] = query.answerBytes;
    for (let word = 0; word < 4; word++) words[at++] = query.words[word] ?? 0;
    for (let word = 0; word < 4; word++) words[at++] = clientSubnet?.words[word] ?? 0;
    this.#atEpochMs[slot] = query.atEpochMs;
    if (name !== undefined) this.#names.set(name, slot * NAME_STRIDE);
    this.#clusters[slot] = query.clusterId;
    return true;
  }

  /** The oldest one, which is no longer held; undefined: none waits. */
  shift(): SampledQuery | undefined {
    if (this.#length === 0) return undefined;
    const slot = this.#head;
    this.#head = (this.#head + 1) % this.#capacity;
    this.#length--;
    const at = slot * STRIDE;
    const word = (column: (typeof columns)[number]): number =>
      this.#words[at + columns.indexOf(column)] as number;
    const family = word("family") as IpFamily;
    const ecsFamily = word("ecsFamily");
    const nameBytes = word("nameBytes");
    const rcode = word("rcode");
    return {
      atEpochMs: this.#atEpochMs[slot] as number,
      latencyUs: word("latencyUs"),
      transport: dnsTransports[word("transport")] as DnsTransport,
      family,
      words: this.#words.slice(at + ADDRESS_AT, at + ADDRESS_AT + (family === 4 ? 1 : 4)),
      port: word("port"),
      flags: word("flags"),
      name:
        nameBytes === NONE
          ? undefined
          : this.#names.slice(slot * NAME_STRIDE, slot * NAME_STRIDE + nameBytes),
      type: word("type"),
      class: word("class"),
      clientSubnet:
        ecsFamily === NONE
          ? undefined
          : {
              family: ecsFamily as 0 | 1 | 2,
              sourcePrefixLength: word("ecsSource"),
              scopePrefixLength: word("ecsScope"),
              words: this.#words.slice(at + CLIENT_AT, at + CLIENT_AT + (ecsFamily === 2 ? 4 : 1)),
            },
      reason: reasons[word("reason")] as ReplyReason | DropReason,
      rcode: rcode === NONE ? -1 : rcode,
      cookie: cookies[word("cookie")] as LoggedCookie,
      clusterId: this.#clusters[slot] as string | null,
      mapVersion: word("mapVersion"),
      queryBytes: word("queryBytes"),
      answerBytes: word("answerBytes"),
    };
  }
}
