/** `npm run lab -- dns-replace`: a name server's workers are replaced again and again under load; what is lost is counted at the clients. */
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { connect } from "node:net";
import { parseArgs } from "node:util";
import { setTimeout as pause } from "node:timers/promises";
import { readMessage } from "../../mapping/core/dns/wire.ts";
import { describeCommit, describeMachine } from "../bench/tools/machine.ts";
import { wholeNumber } from "../tools/flags.ts";
import { freePort, type IsochroneProcess, startIsochrone, waitFor } from "../tools/processes.ts";
import { query } from "../unit/mapping-dns/fixture.ts";

export const summary = "a name server's workers are replaced under load: queries that were lost (goal: none)";

const HELP = `Usage: npm run lab -- dns-replace [options]

${summary}. Exit code 1: one was lost, or fewer workers than asked for were replaced in time.

  --replacements N  workers replaced (default 18)
  --workers N       workers of the server, 2 to 16 (default 2)
  --seconds N       how long the replacements may take together (default 20)
  --rate N          queries a second over UDP, none of them asked twice (default 2000)
  --without-lending  each server is a process with sockets of its own, started beside the one that it replaces, which is then
                    told to stop: what lending is for is what this loses; exit code 1 if it loses nothing
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
      "without-lending": { type: "boolean", default: false },
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
  const hasLending = !values["without-lending"];
  const servers = hasLending ? await LendingServer.start(workers) : await SeparateServers.start(workers);
  let replaced = 0;
  let tookSeconds = 0;
  try {
    const { port } = servers;
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
    while (replaced < replacements) {
      replaced += await servers.replaceAll();
      if (performance.now() - beganMs > 10 * seconds * 1_000) throw new Error("the servers are not replaced");
    }
    tookSeconds = (performance.now() - beganMs) / 1_000;
    isOn = false;
    await Promise.all([load, tcp]);
    const untilMs = performance.now() + ANSWER_TIMEOUT_MS;
    while (clients.some(({ waiting }) => waiting > 0) && performance.now() < untilMs) await pause(TICK_MS);
    for (const client of clients) client.close();
  } finally {
    await servers.stop();
  }
  const lost = findings.sent - findings.answered;
  const result = {
    name: "dns-replace",
    date: new Date().toISOString(),
    commit: describeCommit(),
    machine: describeMachine(),
    options: { replacements, workers, seconds, rate, hasLending },
    replaced,
    tookSeconds: Math.round(tookSeconds * 10) / 10,
    ...findings,
    lost,
  };
  console.log(JSON.stringify(result, undefined, 1));
  if (!hasLending) return lost + findings.tcpLost > 0 ? 0 : 1;
  const isGood = lost + findings.wrong + findings.tcpLost === 0 && tookSeconds <= seconds;
  return isGood ? 0 : 1;
}

const UNLIMITED = ["--world", "demo", "--rate-limit", "0", "--surplus-limit", "0"];
const REPLACE_TIMEOUT_MS = 60_000;

/** One server whose workers are replaced by SIGHUP. */
class LendingServer {
  readonly port: number;
  readonly #server: IsochroneProcess;
  readonly #admin: string;
  readonly #workers: number;
  #replaced = 0;

  private constructor(server: IsochroneProcess, workers: number) {
    this.#server = server;
    this.#workers = workers;
    this.port = portOf(server);
    this.#admin = /admin (\S+)/.exec(server.readyLine)?.[1] ?? "";
  }

  static async start(workers: number): Promise<LendingServer> {
    const admin = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    return new LendingServer(
      await startIsochrone(["dns", ...UNLIMITED, ...admin, "--workers", String(workers)]),
      workers,
    );
  }

  async replaceAll(): Promise<number> {
    const before = this.#replaced;
    this.#server.signal("SIGHUP");
    const isDone = async (): Promise<boolean> => {
      const text = await (await fetch(`${this.#admin}/metrics`)).text();
      this.#replaced = Number(/event="worker-replaced"\} (\d+)/.exec(text)?.[1] ?? 0);
      return this.#replaced >= before + this.#workers;
    };
    await waitFor(isDone, { timeoutMs: REPLACE_TIMEOUT_MS, what: "replacements" });
    return this.#replaced - before;
  }

  async stop(): Promise<void> {
    await this.#server.stop();
  }
}

/** Processes that share the port and nothing else. */
class SeparateServers {
  readonly port: number;
  #servers: IsochroneProcess[];

  private constructor(servers: IsochroneProcess[], port: number) {
    this.#servers = servers;
    this.port = port;
  }

  static async start(count: number): Promise<SeparateServers> {
    const port = await freePort();
    return new SeparateServers(
      await Promise.all(Array.from({ length: count }, () => separateAt(port))),
      port,
    );
  }

  async replaceAll(): Promise<number> {
    for (const [n, old] of this.#servers.entries()) {
      this.#servers[n] = await separateAt(this.port);
      await old.stop();
    }
    return this.#servers.length;
  }

  async stop(): Promise<void> {
    await Promise.all(this.#servers.map((one) => one.stop()));
  }
}

function separateAt(port: number): Promise<IsochroneProcess> {
  return startIsochrone(["dns", ...UNLIMITED, "--listen", `127.0.0.1:${port}`, "--reuse-port"]);
}

function portOf(server: IsochroneProcess): number {
  return Number(/:(\d+)\b/.exec(server.readyLine)?.[1]);
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
