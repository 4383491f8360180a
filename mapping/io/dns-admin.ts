/** The name server's HTTP side: health, metrics, its report, and `where`. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { BearerGate, formatListenAddress, listenError } from "#kit/io";
import type { WhereResult } from "../core/where.ts";

export interface AdminOptions {
  readonly host: string;
  readonly port: number;
  /** Bearer token of operators and nodes; undefined closes `/.isochrone/*`. */
  readonly token: string | undefined;
  readonly isReady: () => boolean;
  readonly metrics: () => Promise<{ readonly contentType: string; readonly text: string }>;
  readonly where: (name: string, address: string) => WhereResult;
  /** JSON of `/.isochrone/status`. */
  readonly status: () => unknown;
}

/** A request line with its query is all that is read. */
const TARGET_CHARS_MAX = 2_048;
const REQUEST_TIMEOUT_MS = 5_000;
const CONNECTIONS_MAX = 256;

export class DnsAdmin {
  readonly #server: Server;
  readonly #options: AdminOptions;

  private constructor(server: Server, options: AdminOptions) {
    this.#server = server;
    this.#options = options;
  }

  /** Throws IsochroneError with a line that says what to do when it cannot listen. */
  static async listen(options: AdminOptions): Promise<DnsAdmin> {
    const server = createServer({
      maxHeaderSize: 8_192,
      requestTimeout: REQUEST_TIMEOUT_MS,
      headersTimeout: REQUEST_TIMEOUT_MS,
      connectionsCheckingInterval: 1_000,
      keepAliveTimeout: 5_000,
    });
    server.maxConnections = CONNECTIONS_MAX;
    const { host, port, token } = options;
    const gate = new BearerGate(token);
    server.on("request", (request, response) => {
      // Nothing here takes a body.
      request.resume();
      handle(request, response, options, gate).catch((error: unknown) => {
        answer(response, 500, { error: error instanceof Error ? error.message : String(error) });
      });
    });
    server.on("clientError", (_error, socket) => socket.destroy());
    await new Promise<void>((resolve, reject) => {
      server.once("error", (cause) => reject(listenError(cause, host, port)));
      server.listen({ host, port }, () => resolve());
    });
    return new DnsAdmin(server, options);
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === "object" && address !== null ? address.port : 0;
  }

  get url(): string {
    return `http://${formatListenAddress({ host: this.#options.host, port: this.port })}`;
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }
}

async function handle(
  request: IncomingMessage,
  response: ServerResponse,
  options: AdminOptions,
  gate: BearerGate,
): Promise<void> {
  const target = request.url ?? "/";
  if (request.method !== "GET" && request.method !== "HEAD") {
    response.setHeader("allow", "GET, HEAD");
    answer(response, 405, { error: "only GET and HEAD" });
    return;
  }
  if (
    target.length > TARGET_CHARS_MAX ||
    !target.startsWith("/") ||
    !URL.canParse(target, "http://admin.invalid")
  ) {
    answer(response, 400, { error: "not a request target" });
    return;
  }
  const { pathname, searchParams } = new URL(target, "http://admin.invalid");
  switch (pathname) {
    case "/livez":
      answer(response, 200, { status: "live" });
      return;
    case "/readyz":
      answer(response, options.isReady() ? 200 : 503, { status: options.isReady() ? "ready" : "not ready" });
      return;
    case "/metrics": {
      const { contentType, text } = await options.metrics();
      response.writeHead(200, { "content-type": contentType, "cache-control": "no-store" }).end(text);
      return;
    }
    case "/.isochrone/where":
    case "/.isochrone/status":
      break;
    default:
      answer(response, 404, { error: "no such path" });
      return;
  }
  if (!gate.opensFor(request.headers.authorization)) {
    response.setHeader("www-authenticate", "Bearer");
    answer(response, 401, { error: "a bearer token is needed" });
    return;
  }
  if (pathname === "/.isochrone/status") {
    answer(response, 200, options.status());
    return;
  }
  const name = searchParams.get("name");
  const address = searchParams.get("address");
  if (name === null || address === null) {
    answer(response, 400, {
      error: "name and address are needed: /.isochrone/where?name=NAME&address=ADDRESS",
    });
    return;
  }
  const result = options.where(name, address);
  if (result.ok) answer(response, 200, result.report);
  else answer(response, statusOfRefusal(result.reason), { error: result.message, reason: result.reason });
}

function statusOfRefusal(reason: Extract<WhereResult, { ok: false }>["reason"]): number {
  if (reason === "bad-name" || reason === "bad-address") return 400;
  return reason === "no-documents" ? 503 : 404;
}

function answer(response: ServerResponse, status: number, body: unknown): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  response
    .writeHead(status, { "content-type": "application/json", "cache-control": "no-store" })
    .end(`${JSON.stringify(body)}\n`);
}
