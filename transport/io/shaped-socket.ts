/**
 * A connection that feels the distance: a Duplex over an open net.Socket that delays what is written and what is read by
 * half a round trip each, in order, with the link's bandwidth, losses and cuts. Back-pressure is kept both ways: beyond a
 * bandwidth-delay product on the way, writes wait and the socket is paused.
 */
import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import { DelayLine } from "./delay-line.ts";
import type { WanView } from "./wan.ts";

/** How long bytes may wait behind a cut before the connection is given up. TCP alone would wait a quarter of an hour. */
const STALL_MS = 30_000;

export class ShapedSocket extends Duplex {
  readonly #socket: Socket;
  readonly #up: DelayLine;
  readonly #down: DelayLine;
  readonly #unsubscribe: () => void;
  /** The write that waits for room on the way up. */
  #waiting: (() => void) | undefined;
  /** Whether the reader has asked for less. */
  #isReaderFull = false;
  #isDownEnded = false;

  /** `socket` must be connected and nobody else's. */
  constructor(socket: Socket, view: WanView) {
    super({ allowHalfOpen: true, readableHighWaterMark: 64 * 1024, writableHighWaterMark: 64 * 1024 });
    this.#socket = socket;
    const options = {
      link: view.link,
      random: view.random,
      stallMs: STALL_MS,
      onStalled: () => this.destroy(timedOut()),
    };
    this.#up = new DelayLine(options);
    this.#down = new DelayLine(options);
    this.#unsubscribe = view.onChange(() => {
      this.#up.wake();
      this.#down.wake();
    });
    socket.on("data", (chunk: Buffer) => {
      this.#down.put(chunk.length, () => {
        if (this.destroyed) return;
        if (!this.push(chunk)) this.#isReaderFull = true;
        this.#flow();
      });
      this.#flow();
    });
    socket.on("end", () => {
      this.#isDownEnded = true;
      this.#down.put(0, () => this.push(null));
    });
    // A reset travels like everything else.
    socket.on("error", (error) => this.#down.put(0, () => this.destroy(error)));
    socket.on("close", () => {
      if (!this.#isDownEnded) this.#down.put(0, () => this.destroy());
    });
    socket.on("drain", () => this.#admit());
    socket.on("timeout", () => this.emit("timeout"));
  }

  override _read(): void {
    this.#isReaderFull = false;
    this.#flow();
  }

  override _write(chunk: Buffer, _encoding: string, callback: (error?: Error | null) => void): void {
    this.#up.put(chunk.length, () => {
      if (!this.#socket.destroyed) this.#socket.write(chunk);
      this.#admit();
    });
    this.#waiting = () => callback();
    this.#admit();
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.#up.put(0, () => {
      this.#socket.end();
      callback();
    });
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#unsubscribe();
    this.#up.clear();
    this.#down.clear();
    this.#waiting = undefined;
    // Handlers stay: an error that comes after this must not end the process.
    this.#socket.destroy();
    callback(error);
  }

  /** Lets the next write in when there is room on the way and in the socket. */
  #admit(): void {
    if (this.#waiting === undefined || this.#up.isFull || this.#socket.writableNeedDrain) return;
    const next = this.#waiting;
    this.#waiting = undefined;
    next();
  }

  #flow(): void {
    if (this.#isReaderFull || this.#down.isFull) {
      if (!this.#socket.isPaused()) this.#socket.pause();
    } else if (this.#socket.isPaused()) this.#socket.resume();
  }

  // What users of a net.Socket expect to find.
  setNoDelay(isOn?: boolean): this {
    this.#socket.setNoDelay(isOn);
    return this;
  }
  setKeepAlive(isOn?: boolean, initialDelayMs?: number): this {
    this.#socket.setKeepAlive(isOn, initialDelayMs);
    return this;
  }
  setTimeout(timeoutMs: number, callback?: () => void): this {
    this.#socket.setTimeout(timeoutMs);
    if (callback) this.once("timeout", callback);
    return this;
  }
  ref(): this {
    this.#socket.ref();
    return this;
  }
  unref(): this {
    this.#socket.unref();
    return this;
  }
  get remoteAddress(): string | undefined {
    return this.#socket.remoteAddress;
  }
  get remotePort(): number | undefined {
    return this.#socket.remotePort;
  }
  get localAddress(): string | undefined {
    return this.#socket.localAddress;
  }
  get localPort(): number | undefined {
    return this.#socket.localPort;
  }
}

function timedOut(): Error {
  return Object.assign(new Error(`no bytes crossed for ${STALL_MS} ms`), { code: "ETIMEDOUT" });
}
