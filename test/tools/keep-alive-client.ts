/**
 * An HTTP/1.1 client that loses what a careless server loses: raw sockets, keep-alive, one request at a time on a
 * connection, no retry of any kind. It honours `Connection: close` and a connection that ends between two requests; a request that was
 * sent, or whose connection could not be had, and that gets no whole answer is lost.
 */
import { connect, type Socket } from "node:net";

export interface LostRequest {
  readonly path: string;
  /** Local port of the connection; 0: there was none. */
  readonly localPort: number;
  readonly why: string;
  /** performance.now() when it was noticed. */
  readonly atMs: number;
}

export interface ClientAnswer {
  readonly status: number;
  readonly head: string;
  readonly bytes: number;
}

/** An answer that takes longer is lost, ms. */
const ANSWER_TIMEOUT_MS = 60_000;

export class KeepAliveClient {
  readonly #host: string;
  readonly #port: number;
  #socket: Socket | undefined;
  /** Connections that were opened. */
  connections = 0;

  constructor(port: number, host = "127.0.0.1") {
    this.#port = port;
    this.#host = host;
  }

  get localPort(): number {
    return this.#socket?.localPort ?? 0;
  }

  /** One request. Rejects with {@link LostError} when it gets no whole answer. */
  async get(path: string, options: { readonly isLast?: boolean } = {}): Promise<ClientAnswer> {
    const socket = this.#socket ?? (await this.#open(path));
    const localPort = socket.localPort ?? 0;
    return await new Promise((resolve, reject) => {
      let head: string | undefined;
      let early: Buffer | undefined;
      let expected = 0;
      let bytes = 0;
      const settle = (): void => {
        socket.off("data", onData);
        socket.off("close", onClose);
        socket.setTimeout(0);
        socket.off("timeout", onTimeout);
      };
      const lose = (why: string): void => {
        settle();
        this.#drop(socket);
        reject(new LostError({ path, localPort, why, atMs: performance.now() }));
      };
      const onClose = (): void => lose(head === undefined ? "closed before an answer" : "cut in its answer");
      const onTimeout = (): void => lose("no answer in time");
      const onData = (chunk: Buffer): void => {
        let rest = chunk;
        if (head === undefined) {
          if (early !== undefined) rest = Buffer.concat([early, chunk]);
          const end = rest.indexOf("\r\n\r\n");
          if (end < 0) {
            early = rest;
            return;
          }
          head = rest.toString("latin1", 0, end);
          const stated = /\r\ncontent-length: *([0-9]+)/i.exec(head)?.[1];
          if (stated === undefined) {
            lose("answer without a length");
            return;
          }
          expected = Number(stated);
          rest = rest.subarray(end + 4);
        }
        bytes += rest.length;
        if (bytes < expected) return;
        settle();
        if (bytes > expected || options.isLast === true || /\r\nconnection: *close/i.test(head))
          this.#drop(socket);
        resolve({ status: Number(head.slice(9, 12)), head, bytes });
      };
      socket.on("data", onData);
      socket.once("close", onClose);
      socket.setTimeout(ANSWER_TIMEOUT_MS, onTimeout);
      socket.write(
        `GET ${path} HTTP/1.1\r\nHost: lab.example\r\n${options.isLast === true ? "Connection: close\r\n" : ""}\r\n`,
      );
    });
  }

  close(): void {
    if (this.#socket !== undefined) this.#drop(this.#socket);
  }

  #drop(socket: Socket): void {
    if (this.#socket === socket) this.#socket = undefined;
    socket.destroy();
  }

  async #open(path: string): Promise<Socket> {
    this.connections++;
    const socket = connect({ port: this.#port, host: this.#host, noDelay: true });
    return await new Promise((resolve, reject) => {
      const fail = (error: NodeJS.ErrnoException): void =>
        reject(new LostError({ path, localPort: 0, why: `connect: ${error.code}`, atMs: performance.now() }));
      socket.once("error", fail);
      socket.once("connect", () => {
        socket.off("error", fail);
        socket.on("error", () => {});
        // An end between requests is the server's right: the next request opens another.
        socket.once("close", () => this.#drop(socket));
        this.#socket = socket;
        resolve(socket);
      });
    });
  }
}

export class LostError extends Error {
  readonly lost: LostRequest;
  constructor(lost: LostRequest) {
    super(`${lost.path}: ${lost.why}`);
    this.lost = lost;
  }
}
