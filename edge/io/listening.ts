/**
 * Listening sockets as things that can be held, shared and passed on. A worker that dies must not take its accept queue
 * with it, and a program that is replaced must not close its door before the next one stands in it; so a socket is bound
 * here, without a server, and whoever serves listens on a duplicate that came over IPC. The kernel's socket, with all
 * connections that wait in it, lives as long as one process holds it.
 *
 * The handle is Node's own TCP object, which `child.send(message, handle)` passes as `net.Native`: unlike a `net.Server`
 * it is not read by the process that merely holds it. `net._createServerHandle` is not documented; it is what
 * `node:cluster` binds its shared sockets with. Nothing outside this file knows about either.
 */
import { lookup } from "node:dns/promises";
import net, { createServer, isIP, type Server, type Socket } from "node:net";
import { getSystemErrorName } from "node:util";
import { IsochroneError } from "#kit";
import { listenError } from "#kit/io";
import { SocketReads } from "./socket-reads.ts";
import type { RingSockets } from "./uring/ring-sockets.ts";

declare const handleBrand: unique symbol;
/** A bound TCP socket that this process holds. */
export interface ListenHandle {
  readonly [handleBrand]: true;
  close(): void;
  getsockname(out: { address?: string; port?: number }): number;
}

/** A listening handle as net.Server hears of its connections. */
interface AcceptingHandle {
  onconnection?: (status: number, client: unknown) => void;
}

interface NetInternals {
  _createServerHandle(
    address: string,
    port: number,
    addressType: 4 | 6,
    fd: undefined,
    flags: number,
  ): ListenHandle | number;
}

/** libuv's UV_TCP_REUSEPORT. */
const REUSE_PORT = 2;
/** Connections that wait to be accepted, a socket; the system's own bound (`net.core.somaxconn`) still holds. */
const BACKLOG = 1_024;

/** What is spoken on a listening socket: HTTP/1.1, or TLS with what is agreed in its handshake. */
export type SocketKind = "main" | "tls";

/** The listening sockets of one server: what a successor is given. */
export interface EdgeSockets {
  readonly main: readonly ListenHandle[];
  readonly admin: ListenHandle | undefined;
  /** Undefined: none were bound, and who serves TLS binds its own. */
  readonly tls: readonly ListenHandle[] | undefined;
}

/** Whether `value` came over IPC as a socket. */
export function isListenHandle(value: unknown): value is ListenHandle {
  return typeof value === "object" && value !== null && "getsockname" in value;
}

/** The port that a handle is bound to. */
export function portOf(handle: ListenHandle): number {
  const name: { port?: number } = {};
  handle.getsockname(name);
  return name.port ?? 0;
}

/**
 * Binds `count` sockets to one address, which the kernel then spreads connections over (SO_REUSEPORT); fewer, at least
 * one, where the system cannot. `port` 0 takes a free one. Rejects with IsochroneError when another process has the
 * address: sockets that share a port would join it without an error, so this is asked first, without sharing. A single
 * socket that is in use says so when somebody listens on it.
 */
export async function bindListeners(
  host: string,
  port: number,
  count: number,
): Promise<readonly ListenHandle[]> {
  const address = await resolve(host, port);
  const isShared = count > 1;
  const bound = isShared ? await probe(host, address, port) : port;
  const first = bind(address, bound, isShared);
  if (typeof first === "number" && isShared) {
    // Not every system has SO_REUSEPORT with balancing: there all workers take from one queue.
    const only = bind(address, bound, false);
    if (typeof only === "number") throw failed(only, host, port);
    return [only];
  }
  if (typeof first === "number") throw failed(first, host, port);
  return [first, ...(await bindMore(host, portOf(first), count - 1))];
}

/** Binds further sockets beside some that share the port already. Rejects with IsochroneError. */
export async function bindMore(host: string, port: number, count: number): Promise<readonly ListenHandle[]> {
  const address = await resolve(host, port);
  return Array.from({ length: count }, () => {
    const handle = bind(address, port, true);
    if (typeof handle === "number") throw failed(handle, host, port);
    return handle;
  });
}

function bind(address: string, port: number, isShared: boolean): ListenHandle | number {
  return (net as unknown as NetInternals)._createServerHandle(
    address,
    port,
    isIP(address) === 6 ? 6 : 4,
    undefined,
    isShared ? REUSE_PORT : 0,
  );
}

async function resolve(host: string, port: number): Promise<string> {
  if (isIP(host) !== 0) return host;
  try {
    return (await lookup(host)).address;
  } catch (cause) {
    throw listenError(cause, host, port);
  }
}

/** Whether nobody listens there; resolves with the port. */
async function probe(host: string, address: string, port: number): Promise<number> {
  return await new Promise((done, reject) => {
    const server = createServer();
    server.once("error", (cause) => reject(listenError(cause, host, port)));
    server.listen({ host: address, port, exclusive: true }, () => {
      const name = server.address();
      const bound = typeof name === "object" && name !== null ? name.port : port;
      server.close(() => done(bound));
    });
  });
}

/** `errno` is libuv's: negative. */
function failed(errno: number, host: string, port: number): IsochroneError {
  const code = getSystemErrorName(errno);
  return listenError(Object.assign(new Error(`bind failed with ${code}`), { code }), host, port);
}

/** What the kernel holds for a socket is read in pieces of so many bytes; as Node's own. */
const READ_BYTES = 64 * 1_024;
const readBuffer = Buffer.allocUnsafeSlow(READ_BYTES);

/**
 * A socket for an accepted connection that reads into the shared buffer: no allocation and no stream event a read. With a
 * ring, its bytes come by that.
 */
function socketOf(
  client: unknown,
  ring: RingSockets | undefined,
): { readonly socket: Socket; readonly reads: SocketReads } {
  const taken = ring?.isWhole === true ? ring.take(client) : undefined;
  const reads = taken ?? new SocketReads();
  const options = {
    handle: client,
    allowHalfOpen: true,
    onread: {
      buffer: readBuffer,
      callback: (bytes: number): boolean => {
        const chunk = readBuffer.subarray(0, bytes);
        if (reads.sink === undefined) return socket.push(Buffer.from(chunk));
        reads.sink(chunk);
        return true;
      },
    },
  };
  // `handle` is what net.Server makes its sockets with; the types know `fd` only.
  const socket = new net.Socket(options as unknown as net.SocketConstructorOpts);
  taken?.attach(socket);
  socket.setNoDelay(true);
  return { socket, reads };
}

/** The sockets that one process accepts from. */
export class Listeners {
  readonly #onConnection: (socket: Socket, reads: SocketReads | undefined) => void;
  readonly #servers = new Map<ListenHandle, Server>();
  #isClosed = false;

  readonly #isForTls: boolean;

  readonly #openRing: (() => Promise<RingSockets | undefined>) | undefined;

  /**
   * `isForTls`: connections are given to a handshake, which wants plain sockets of Node's own making. `openRing`: what accepted
   * connections read through; without one, or where there is none, they read through libuv.
   */
  constructor(
    onConnection: (socket: Socket, reads: SocketReads | undefined) => void,
    isForTls = false,
    openRing?: () => Promise<RingSockets | undefined>,
  ) {
    this.#onConnection = onConnection;
    this.#isForTls = isForTls;
    this.#openRing = openRing;
  }

  get handles(): readonly ListenHandle[] {
    return [...this.#servers.keys()];
  }

  /** Binds an address, accepts from it, and resolves with the port. Rejects with IsochroneError that says what to do. */
  async open(host: string, port: number): Promise<number> {
    const [handle] = await bindListeners(host, port, 1);
    if (handle === undefined) throw new Error("Binding one socket gave none");
    try {
      await this.add(handle);
    } catch (cause) {
      throw listenError(cause, host, port);
    }
    return portOf(handle);
  }

  /**
   * Begins to accept from a socket. Rejects with the system's error. The handle belongs to this object from now on; one that comes after
   * `close` is let go of.
   */
  async add(handle: ListenHandle): Promise<void> {
    if (this.#isClosed) {
      handle.close();
      return;
    }
    const server = createServer({ allowHalfOpen: !this.#isForTls, noDelay: true }, (socket) =>
      this.#onConnection(socket, undefined),
    );
    this.#servers.set(handle, server);
    const ring = await this.#openRing?.();
    // Removed meanwhile: nobody would ever close it again, and the process would live on as a deaf one with a share of the port.
    if (!this.#servers.has(handle)) {
      handle.close();
      return;
    }
    await new Promise<void>((done, reject) => {
      server.once("error", reject);
      server.listen(handle as unknown as { _handle: unknown }, BACKLOG, () => {
        server.off("error", reject);
        // Accepting fails for want of descriptors and recovers by itself: it must not end the process.
        server.on("error", () => {});
        if (!this.#isForTls) this.#takeOver(handle as unknown as AcceptingHandle, ring);
        done();
      });
    });
  }

  /**
   * Makes the sockets of accepted connections here, since net.Server cannot be told to have them read into a buffer of ours
   * (measured on the hit path: 2 us of 9 in user mode). Where a handle is not what Node's is today, net.Server's are taken.
   */
  #takeOver(handle: AcceptingHandle, ring: RingSockets | undefined): void {
    const byServer = handle.onconnection;
    if (typeof byServer !== "function") return;
    handle.onconnection = (status, client) => {
      if (status !== 0 || client === undefined) {
        byServer.call(handle, status, client);
        return;
      }
      const { socket, reads } = socketOf(client, ring);
      this.#onConnection(socket, reads);
    };
  }

  /** Stops accepting from a socket and lets go of it; connections that were accepted go on. */
  remove(handle: ListenHandle): void {
    this.#servers.get(handle)?.close();
    this.#servers.delete(handle);
  }

  /** For good. */
  close(): void {
    this.#isClosed = true;
    for (const handle of this.#servers.keys()) this.remove(handle);
  }
}
