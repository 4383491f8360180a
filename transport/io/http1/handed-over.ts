/** How undici goes on with an answer that a plain connection had begun to read: it asks again into the void, and reads what has come already. */
import { Duplex } from "node:stream";
import type { Dispatcher } from "undici";
import type { Exchange } from "../exchange.ts";

type Controller = Dispatcher.DispatchController;

/**
 * A stream of which some bytes were read: they come first, when the request that they answer was written, since undici takes nothing before. What
 * is written is dropped until {@link begin}: it was sent already.
 */
export class Replayed extends Duplex {
  readonly #stream: Duplex;
  #first: Buffer | undefined;
  #isBegun = false;
  #hasEnded = false;

  constructor(stream: Duplex, first: Buffer) {
    super({ allowHalfOpen: true });
    this.#stream = stream;
    this.#first = first;
    stream.on("error", (error) => this.destroy(error));
    // Its end may come before what was read is: that stands all the same.
    stream.on("end", () => {
      this.#hasEnded = true;
      if (this.#first === undefined) this.push(null);
    });
    stream.on("close", () => {
      if (!this.#hasEnded) this.destroy();
    });
  }

  /** What is written from now on is sent. */
  begin(): void {
    this.#isBegun = true;
  }

  #replay(first: Buffer): void {
    const stream = this.#stream;
    this.#first = undefined;
    this.push(first);
    stream.on("data", (bytes: Buffer) => {
      if (!this.push(bytes)) stream.pause();
    });
    // Not in this turn, in which undici still writes and takes nothing.
    if (this.#hasEnded) setImmediate(() => this.push(null));
    else if (stream.destroyed) this.destroy();
  }

  override _read(): void {
    if (this.#first === undefined) this.#stream.resume();
  }
  override _write(bytes: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    if (this.#isBegun) this.#stream.write(bytes, done);
    else {
      done();
      if (this.#first !== undefined) this.#replay(this.#first);
    }
  }
  override _final(done: (error?: Error | null) => void): void {
    this.#stream.end(() => done());
  }
  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#stream.destroy();
    done(error);
  }
}

/** What an exchange hears of undici when its request was sent before. `isBegun`: so was its head handed on. */
export class HandedOver implements Dispatcher.DispatchHandler {
  readonly #exchange: Exchange;
  readonly #isBegun: boolean;

  constructor(exchange: Exchange, isBegun: boolean) {
    this.#exchange = exchange;
    this.#isBegun = isBegun;
  }

  onRequestStart(controller: Controller): void {
    this.#exchange.goOn(controller);
  }
  onResponseStart(controller: Controller, status: number): void {
    if (!this.#isBegun) this.#exchange.onResponseStart(controller, status);
  }
  onResponseData(controller: Controller, chunk: Buffer): void {
    this.#exchange.onResponseData(controller, chunk);
  }
  onResponseEnd(controller: Controller): void {
    this.#exchange.onResponseEnd(controller);
  }
  onResponseError(controller: Controller, error: Error): void {
    this.#exchange.onResponseError(controller, error);
  }
}
