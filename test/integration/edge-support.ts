/** What the edge's integration tests share: a scripted origin, an edge in front of it, a client, a raw socket. */
import { once } from "node:events";
import {
  Agent,
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request,
  type Server,
  type ServerResponse,
} from "node:http";
import { type AddressInfo, connect } from "node:net";
import { createLogger } from "#kit/io";
import {
  EdgeMetrics,
  type EdgeSettings,
  edgeDefaults,
  type AloneOptions,
  type RunningEdge,
  startAlone,
  type TlsOptions,
} from "#edge";

export interface SeenRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
  readonly body: string;
}

/** An origin that does what `answer` says, and keeps what it saw. */
export class TestOrigin {
  readonly seen: SeenRequest[] = [];
  answer: (request: IncomingMessage, response: ServerResponse, body: string) => void = (
    _request,
    response,
  ) => {
    response.end("ok");
  };
  /** When set, the content of requests is left to `answer`. */
  isStreaming = false;
  #server: Server;
  port = 0;

  constructor() {
    this.#server = this.#make();
  }

  #make(): Server {
    return createServer((incoming, response) => {
      const take = (body: string): void => {
        const { method = "", url = "", headers, rawHeaders } = incoming;
        this.seen.push({ method, url, headers, rawHeaders, body });
        this.answer(incoming, response, body);
      };
      if (this.isStreaming) {
        take("");
        return;
      }
      const chunks: Buffer[] = [];
      incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
      incoming.on("end", () => take(Buffer.concat(chunks).toString("latin1")));
    });
  }

  async start(): Promise<void> {
    this.#server.listen(this.port, "127.0.0.1");
    await once(this.#server, "listening");
    this.port = (this.#server.address() as AddressInfo).port;
  }

  /** Dies; `start` brings it back on the same port. */
  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
    this.#server = this.#make();
  }
}

export interface TestEdge {
  readonly port: number;
  readonly metrics: EdgeMetrics;
  readonly running: RunningEdge;
  /** Value of a metric summed over the labels that match. */
  metric(name: string, labels?: Readonly<Record<string, string>>): Promise<number>;
}

/** The suites run through libuv too: `ISOCHRONE_IO_URING=off vitest run test/integration/edge*`; started processes heed it by themselves. */
const IO_URING_HERE = process.env["ISOCHRONE_IO_URING"] === "off" ? "off" : edgeDefaults.ioUring;

export async function startEdge(
  origin: { readonly port: number },
  settings: Partial<EdgeSettings> = {},
  diskDirectory?: string,
  tls?: TlsOptions,
  more: Partial<AloneOptions> = {},
): Promise<TestEdge> {
  const metrics = new EdgeMetrics();
  const running = await startAlone({
    host: "127.0.0.1",
    port: 0,
    origin: { scheme: "http", host: "127.0.0.1", port: origin.port },
    settings: { ...edgeDefaults, ioUring: IO_URING_HERE, ...settings },
    diskDirectory,
    admin: undefined,
    logger: createLogger({ role: "edge", id: "test" }, { level: "silent" }),
    metrics,
    tls,
    ...more,
  });
  return {
    port: running.port,
    metrics,
    running,
    async metric(name, labels = {}) {
      const found = await metrics.registry.getSingleMetric(`isochrone_edge_${name}`)?.get();
      let sum = 0;
      for (const value of found?.values ?? [])
        if (Object.entries(labels).every(([key, wanted]) => value.labels[key] === wanted)) sum += value.value;
      return sum;
    },
  };
}

export interface ClientResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
  readonly body: Buffer;
  readonly cacheStatus: string;
}

const agent = new Agent({ keepAlive: true, maxSockets: 1_000 });

export async function fetchFrom(
  port: number,
  path: string,
  options: {
    readonly method?: string;
    readonly headers?: Record<string, string>;
    readonly body?: string | Buffer;
    /** Whose connections are used; absent: all tests' together. */
    readonly agent?: Agent;
  } = {},
): Promise<ClientResponse> {
  const outgoing = request({
    port,
    host: "127.0.0.1",
    path,
    method: options.method ?? "GET",
    headers: options.headers,
    agent: options.agent ?? agent,
  });
  outgoing.end(options.body);
  const [response] = (await once(outgoing, "response")) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk);
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    rawHeaders: response.rawHeaders,
    body: Buffer.concat(chunks),
    cacheStatus: String(response.headers["cache-status"] ?? "").replace(/^edge-[0-9a-f]+; /, ""),
  };
}

/** Sends bytes as they are and returns everything that comes until the connection closes, or until `isEnough`. */
export async function rawExchange(
  port: number,
  bytes: string,
  isEnough: (text: string) => boolean = () => false,
  deadlineMs = 5_000,
): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect");
  socket.write(Buffer.from(bytes, "latin1"));
  let text = "";
  const timer = setTimeout(() => socket.destroy(), deadlineMs);
  try {
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      text += chunk.toString("latin1");
      if (isEnough(text)) break;
    }
  } catch {
    // A reset is an answer too: what came before it counts.
  }
  clearTimeout(timer);
  socket.destroy();
  return text;
}

/** Polls until `isTrue`, with a deadline that fails the test. */
export async function until(
  isTrue: () => boolean | Promise<boolean>,
  what: string,
  deadlineMs = 20_000,
): Promise<void> {
  const endMs = performance.now() + deadlineMs;
  while (!(await isTrue())) {
    if (performance.now() > endMs) throw new Error(`Waited ${deadlineMs} ms in vain: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Keeps this process's loop from ever sleeping, by turns of some 30 ms, until it is disposed of. */
export function keepLoopBusy(): Disposable {
  let isOver = false;
  const work = (): void => {
    const endMs = performance.now() + 30;
    while (performance.now() < endMs);
    if (!isOver) setImmediate(work);
  };
  setImmediate(work);
  return {
    [Symbol.dispose]: () => {
      isOver = true;
    },
  };
}
