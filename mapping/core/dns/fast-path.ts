/**
 * The common query, answered from the packet's octets into the answer's: a well-formed A, AAAA or HTTPS question in class IN for a
 * host name of a property or a policy, alone or with an OPT record that holds nothing but a client subnet and a cookie. Strict: whatever is unusual is left to
 * `respond`, which gives the same octets wherever both answer (a property test holds them to it). Nothing is allocated for a query once its
 * template is there; templates go when the context is replaced.
 */
import { addressBits, type IpFamily } from "#kit";
import type { ClusterChoice } from "../answer.ts";
import { type ChoiceTable, choiceOfLookup, choiceTableOf, scopeOfLookup } from "./choice-table.ts";
import {
  dnsTypes,
  ednsOptionCodes,
  headerBytes,
  udpPayloadBytesMax,
  udpPayloadBytesMin,
} from "./constants.ts";
import type { DnsCounters, DnsTally } from "./counters.ts";
import { type CookieState, ServerCookies } from "./cookie.ts";
import type { DnsContext, DnsService } from "./decision.ts";
import { lowerCase, nameHashNext, nameHashStart, NameTable } from "./name-table.ts";
import { type DomainName, labelBytesMax, nameBytesMax } from "./name.ts";
import type { CompiledPolicy } from "../policy/compile.ts";
import {
  decidePolicy,
  type PolicyChoice,
  type PolicyFacts,
  type PolicyQuery,
  policyReasons,
} from "../policy/decide.ts";
import { drawOf } from "../policy/draw.ts";
import { policyFacts } from "./policy-answer.ts";
import { type ChoiceReply, replyOfChoice, replyOfPolicy } from "./choice-reply.ts";
import type { ZoneNode, ZoneTable } from "./zone-table.ts";

/** Who asked, as words in network order; filled anew for each query. */
export interface ResolverWords {
  family: IpFamily;
  readonly words: Uint32Array;
}

/** The least query: header, a name of one label with one octet, type and class. */
const QUERY_BYTES_MIN = headerBytes + 3 + 4;
/** Root, type, payload size, extended rcode and version, flags, RDATA length. */
const OPT_BYTES = 11;
const ECS_FIXED_BYTES = 4;
const BODY_BYTES_BY_LOOP = 96;

/** An answer but for what the query decides: id, RD, the question as it came, OPT and scope. */
interface Template extends ChoiceReply {
  readonly madeAtSeconds: number;
  readonly tally: DnsTally;
}

/** The templates of one host name, by choice; of HTTPS by that of A and that of AAAA in one number. */
interface NameTemplates extends HostName {
  readonly ipv4: Template[];
  readonly ipv6: Template[];
  readonly https: Map<number, Template>;
  /** Of a policy's answers, by what they hand out. */
  readonly policies: Map<string | number, Template>;
  /** Of the policy, in this context. */
  facts: PolicyFacts | undefined;
  /** The same for who set DO; undefined where the zone is not signed. */
  readonly signed: SignedTemplates | undefined;
}
type SignedTemplates = Pick<NameTemplates, "ipv4" | "ipv6" | "https">;

/** Answers of one policy that are kept; a list of addresses has many orders. */
const POLICY_TEMPLATES_MAX = 1_024;
/** Reasons, two types, signed or not. */
const POLICY_KINDS = policyReasons.length * 4;

/** Choices are numbered by 16 bits. */
const CHOICES = 65_536;

interface HostName {
  readonly name: DomainName;
  readonly node: ZoneNode;
}

/** Host names that belong to the zones, whatever the map. */
interface Names {
  readonly table: NameTable;
  readonly hosts: readonly HostName[];
}
const namesOfZones = new WeakMap<ZoneTable, Names>();

function namesOf(zones: ZoneTable): Names {
  let names = namesOfZones.get(zones);
  if (names === undefined) {
    const hosts = [...zones.mappedNodes()];
    names = { table: new NameTable(hosts.map(({ name }) => name.wire)), hosts };
    namesOfZones.set(zones, names);
  }
  return names;
}

export class FastPath {
  readonly #counters: DnsCounters;
  /** Undefined: none are given out. */
  readonly #cookies: ServerCookies | undefined;
  #context: DnsContext | undefined;
  #names: NameTable = new NameTable([]);
  #templates: NameTemplates[] = [];
  /** Of the context, by property: `choiceTableOf` would make a key for each query. */
  #cookieAt = 0;
  #cookieEnd = 0;
  #tables: ({ readonly ipv4: ChoiceTable; readonly ipv6: ChoiceTable } | undefined)[] = [];
  readonly #client = new Uint32Array(4);
  readonly #client4 = this.#client.subarray(0, 1);
  /** Words of the resolver, and of one of IPv4 the first of them. */
  #resolver: Uint32Array = new Uint32Array(4);
  #resolver4: Uint32Array = this.#resolver.subarray(0, 1);
  /** Of the last answer, for who logs it: its scope, -1 without a client subnet. */
  lastScope = -1;
  /** Where the data of its client subnet begins in the query; 0 without one. */
  lastEcsAt = 0;
  lastReply: ChoiceReply | undefined;
  /** Undefined: the query carried none. */
  lastCookie: CookieState | undefined;
  /** Number of the host name in the last answer. */
  lastName = -1;
  /** Octets of its question. */
  lastQuestionBytes = 0;

  constructor(counters: DnsCounters, service: DnsService = {}) {
    this.#counters = counters;
    const { cookieSecret } = service;
    this.#cookies = cookieSecret === undefined ? undefined : new ServerCookies(cookieSecret);
  }

  #use(context: DnsContext): void {
    this.#context = context;
    const { table, hosts } = namesOf(context.zones);
    this.#names = table;
    this.#templates = hosts.map(({ name, node }) => ({
      name,
      node,
      ipv4: [],
      ipv6: [],
      https: new Map(),
      policies: new Map(),
      facts: undefined,
      signed:
        context.signers?.has(node.zone.origin.text) === true
          ? { ipv4: [], ipv6: [], https: new Map() }
          : undefined,
    }));
    this.#tables = hosts.map(() => undefined);
  }

  /**
   * Answers the query at `query[at]` to `query[end]` (UDP) into `out` from `outAt` on, where there must be room for 1,232 octets.
   *
   * @param epochSeconds the time, by which signatures are good
   * @returns octets of the answer; 0: nothing was written or counted, `respond` is to be asked
   */
  answer(
    query: Uint8Array,
    at: number,
    end: number,
    resolver: ResolverWords,
    context: DnsContext | undefined,
    out: Uint8Array,
    outAt: number,
    epochSeconds: number,
  ): number {
    if (context === undefined || end - at < QUERY_BYTES_MIN) return 0;
    if (context.isStandingBy === true) return 0;
    if (context !== this.#context) this.#use(context);
    // A query (QR, opcode, AA, TC, RA, Z and rcode clear) with one question and at most an OPT record. RD, AD and CD may be set.
    if (((query[at + 2] as number) & 0xfe) !== 0 || ((query[at + 3] as number) & 0xcf) !== 0) return 0;
    if (query[at + 4] !== 0 || query[at + 5] !== 1) return 0;
    if ((query[at + 6] as number) | (query[at + 7] as number) | (query[at + 8] as number)) return 0;
    const additionals = query[at + 11] as number;
    if ((query[at + 9] as number) | (query[at + 10] as number) || additionals > 1) return 0;

    const nameAt = at + headerBytes;
    let cursor = nameAt;
    let hash = nameHashStart;
    for (;;) {
      const length = query[cursor] as number;
      hash = nameHashNext(hash, length);
      cursor++;
      if (length === 0) break;
      // Type and class must follow the root label at least.
      if (length > labelBytesMax || cursor + length + 5 > end) return 0;
      for (const stop = cursor + length; cursor < stop; cursor++)
        hash = nameHashNext(hash, lowerCase[query[cursor] as number] as number);
    }
    const nameLength = cursor - nameAt;
    if (nameLength > nameBytesMax || cursor + 4 > end) return 0;
    const type = ((query[cursor] as number) << 8) | (query[cursor + 1] as number);
    if (query[cursor + 2] !== 0 || query[cursor + 3] !== 1) return 0;
    if (type !== dnsTypes.A && type !== dnsTypes.AAAA && type !== dnsTypes.HTTPS) return 0;
    const questionEnd = cursor + 4;
    const number = this.#names.find(query, nameAt, nameLength, hash);
    if (number < 0) return 0;

    let bytesMax: number = udpPayloadBytesMin;
    let ecsAt = -1;
    let cookie: CookieState | undefined;
    this.#cookieAt = 0;
    if (additionals === 0) {
      if (questionEnd !== end) return 0;
    } else {
      ecsAt = this.#readOpt(query, questionEnd, end);
      if (ecsAt < 0) return 0;
      if (this.#cookieAt > 0) {
        const { family, words } = resolver;
        cookie = this.#cookies?.check(query, this.#cookieAt, this.#cookieEnd, family, words, epochSeconds);
        if (cookie === "malformed") return 0;
      }
      const told = ((query[questionEnd + 3] as number) << 8) | (query[questionEnd + 4] as number);
      bytesMax = Math.min(Math.max(told, udpPayloadBytesMin), udpPayloadBytesMax);
    }

    const hasEcs = ecsAt > 0;
    // DO is the top bit of the flags' first octet.
    const seconds =
      additionals === 1 && (query[questionEnd + 7] as number) !== 0 && this.#isSigned(number)
        ? epochSeconds
        : -1;
    const source = hasEcs ? (query[ecsAt + 2] as number) : 0;
    const client = source > 0 ? this.#readClient(query, ecsAt, source) : 0;
    let scope = 0;
    let choice = 0;
    let chosen: PolicyChoice | undefined;
    const { policy } = (this.#templates[number] as NameTemplates).node;
    if (policy !== undefined) {
      if (type === dnsTypes.HTTPS) return 0;
      chosen = this.#askPolicy(number, policy, type, query, at, client, source, resolver, epochSeconds);
      // The edges, by the map as well as by the policy.
      if (chosen.propertyId !== undefined) return 0;
      scope = chosen.scopePrefixLength;
    } else if (type !== dnsTypes.HTTPS) {
      const found = this.#lookup(this.#tableOf(number, type), client, resolver);
      choice = choiceOfLookup(found);
      scope = scopeOfLookup(found);
    } else if (this.#hasHttps(number)) {
      const ipv4 = this.#lookup(this.#tableOf(number, dnsTypes.A), client, resolver);
      const ipv6 = this.#lookup(this.#tableOf(number, dnsTypes.AAAA), client, resolver);
      choice = choiceOfLookup(ipv4) * CHOICES + choiceOfLookup(ipv6);
      scope = Math.max(scopeOfLookup(ipv4), scopeOfLookup(ipv6));
    }
    scope = Math.min(scope, source);
    const template =
      chosen === undefined
        ? this.#templateOf(number, type, choice, seconds)
        : this.#policyTemplateOf(number, type, chosen, seconds);
    if (template === undefined) return 0;

    const { body } = template;
    const ecsBytes = hasEcs ? 4 + ECS_FIXED_BYTES + (((query[ecsAt + 2] as number) + 7) >>> 3) : 0;
    const answerCookie = cookie === undefined ? undefined : this.#cookies?.answer;
    const cookieBytes = answerCookie === undefined ? 0 : 4 + answerCookie.length;
    const optBytes = additionals === 0 ? 0 : OPT_BYTES + ecsBytes + cookieBytes;
    if (questionEnd - at + body.length + optBytes > bytesMax) return 0;

    let to = outAt;
    out[to] = query[at] as number;
    out[to + 1] = query[at + 1] as number;
    out[to + 2] = 0x84 | (query[at + 2] as number); // QR, AA, RD as asked.
    out[to + 3] = 0;
    out[to + 4] = 0;
    out[to + 5] = 1;
    out[to + 6] = 0;
    out[to + 7] = template.answers;
    out[to + 8] = 0;
    out[to + 9] = template.authorities;
    out[to + 10] = 0;
    out[to + 11] = additionals;
    to += headerBytes;
    for (let from = nameAt; from < questionEnd; from++) out[to++] = query[from] as number;
    // A signature is long enough for the call to pay.
    if (body.length > BODY_BYTES_BY_LOOP) {
      out.set(body, to);
      to += body.length;
    } else for (let from = 0; from < body.length; from++) out[to++] = body[from] as number;
    if (additionals === 1) {
      out[to] = 0;
      out[to + 1] = 0;
      out[to + 2] = dnsTypes.OPT;
      out[to + 3] = udpPayloadBytesMax >> 8;
      out[to + 4] = udpPayloadBytesMax & 0xff;
      out[to + 5] = 0;
      out[to + 6] = 0;
      out[to + 7] = (query[questionEnd + 7] as number) & 0x80; // DO
      out[to + 8] = 0;
      out[to + 9] = 0;
      out[to + 10] = ecsBytes + cookieBytes;
      to += OPT_BYTES;
      if (hasEcs) {
        // The option as it came (RFC 7871 section 7.2.1), but for the scope.
        for (let from = ecsAt - 4; from < ecsAt - 4 + ecsBytes; from++) out[to++] = query[from] as number;
        out[to - ecsBytes + 7] = scope;
      }
      if (answerCookie !== undefined) {
        out[to] = 0;
        out[to + 1] = ednsOptionCodes.COOKIE;
        out[to + 2] = 0;
        out[to + 3] = answerCookie.length;
        to += 4;
        for (let from = 0; from < answerCookie.length; from++) out[to++] = answerCookie[from] as number;
      }
    }
    this.#counters.add(template.tally, hasEcs);
    this.lastScope = hasEcs ? scope : -1;
    this.lastEcsAt = ecsAt > 0 ? ecsAt : 0;
    this.lastReply = template;
    this.lastCookie = cookie;
    this.lastName = number;
    this.lastQuestionBytes = questionEnd - nameAt;
    return to - outAt;
  }

  /** Cuts the answer that {@link answer} has just written to its TC form (RFC 2181 section 9); the OPT record stays. */
  truncate(out: Uint8Array, outAt: number, length: number): number {
    const bodyBytes = this.lastReply?.body.length ?? 0;
    const bodyAt = outAt + headerBytes + this.lastQuestionBytes;
    out.copyWithin(bodyAt, bodyAt + bodyBytes, outAt + length);
    (out[outAt + 2] as number) |= 0x02;
    out[outAt + 7] = 0;
    out[outAt + 9] = 0;
    return length - bodyBytes;
  }

  /**
   * Reads the OPT record between `at` and `end`, which it must fill.
   *
   * @returns where the data of its client subnet begins, 0 when there is none, -1: not for this path
   */
  #readOpt(query: Uint8Array, at: number, end: number): number {
    if (at + OPT_BYTES > end) return -1;
    if (query[at] !== 0 || query[at + 1] !== 0 || query[at + 2] !== dnsTypes.OPT) return -1;
    // Extended rcode and version 0; of the flags only DO is known.
    if ((query[at + 5] as number) | (query[at + 6] as number)) return -1;
    if (((query[at + 7] as number) & 0x7f) | (query[at + 8] as number)) return -1;
    const length = ((query[at + 9] as number) << 8) | (query[at + 10] as number);
    if (at + OPT_BYTES + length !== end) return -1;
    if (length === 0) return 0;
    // Its options fill it: at most one client subnet, at most one cookie, each of a length that fits one octet.
    let ecsAt = 0;
    for (let option = at + OPT_BYTES; option < end; ) {
      if (option + 4 > end || query[option] !== 0 || query[option + 2] !== 0) return -1;
      const data = option + 4;
      const next = data + (query[option + 3] as number);
      if (next > end) return -1;
      const code = query[option + 1];
      if (code === ednsOptionCodes.ECS && ecsAt === 0 && this.#isClientSubnet(query, data, next))
        ecsAt = data;
      else if (code === ednsOptionCodes.COOKIE && this.#cookieAt === 0 && this.#cookies !== undefined) {
        this.#cookieAt = data;
        this.#cookieEnd = next;
      } else return -1;
      option = next;
    }
    return ecsAt;
  }

  #isClientSubnet(query: Uint8Array, data: number, end: number): boolean {
    if (end - data < ECS_FIXED_BYTES) return false;
    const family = query[data + 1] as number;
    const source = query[data + 2] as number;
    if (query[data] !== 0 || query[data + 3] !== 0 || family > 2) return false;
    if (source > (family === 1 ? 32 : family === 2 ? 128 : 0)) return false;
    if (end - data !== ECS_FIXED_BYTES + ((source + 7) >>> 3)) return false;
    const tailBits = -source & 7;
    return tailBits === 0 || ((query[end - 1] as number) & ((1 << tailBits) - 1)) === 0;
  }

  /** Puts the address of a client subnet into `#client`. */
  #readClient(query: Uint8Array, ecsAt: number, source: number): IpFamily {
    const client = this.#client;
    for (let word = 0; word < 4; word++) client[word] = 0;
    const bytes = (source + 7) >>> 3;
    for (let index = 0; index < bytes; index++)
      (client[index >>> 2] as number) |=
        (query[ecsAt + ECS_FIXED_BYTES + index] as number) << (24 - 8 * (index & 3));
    return query[ecsAt + 1] === 1 ? 4 : 6;
  }

  /** @param client family of the client subnet that was told, 0: none */
  #lookup(table: ChoiceTable, client: IpFamily | 0, resolver: ResolverWords): number {
    return client === 0
      ? table.lookupResolver(resolver.family, resolver.words)
      : table.lookupBehind(resolver.family, resolver.words, client, this.#client);
  }

  #hasHttps(number: number): boolean {
    return (this.#templates[number] as NameTemplates).node.property?.httpsRecord !== undefined;
  }

  #tableOf(number: number, type: number): ChoiceTable {
    let tables = this.#tables[number];
    if (tables === undefined) {
      const context = this.#context as DnsContext;
      const { property } = (this.#templates[number] as NameTemplates).node;
      if (property === undefined) throw new Error("A host name without a property among those of properties");
      tables = { ipv4: choiceTableOf(context, property, 4), ipv6: choiceTableOf(context, property, 6) };
      this.#tables[number] = tables;
    }
    return type === dnsTypes.A ? tables.ipv4 : tables.ipv6;
  }

  #isSigned(number: number): boolean {
    return (this.#templates[number] as NameTemplates).signed !== undefined;
  }

  #askPolicy(
    number: number,
    policy: CompiledPolicy,
    type: number,
    query: Uint8Array,
    at: number,
    client: IpFamily | 0,
    source: number,
    resolver: ResolverWords,
    epochSeconds: number,
  ): PolicyChoice {
    // Views of what the caller uses again for each query: a new one would cost more than the choice.
    if (resolver.words !== this.#resolver) {
      this.#resolver = resolver.words;
      this.#resolver4 = resolver.words.subarray(0, 1);
    }
    const words = resolver.family === 4 ? this.#resolver4 : this.#resolver;
    const told = client === 0 ? undefined : client === 4 ? this.#client4 : this.#client;
    const templates = this.#templates[number] as NameTemplates;
    const facts = (templates.facts ??= policyFacts(this.#context as DnsContext, policy));
    const asked: PolicyQuery = {
      family: type === dnsTypes.A ? 4 : 6,
      client:
        told === undefined ? { family: resolver.family, words } : { family: client as IpFamily, words: told },
      sourcePrefixLength: told === undefined ? addressBits(resolver.family) : source,
      isResolver: told === undefined,
      draw: drawOf(((query[at] as number) << 8) | (query[at + 1] as number), words, epochSeconds),
    };
    return decidePolicy(policy, asked, facts);
  }

  /** By what is handed out, in its order. */
  #policyTemplateOf(
    number: number,
    type: number,
    choice: PolicyChoice,
    seconds: number,
  ): Template | undefined {
    const { name, node, policies } = this.#templates[number] as NameTemplates;
    const { addresses, reason } = choice;
    const kind =
      (policyReasons.indexOf(reason) * 2 + (type === dnsTypes.A ? 0 : 1)) * 2 + (seconds < 0 ? 0 : 1);
    const key =
      addresses.length < 2
        ? ((addresses[0] ?? -1) + 1) * POLICY_KINDS + kind
        : `${kind} ${addresses.join(" ")}`;
    const known = policies.get(key);
    if (known !== undefined && isGood(known, seconds)) return known;
    const context = this.#context as DnsContext;
    const reply = this.#unlessItThrows(seconds, (at) => replyOfPolicy(context, name, node, type, choice, at));
    if (reply === undefined) return undefined;
    if (policies.size >= POLICY_TEMPLATES_MAX) policies.clear();
    const template: Template = {
      ...reply,
      madeAtSeconds: seconds,
      tally: this.#counters.tallyOf(reply, "udp"),
    };
    policies.set(key, template);
    return template;
  }

  /** @param seconds the time, for one with signatures; -1: without */
  #templateOf(number: number, type: number, choiceNumber: number, seconds: number): Template | undefined {
    const all = this.#templates[number] as NameTemplates;
    const templates = seconds < 0 ? all : (all.signed as SignedTemplates);
    const known =
      type === dnsTypes.A ? templates.ipv4 : type === dnsTypes.AAAA ? templates.ipv6 : templates.https;
    const template = Array.isArray(known) ? known[choiceNumber] : known.get(choiceNumber);
    if (template !== undefined && isGood(template, seconds)) return template;
    return this.#makeTemplate(number, type, choiceNumber, known, seconds);
  }

  #makeTemplate(
    number: number,
    type: number,
    choiceNumber: number,
    known: Template[] | Map<number, Template>,
    seconds: number,
  ): Template | undefined {
    const { name, node } = this.#templates[number] as NameTemplates;
    const choiceOf = (of: number, place: number): ClusterChoice | undefined =>
      this.#tableOf(number, of).choices[place];
    let choice: ClusterChoice | undefined;
    let other: ClusterChoice | undefined;
    if (type !== dnsTypes.HTTPS) choice = choiceOf(type, choiceNumber);
    else if (this.#hasHttps(number)) {
      choice = choiceOf(dnsTypes.A, Math.floor(choiceNumber / CHOICES));
      other = choiceOf(dnsTypes.AAAA, choiceNumber % CHOICES);
    }
    const reply = this.#replyOf(name, node, type, choice, other, seconds);
    if (reply === undefined) return undefined;
    const template: Template = {
      ...reply,
      madeAtSeconds: seconds,
      tally: this.#counters.tallyOf(reply, "udp"),
    };
    if (Array.isArray(known)) known[choiceNumber] = template;
    else known.set(choiceNumber, template);
    return template;
  }

  #replyOf(
    name: DomainName,
    node: ZoneNode,
    type: number,
    choice: ClusterChoice | undefined,
    other: ClusterChoice | undefined,
    seconds: number,
  ): ChoiceReply | undefined {
    const context = this.#context as DnsContext;
    return this.#unlessItThrows(seconds, (at) => replyOfChoice(context, name, node, type, choice, other, at));
  }

  /** @param make is given the time of signatures; undefined: without */
  #unlessItThrows(
    seconds: number,
    make: (signedAtSeconds?: number) => ChoiceReply | undefined,
  ): ChoiceReply | undefined {
    if (seconds < 0) return make();
    try {
      return make(seconds);
    } catch {
      // A key that cannot sign: `respond` meets the same, and there it is told and counted.
      return undefined;
    }
  }
}

/** With a clock that jumped back the signatures may be of the future. */
function isGood({ renewAtSeconds, madeAtSeconds }: Template, seconds: number): boolean {
  return seconds < 0 || (seconds < renewAtSeconds && seconds >= madeAtSeconds);
}
