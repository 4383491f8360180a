/** Calls between processes of one server over Node's IPC, with sockets where a call carries one. */
import type { Serializable } from "node:child_process";
import type { ListenHandle } from "./listening.ts";

/** What may be called at the other end: method -> argument and result, plain data. */
export type Methods = Record<string, { readonly argument: unknown; readonly result: unknown }>;

/** A ChildProcess with IPC, or the `process` of a child. */
export interface IpcPort {
  send?(
    message: Serializable,
    handle: never,
    options: object,
    callback: (error: Error | null) => void,
  ): boolean;
  on(event: "message", listener: (message: unknown, handle: unknown) => void): unknown;
  on(event: "disconnect", listener: () => void): unknown;
  readonly connected?: boolean;
}

interface Frame {
  readonly id?: number;
  readonly call?: string;
  readonly argument?: unknown;
  readonly result?: unknown;
  readonly error?: string;
}

/** Longest time that an answer is waited for when the caller names none, ms. */
const CALL_TIMEOUT_MS = 10_000;

export class Channel<Here extends Methods, There extends Methods> {
  readonly #port: IpcPort;
  readonly #methods = new Map<string, (argument: never, handle: unknown) => unknown>();
  readonly #waiting = new Map<number, { settle: (frame: Frame) => void }>();
  #ids = 0;
  #isClosed = false;
  onClosed: (() => void) | undefined;

  constructor(port: IpcPort) {
    this.#port = port;
    port.on("message", (message, handle) => void this.#receive(message, handle));
    port.on("disconnect", () => this.close());
  }

  /** Answers a method; what is called without an answer here is refused. */
  answer<M extends keyof Here & string>(
    method: M,
    answer: (
      argument: Here[M]["argument"],
      handle: unknown,
    ) => Here[M]["result"] | Promise<Here[M]["result"]>,
  ): void {
    this.#methods.set(method, answer);
  }

  /** Calls a method at the other end. Rejects when it fails there, the other end goes away, or no answer comes in time. Infinity: it is waited for. */
  async call<M extends keyof There & string>(
    method: M,
    argument: There[M]["argument"],
    options: { readonly handle?: ListenHandle; readonly timeoutMs?: number } = {},
  ): Promise<There[M]["result"]> {
    const id = ++this.#ids;
    return await new Promise((resolve, reject) => {
      const { timeoutMs = CALL_TIMEOUT_MS } = options;
      let timer: NodeJS.Timeout | undefined;
      const settle = (frame: Frame): void => {
        clearTimeout(timer);
        this.#waiting.delete(id);
        if (frame.error === undefined) resolve(frame.result);
        else reject(new Error(`Cannot call "${method}": ${frame.error}`));
      };
      if (timeoutMs !== Number.POSITIVE_INFINITY)
        timer = setTimeout(() => settle({ error: `no answer within ${timeoutMs} ms` }), timeoutMs);
      if (this.#isClosed) {
        settle({ error: "the process has gone" });
        return;
      }
      this.#waiting.set(id, { settle });
      this.#send({ id, call: method, argument }, options.handle);
    });
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const { settle } of this.#waiting.values()) settle({ error: "the process has gone" });
    this.onClosed?.();
  }

  async #receive(message: unknown, handle: unknown): Promise<void> {
    const frame = message as Frame;
    if (typeof frame !== "object" || frame === null || frame.id === undefined) return;
    if (frame.call === undefined) {
      this.#waiting.get(frame.id)?.settle(frame);
      return;
    }
    const method = this.#methods.get(frame.call);
    try {
      if (method === undefined) throw new Error("there is no such method here");
      const result = await method(frame.argument as never, handle);
      this.#send({ id: frame.id, result });
    } catch (error) {
      this.#send({ id: frame.id, error: error instanceof Error ? error.message : String(error) });
    }
  }

  #send(frame: Frame, handle?: ListenHandle): void {
    if (this.#isClosed) return;
    try {
      // A process that is ending is noticed by `disconnect`: the error of a single message says nothing more.
      this.#port.send?.(frame, handle as never, {}, () => {});
    } catch {
      this.close();
    }
  }
}
