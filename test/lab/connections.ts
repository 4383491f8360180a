/**
 * `npm run lab -- connections`: all that clients do to connections, at once, and every byte checked to be its asker's: pipelines cut
 * anywhere, slow readers and writers, half closes, resets, uploads behind hits, storms, TLS, HTTP/2 (streams, windows, header tables,
 * floods, garbage), descriptors that run out, workers that are killed, a server that is replaced.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Random } from "#kit";
import { makeCertificate } from "../tools/certificates.ts";
import { CheckedConnection } from "../tools/checked-connection.ts";
import { CheckedHttp2 } from "../tools/checked-http2.ts";
import {
  anyRequest,
  type Behaviour,
  behaviours,
  contentOf,
  CUTTING,
  markOf,
  pause,
  WAIT_MS,
} from "../tools/connection-behaviours.ts";
import { wholeNumber } from "../tools/flags.ts";
import { type Http2Behaviour, http2Behaviours } from "../tools/http2-behaviours.ts";
import { freePort, runIsochrone, startIsochrone, waitFor, isAlive } from "../tools/processes.ts";
import { residentBytesOf } from "../tools/resident.ts";

export const summary = "all that clients do to connections at once: every byte is its asker's";

const HELP = `Usage: npm run lab -- connections [options]

  --seconds N      how long (default 120)
  --io-uring WORD  as the edge's flag: off, auto (default) or on
  --http2-direct WORD  as the edge's flag: on (default) or off
  --workers N      workers of the edge (default 2)
  --clients N      clients of each kind (default 4)
  --kinds A,B      only kinds of clients whose names begin so, such as h2
  --replaces N     replacements of the server, spread over it (default 2)
  --kills N        workers that are killed (default 2; needs two workers)
  --seed N         what clients do (default 1); the moments are the machine's

Example: npm run lab -- connections --seconds 300 --workers 1 --kills 0
`;

interface Options {
  readonly seconds: number;
  readonly ioUring: string;
  readonly http2Direct: string;
  readonly workers: number;
  readonly clients: number;
  readonly kinds: readonly string[] | undefined;
  readonly replaces: number;
  readonly kills: number;
  readonly seed: number;
}

interface Kind {
  connections: number;
  /** Of them those that did not open: refused, or taken by nobody within a minute. */
  unopened: number;
  answered: number;
  bytes: number;
  /** Answers 5xx and 408: where descriptors run out, misses cannot be fetched. */
  refused: number;
  /** Asked for, not answered, and the server had not said that it closes. */
  lost: number;
  /** Not answered while descriptors had run out, or within two seconds after a worker was killed. */
  excused: number;
  /** Not answered within 60 s. */
  late: number;
}

/** Of those that live until the end or a replacement; a killed worker's are not in it. */
const TOTALS = [
  "ring_receives_total",
  "ring_sends_total",
  "ring_sends_elsewhere_total",
  "ring_send_failures_total",
  "ring_buffers_exhausted_total",
];
/** After a fault for so long losses may still be its: clients on a busy machine see them late. */
const FAULT_SHOWS_MS = 2_000;

class Run {
  readonly kinds: Record<string, Kind> = {};
  readonly wrong: string[] = [];
  /** What was lost or late: when that was seen, for whom, and how far it had come. */
  readonly losses: string[] = [];
  readonly #beganAt = performance.now();
  readonly #ports: { readonly main: number; readonly tls: number };
  readonly #endsAt: number;
  /** Between when and when losses are what a fault explains, by the performance clock. */
  readonly #excuses: { readonly from: number; to: number }[] = [];

  constructor(ports: { readonly main: number; readonly tls: number }, seconds: number) {
    this.#ports = ports;
    this.#endsAt = performance.now() + seconds * 1_000;
  }

  get isOver(): boolean {
    return performance.now() >= this.#endsAt || this.wrong.length > 20;
  }

  async client(name: string, behaviour: Behaviour, random: Random): Promise<void> {
    while (!this.isOver) await this.connection(name, behaviour, random);
  }

  /** So many at once, each with one request. */
  async storms(random: Random, count: number): Promise<void> {
    while (!this.isOver) {
      const one: Behaviour = async (connection) => {
        const asked = anyRequest(random);
        connection.expect(asked);
        await connection.write(asked.request);
        await connection.settled(0, WAIT_MS);
      };
      await Promise.all(
        Array.from({ length: count }, async () => await this.connection("storms", one, random)),
      );
      await pause(500 + random.int(1_000));
    }
  }

  async connection(name: string, behaviour: Behaviour, random: Random): Promise<void> {
    const isTls = name === "overTls";
    const connection = new CheckedConnection(isTls ? this.#ports.tls : this.#ports.main, isTls);
    const kind = this.#kind(name);
    if (await connection.opened(WAIT_MS)) await behaviour(connection, random);
    else kind.unopened++;
    this.#count(name, kind, connection, CUTTING.has(name) || connection.isClosing);
  }

  async http2Client(name: string, behaviour: Http2Behaviour, random: Random): Promise<void> {
    while (!this.isOver) {
      const connection = new CheckedHttp2(this.#ports.tls, random, behaviour.client(random));
      const kind = this.#kind(name);
      if (await connection.opened(WAIT_MS)) await behaviour.act(connection, random);
      else kind.unopened++;
      // What a GOAWAY left out is not outstanding.
      this.#count(name, kind, connection, behaviour.isCutting === true);
    }
  }

  #kind(name: string): Kind {
    const zeros = {
      connections: 0,
      unopened: 0,
      answered: 0,
      bytes: 0,
      refused: 0,
      lost: 0,
      excused: 0,
      late: 0,
    };
    const kind = (this.kinds[name] ??= zeros);
    kind.connections++;
    return kind;
  }

  #count(name: string, kind: Kind, connection: CheckedConnection | CheckedHttp2, mayLose: boolean): void {
    kind.answered += connection.answered;
    kind.bytes += connection.bytes;
    kind.refused += connection.refused;
    if (connection.wrong !== undefined) this.wrong.push(`${name}: ${connection.wrong}`);
    else if (!mayLose && connection.outstanding > 0) {
      const lostAt = connection.lostAt ?? performance.now();
      if (this.#excuses.some(({ from, to }) => lostAt >= from && lostAt < to))
        kind.excused += connection.outstanding;
      else {
        if (connection.hasEnded) kind.lost += connection.outstanding;
        else kind.late += connection.outstanding;
        this.#noteLoss(name, connection);
      }
    }
    connection.socket.destroy();
  }

  #noteLoss(name: string, connection: CheckedConnection | CheckedHttp2): void {
    if (this.losses.length >= LOSSES_MAX) return;
    const what =
      connection instanceof CheckedConnection
        ? connection.loss
        : [`${connection.broken} broken off`, ...connection.waitingFor].join("; ");
    this.losses.push(`${this.elapsed} s: ${name}: ${what}`);
  }

  /** A fault begins; what is returned is called when it ends. */
  excuse(): () => void {
    const excuse = { from: performance.now(), to: Number.POSITIVE_INFINITY };
    this.#excuses.push(excuse);
    return () => (excuse.to = performance.now() + FAULT_SHOWS_MS);
  }

  /** Seconds since it began, for a message. */
  get elapsed(): string {
    return ((performance.now() - this.#beganAt) / 1_000).toFixed(2);
  }
}

const LOSSES_MAX = 100;

const childrenOf = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean).map(Number);
const descriptorsOf = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;

function startOrigin() {
  return createServer((request, response) => {
    const path = request.url ?? "";
    response.setHeader("etag", markOf(path));
    response.setHeader("cache-control", path.startsWith("/m/") ? "no-store" : "max-age=3600");
    if (request.method === "POST") {
      const hash = createHash("sha256");
      request.on("data", (bytes: Buffer) => hash.update(bytes));
      request.on("end", () => response.setHeader("content-length", 64).end(hash.digest("hex")));
      return;
    }
    const content = contentOf(path);
    response.setHeader("content-length", content.byteLength).end(content);
  }).listen(0, "127.0.0.1");
}

async function soak(options: Options, log: (line: string) => void) {
  const directory = await mkdtemp(join(tmpdir(), "isochrone-lab-"));
  const certificate = makeCertificate({ names: ["localhost"] });
  writeFileSync(join(directory, "cert.pem"), certificate.certPem);
  writeFileSync(join(directory, "key.pem"), certificate.keyPem);
  const origin = startOrigin();
  await once(origin, "listening");
  const ports = { main: await freePort(), tls: await freePort() };
  const adminPort = await freePort();
  const argv = [
    `edge --memory 64MiB --compression off --workers ${options.workers} --run ${join(directory, "run")}`,
    `--io-uring ${options.ioUring} --http2-direct ${options.http2Direct} --listen 127.0.0.1:${ports.main} --admin 127.0.0.1:${adminPort}`,
    `--tls-listen 127.0.0.1:${ports.tls} --tls-certificate ${join(directory, "cert.pem")}`,
    `--tls-key ${join(directory, "key.pem")}`,
    `--origin http://127.0.0.1:${(origin.address() as AddressInfo).port}`,
  ].flatMap((part) => part.split(" "));
  const env = { ISOCHRONE_LOG: "warn" };
  const first = await startIsochrone(argv, { env, timeoutMs: 120_000 });
  let pid = first.pid;
  const serving = (): number[] => (options.workers > 1 ? childrenOf(pid) : [pid]);
  const metric = async (name: string): Promise<number> => {
    const text = await (await fetch(`http://127.0.0.1:${adminPort}/metrics`)).text();
    return Number(new RegExp(`^isochrone_edge_${name} ([0-9]+)`, "m").exec(text)?.[1] ?? Number.NaN);
  };
  const totals: Record<string, number> = {};
  /** Those of a process end with it. */
  const count = async (): Promise<void> => {
    for (const name of TOTALS) totals[name] = (totals[name] ?? 0) + (await metric(name));
  };
  const run = new Run(ports, options.seconds);
  const isWanted = (name: string): boolean => options.kinds?.some((kind) => name.startsWith(kind)) ?? true;
  const load = [
    ...Object.entries(behaviours)
      .filter(([name]) => isWanted(name))
      .flatMap(([name, behaviour]) =>
        Array.from(
          { length: options.clients },
          async (_, number) =>
            await run.client(name, behaviour, new Random(`${options.seed} ${name} ${number}`)),
        ),
      ),
    ...Object.entries(http2Behaviours)
      .filter(([name]) => isWanted(name))
      .flatMap(([name, behaviour]) =>
        Array.from(
          { length: options.clients },
          async (_, number) =>
            await run.http2Client(name, behaviour, new Random(`${options.seed} ${name} ${number}`)),
        ),
      ),
    ...(isWanted("storms") ? [run.storms(new Random(`${options.seed} storms`), 20 * options.clients)] : []),
  ];
  const events: string[] = [];
  const told = (event: string): void => {
    events.push(`${run.elapsed} s: ${event}`);
    log(event);
  };

  const replace = async (): Promise<void> => {
    await count();
    const command = await runIsochrone([...argv, "--replace"], { env, timeoutMs: 120_000 });
    if (command.code !== 0) {
      // As on a machine that is too busy for a start within its time: the old one must go on.
      told(`not replaced: ${command.stderr.trim()}`);
      return;
    }
    pid = Number(/by process ([0-9]+)/.exec(command.stdout)?.[1]);
    told(`replaced by ${pid}`);
  };
  const kill = async (): Promise<void> => {
    const victim = serving()[0] ?? 0;
    const end = run.excuse();
    process.kill(victim, "SIGKILL");
    end();
    told(`killed ${victim}`);
    await waitFor(() => childrenOf(pid).length === options.workers && !childrenOf(pid).includes(victim), {
      timeoutMs: 60_000,
      what: "a new worker",
    });
  };
  /** As many descriptors as are open now, for three seconds: accepting and asking the origin fail. */
  const exhaust = async (): Promise<void> => {
    const end = run.excuse();
    const limits = serving().map((worker) => [worker, descriptorsOf(worker) + 2] as const);
    for (const [worker, limit] of limits)
      execFileSync("prlimit", ["--pid", String(worker), `--nofile=${limit}:`]);
    await pause(3_000);
    for (const [worker] of limits) execFileSync("prlimit", ["--pid", String(worker), "--nofile=16384:"]);
    end();
    told(`descriptors limited to ${limits.map(([, limit]) => limit).join(", ")} for 3 s`);
  };
  const plan = [
    exhaust,
    ...Array.from({ length: options.replaces }, () => replace),
    ...Array.from({ length: options.workers > 1 ? options.kills : 0 }, () => kill),
    exhaust,
  ];
  try {
    for (const step of plan) {
      await pause((options.seconds * 1_000) / (plan.length + 1));
      if (run.isOver) break;
      await step();
    }
    await Promise.all(load);
    // What clients have cut is noticed at once, and nothing of it stays.
    await waitFor(async () => !((await metric("ring_connections")) > 0), {
      timeoutMs: 20_000,
      what: "the end of all connections",
    });
    await count();
    const state = {
      ringsWhole: await metric("ring_whole"),
      descriptorsAtTheEnd: serving().map(descriptorsOf),
      residentMiB: serving().map((worker) => Math.round(residentBytesOf(worker) / 2 ** 20)),
    };
    return { ...options, kinds: run.kinds, wrong: run.wrong, losses: run.losses, events, totals, ...state };
  } finally {
    process.kill(pid, "SIGTERM");
    await waitFor(() => !isAlive(pid), { timeoutMs: 20_000, what: "the edge's end" }).catch(() =>
      process.kill(pid, "SIGKILL"),
    );
    log(first.stderr().slice(-2_000));
    origin.close();
    origin.closeAllConnections();
    await rm(directory, { recursive: true, force: true });
  }
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      seconds: { type: "string", default: "120" },
      "io-uring": { type: "string", default: "auto" },
      "http2-direct": { type: "string", default: "on" },
      workers: { type: "string", default: "2" },
      clients: { type: "string", default: "4" },
      kinds: { type: "string" },
      replaces: { type: "string", default: "2" },
      kills: { type: "string", default: "2" },
      seed: { type: "string", default: "1" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const result = await soak(
    {
      seconds: wholeNumber("seconds", values.seconds, 5, 86_400),
      ioUring: values["io-uring"],
      http2Direct: values["http2-direct"],
      workers: wholeNumber("workers", values.workers, 1, 64),
      clients: wholeNumber("clients", values.clients, 1, 1_000),
      kinds: values.kinds?.split(","),
      replaces: wholeNumber("replaces", values.replaces, 0, 1_000),
      kills: wholeNumber("kills", values.kills, 0, 1_000),
      seed: wholeNumber("seed", values.seed, 0, 2 ** 31),
    },
    (line) => process.stderr.write(`${line}\n`),
  );
  process.stdout.write(`${JSON.stringify(result, undefined, 2)}\n`);
  const isLost = Object.values(result.kinds).some(({ lost, late }) => lost + late > 0);
  return result.wrong.length > 0 || isLost ? 1 : 0;
}
