/**
 * What signing costs: answers a CPU-second from octets to octets (strict reading, ECS, map, counters; no socket), without signatures, with
 * ones that are there, and with ones that are made. Every answer's signature is looked for before it is counted.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { loadavg } from "node:os";
import { dirname } from "node:path";
import { parseArgs } from "node:util";
import { type IpAddress, type PropertyDocument, propertyDocument, Random } from "#kit";
import { createLogger } from "#kit/io";
import { DnsCounters, DnsHandler, DnsState, newSignedZone } from "#mapping";
import { ResponseRateLimit } from "../../mapping/core/dns/rate-limit.ts";
import { readMessage } from "../../mapping/core/dns/wire.ts";
import { dnsTypes } from "../../mapping/core/dns/constants.ts";
import { wholeNumber } from "../tools/flags.ts";
import { drawDeployment, ZONE } from "./name-servers/deployment.ts";
import { queryBytes } from "./name-servers/queries.ts";
import { cpuSecondsOf } from "./tools/cpu.ts";
import { describeCommit, describeMachine } from "./tools/machine.ts";

export const summary = "answers a CPU-second with signatures: made, kept, and none; answers and denials";

const HELP = `Usage: npm run bench -- dnssec [options]

${summary}

  --names N       host names, and names that do not exist, asked once each when cold (default 20000)
  --warm N        queries of the warm and the unsigned loads (default 500000)
  --rounds N      how often each is measured; the median counts (default 3)
  --networks N    client networks (default 10000)
  --out FILE      keep the JSON there too
  --help
`;

const SEED = 20261126;
const CLUSTERS = 30;
const HOSTNAMES_A_PROPERTY = 100;
const ANSWER_BYTES_MAX = 1_300;
const DO_BIT = 0x80;
const DNS_PORT = 53;
/** The newest denials that are asked again: so many that their signatures are surely kept beside those of the answers. */
const KEPT_DENIALS = 10_000;
const RESOLVER: IpAddress = { family: 4, words: [0x0b000001] };

/** Host names enough for every one to be asked for the first time once. */
function propertiesOf(count: number): PropertyDocument[] {
  return Array.from({ length: Math.ceil(count / HOSTNAMES_A_PROPERTY) }, (_, p) =>
    propertyDocument.parse({
      propertyId: `p${p}`,
      customerId: "bench",
      hostnames: Array.from({ length: HOSTNAMES_A_PROPERTY }, (_unused, h) => `h${h}.p${p}.${ZONE}`),
      origins: [{ scheme: "http", host: "127.0.0.1", port: 80 }],
    }),
  );
}

class Bench {
  readonly #out = new Uint8Array(ANSWER_BYTES_MAX);
  readonly #sender = { family: 4 as const, words: Uint32Array.of(0x0b000001, 0, 0, 0), port: 5_353 };

  /** A server with empty stores. */
  start(
    deployment: ReturnType<typeof drawDeployment>,
    properties: readonly PropertyDocument[],
    isSigned: boolean,
  ) {
    const peerKey = Buffer.alloc(32, 7);
    const state = new DnsState(() => true, peerKey);
    state.setTopology(deployment.topology, 1);
    for (const property of properties) state.setProperty(property, 1);
    state.setMap(deployment.snapshot);
    if (isSigned) {
      const { keys, zone } = newSignedZone(ZONE, peerKey);
      const times = {
        dnskeyTtlSeconds: 3_600,
        zoneTtlSecondsMax: 3_600,
        dsTtlSeconds: 3_600,
        propagationSeconds: 60,
      };
      state.setKeys({ name: deployment.topology.name, zones: [{ zone, keys: [...keys], ...times }] }, 1);
    }
    const handler = new DnsHandler({
      context: () => state.context(),
      counters: new DnsCounters(),
      logger: createLogger({ role: "bench", id: "dnssec" }, { level: "error" }),
      service: {},
      rateLimit: new ResponseRateLimit({ perSecond: 0, slip: 0, seed: 0 }),
    });
    const ask = (query: Uint8Array): number =>
      handler.answerUdp(query, 0, query.length, this.#sender, this.#out, 0);
    /** Over TCP, where new denials have no limit. */
    const askTcp = (query: Uint8Array): number => {
      const answer = handler.answerTcp(query, RESOLVER, DNS_PORT, "tcp");
      // Several messages are a transfer, and nobody asks for one.
      if (!(answer instanceof Uint8Array)) return 0;
      this.#out.set(answer);
      return answer.length;
    };
    return { ask, askTcp, state };
  }

  /** RRSIG records in the last answer, of `length` octets; -1: it is cut or no answer. */
  signatures(length: number): number {
    const read = readMessage(this.#out.subarray(0, length));
    if (!read.ok || read.message.header.isTruncated) return -1;
    const { answers, authorities } = read.message;
    return [...answers, ...authorities].filter(({ type }) => type === dnsTypes.RRSIG).length;
  }
}

function withDo(query: Buffer, optionBytes: number): Buffer {
  const bytes = Buffer.from(query);
  bytes[bytes.length - optionBytes - 4] = DO_BIT;
  return bytes;
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] as number;

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      names: { type: "string", default: "20000" },
      warm: { type: "string", default: "500000" },
      rounds: { type: "string", default: "3" },
      networks: { type: "string", default: "10000" },
      out: { type: "string" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  const names = wholeNumber("names", values.names, 100, 1_000_000);
  const warm = wholeNumber("warm", values.warm, 1_000, 100_000_000);
  const rounds = wholeNumber("rounds", values.rounds, 1, 100);
  const networks = wholeNumber("networks", values.networks, 10, 200_000);
  const deployment = drawDeployment({ networks, clusters: CLUSTERS, seed: SEED, port: 80, dnsPort: 53 });
  const properties = propertiesOf(names);
  const hostnames = properties.flatMap((one) => one.hostnames).slice(0, names);
  const random = new Random(SEED);
  const query = (name: string, isSigned: boolean): Buffer => {
    const ecs = random.pick(deployment.networks);
    const plain = queryBytes({ id: random.int(65_536), name, type: dnsTypes.A, ecs, hasEdns: true });
    return isSigned ? withDo(plain, 8 + ecs.ecsOctets.length) : plain;
  };
  const few = deployment.hostnames;
  const warmQueries = (isSigned: boolean): Buffer[] =>
    Array.from({ length: 65_536 }, () => query(random.pick(few), isSigned));
  const absent = Array.from({ length: names }, (_, n) => query(`x${n}.absent.${ZONE}`, true));
  const keptAbsent = absent.slice(-KEPT_DENIALS);
  const absentPlain = Array.from({ length: names }, (_, n) => query(`x${n}.absent.${ZONE}`, false));
  const once = hostnames.map((name) => query(name, true));
  const plainQueries = warmQueries(false);
  const signedQueries = warmQueries(true);

  const bench = new Bench();
  const rates: Record<string, number[]> = {};
  let wrong = 0;
  const measure = (
    label: string,
    ask: (query: Uint8Array) => number,
    queries: readonly Uint8Array[],
    count: number,
    signatures: number,
  ): void => {
    const first = bench.signatures(ask(queries[queries.length - 1] as Uint8Array));
    const { seconds } = cpuSecondsOf(() => {
      for (let n = 0; n < count; n++) if (ask(queries[n % queries.length] as Uint8Array) === 0) wrong++;
    });
    if (first !== signatures) {
      wrong++;
      console.error(`${label}: ${first} signatures in an answer, expected ${signatures}`);
    }
    (rates[label] ??= []).push(count / seconds);
  };
  let figures = {};
  for (let round = 0; round < rounds; round++) {
    const unsigned = bench.start(deployment, [...deployment.properties, ...properties], false);
    const signed = bench.start(deployment, [...deployment.properties, ...properties], true);
    for (const one of plainQueries.slice(0, 20_000)) unsigned.ask(one);
    for (const one of signedQueries) signed.ask(one);
    measure("unsigned answers", unsigned.ask, plainQueries, warm, 0);
    measure("signed answers, warm", signed.ask, signedQueries, warm, 1);
    measure("signed answers, cold", signed.ask, once, names - 1, 1);
    measure("unsigned denials", unsigned.askTcp, absentPlain, names - 1, 0);
    measure("signed denials, cold", signed.askTcp, absent, names - 1, 2);
    measure("signed denials, warm", signed.askTcp, keptAbsent, names - 1, 2);
    figures = signed.state.signing;
    console.error(`round ${round + 1} of ${rounds}: ${JSON.stringify(figures)}`);
  }
  const perCpuSecond = Object.fromEntries(
    Object.entries(rates).map(([label, all]) => [
      label,
      {
        median: Math.round(median(all)),
        least: Math.round(Math.min(...all)),
        most: Math.round(Math.max(...all)),
      },
    ]),
  );
  const of = (label: string): number => median(rates[label] ?? [0]);
  const result = {
    bench: "dnssec",
    commit: describeCommit(),
    machine: describeMachine(),
    loadAverage: loadavg()[0],
    setting: { names, warm, rounds, networks, clusters: CLUSTERS },
    perCpuSecond,
    warmToUnsigned: {
      answers: of("signed answers, warm") / of("unsigned answers"),
      denials: of("signed denials, warm") / of("unsigned denials"),
    },
    signatures: figures,
    wrong,
  };
  const text = JSON.stringify(result, undefined, 2);
  if (values.out !== undefined) {
    mkdirSync(dirname(values.out), { recursive: true });
    writeFileSync(values.out, `${text}\n`);
  }
  console.log(text);
  return wrong > 0 ? 1 : 0;
}
