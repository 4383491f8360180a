/**
 * CPU of the UDP carrier on each side, a transfer and a packet, with batches of system calls and without, beside TLS 1.3 over TCP: all on loopback, where
 * nothing is lost. The server is a process of its own; the kinds take turns, so that a noisy minute hits all alike.
 */
import { type ChildProcess, fork } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { type AddressInfo } from "node:net";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { connect, createServer } from "node:tls";
import { UdpEndpoint } from "#transport";
import { makeCertificate } from "../tools/certificates.ts";
import { wholeNumber } from "../tools/flags.ts";
import { describeCommit, describeMachine } from "./tools/machine.ts";

export const summary = "CPU of the UDP carrier, batched and plain, beside TLS over TCP, on loopback";

const KINDS = ["udp", "udp-plain", "tls"] as const;
type Kind = (typeof KINDS)[number];

/** What is asked for in a round, and how many at once. */
const LOADS = [
  { bytes: 1_000_000, atOnce: 1, share: 1 },
  { bytes: 10_000, atOnce: 8, share: 50 },
  { bytes: 1_000, atOnce: 32, share: 200 },
] as const;
const HOST = "127.0.0.1";
const SERVER_NAME = "udp.test";

const help = `Usage: npm run bench -- link-udp-cpu [options]

${summary}. 1 MB by one at a time, 10 KB by 8, 1 KB by 32 at once.

  --transfers N  of 1 MB in a round; of 10 KB 50, of 1 KB 200 times as many (default 50)
  --rounds N     of each kind, in turns; the median counts (default 5)
  --only LIST    some of udp, udp-plain, tls (default all)
  --out FILE     the JSON to a file too
  --help
`;

/** Cumulative: CPU of the process, us, and datagrams that it sent and received. */
interface Usage {
  readonly microseconds: number;
  readonly datagrams: number;
}

interface Start {
  readonly secret: string;
  readonly cert: string;
  readonly key: string;
}

function usageOf(datagrams: number): Usage {
  const { user, system } = process.cpuUsage();
  return { microseconds: user + system, datagrams };
}

/** Answers each request of 4 bytes, a count, on the channel that it came by. */
async function serve(kind: Kind): Promise<void> {
  const [{ secret, cert, key }] = (await once(process, "message")) as [Start];
  let datagrams = (): number => 0;
  let port: number;
  if (kind === "tls") {
    const server = createServer({ cert, key, minVersion: "TLSv1.3", noDelay: true }, (socket) => {
      socket.on("data", (request) => socket.write(Buffer.alloc(request.readUInt32BE(0))));
      socket.on("error", () => socket.destroy());
    });
    server.listen(0, HOST);
    await once(server, "listening");
    port = (server.address() as AddressInfo).port;
  } else {
    const endpoint = await UdpEndpoint.bind(HOST, 0, { isPlain: kind === "udp-plain" });
    const link = endpoint.open({
      secret: Buffer.from(secret, "hex"),
      role: "server",
      address: HOST,
      port: 9,
      isRemoteValidated: false,
      onEvent: (event) => {
        if (event.kind === "data")
          link?.send(event.channel, Buffer.alloc(Buffer.from(event.bytes).readUInt32BE(0)));
      },
    });
    datagrams = () => (link?.counters.sentPackets ?? 0) + (link?.counters.receivedPackets ?? 0);
    port = endpoint.port;
  }
  process.on("message", () => process.send?.(usageOf(datagrams())));
  process.once("disconnect", () => process.exit(0));
  process.send?.(port);
}

/** Connections that carry one answer each at a time. */
interface Asker {
  readonly ask: (lane: number, bytes: number) => Promise<void>;
  readonly datagrams: () => number;
  readonly stop: () => unknown;
}

/** Waits for so many bytes on each lane. */
class Lanes {
  readonly #waiting = new Map<number, { left: number; readonly resolve: () => void }>();
  wait(lane: number, bytes: number): Promise<void> {
    return new Promise((resolve) => this.#waiting.set(lane, { left: bytes, resolve }));
  }
  came(lane: number, bytes: number): void {
    const waiting = this.#waiting.get(lane);
    if (waiting === undefined) return;
    waiting.left -= bytes;
    if (waiting.left <= 0) waiting.resolve();
  }
}

function request(bytes: number): Buffer {
  const request = Buffer.alloc(4);
  request.writeUInt32BE(bytes);
  return request;
}

async function udpAsker(port: number, secret: string, isPlain: boolean): Promise<Asker> {
  const lanes = new Lanes();
  const endpoint = await UdpEndpoint.bind(HOST, 0, { isPlain });
  if (endpoint.isBatched === isPlain) throw new Error("Datagrams cannot be sent in batches here");
  const link = endpoint.open({
    secret: Buffer.from(secret, "hex"),
    role: "client",
    address: HOST,
    port,
    isRemoteValidated: true,
    onEvent: (event) => {
      if (event.kind === "data") lanes.came(event.channel, event.bytes.length);
    },
  });
  return {
    ask: (lane, bytes) => {
      link?.send(lane, request(bytes));
      return lanes.wait(lane, bytes);
    },
    datagrams: () => (link?.counters.sentPackets ?? 0) + (link?.counters.receivedPackets ?? 0),
    stop: () => endpoint.close(),
  };
}

async function tlsAsker(port: number, ca: string): Promise<Asker> {
  const lanes = new Lanes();
  const sockets = await Promise.all(
    Array.from({ length: Math.max(...LOADS.map(({ atOnce }) => atOnce)) }, async (_, lane) => {
      const socket = connect({ host: HOST, port, ca, servername: SERVER_NAME });
      socket.setNoDelay(true);
      await once(socket, "secureConnect");
      socket.on("data", (bytes) => lanes.came(lane, bytes.length));
      return socket;
    }),
  );
  return {
    ask: (lane, bytes) => {
      sockets[lane]?.write(request(bytes));
      return lanes.wait(lane, bytes);
    },
    datagrams: () => 0,
    stop: () => sockets.forEach((socket) => socket.destroy()),
  };
}

interface Round {
  readonly clientMicroseconds: number;
  readonly serverMicroseconds: number;
  /** Both sides' packets, each counted where it was sent and where it came, a transfer. */
  readonly datagrams: number;
}

class Contender {
  readonly kind: Kind;
  readonly rounds = LOADS.map((): Round[] => []);
  readonly #child: ChildProcess;
  readonly #asker: Asker;

  private constructor(kind: Kind, child: ChildProcess, asker: Asker) {
    this.kind = kind;
    this.#child = child;
    this.#asker = asker;
  }

  static async start(kind: Kind): Promise<Contender> {
    const child = fork(join(import.meta.dirname, "run.ts"), ["link-udp-cpu", "--serve", kind]);
    const secret = randomBytes(32).toString("hex");
    const { certPem: cert, keyPem: key } = makeCertificate({ names: [SERVER_NAME] });
    child.send({ secret, cert, key } satisfies Start);
    const [port] = (await once(child, "message")) as [number];
    const asker = await (kind === "tls"
      ? tlsAsker(port, cert)
      : udpAsker(port, secret, kind === "udp-plain"));
    return new Contender(kind, child, asker);
  }

  async run(transfers: number, isCounted: boolean): Promise<void> {
    for (const [index, { bytes, atOnce, share }] of LOADS.entries()) {
      const count = transfers * share;
      const [serverBefore, before] = [await this.#serverUsage(), usageOf(this.#asker.datagrams())];
      let left = count;
      const lane = async (number: number): Promise<void> => {
        while (left-- > 0) await this.#asker.ask(number, bytes);
      };
      await Promise.all(Array.from({ length: atOnce }, (_, number) => lane(number)));
      const [after, serverAfter] = [usageOf(this.#asker.datagrams()), await this.#serverUsage()];
      if (!isCounted) continue;
      this.rounds[index]?.push({
        clientMicroseconds: (after.microseconds - before.microseconds) / count,
        serverMicroseconds: (serverAfter.microseconds - serverBefore.microseconds) / count,
        datagrams:
          (after.datagrams - before.datagrams + serverAfter.datagrams - serverBefore.datagrams) / count,
      });
    }
  }

  async #serverUsage(): Promise<Usage> {
    this.#child.send("usage");
    const [usage] = (await once(this.#child, "message")) as [Usage];
    return usage;
  }

  async stop(): Promise<void> {
    await this.#asker.stop();
    this.#child.disconnect();
  }
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;
}
const tenth = (value: number): number => Math.round(value * 10) / 10;

function rowOf(kind: Kind, bytes: number, rounds: readonly Round[]) {
  const clientMicroseconds = tenth(median(rounds.map((round) => round.clientMicroseconds)));
  const serverMicroseconds = tenth(median(rounds.map((round) => round.serverMicroseconds)));
  const datagrams = tenth(median(rounds.map((round) => round.datagrams)));
  return {
    kind,
    bytes,
    clientMicroseconds,
    serverMicroseconds,
    datagrams,
    ...(datagrams > 0 && {
      microsecondsADatagram: tenth((clientMicroseconds + serverMicroseconds) / datagrams),
    }),
  };
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      transfers: { type: "string", default: "50" },
      rounds: { type: "string", default: "5" },
      only: { type: "string", default: KINDS.join() },
      out: { type: "string" },
      serve: { type: "string" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true) {
    console.log(help);
    return 0;
  }
  const serving = KINDS.find((kind) => kind === values.serve);
  if (serving !== undefined) {
    await serve(serving);
    return await new Promise<number>(() => {});
  }
  const transfers = wholeNumber("transfers", values.transfers, 1, 100_000);
  const rounds = wholeNumber("rounds", values.rounds, 1, 100);
  const contenders: Contender[] = [];
  try {
    for (const kind of KINDS.filter((one) => values.only.split(",").includes(one)))
      contenders.push(await Contender.start(kind));
    for (const one of contenders) await one.run(Math.ceil(transfers / 5), false);
    for (let round = 0; round < rounds; round++) for (const one of contenders) await one.run(transfers, true);
  } finally {
    await Promise.all(contenders.map((one) => one.stop()));
  }
  const rows = LOADS.flatMap(({ bytes }, index) =>
    contenders.map(({ kind, rounds: all }) => rowOf(kind, bytes, all[index] as Round[])),
  );
  for (const row of rows) console.error(JSON.stringify(row));
  const text = JSON.stringify(
    {
      name: "link-udp-cpu",
      machine: describeMachine(),
      commit: describeCommit(),
      setting: { transfers, rounds },
      rows,
    },
    undefined,
    1,
  );
  console.log(text);
  if (values.out !== undefined) writeFileSync(values.out, `${text}\n`);
  return 0;
}
