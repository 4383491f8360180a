/**
 * How workers of one server hand each other what they have stored: a connection over a Unix socket on which keys go one way and
 * the stored responses under them come back. Keys that are wanted in one turn of the event loop go as one frame, and so does the
 * answer, in order: a copy costs a small part of what an HTTP request to the owner does, and with it the asker decides for itself.
 *
 * A frame: bytes of its head, bytes of its content (u32, little endian each), the head as JSON, the content. To the owner the head is
 * a list of keys; back it is, for each key, a list of stored heads with the length of their content, which follows in the same order.
 */
import { chmod } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import type { CacheKey } from "../core/cache-key.ts";
import type { StoredHead } from "../core/messages.ts";
import type { StoredObject } from "./memory-store.ts";
import { ObjectBody } from "./object-body.ts";

/** Largest content that goes this way: one frame is read before the next, and a larger one would hold up those behind it. */
const OBJECT_BYTES_MAX = 65_536;
/** Content of one answer; keys beyond it get none. */
const ANSWER_BYTES_MAX = 1_048_576;
/** Keys of one frame, and its bytes: both ends are ours, the bounds only keep a fault from growing. */
const KEYS_MAX = 64;
const FRAME_BYTES_MAX = 16_777_216;
const PREFIX_BYTES = 8;
/** An owner that has not answered by then is not waited for, ms: it would have done so at once. */
const ANSWER_TIMEOUT_MS = 1_000;

interface CopiedHead extends StoredHead {
  readonly bodyBytes: number;
}

interface Frame {
  readonly head: unknown;
  readonly content: Buffer;
}

const NOTHING: readonly StoredObject[] = [];

/** Gives other workers what `lookup` finds. */
export class CopyServer {
  readonly #lookup: (key: CacheKey) => readonly StoredObject[];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  /** `lookup`: what lies in memory under a key. */
  constructor(lookup: (key: CacheKey) => readonly StoredObject[]) {
    this.#lookup = lookup;
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
      // Who reads too slowly is not heard until it has read: one answer more than its buffer holds is the most that waits.
      socket.on("drain", () => socket.resume());
      readFrames(socket, ({ head }) => {
        this.#answer(socket, head as readonly CacheKey[]);
        if (socket.writableNeedDrain) socket.pause();
      });
    });
  }

  /** Rejects when the socket cannot be made. */
  async listen(path: string): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(path, resolve);
    });
    await chmod(path, 0o600);
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #answer(socket: Socket, keys: readonly CacheKey[]): void {
    const content: Uint8Array[] = [];
    let contentBytes = 0;
    const heads = keys.map((key): readonly CopiedHead[] => {
      const objects = this.#lookup(key);
      const bytes = objects.reduce((sum, { body }) => sum + body.bytes, 0);
      // All variants or none: with a part of them another one could be selected than here.
      if (!objects.every(isCopyable) || contentBytes + bytes > ANSWER_BYTES_MAX) return [];
      contentBytes += bytes;
      return objects.map(({ body, ...head }) => {
        content.push(...body.chunks);
        return { ...head, bodyBytes: body.bytes };
      });
    });
    sendFrame(socket, heads, content);
  }
}

function isCopyable({ body, isInvalidated, sliced, part }: StoredObject): boolean {
  return (sliced ?? part) === null && body.isComplete && body.bytes <= OBJECT_BYTES_MAX && !isInvalidated;
}

interface Wanted {
  readonly key: CacheKey;
  readonly resolve: (objects: readonly StoredObject[]) => void;
}

/** Asks one other worker. Connects when it is first asked, and anew after the connection broke. */
export class CopyLine {
  readonly #path: string;
  #connection: CopyConnection | undefined;
  /** Not sent yet. */
  #wanted: Wanted[] = [];
  #isClosed = false;

  constructor(path: string) {
    this.#path = path;
  }

  /** What the other has stored under a key, copies of its own; empty when it has nothing to give, or has gone. Never rejects. */
  async ask(key: CacheKey): Promise<readonly StoredObject[]> {
    if (this.#isClosed) return NOTHING;
    return await new Promise((resolve) => {
      if (this.#wanted.push({ key, resolve }) === 1) setImmediate(() => this.#send());
    });
  }

  /** Who waits gets nothing. */
  close(): void {
    this.#isClosed = true;
    this.#connection?.close();
  }

  #send(): void {
    const wanted = this.#wanted;
    this.#wanted = [];
    if (this.#isClosed) {
      for (const { resolve } of wanted) resolve(NOTHING);
      return;
    }
    if (this.#connection?.isClosed !== false) this.#connection = new CopyConnection(this.#path);
    for (let from = 0; from < wanted.length; from += KEYS_MAX)
      this.#connection.ask(wanted.slice(from, from + KEYS_MAX));
  }
}

class CopyConnection {
  readonly #socket: Socket;
  /** Frames without an answer, oldest first. */
  readonly #sent: { readonly wanted: readonly Wanted[]; readonly timer: NodeJS.Timeout }[] = [];

  constructor(path: string) {
    this.#socket = connect(path);
    readFrames(this.#socket, (frame) => this.#take(frame));
    this.#socket.once("close", () => {
      for (const { wanted, timer } of this.#sent) {
        clearTimeout(timer);
        for (const { resolve } of wanted) resolve(NOTHING);
      }
    });
  }

  get isClosed(): boolean {
    return this.#socket.destroyed;
  }

  ask(wanted: readonly Wanted[]): void {
    this.#sent.push({ wanted, timer: setTimeout(() => this.close(), ANSWER_TIMEOUT_MS) });
    const keys = wanted.map(({ key }) => key);
    sendFrame(this.#socket, keys, []);
  }

  close(): void {
    this.#socket.destroy();
  }

  #take({ head, content }: Frame): void {
    const first = this.#sent.shift();
    if (first === undefined) return;
    clearTimeout(first.timer);
    const answers = head as readonly (readonly CopiedHead[])[];
    let at = 0;
    for (const [index, { resolve }] of first.wanted.entries())
      resolve(
        (answers[index] ?? []).map(({ bodyBytes, ...stored }): StoredObject => {
          // Bytes of its own: a slice would keep the whole frame.
          const bytes = Uint8Array.from(content.subarray(at, (at += bodyBytes)));
          return { ...stored, body: ObjectBody.of([bytes]) };
        }),
      );
  }
}

function sendFrame(socket: Socket, head: unknown, content: readonly Uint8Array[]): void {
  const text = Buffer.from(JSON.stringify(head));
  const prefix = Buffer.allocUnsafe(PREFIX_BYTES);
  prefix.writeUInt32LE(text.byteLength, 0);
  prefix.writeUInt32LE(
    content.reduce((sum, { byteLength }) => sum + byteLength, 0),
    4,
  );
  socket.write(Buffer.concat([prefix, text, ...content]));
}

/** Calls `onFrame` for each whole frame. What is no frame ends the connection. */
function readFrames(socket: Socket, onFrame: (frame: Frame) => void): void {
  let chunks: Buffer[] = [];
  let bytes = 0;
  let neededBytes = PREFIX_BYTES;
  socket.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
    bytes += chunk.byteLength;
    if (bytes < neededBytes) return;
    let rest = chunks.length === 1 ? chunk : Buffer.concat(chunks);
    neededBytes = PREFIX_BYTES;
    try {
      while (rest.byteLength >= PREFIX_BYTES) {
        const headEnd = PREFIX_BYTES + rest.readUInt32LE(0);
        const end = headEnd + rest.readUInt32LE(4);
        if (end > FRAME_BYTES_MAX) throw new Error(`a frame of ${end} bytes`);
        neededBytes = end;
        if (rest.byteLength < end) break;
        const head: unknown = JSON.parse(rest.toString("utf8", PREFIX_BYTES, headEnd));
        onFrame({ head, content: rest.subarray(headEnd, end) });
        rest = rest.subarray(end);
        neededBytes = PREFIX_BYTES;
      }
    } catch {
      socket.destroy();
    }
    chunks = [rest];
    bytes = rest.byteLength;
  });
  // Its end is seen at "close".
  socket.on("error", () => {});
}
