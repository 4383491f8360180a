/**
 * Answers of a given size over one carrier, as two programs for two hosts of a network:
 *
 *     node carriers.ts serve FILE CARRIER   prints "ready"
 *     node carriers.ts ask FILE CARRIER     prints "ready" when it is connected; then a line of JSON ({@link Asked}) for each line of JSON ({@link Plan})
 *
 * FILE holds {@link CarriersFile}. All answers are of one pattern, which whoever asks compares.
 */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createSecureServer, type Http2ServerRequest, type Http2ServerResponse } from "node:http2";
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { type NodeCredentials, nodeCredentials, type ServerId } from "#kit";
import {
  dial,
  LinkPool,
  LinkServer,
  NodeTrust,
  PathPool,
  Stop,
  transportDefaults,
  UdpDialer,
  UdpEndpoint,
} from "#transport";
import { CHANNELS_MAX } from "../../transport/core/udp/words.ts";
import { LINK_ALPN } from "../../transport/core/link/words.ts";

/** `choice`: a link as servers have it, by TLS or by UDP. `nginx`: a server of HTTP without TLS, which is asked through nginx beside whoever asks. */
export type CarrierKind = "udp" | "link" | "choice" | "http2" | "http1" | "nginx";

interface Place {
  readonly address: string;
  readonly port: number;
}

export interface Carrier {
  readonly kind: CarrierKind;
  /** Where it is served, and where it is asked. */
  readonly serve: Place;
  readonly ask: Place;
  /** Hexadecimal; of the UDP carrier. */
  readonly secret: string;
}

export interface CarriersFile {
  readonly carriers: Readonly<Record<string, Carrier>>;
  /** Of servers of ours. */
  readonly edge: NodeCredentials;
  readonly parent: NodeCredentials;
  /** Of HTTP over TLS. */
  readonly serverName: string;
  readonly authorityPem: string;
  readonly certificatePem: string;
  readonly keyPem: string;
}

const PARENT = "parent-1" as ServerId;

export type Plan =
  /** One answer for each moment, ms from the start, whatever became of those before; `warmUp`: the first so many do not count. */
  | {
      readonly bytes: number;
      readonly atMs: readonly number[];
      readonly warmUp: number;
      readonly timeoutMs: number;
    }
  /** One answer without end, for so long. */
  | { readonly bulkSeconds: number };

export interface Asked {
  /** From the moment that the plan states to the last byte, ms; null: it did not come in time. */
  readonly ms: readonly (number | null)[];
  /** How much later than planned requests began, ms: the asking process had no processor. */
  readonly lateMsMax: number;
  /** Of bulk: bytes that came in each second. */
  readonly seconds: readonly number[];
  /** Different reasons of failures but time. */
  readonly failures: readonly string[];
}

const PATTERN = Buffer.from(
  Uint8Array.from({ length: 65_521 }, (_, index) => (index * 31 + (index >> 8)) & 0xff),
);
/** The bytes of an answer from an offset on, `bytesMax` at most. */
function patternAt(offset: number, bytesMax: number): Buffer {
  const from = offset % PATTERN.length;
  return PATTERN.subarray(from, Math.min(PATTERN.length, from + bytesMax));
}

/** What an answer that is written piece by piece has left. */
class Answer {
  #at = 0;
  readonly #bytes: number;
  constructor(bytes: number) {
    this.#bytes = bytes;
  }
  /** Undefined: all is written. */
  next(): Buffer | undefined {
    const left = this.#bytes - this.#at;
    if (left === 0) return undefined;
    const piece = patternAt(this.#at, left);
    this.#at += piece.length;
    return piece;
  }
}

/** Compares an answer with the pattern. */
class Check {
  at = 0;
  take(bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      const wanted = patternAt(this.at, bytes.length - done);
      if (wanted.compare(bytes, done, done + wanted.length) !== 0) throw new Error("other bytes came");
      done += wanted.length;
      this.at += wanted.length;
    }
  }
}

const bytesOf = (path: string | undefined): number => Number(path?.slice(1));

async function serve(file: CarriersFile, carrier: Carrier): Promise<void> {
  const { kind, secret } = carrier;
  const { address, port } = carrier.serve;
  if (kind === "udp") await serveUdp(address, port, secret);
  else if (kind === "link" || kind === "choice") {
    const links = new LinkServer({
      trust: trustOf(file.parent),
      mayCome: () => true,
      handshakesMax: 16,
      handshakeTimeoutMs: 10_000,
      handle: (request) => {
        const bytes = bytesOf(request.head.path);
        const answer = new Answer(bytes);
        const write = (): void => {
          if (request.isGone) return;
          for (;;) {
            const piece = answer.next();
            if (piece === undefined) break;
            if (!request.write(piece)) return;
          }
          request.end();
        };
        request.writeHead(200, ["content-length", String(bytes)]);
        request.onDrain = write;
        write();
      },
    });
    if (kind === "choice") links.setUdp(await UdpEndpoint.bind(address, port));
    const server = createServer({ noDelay: true }, (socket) => links.accept(socket, Buffer.alloc(0)));
    await once(server.listen(port, address), "listening");
  } else {
    const tls = {
      key: file.keyPem,
      cert: file.certificatePem,
      minVersion: "TLSv1.3",
      noDelay: true,
    } as const;
    const answer = (
      request: IncomingMessage | Http2ServerRequest,
      response: ServerResponse | Http2ServerResponse,
    ): void => {
      const bytes = bytesOf(request.url);
      // The two differ in what they are declared to take.
      const stream = response as ServerResponse;
      stream.writeHead(200, { "content-length": bytes });
      const rest = new Answer(bytes);
      const write = (): void => {
        for (let piece = rest.next(); piece !== undefined; piece = rest.next())
          if (!stream.write(piece)) {
            stream.once("drain", write);
            return;
          }
        stream.end();
      };
      write();
    };
    const keepAlive = { keepAliveTimeout: 600_000 };
    const server =
      kind === "http2"
        ? createSecureServer({ ...tls, settings: { maxConcurrentStreams: 256 } }, answer)
        : kind === "http1"
          ? createHttpsServer({ ...tls, ...keepAlive }, answer)
          : createHttpServer({ ...keepAlive, noDelay: true }, answer);
    await once(server.listen(port, address), "listening");
  }
  process.stdout.write("ready\n");
}

async function serveUdp(address: string, port: number, secret: string): Promise<void> {
  const endpoint = await UdpEndpoint.bind(address, port);
  const answers = new Map<number, Answer>();
  const write = (channel: number): void => {
    const answer = answers.get(channel);
    while (answer !== undefined && link?.isWritable(channel) === true) {
      const piece = answer.next();
      if (piece === undefined) {
        answers.delete(channel);
        return;
      }
      link.send(channel, piece);
    }
  };
  const link = endpoint.open({
    secret: Buffer.from(secret, "hex"),
    role: "server",
    // It learns where the client is from its first packet.
    address,
    port: 9,
    isRemoteValidated: false,
    onEvent: (event) => {
      if (event.kind === "data") {
        answers.set(event.channel, new Answer(Buffer.from(event.bytes).readUIntBE(0, 6)));
        write(event.channel);
      } else if (event.kind === "writable") write(event.channel);
    },
  });
}

function trustOf(credentials: NodeCredentials): NodeTrust {
  const trust = new NodeTrust();
  trust.set(nodeCredentials.parse(credentials));
  return trust;
}

/** Asks for an answer; resolves when it has come whole. `onBytes` is told of each piece. */
type Ask = (bytes: number, onBytes: (bytes: Uint8Array) => void, stop: Stop) => Promise<void>;

async function askerOf(file: CarriersFile, carrier: Carrier): Promise<Ask> {
  const { kind } = carrier;
  const { address, port } = carrier.ask;
  if (kind === "udp") return await udpAsker(carrier);
  if (kind === "link" || kind === "choice") {
    const dialer = new UdpDialer();
    const pool = new LinkPool({
      label: "the lab",
      udp:
        kind === "link"
          ? undefined
          : { connect: async (told) => await dialer.open({ ...told, host: address, tcpPort: port }) },
      connect: (signal) =>
        dial({
          host: address,
          port,
          signal,
          tls: {
            servername: PARENT,
            peer: trustOf(file.edge).clientOptions({ serverId: PARENT, roles: ["parent"] }, LINK_ALPN),
          },
        }),
    });
    // As many sessions as a link that has work.
    pool.warm(64);
    return async (...asked) => await overLink(pool, ...asked);
  }
  const protocol = kind === "http2" ? "http/2" : undefined;
  const pool = new PathPool({
    label: "the lab",
    protocol,
    settings: { ...transportDefaults, headersTimeoutMs: 600_000, bodyTimeoutMs: 600_000 },
    connect: (signal) =>
      dial({
        host: address,
        port,
        signal,
        ...(kind !== "nginx" && { tls: { servername: file.serverName, ca: file.authorityPem, protocol } }),
      }),
    onConnecting: () => {},
    onConnected: () => {},
  });
  return async (bytes, onBytes, stop) => {
    const { status, body } = await pool.request({
      method: "GET",
      path: `/${bytes}`,
      headers: [["host", file.serverName]],
      body: undefined,
      signal: stop,
      connectMs: 10_000,
      headersMs: 600_000,
      bodyMs: 600_000,
    });
    if (status !== 200) throw new Error(`Asked for ${bytes} bytes over ${kind}: status ${status}`);
    for await (const piece of body as AsyncIterable<Buffer>) onBytes(piece);
  };
}

function overLink(pool: LinkPool, ...[bytes, onBytes, stop]: Parameters<Ask>): Promise<void> {
  return new Promise((resolve, reject) => {
    pool.dispatch(
      { method: "GET", path: `/${bytes}`, headers: ["host", PARENT] },
      {
        onRequestStart: (controller) =>
          stop.addEventListener("abort", () => controller.abort(new Error("given up"))),
        onResponseStart: (_controller, status) => {
          if (status !== 200) reject(new Error(`status ${status}`));
        },
        onResponseData: (_controller, piece) => {
          try {
            onBytes(piece);
          } catch {
            reject(new Error("other bytes came"));
          }
        },
        onResponseEnd: () => resolve(),
        onResponseError: (_controller, error) => reject(error),
      },
    );
  });
}

async function udpAsker({ ask: { address, port }, secret }: Carrier): Promise<Ask> {
  const endpoint = await UdpEndpoint.bind("0.0.0.0", 0);
  const free = Array.from({ length: CHANNELS_MAX }, (_, channel) => channel);
  const lanes = new Map<
    number,
    { left: number; onBytes: (bytes: Uint8Array) => void; done: () => void; fail: (error: Error) => void }
  >();
  const freed: (() => void)[] = [];
  const link = endpoint.open({
    secret: Buffer.from(secret, "hex"),
    role: "client",
    address,
    port,
    isRemoteValidated: true,
    onEvent: (event) => {
      if (event.kind === "closed")
        for (const { fail } of lanes.values()) fail(new Error(`the connection ended: ${event.reason}`));
      if (event.kind !== "data") return;
      const lane = lanes.get(event.channel);
      if (lane === undefined) return;
      try {
        lane.onBytes(event.bytes);
      } catch (error) {
        lane.fail(error as Error);
      }
      lane.left -= event.bytes.length;
      if (lane.left > 0) return;
      lanes.delete(event.channel);
      free.push(event.channel);
      freed.shift()?.();
      lane.done();
    },
  });
  return async (...[bytes, onBytes]) => {
    while (free.length === 0) await new Promise<void>((resolve) => freed.push(resolve));
    const channel = free.shift() as number;
    const request = Buffer.alloc(6);
    request.writeUIntBE(bytes, 0, 6);
    link?.send(channel, request);
    await new Promise<void>((done, fail) => lanes.set(channel, { left: bytes, onBytes, done, fail }));
  };
}

async function askAll(
  ask: Ask,
  { bytes, atMs, warmUp, timeoutMs }: Extract<Plan, { bytes: number }>,
): Promise<Asked> {
  const startMs = performance.now();
  const failures = new Set<string>();
  let lateMsMax = 0;
  const one = async (at: number): Promise<number | null> => {
    await pause(Math.max(0, startMs + at - performance.now()));
    const plannedMs = startMs + at;
    lateMsMax = Math.max(lateMsMax, performance.now() - plannedMs);
    const check = new Check();
    const stop = new Stop();
    const whole = ask(bytes, (piece) => check.take(piece), stop).then(
      () => {
        if (check.at === bytes) return performance.now() - plannedMs;
        failures.add(`${check.at} bytes for ${bytes}`);
        return null;
      },
      (error: unknown) => {
        if (!stop.aborted) failures.add(String(error));
        return null;
      },
    );
    const late = pause(timeoutMs, null, { ref: false }).then(() => {
      stop.abort(new Error("late"));
      return null;
    });
    return await Promise.race([whole, late]);
  };
  const ms = await Promise.all(atMs.map(one));
  return { ms: ms.slice(warmUp), lateMsMax, seconds: [], failures: [...failures] };
}

const BULK_BYTES = 2 ** 40;

async function bulk(ask: Ask, seconds: number): Promise<Asked> {
  const failures: string[] = [];
  const bins = Array.from({ length: seconds }, () => 0);
  const check = new Check();
  const startMs = performance.now();
  const stop = new Stop();
  void ask(
    BULK_BYTES,
    (piece) => {
      check.take(piece);
      const second = Math.floor((performance.now() - startMs) / 1_000);
      if (second < seconds) bins[second] = (bins[second] as number) + piece.length;
    },
    stop,
  ).catch((error: unknown) => {
    if (!stop.aborted) failures.push(String(error));
  });
  await pause(seconds * 1_000);
  stop.abort(new Error("over"));
  return { ms: [], lateMsMax: 0, seconds: bins, failures };
}

async function main(): Promise<void> {
  const [verb, path, name] = process.argv.slice(2);
  const file = JSON.parse(readFileSync(String(path), "utf8")) as CarriersFile;
  const carrier = file.carriers[String(name)];
  if (carrier === undefined) throw new RangeError(`No carrier ${JSON.stringify(name)} in ${path}`);
  if (verb === "serve") {
    await serve(file, carrier);
    return;
  }
  const ask = await askerOf(file, carrier);
  process.stdout.write("ready\n");
  for await (const line of createInterface({ input: process.stdin })) {
    const plan = JSON.parse(line) as Plan;
    const asked = "bytes" in plan ? await askAll(ask, plan) : await bulk(ask, plan.bulkSeconds);
    process.stdout.write(`${JSON.stringify(asked)}\n`);
  }
  process.exit();
}

await main();
