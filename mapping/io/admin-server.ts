/** The HTTP side that name server and mapper have in common: health, metrics and, with the token, pages of their own. */
import { once } from "node:events";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Registry } from "prom-client";
import { BearerGate, formatListenAddress, listenError, http } from "#kit/io";

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
  /** What takes a body by POST, by path below `/.isochrone/`; with the token only. */
  readonly receivers?: Readonly<Record<string, (body: Uint8Array) => AdminAnswer>>;
}

/** Of a request line with its query. */
const TARGET_CHARACTERS_MAX = 2_048;
const HEADER_BYTES_MAX = 8_192;
/** Monitoring and a few people; more are closed at once. */
const CONNECTIONS_MAX = 256;
/** A request has no body, or one of a few MiB from near by: who needs longer only holds a connection. Also how long an idle one is kept. */
const REQUEST_TIMEOUT_MS = 5_000;
/** A body is held whole; more is refused before it is read. */
export const ADMIN_BODY_BYTES_MAX = 8 * 1024 * 1024;
/** Bodies that are being received. */
const RECEIVING_MAX = 4;
/** Where pages lie; everything else is public. */
const PAGES = "/.isochrone/";

export class AdminServer {
  readonly #server: Server;
  readonly #options: AdminServerOptions;
  readonly #gate: BearerGate;
  #receiving = 0;

  private constructor(options: AdminServerOptions) {
    this.#options = options;
    this.#gate = new BearerGate(options.token);
    this.#server = http.createServer(
      {
        maxHeaderSize: HEADER_BYTES_MAX,
        requestTimeout: REQUEST_TIMEOUT_MS,
        headersTimeout: REQUEST_TIMEOUT_MS,
        keepAliveTimeout: REQUEST_TIMEOUT_MS,
        connectionsCheckingInterval: 1_000,
      },
      (request, response) => {
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
    if (request.method === "POST") {
      const receiver = this.#receiverOf(target);
      if (receiver !== undefined) return this.#receive(receiver, request, response);
    }
    // Nothing else takes a body.
    request.resume();
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
    if (!this.#isOpenFor(request, response)) return;
    const { status, body } = page(searchParams);
    answer(response, status, body);
  }

  #receiverOf(target: string): ((body: Uint8Array) => AdminAnswer) | undefined {
    const { receivers = {} } = this.#options;
    const name = target.startsWith(PAGES) ? target.slice(PAGES.length) : "";
    return Object.hasOwn(receivers, name) ? receivers[name] : undefined;
  }

  async #receive(
    receiver: (body: Uint8Array) => AdminAnswer,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    // Refused before the body is read: the connection ends with the answer.
    const refuse = (status: number, error: string): void => {
      response.setHeader("connection", "close");
      request.resume();
      answer(response, status, { error });
    };
    if (!this.#gate.opensFor(request.headers.authorization)) {
      response.setHeader("www-authenticate", "Bearer");
      return refuse(401, TOKEN_NEEDED);
    }
    const tooLong = `a body of more than ${ADMIN_BODY_BYTES_MAX} bytes`;
    if (Number(request.headers["content-length"] ?? 0) > ADMIN_BODY_BYTES_MAX) return refuse(413, tooLong);
    if (this.#receiving >= RECEIVING_MAX) return refuse(503, "others are sending already; try again");
    this.#receiving++;
    try {
      const chunks: Buffer[] = [];
      let bytes = 0;
      // Not destroyed by an early end, so that the refusal still goes out.
      for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        if (bytes > ADMIN_BODY_BYTES_MAX) return refuse(413, tooLong);
        chunks.push(chunk);
      }
      const { status, body } = receiver(Buffer.concat(chunks));
      answer(response, status, body);
    } finally {
      this.#receiving--;
    }
  }

  /** Answers with 401 itself when it is not. */
  #isOpenFor(request: IncomingMessage, response: ServerResponse): boolean {
    if (this.#gate.opensFor(request.headers.authorization)) return true;
    response.setHeader("www-authenticate", "Bearer");
    answer(response, 401, { error: TOKEN_NEEDED });
    return false;
  }
}

const TOKEN_NEEDED = "a bearer token is needed";

function answer(response: ServerResponse, status: number, body: unknown): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store" });
  response.end(`${JSON.stringify(body)}\n`);
}
