/**
 * The order on a connection of node:http. Its parser hands over every request that a segment holds at once, also those behind
 * one that was refused or that said close, and reports malformed bytes while requests before them are still being answered.
 * Here: one request at a time, as on the flat path (RFC 9112, section 9.3.2, allows no more once a method is unsafe); nothing
 * is processed behind the end (section 9.6); a refusal never takes the place of an answer that is under way, nor stands in
 * the middle of it.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";

/** How long a client may take to read the last word before the connection is cut, ms. */
const LAST_WORD_MS = 1_000;

/** Requests of one connection that are answered or wait for their turn; a client that sends more gets no answer to them. */
const REQUESTS_MAX = 100;

interface Connection {
  /** Requests that are answered, or wait for it. */
  active: number;
  /** Those that wait, in order. */
  readonly waiting: (() => void)[];
  /** The newest of them. */
  request: IncomingMessage | undefined;
  response: ServerResponse | undefined;
  /** Nothing that comes after is processed. */
  isEnding: boolean;
  /** Whether the end is a refusal, which says all that there is to say. */
  isRefused: boolean;
  /** Status, and fields if any, of the refusal that follows when what is active is answered. */
  lastWord: string | undefined;
}

export class ConnectionGuard {
  readonly #connections = new WeakMap<Duplex, Connection>();
  readonly #onTooMany: () => void;

  /** `onTooMany`: a client has sent more requests at once than are held for it. */
  constructor(onTooMany: () => void) {
    this.#onTooMany = onTooMany;
  }

  #of(socket: Duplex): Connection {
    let connection = this.#connections.get(socket);
    if (connection === undefined) {
      connection = {
        active: 0,
        waiting: [],
        request: undefined,
        response: undefined,
        isEnding: false,
        isRefused: false,
        lastWord: undefined,
      };
      this.#connections.set(socket, connection);
    }
    return connection;
  }

  /** Whether the request may be processed, once {@link turn} says so. False: it stands behind the end. */
  begin(socket: Duplex, request: IncomingMessage, response: ServerResponse): boolean {
    const connection = this.#of(socket);
    if (connection.isEnding) return false;
    if (connection.active >= REQUESTS_MAX) {
      connection.isEnding = true;
      connection.lastWord = "503 Service Unavailable\r\nRetry-After: 1";
      this.#onTooMany();
      return false;
    }
    // What its Connection or its version says of those that follow (RFC 9112, section 9.3).
    if (!response.shouldKeepAlive) connection.isEnding = true;
    connection.active++;
    connection.request = request;
    connection.response = response;
    // Not when its answer is made but when it is written.
    response.once("close", () => this.#end(socket));
    return true;
  }

  /**
   * Waits until all before the request that was just begun are answered; true at once when it is the only one, so that it can
   * be refused before the parser reads on. False: it must not be processed after all.
   */
  turn(socket: Duplex): true | Promise<boolean> {
    const connection = this.#of(socket);
    if (connection.active === 1) return true;
    return new Promise<void>((resolve) => connection.waiting.push(resolve)).then(() => {
      // An answer before it has closed the connection.
      return !connection.isRefused && socket.writable;
    });
  }

  /**
   * Whether the content of the request whose turn it is turned out to be malformed while it waited; then this is said. To be
   * asked when its head is found good: what is wrong there is said first, as it is of a request that did not wait.
   */
  endsAt(socket: Duplex, request: IncomingMessage): boolean {
    const connection = this.#of(socket);
    if (connection.lastWord === undefined || connection.request !== request || request.complete) return false;
    lastWord(socket, connection.lastWord);
    return true;
  }

  /** The request whose turn it is is refused: what follows it cannot be trusted to begin where it seems to. */
  refuse(socket: Duplex): void {
    const connection = this.#of(socket);
    connection.isEnding = true;
    connection.isRefused = true;
    connection.lastWord = undefined;
  }

  #end(socket: Duplex): void {
    const connection = this.#of(socket);
    connection.active--;
    connection.waiting.shift()?.();
    if (connection.active > 0) return;
    connection.request = undefined;
    connection.response = undefined;
    if (connection.lastWord !== undefined) lastWord(socket, connection.lastWord);
  }

  /** Bytes that are no request, or that came too slowly: `status` is said when its turn comes. */
  malformed(socket: Duplex, status: string): void {
    const connection = this.#of(socket);
    const wasEnding = connection.isEnding;
    connection.isEnding = true;
    const { request, response } = connection;
    if (request === undefined || response === undefined) {
      if (wasEnding) socket.destroy();
      else lastWord(socket, status);
    } else if (connection.isRefused) {
      // Its answer is on the way, and closes.
    } else if (request.complete || connection.active > 1) {
      // What came before is answered first.
      if (!wasEnding || !request.complete) connection.lastWord ??= status;
    } else if (response.headersSent) {
      // The content of a request that is being answered is malformed: what was said cannot be taken back.
      socket.destroy();
    } else lastWord(socket, status);
  }
}

/** A last word on a connection whose requests cannot be told apart any more. */
function lastWord(socket: Duplex, status: string): void {
  if (!socket.writable) return;
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
  // An attacker that never reads must not keep the socket.
  const timer = setTimeout(() => socket.destroy(), LAST_WORD_MS);
  timer.unref();
  socket.once("close", () => clearTimeout(timer));
}
