/** `npm run lab -- dns-flood`: random names at several times what a name server can answer; what becomes of the resolvers that it knows. */
import { type ChildProcess, fork } from "node:child_process";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { loadavg } from "node:os";
import { connect } from "node:net";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { setTimeout as pause } from "node:timers/promises";
import { readMessage } from "../../mapping/core/dns/wire.ts";
import { describeCommit, describeMachine } from "../bench/tools/machine.ts";
import { wholeNumber } from "../tools/flags.ts";
import type { FloodFigures, FloodOrder } from "../tools/dns-flood/generator.ts";
import { startIsochrone } from "../tools/processes.ts";
import { hex, query } from "../unit/mapping-dns/fixture.ts";

export const summary =
  "a flood of random names at five times the capacity: queries of known resolvers that were answered, and how fast";

const HELP = `Usage: npm run lab -- dns-flood [options]

${summary}. One name server, one process. First what it can answer of such names is measured by the same generator, at
rates that double until they bring no more; then
resolvers that have shown a cookie or come over TCP ask for host names (four in five) and for names that are not there,
first alone, then beside the flood. No query is asked twice. Exit code 1: fewer than 99 % were answered, the 99th
percentile was over 50 ms, or the flood was less than asked for.

  --times N      the flood, in times of the capacity (default 5)
  --seconds N    length of the flood (default 15)
  --resolvers N  known ones, each at its own address (default 200)
  --rate N       queries a second of all of them (default 500)
  --help
`;

const ZONE = "shop.example";
const STRANGERS = 256;
const STEP_SECONDS = 2;
const FIRST_RATE = 10_000;
/** Twice as much is offered each time, until it brings so much more no longer. */
const MORE_RATIO = 1.2;
const ANSWER_TIMEOUT_MS = 2_000;
const TICK_MS = 5;
const ANSWERED_MIN = 0.99;
const P99_MS_MAX = 50;

/** Everything that resolvers ask; ids of one socket come round long after the answer or the end. */
class Resolver {
  readonly socket: Socket;
  readonly #waiting = new Map<number, number>();
  readonly #port: number;
  #nextId = 0;
  cookie: Uint8Array | undefined;
  sent = 0;
  readonly tookMs: number[] = [];

  constructor(socket: Socket, port: number) {
    this.socket = socket;
    this.#port = port;
    socket.on("message", (bytes) => {
      const sentMs = this.#waiting.get(bytes.readUInt16BE(0));
      if (sentMs === undefined || !this.#waiting.delete(bytes.readUInt16BE(0))) return;
      const read = readMessage(bytes);
      this.cookie ??= read.ok ? read.message.edns?.options.find(({ code }) => code === 10)?.data : undefined;
      // What was cut to TC is no answer.
      if (read.ok && !read.message.header.isTruncated) this.tookMs.push(performance.now() - sentMs);
    });
  }

  ask(n: number): void {
    const id = this.#nextId++ & 0xffff;
    const name = n % 5 === 0 ? `typo${n}.${ZONE}` : `www.${ZONE}`;
    const options = this.cookie === undefined ? {} : { options: [{ code: 10, data: this.cookie }] };
    this.#waiting.set(id, performance.now());
    this.sent++;
    this.socket.send(query({ id, name, ...options }), this.#port, "127.0.0.1");
  }

  forget(): void {
    this.#waiting.clear();
    this.sent = 0;
    this.tookMs.length = 0;
  }
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      times: { type: "string", default: "5" },
      seconds: { type: "string", default: "15" },
      resolvers: { type: "string", default: "200" },
      rate: { type: "string", default: "500" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const times = wholeNumber("times", values.times, 1, 100);
  const seconds = wholeNumber("seconds", values.seconds, 1, 600);
  const resolvers = wholeNumber("resolvers", values.resolvers, 2, 10_000);
  const rate = wholeNumber("rate", values.rate, 1, 10_000);
  // Limits are on, since they are what knows resolvers, and so high that every answer could go out.
  const limits = ["--rate-limit", "1000000", "--surplus-limit", "1000000000"];
  const server = await startIsochrone(
    ["dns", "--world", "demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", ...limits],
    { env: { ISOCHRONE_CONTROL_TOKEN: "lab-flood", ISOCHRONE_LOG: "error" }, timeoutMs: 60_000 },
  );
  const generator = fork(join(import.meta.dirname, "..", "tools", "dns-flood", "generator.ts"));
  try {
    const port = Number(/:(\d+)\b/.exec(server.readyLine)?.[1]);
    const admin = /admin (\S+)/.exec(server.readyLine)?.[1] ?? "";
    const known = await knownResolvers(resolvers, port);
    const order = { port, zone: ZONE, addresses: STRANGERS };
    const capacityPerSecond = await capacityOf(admin, (ratePerSecond) =>
      floodBy(generator, { ...order, seconds: STEP_SECONDS, ratePerSecond }),
    );
    console.error(`dns-flood: ${Math.round(capacityPerSecond)} random names a second are answered`);
    const alone = await askBy(known, rate, pause(seconds * 500));
    const before = await countsAt(admin);
    const flood = floodBy(generator, { ...order, seconds, ratePerSecond: capacityPerSecond * times });
    const beside = await askBy(known, rate, flood);
    const sent = await flood;
    const after = await countsAt(admin);
    const floodTimes = sent.sent / sent.seconds / capacityPerSecond;
    for (const { socket } of known) socket.close();
    const result = {
      name: "dns-flood",
      date: new Date().toISOString(),
      commit: describeCommit(),
      machine: describeMachine(),
      loadAverage: loadavg()[0],
      options: { times, seconds, resolvers, rate },
      capacityPerSecond: Math.round(capacityPerSecond),
      flood: {
        sent: sent.sent,
        /** Of both the flood and the known. */
        namesAnswered: after.answered - before.answered,
        timesCapacity: Math.round(floodTimes * 100) / 100,
      },
      alone,
      beside,
      shed: { known: after.shedKnown - before.shedKnown, unknown: after.shedUnknown - before.shedUnknown },
    };
    console.log(JSON.stringify(result, undefined, 1));
    const isFlood = floodTimes >= times * 0.98;
    return isFlood && beside.answeredRatio >= ANSWERED_MIN && beside.p99Ms <= P99_MS_MAX ? 0 : 1;
  } finally {
    generator.kill("SIGKILL");
    await server.stop();
  }
}

/** The most answers a second that any rate brings: what is offered grows until it does not help. */
async function capacityOf(admin: string, flood: (rate: number) => Promise<FloodFigures>): Promise<number> {
  let most = 0;
  for (let rate = FIRST_RATE; ; rate *= 2) {
    const before = (await countsAt(admin)).answered;
    const { seconds } = await flood(rate);
    const perSecond = ((await countsAt(admin)).answered - before) / seconds;
    const isMore = perSecond > most * MORE_RATIO;
    most = Math.max(most, perSecond);
    if (!isMore) return most;
  }
}

async function floodBy(generator: ChildProcess, order: FloodOrder): Promise<FloodFigures> {
  generator.send(order);
  const [figures] = (await once(generator, "message")) as [FloodFigures];
  return figures;
}

/** Every other one shows a cookie from now on, the rest have come over TCP once. */
async function knownResolvers(count: number, port: number): Promise<readonly Resolver[]> {
  const known: Resolver[] = [];
  for (let n = 0; n < count; n++) {
    const address = `127.30.${n >> 8}.${n & 255 || 1}`;
    const socket = createSocket("udp4").bind(0, address);
    await once(socket, "listening");
    const resolver = new Resolver(socket, port);
    known.push(resolver);
    if (n % 2 === 0) {
      resolver.cookie = hex("0102030405060708");
      const answer = once(socket, "message");
      resolver.ask(1);
      resolver.cookie = undefined;
      await answer;
      continue;
    }
    const asked = query();
    const stream = connect({ port, host: "127.0.0.1", localAddress: address });
    stream.end(Buffer.concat([Buffer.from([0, asked.length]), asked]));
    stream.resume();
    await once(stream, "close");
  }
  return known;
}

/** Asks at the rate, over all in turn, until `end` resolves; waits for the answers. */
async function askBy(known: readonly Resolver[], rate: number, end: Promise<unknown>) {
  for (const one of known) one.forget();
  let isOn = true;
  const ended = end.then(() => {
    isOn = false;
  });
  const beganMs = performance.now();
  for (let sent = 0; isOn; ) {
    const due = Math.floor(((performance.now() - beganMs) * rate) / 1_000);
    for (; sent < due; sent++) known[sent % known.length]?.ask(Math.floor(sent / known.length));
    await pause(TICK_MS);
  }
  await ended;
  await pause(ANSWER_TIMEOUT_MS);
  const asked = known.reduce((sum, { sent }) => sum + sent, 0);
  const tookMs = known.flatMap((one) => one.tookMs).sort((a, b) => a - b);
  const at = (share: number): number =>
    Math.round((tookMs[Math.min(tookMs.length - 1, Math.floor(tookMs.length * share))] ?? 0) * 10) / 10;
  return {
    asked,
    answered: tookMs.length,
    answeredRatio: Math.round((tookMs.length / asked) * 10_000) / 10_000,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    mostMs: at(1),
  };
}

/** What the server has counted: names that do not exist, and what found no room to wait. */
async function countsAt(admin: string) {
  const text = await (await fetch(`${admin}/metrics`)).text();
  const sum = (pattern: RegExp): number =>
    [...text.matchAll(pattern)].reduce((total, [, count]) => total + Number(count), 0);
  return {
    answered: sum(/reason="no-such-name".*\} (\d+)/g),
    shedKnown: sum(/event="udp-shed-known"\} (\d+)/g),
    shedUnknown: sum(/event="udp-shed-unknown"\} (\d+)/g),
  };
}
