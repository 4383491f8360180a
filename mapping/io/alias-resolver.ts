/** Asks resolvers for what `AliasTable` wants to know: by UDP, by TCP where an answer is cut; never for a query that waits. */
import { randomInt } from "node:crypto";
import { type Clock, formatAddress, nameFromText } from "#kit";
import type { ListenAddress } from "#kit/io";
import { rcodes } from "../core/dns/constants.ts";
import { type DnsMessage, queryMessage } from "../core/dns/message.ts";
import { readMessage, writeMessage } from "../core/dns/wire.ts";
import {
  type AliasAnswers,
  type AliasHeard,
  type AliasQuestion,
  AliasTable,
} from "../core/zone/alias-table.ts";
import { askOverTcp, askOverUdp } from "./dns-exchange.ts";

const TIMEOUT_MS = 2_000;
const UNDER_WAY_MAX = 32;
const TRIES = 3;
/** How long no name and no address is believed where the answer has no SOA record. */
const NEGATIVE_TTL_SECONDS = 30;

export class AliasResolver {
  readonly #table = new AliasTable();
  readonly #clock: Clock;
  readonly #servers: readonly ListenAddress[];
  readonly #onAnswers: (answers: AliasAnswers) => void;
  #underWay = 0;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: {
    readonly clock: Clock;
    readonly servers: readonly ListenAddress[];
    /** Told of each change. */
    readonly onAnswers: (answers: AliasAnswers) => void;
  }) {
    this.#clock = options.clock;
    this.#servers = options.servers;
    this.#onAnswers = options.onAnswers;
  }

  setTargets(names: Iterable<string>, owners: ReadonlySet<string>): void {
    this.#table.setTargets(names, owners, this.#clock.monotonic());
    this.#turn();
  }

  get counters(): Readonly<Record<string, number>> {
    return { ...this.#table.counters, names: this.#table.size };
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  #turn(): void {
    if (this.#isClosed) return;
    const answers = this.#table.pollAnswers();
    if (answers !== undefined) this.#onAnswers(answers);
    const now = this.#clock.monotonic();
    while (this.#underWay < UNDER_WAY_MAX) {
      const question = this.#table.pollTransmit(now);
      if (question === undefined) break;
      void this.#ask(question);
    }
    clearTimeout(this.#timer);
    const dueAt = this.#table.pollTimeout();
    // With no room for more, the next answer makes the next turn.
    if (dueAt === undefined || this.#underWay >= UNDER_WAY_MAX) return;
    this.#timer = setTimeout(() => this.#turn(), Math.max(5, Math.ceil(dueAt - now)));
  }

  async #ask(question: AliasQuestion): Promise<void> {
    this.#underWay++;
    let heard: AliasHeard = { kind: "failed" };
    for (let tried = 0; tried < TRIES && heard.kind === "failed" && !this.#isClosed; tried++) {
      const server = this.#servers[tried % this.#servers.length];
      if (server !== undefined) heard = await askResolver(server, question);
    }
    this.#underWay--;
    this.#table.handleHeard(question.key, heard, this.#clock.monotonic());
    this.#turn();
  }
}

/** One question to one resolver. Never rejects. */
async function askResolver(server: ListenAddress, { name, type }: AliasQuestion): Promise<AliasHeard> {
  const domain = nameFromText(name);
  const id = randomInt(65_536);
  const edns = { udpPayloadBytes: 1_232, version: 0, isDnssecOk: false, options: [] };
  const query =
    domain && writeMessage(queryMessage({ id, name: domain, type, isRecursionDesired: true, edns }));
  if (query === undefined) return { kind: "failed" };
  const read = (bytes: Uint8Array): DnsMessage | undefined => {
    const message = readMessage(bytes);
    if (!message.ok || message.message.header.id !== id || !message.message.header.isResponse)
      return undefined;
    const [asked] = message.message.questions;
    return asked?.name.text === domain?.text && asked?.type === type ? message.message : undefined;
  };
  const { host, port } = server;
  const exchange = { host, port, query, read, timeoutMs: TIMEOUT_MS };
  const answer = await askOverUdp(exchange);
  const whole = answer?.header.isTruncated === true ? await askOverTcp(exchange) : answer;
  return whole === undefined ? { kind: "failed" } : heardOf(whole, type);
}

function heardOf({ header, answers, authorities }: DnsMessage, type: number): AliasHeard {
  if (header.rcode !== rcodes.NOERROR && header.rcode !== rcodes.NXDOMAIN) return { kind: "failed" };
  const found = answers.filter((one) => one.type === type && one.data.kind === "address");
  if (found.length > 0)
    return {
      kind: "addresses",
      addresses: found.flatMap(({ data }) => (data.kind === "address" ? [formatAddress(data.address)] : [])),
      ttlSeconds: Math.min(...answers.map(({ ttlSeconds }) => ttlSeconds)),
      chain: answers.flatMap(({ data }) => (data.kind === "name" ? [data.name.text] : [])),
    };
  const ttls = authorities.flatMap(({ data, ttlSeconds }) =>
    data.kind === "soa" ? [Math.min(ttlSeconds, data.soa.minimumSeconds)] : [],
  );
  return { kind: "nothing", ttlSeconds: ttls[0] ?? NEGATIVE_TTL_SECONDS };
}
