/**
 * What ends a connection of node:http, and in which order. Node's parser hands over every request that a segment holds, also
 * those behind one that was refused or that said close, and reports malformed bytes while requests before them are still being
 * answered. Here: nothing is processed behind the end (RFC 9112, section 9.6), and a refusal never takes the place of an
 * answer that is under way, nor stands in the middle of it.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";

/** How long a client may take to read the last word before the connection is cut, ms. */
const LAST_WORD_MS = 1_000;

interface Connection {
  /** Requests that are being answered. */
  active: number;
  /** The newest of them. */
  request: IncomingMessage | undefined;
  response: ServerResponse | undefined;
  /** Nothing that comes after is processed. */
  isEnding: boolean;
  /** Whether the end is a refusal, which says all that there is to say. */
  isRefused: boolean;
  /** Status of the refusal that follows when what is active is answered. */
  lastWord: string | undefined;
}

export class ConnectionGuard {
  readonly #connections = new WeakMap<Duplex, Connection>();

  #of(socket: Duplex): Connection {
    let connection = this.#connections.get(socket);
    if (connection === undefined) {
      connection = {
        active: 0,
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

  /** Whether the request may be processed. False: it stands behind the end. */
  begin(socket: Duplex, request: IncomingMessage, response: ServerResponse): boolean {
    const connection = this.#of(socket);
    if (connection.isEnding) return false;
    // What its Connection or its version says of those that follow (RFC 9112, section 9.3).
    if (!response.shouldKeepAlive) connection.isEnding = true;
    connection.active++;
    connection.request = request;
    connection.response = response;
    // Not when its answer is made but when it is written: it may have to wait for the one before.
    response.once("close", () => this.#end(socket));
    return true;
  }

  /** The newest request is refused: what follows it cannot be trusted to begin where it seems to. */
  refuse(socket: Duplex): void {
    const connection = this.#of(socket);
    connection.isEnding = true;
    connection.isRefused = true;
  }

  #end(socket: Duplex): void {
    const connection = this.#of(socket);
    connection.active--;
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
    } else if (request.complete) {
      if (!wasEnding) connection.lastWord ??= status;
    } else if (response.headersSent || connection.active > 1) {
      // The content of the newest is malformed, and what was said of it or before it cannot be taken back.
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
