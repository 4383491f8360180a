/** The HTTP side that name server and mapper have in common: health, metrics and, with the token, pages of their own. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Registry } from "prom-client";
import { BearerGate, formatListenAddress, listenError } from "#kit/io";

/** What a page answers: JSON with a status. */
export interface AdminAnswer {
  readonly status: number;
  readonly body: unknown;
}

export interface AdminServerOptions {
  readonly host: string;
  /** 0: any. */
  readonly port: number;
  /** Bearer token of operators and nodes; undefined closes every page. */
  readonly token: string | undefined;
  /** Undefined when ready, else why not, in a few words. */
  readonly notReady: () => string | undefined;
  readonly registry: Registry;
  /** By path below `/.isochrone/`. What one throws is answered with 500 and its message. */
  readonly pages: Readonly<Record<string, (query: URLSearchParams) => AdminAnswer>>;
}

/** A request line with its query is all that is read. */
const TARGET_CHARACTERS_MAX = 2_048;
const HEADER_BYTES_MAX = 8_192;
/** Monitoring and a few people; more are closed at once. */
const CONNECTIONS_MAX = 256;
/** A request has no body: who needs longer only holds a connection. Also how long an idle one is kept. */
const REQUEST_TIMEOUT_MS = 5_000;
/** Where pages lie; everything else is public. */
const PAGES = "/.isochrone/";

export class AdminServer {
  readonly #server: Server;
  readonly #options: AdminServerOptions;
  readonly #gate: BearerGate;

  private constructor(options: AdminServerOptions) {
    this.#options = options;
    this.#gate = new BearerGate(options.token);
    this.#server = createServer(
      {
        maxHeaderSize: HEADER_BYTES_MAX,
        requestTimeout: REQUEST_TIMEOUT_MS,
        headersTimeout: REQUEST_TIMEOUT_MS,
        keepAliveTimeout: REQUEST_TIMEOUT_MS,
        connectionsCheckingInterval: 1_000,
      },
      (request, response) => {
        // Nothing here takes a body.
        request.resume();
        this.#handle(request, response).catch((error: unknown) => {
          answer(response, 500, { error: error instanceof Error ? error.message : String(error) });
        });
      },
    );
    this.#server.maxConnections = CONNECTIONS_MAX;
    this.#server.on("clientError", (_error, socket) => socket.destroy());
  }

  /** Throws IsochroneError with a line that says what to do when the address cannot be had. */
  static async listen(options: AdminServerOptions): Promise<AdminServer> {
    const { host, port } = options;
    const admin = new AdminServer(options);
    admin.#server.listen({ host, port });
    try {
      await once(admin.#server, "listening");
    } catch (cause) {
      throw listenError(cause, host, port);
    }
    return admin;
  }

  /** Where it listens: the port that was taken when 0 was asked for. */
  get url(): string {
    const address = this.#server.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    return `http://${formatListenAddress({ host: this.#options.host, port })}`;
  }

  /** Cuts what is open: nobody's answer depends on this server. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const target = request.url ?? "/";
    if (request.method !== "GET" && request.method !== "HEAD") {
      response.setHeader("allow", "GET, HEAD");
      return answer(response, 405, { error: "only GET and HEAD" });
    }
    const isTarget =
      target.length <= TARGET_CHARACTERS_MAX &&
      target.startsWith("/") &&
      URL.canParse(target, "http://admin.invalid");
    if (!isTarget) return answer(response, 400, { error: "not a request target" });
    const { pathname, searchParams } = new URL(target, "http://admin.invalid");
    switch (pathname) {
      case "/livez":
        return answer(response, 200, { status: "live" });
      case "/readyz": {
        const why = this.#options.notReady();
        return answer(response, why === undefined ? 200 : 503, { status: why ?? "ready" });
      }
      case "/metrics": {
        const { registry } = this.#options;
        const text = await registry.metrics();
        response.writeHead(200, { "content-type": registry.contentType, "cache-control": "no-store" });
        response.end(text);
        return;
      }
    }
    const name = pathname.startsWith(PAGES) ? pathname.slice(PAGES.length) : "";
    const page = Object.hasOwn(this.#options.pages, name) ? this.#options.pages[name] : undefined;
    if (page === undefined) return answer(response, 404, { error: "no such path" });
    if (!this.#gate.opensFor(request.headers.authorization)) {
      response.setHeader("www-authenticate", "Bearer");
      return answer(response, 401, { error: "a bearer token is needed" });
    }
    const { status, body } = page(searchParams);
    answer(response, status, body);
  }
}

function answer(response: ServerResponse, status: number, body: unknown): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store" });
  response.end(`${JSON.stringify(body)}\n`);
}
