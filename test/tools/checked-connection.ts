/**
 * A connection whose every byte is checked: for each request that it sends it knows head and content of the answer, and compares what
 * comes with that at the place where it comes. A byte of another's answer, one lost or one doubled is found where it stands.
 */
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";

/** What is asked, and what has to come. */
export interface Expected {
  /** The request's bytes over HTTP/1.1. */
  readonly request: Buffer;
  /** The same for HTTP/2. */
  readonly method: string;
  readonly path: string;
  readonly fields: readonly (readonly [string, string])[];
  readonly body: Buffer | undefined;
  readonly statuses: readonly number[];
  /** Stands in the answer's head and in no other's. */
  readonly mark: string;
  readonly content: Buffer;
}

const HEAD_BYTES_MAX = 16 * 1_024;
const WRITE_MS = 60_000;
const HEAD_END = Buffer.from("\r\n\r\n");

export class CheckedConnection {
  readonly socket: Socket;
  readonly #waiting: Expected[] = [];
  #head: Buffer = Buffer.alloc(0);
  /** Of the content that comes: how much has, and how much is stated; -1: a head is to come. */
  #at = 0;
  #length = -1;
  /** The answer is the server's own: only its length is known. */
  #isOwn = false;
  /** The server said that no answer comes after this one. */
  isClosing = false;
  hasEnded = false;
  answered = 0;
  bytes = 0;
  /** Answers of the server's own: 5xx and 408. */
  refused = 0;
  /** What was wrong with the bytes. */
  wrong: string | undefined;
  #onProgress: (() => void) | undefined;
  readonly #openedAt = performance.now();
  #ending: string | undefined;
  /** When what is outstanding was lost, by the performance clock. */
  lostAt: number | undefined;
  /** Bytes of all that was asked before each answer that is to come, and of all. */
  readonly #askedBytes: number[] = [];
  #askedBytesAll = 0;

  constructor(port: number, isTls = false) {
    this.socket = isTls
      ? connectTls({ port, host: "127.0.0.1", rejectUnauthorized: false, servername: "localhost" })
      : connect({ port, host: "127.0.0.1", noDelay: true });
    // Half open: what is asked before the end is answered after it.
    this.socket.allowHalfOpen = true;
    this.socket.on("data", (bytes: Buffer) => this.#take(bytes));
    this.socket.on("error", (error: NodeJS.ErrnoException) => this.#noteEnd(error.code ?? error.message));
    this.socket.on("end", () => {
      this.#noteEnd("end");
      this.hasEnded = true;
      this.socket.end();
      this.#onProgress?.();
    });
    this.socket.on("close", () => {
      this.#noteEnd("close");
      this.hasEnded = true;
      this.#onProgress?.();
    });
  }

  /** Answers that were asked for and have not come. */
  get outstanding(): number {
    return this.#waiting.length;
  }

  /** What is outstanding, and how it ended, for a message. */
  get loss(): string {
    const expected = this.#waiting[0];
    const bytes = expected?.request.byteLength ?? 0;
    const sent = Math.min(bytes, Math.max(0, this.socket.bytesWritten - (this.#askedBytes[0] ?? 0)));
    const got = this.#length < 0 ? "no head" : `${this.#at} of ${this.#length} bytes of content`;
    return `${this.outstanding} from answer ${this.answered + 1} on, ${expected?.method} ${expected?.path}: ${sent} of ${bytes} bytes written, ${got} came; open for ${this.#ageMs()} ms, ${this.#ending ?? "not ended"}`;
  }

  #ageMs(): number {
    return Math.round(performance.now() - this.#openedAt);
  }

  #noteEnd(how: string): void {
    this.lostAt ??= performance.now();
    this.#ending ??= `ended after ${this.#ageMs()} ms (${how})`;
  }

  /** False: it is closed, or not open within `withinMs`: the kernel may have taken what nobody accepts. */
  async opened(withinMs: number): Promise<boolean> {
    return await within(this.socket, "encrypted" in this.socket ? "secureConnect" : "connect", withinMs);
  }

  expect(...answers: readonly Expected[]): void {
    this.#waiting.push(...answers);
    for (const { request } of answers) {
      this.#askedBytes.push(this.#askedBytesAll);
      this.#askedBytesAll += request.byteLength;
    }
  }

  /** Writes and waits until the system has it, the connection is gone, or a minute is over. */
  async write(bytes: Buffer): Promise<void> {
    if (!this.socket.writable || this.socket.write(bytes)) return;
    await within(this.socket, "drain", WRITE_MS);
  }

  /** Until at most `outstanding` answers are to come, or none will. False: not within `withinMs`. */
  async settled(outstanding: number, withinMs: number): Promise<boolean> {
    return await new Promise((resolve) => {
      const isDone = (): boolean =>
        this.#waiting.length <= outstanding || this.hasEnded || this.wrong !== undefined;
      const done = (isInTime: boolean): void => {
        clearTimeout(timer);
        this.#onProgress = undefined;
        resolve(isInTime);
      };
      const timer = setTimeout(() => done(false), withinMs);
      this.#onProgress = () => {
        if (isDone()) done(true);
      };
      this.#onProgress();
    });
  }

  #take(bytes: Buffer): void {
    this.bytes += bytes.byteLength;
    let rest = bytes;
    while (rest.byteLength > 0 && this.wrong === undefined)
      rest = this.#length < 0 ? this.#takeHead(rest) : this.#takeContent(rest);
    this.#onProgress?.();
  }

  #fail(what: string): Buffer {
    this.wrong ??= what;
    this.socket.destroy();
    return Buffer.alloc(0);
  }

  #takeHead(bytes: Buffer): Buffer {
    const expected = this.#waiting[0];
    if (expected === undefined)
      return this.#fail(`bytes that nobody asked for: ${JSON.stringify(bytes.toString("latin1", 0, 80))}`);
    const before = this.#head.byteLength;
    const head = before === 0 ? bytes : Buffer.concat([this.#head, bytes]);
    const end = head.indexOf(HEAD_END, Math.max(0, before - 3));
    if (end < 0) {
      this.#head = Buffer.from(head);
      return head.byteLength > HEAD_BYTES_MAX ? this.#fail("a head without end") : Buffer.alloc(0);
    }
    const text = head.toString("latin1", 0, end);
    this.#head = Buffer.alloc(0);
    const rest = head.subarray(end + HEAD_END.byteLength);
    const status = Number(/^HTTP\/1\.1 ([0-9]{3}) /.exec(text)?.[1]);
    if (status === 100) return rest;
    // A machine too busy to send a head within its time is told so.
    this.#isOwn = status >= 500 || status === 408;
    if (!this.#isOwn && (!expected.statuses.includes(status) || !text.includes(expected.mark)))
      return this.#fail(`expected ${expected.statuses.join()} ${expected.mark}, got ${JSON.stringify(text)}`);
    if (/\r\nconnection: close(?:\r|$)/i.test(text)) this.isClosing = true;
    const stated = Number(/\r\ncontent-length: ([0-9]+)/i.exec(text)?.[1] ?? Number.NaN);
    this.#length = this.#isOwn ? stated || 0 : expected.content.byteLength;
    this.#at = 0;
    const isBodiless = status === 304 || expected.request.subarray(0, 5).equals(HEAD);
    if (this.#isOwn && isBodiless) this.#length = 0;
    if (!this.#isOwn && !isBodiless && stated !== expected.content.byteLength)
      return this.#fail(`expected ${expected.content.byteLength} bytes of ${expected.mark}, got ${stated}`);
    if (this.#length === 0) this.#answerEnded();
    return rest;
  }

  #takeContent(bytes: Buffer): Buffer {
    const piece = bytes.subarray(0, this.#length - this.#at);
    const expected = this.#waiting[0] as Expected;
    if (!this.#isOwn && piece.compare(expected.content, this.#at, this.#at + piece.byteLength) !== 0)
      return this.#fail(
        `wrong bytes of ${expected.mark} from ${this.#at}: ${JSON.stringify(piece.toString("latin1", 0, 80))}`,
      );
    this.#at += piece.byteLength;
    if (this.#at === this.#length) this.#answerEnded();
    return bytes.subarray(piece.byteLength);
  }

  #answerEnded(): void {
    this.#length = -1;
    this.#waiting.shift();
    this.#askedBytes.shift();
    this.answered++;
    if (this.#isOwn) this.refused++;
  }
}

const HEAD = Buffer.from("HEAD ");

/** Whether `event` comes before the socket closes and within so many ms. */
export async function within(socket: Socket, event: string, ms: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const done = (isSeen: boolean): void => {
      clearTimeout(timer);
      socket.off(event, seen);
      socket.off("close", gone);
      resolve(isSeen);
    };
    const seen = (): void => done(true);
    const gone = (): void => done(false);
    const timer = setTimeout(gone, ms);
    socket.once(event, seen);
    socket.once("close", gone);
  });
}
