/** `npm run lab -- dns-replace`: a name server's workers are replaced again and again under load; what is lost is counted at the clients. */
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { connect } from "node:net";
import { parseArgs } from "node:util";
import { setTimeout as pause } from "node:timers/promises";
import { readMessage } from "../../mapping/core/dns/wire.ts";
import { describeCommit, describeMachine } from "../bench/tools/machine.ts";
import { wholeNumber } from "../tools/flags.ts";
import { startIsochrone } from "../tools/processes.ts";
import { query } from "../unit/mapping-dns/fixture.ts";

export const summary = "a name server's workers are replaced under load: queries that were lost (goal: none)";

const HELP = `Usage: npm run lab -- dns-replace [options]

${summary}. Exit code 1: one was lost, or fewer workers than asked for were replaced in time.

  --replacements N  workers replaced (default 18)
  --workers N       workers of the server, 2 to 16 (default 2)
  --seconds N       how long the replacements may take together (default 20)
  --rate N          queries a second over UDP, none of them asked twice (default 2000)
  --help
`;

/** Each has ports of its own, so that the kernel spreads them over the workers; a query waits this long at most. */
const CLIENTS = 64;
const ANSWER_TIMEOUT_MS = 5_000;
const TICK_MS = 5;
const TCP_PAUSE_MS = 50;

interface Findings {
  sent: number;
  answered: number;
  wrong: number;
  slowestMs: number;
  tcpAsked: number;
  tcpLost: number;
}

/** Queries that wait, by id; ids of one socket are not used again before the answer or the end. */
class Client {
  readonly #waiting = new Map<number, number>();
  readonly #findings: Findings;
  readonly #socket: Socket;
  readonly #port: number;
  #nextId = 0;

  constructor(socket: Socket, port: number, findings: Findings) {
    this.#socket = socket;
    this.#port = port;
    this.#findings = findings;
    socket.on("message", (bytes) => this.#take(bytes));
  }

  ask(): void {
    const id = this.#nextId++ & 0xffff;
    this.#waiting.set(id, performance.now());
    this.#findings.sent++;
    this.#socket.send(query({ id, name: "www.shop.example" }), this.#port, "127.0.0.1");
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  #take(bytes: Buffer): void {
    const sentMs = this.#waiting.get(bytes.readUInt16BE(0));
    if (sentMs === undefined || !this.#waiting.delete(bytes.readUInt16BE(0))) return;
    const read = readMessage(bytes);
    if (!read.ok || read.message.answers.length === 0) this.#findings.wrong++;
    this.#findings.answered++;
    this.#findings.slowestMs = Math.max(this.#findings.slowestMs, performance.now() - sentMs);
  }

  close(): void {
    this.#socket.close();
  }
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      replacements: { type: "string", default: "18" },
      workers: { type: "string", default: "2" },
      seconds: { type: "string", default: "20" },
      rate: { type: "string", default: "2000" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const replacements = wholeNumber("replacements", values.replacements, 1, 1_000);
  const workers = wholeNumber("workers", values.workers, 2, 16);
  const seconds = wholeNumber("seconds", values.seconds, 1, 3_600);
  const rate = wholeNumber("rate", values.rate, 1, 100_000);
  const findings: Findings = { sent: 0, answered: 0, wrong: 0, slowestMs: 0, tcpAsked: 0, tcpLost: 0 };
  const server = await startIsochrone(
    [
      "dns",
      "--world",
      "demo",
      "--listen",
      "127.0.0.1:0",
      "--admin",
      "127.0.0.1:0",
      "--workers",
      String(workers),
      "--rate-limit",
      "0",
      "--surplus-limit",
      "0",
    ],
    {},
  );
  let replaced = 0;
  let tookSeconds = 0;
  try {
    const port = Number(/:(\d+)\b/.exec(server.readyLine)?.[1]);
    const admin = /admin (\S+)/.exec(server.readyLine)?.[1] ?? "";
    const clients = await Promise.all(
      Array.from({ length: CLIENTS }, async () => {
        const socket = createSocket("udp4").bind(0, "127.0.0.1");
        await once(socket, "listening");
        return new Client(socket, port, findings);
      }),
    );
    let isOn = true;
    const load = loadBy(clients, rate, () => isOn);
    const tcp = tcpLoad(port, findings, () => isOn);
    const beganMs = performance.now();
    for (let before = 0; replaced < replacements; ) {
      process.kill(server.pid, "SIGHUP");
      for (before += workers; replaced < before; replaced = await replacedAt(admin)) {
        await pause(TICK_MS * 10);
        if (performance.now() - beganMs > 10 * seconds * 1_000)
          throw new Error("the workers are not replaced");
      }
    }
    tookSeconds = (performance.now() - beganMs) / 1_000;
    isOn = false;
    await Promise.all([load, tcp]);
    const untilMs = performance.now() + ANSWER_TIMEOUT_MS;
    while (clients.some(({ waiting }) => waiting > 0) && performance.now() < untilMs) await pause(TICK_MS);
    for (const client of clients) client.close();
  } finally {
    await server.stop();
  }
  const lost = findings.sent - findings.answered;
  const result = {
    name: "dns-replace",
    date: new Date().toISOString(),
    commit: describeCommit(),
    machine: describeMachine(),
    options: { replacements, workers, seconds, rate },
    replaced,
    tookSeconds: Math.round(tookSeconds * 10) / 10,
    ...findings,
    lost,
  };
  console.log(JSON.stringify(result, undefined, 1));
  const isGood = lost + findings.wrong + findings.tcpLost === 0 && tookSeconds <= seconds;
  return isGood ? 0 : 1;
}

/** Sends at the rate over all clients in turn; what was late is made up for, so the load does not ease while the machine is busy. */
async function loadBy(clients: readonly Client[], rate: number, isOn: () => boolean): Promise<void> {
  const beganMs = performance.now();
  for (let sent = 0; isOn(); ) {
    const due = Math.floor(((performance.now() - beganMs) * rate) / 1_000);
    for (const stop = Math.min(due, sent + rate); sent < stop; sent++) clients[sent % clients.length]?.ask();
    await pause(TICK_MS);
  }
}

/** One query for each connection; one that gets no answer is lost. */
async function tcpLoad(port: number, findings: Findings, isOn: () => boolean): Promise<void> {
  while (isOn()) {
    const asked = query({ name: "www.shop.example" });
    const socket = connect({ port, host: "127.0.0.1" });
    findings.tcpAsked++;
    try {
      socket.end(Buffer.concat([Buffer.from([0, asked.length]), asked]));
      const chunks: Buffer[] = [];
      for await (const chunk of socket) chunks.push(chunk as Buffer);
      const read = readMessage(Buffer.concat(chunks).subarray(2));
      if (!read.ok || read.message.answers.length === 0) findings.tcpLost++;
    } catch {
      findings.tcpLost++;
    }
    await pause(TCP_PAUSE_MS);
  }
}

async function replacedAt(admin: string): Promise<number> {
  const text = await (await fetch(`${admin}/metrics`)).text();
  return Number(/event="worker-replaced"\} (\d+)/.exec(text)?.[1] ?? 0);
}
