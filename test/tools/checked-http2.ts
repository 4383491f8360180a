/**
 * A connection of HTTP/2 whose every frame is checked: windows that the server must not exceed, headers and content that belong to their
 * stream, ends that come when all has. Written against RFC 9113 by hand, so that it can do what no well-behaved client does.
 */
import { connect, type TLSSocket } from "node:tls";
import type { Random } from "#kit";
import { HpackDecoder } from "../../edge/core/http2/hpack.ts";
import { type Expected, within } from "./checked-connection.ts";
import { HpackGames } from "./hpack-games.ts";
import { FLAG, FRAME, frame, PREFACE, setting, uint32 } from "./http2-frames.ts";

const FRAME_BYTES_MAX = 16_384;
const WINDOW_INITIAL = 65_535;
const INITIAL_WINDOW_SIZE = 4;
const INTERNAL_ERROR = 2;
const REFUSED_STREAM = 7;

interface Asked {
  readonly expected: Expected;
  /** What the server may send still. */
  window: number;
  /** What we may send still, and what is to be sent. */
  sendWindow: number;
  upload: Buffer;
  hasHead: boolean;
  /** The server's own answer: its content is not known. */
  isOwn: boolean;
  at: number;
}

export interface Http2Client {
  /** SETTINGS_INITIAL_WINDOW_SIZE. */
  readonly windowBytes: number;
  /** Whether windows are filled again as content comes; else by {@link CheckedHttp2.credit} alone. */
  readonly isCrediting: boolean;
}

export class CheckedHttp2 {
  readonly socket: TLSSocket;
  readonly #random: Random;
  readonly #client: Http2Client;
  readonly #encoder: HpackGames;
  readonly #decoder = new HpackDecoder({ fieldsMax: 1_000, listBytesMax: 2 ** 20 });
  readonly #streams = new Map<number, Asked>();
  #rest: Buffer = Buffer.alloc(0);
  #block: { id: number; isEnd: boolean; pieces: Buffer[] } | undefined;
  #nextId = 1;
  #window = WINDOW_INITIAL;
  /** What streams begin with; lower values hold when the server has acknowledged them. */
  #initialWindow: number;
  readonly #unacknowledged: number[] = [];
  #sendWindow = WINDOW_INITIAL;
  #peerWindow = WINDOW_INITIAL;
  /** Streams that the server takes at once. */
  streamsMax = 100;
  hasEnded = false;
  /** Nothing new is to be begun. */
  isClosing = false;
  /** Error code of the last GOAWAY. */
  goawayCode: number | undefined;
  /** What it does is meant to end it. */
  isHostile = false;
  answered = 0;
  bytes = 0;
  refused = 0;
  /** Answers that broke off, as they do when the origin's does. */
  broken = 0;
  /** When the first of those broke off, or all were lost with the connection, by the performance clock. */
  lostAt: number | undefined;
  wrong: string | undefined;
  #onProgress: (() => void) | undefined;

  constructor(port: number, random: Random, client: Http2Client) {
    this.#random = random;
    this.#client = client;
    this.#encoder = new HpackGames(random);
    this.#initialWindow = Math.max(client.windowBytes, WINDOW_INITIAL);
    this.#unacknowledged.push(client.windowBytes);
    this.socket = connect({
      port,
      host: "127.0.0.1",
      servername: "localhost",
      ALPNProtocols: ["h2"],
      rejectUnauthorized: false,
    });
    this.socket.setNoDelay(true);
    this.socket.on("error", () => {});
    this.socket.on("close", () => {
      this.lostAt ??= performance.now();
      this.hasEnded = true;
      this.#onProgress?.();
    });
    this.socket.on("data", (bytes: Buffer) => this.#take(bytes));
  }

  /** Answers that were asked for, are promised, and have not come. */
  get outstanding(): number {
    return this.#streams.size + this.broken;
  }
  get streamIds(): readonly number[] {
    return [...this.#streams.keys()];
  }
  /** What is outstanding, for a message. */
  get waitingFor(): readonly string[] {
    return [...this.#streams].map(
      ([id, { expected, at, window, upload, sendWindow }]) =>
        `${id} ${expected.method} ${expected.path}: ${at} of ${expected.content.byteLength}, window ${window} of ${this.#window}, to send ${upload.byteLength} in ${sendWindow} of ${this.#sendWindow}`,
    );
  }
  get mayAsk(): boolean {
    return !this.isClosing && !this.hasEnded && this.wrong === undefined;
  }

  async opened(withinMs: number): Promise<boolean> {
    const isOpen = await within(this.socket, "secureConnect", withinMs);
    const settings = setting(INITIAL_WINDOW_SIZE, this.#client.windowBytes);
    if (isOpen) this.send(Buffer.concat([PREFACE, frame(FRAME.settings, 0, 0, settings)]));
    return isOpen;
  }

  /** Writes, in one piece or cut anywhere. */
  send(bytes: Buffer): void {
    if (!this.socket.writable) return;
    const cuts = this.#random.int(4);
    let from = 0;
    for (let cut = 0; cut < cuts && from < bytes.byteLength; cut++) {
      const to = from + this.#random.int(bytes.byteLength - from + 1);
      if (to > from) this.socket.write(bytes.subarray(from, to));
      from = to;
    }
    if (from < bytes.byteLength) this.socket.write(bytes.subarray(from));
  }

  /** The frames that ask; content follows as the server's windows allow. */
  request(expected: Expected): { readonly id: number; readonly frames: Buffer } {
    const random = this.#random;
    const id = this.#nextId;
    this.#nextId += 2;
    const block = this.#encoder.encode([
      [":method", expected.method],
      [":scheme", "https"],
      [":authority", "localhost"],
      [":path", expected.path],
      ["user-agent", "checked"],
      ...expected.fields,
      ...(random.int(4) === 0 ? [["x-any", "y".repeat(random.int(600))] as const] : []),
    ]);
    const upload = expected.body ?? Buffer.alloc(0);
    const end = upload.byteLength === 0 ? FLAG.endStream : 0;
    this.#streams.set(id, {
      expected,
      window: this.#initialWindow,
      sendWindow: this.#peerWindow,
      upload,
      hasHead: false,
      isOwn: false,
      at: 0,
    });
    const cut = random.int(3) === 0 ? random.int(block.byteLength + 1) : block.byteLength;
    if (cut === block.byteLength)
      return { id, frames: frame(FRAME.headers, end | FLAG.endHeaders, id, block) };
    const frames = [
      frame(FRAME.headers, end, id, block.subarray(0, cut)),
      frame(FRAME.continuation, FLAG.endHeaders, id, block.subarray(cut)),
    ];
    return { id, frames: Buffer.concat(frames) };
  }

  ask(...asked: readonly Expected[]): void {
    this.send(Buffer.concat(asked.map((one) => this.request(one).frames)));
    this.#upload();
  }

  reset(id: number): void {
    if (!this.#streams.delete(id)) return;
    this.send(frame(FRAME.rstStream, 0, id, uint32(8)));
  }

  /** Fills a window; 0: the connection's. */
  credit(id: number, bytes: number): void {
    const stream = this.#streams.get(id);
    if (id === 0) this.#window += bytes;
    else if (stream === undefined) return;
    else stream.window += bytes;
    this.send(frame(FRAME.windowUpdate, 0, id, uint32(bytes)));
  }

  /** Moves the windows of all streams (section 6.9.2). */
  setInitialWindow(bytes: number): void {
    if (bytes > this.#initialWindow) this.#applyInitial(bytes);
    this.#unacknowledged.push(bytes);
    this.send(frame(FRAME.settings, 0, 0, setting(INITIAL_WINDOW_SIZE, bytes)));
  }

  /** Until at most `outstanding` answers are to come, or none will. False: not within `withinMs`. */
  async settled(outstanding: number, withinMs: number): Promise<boolean> {
    return await new Promise((resolve) => {
      const done = (isInTime: boolean): void => {
        clearTimeout(timer);
        this.#onProgress = undefined;
        resolve(isInTime);
      };
      const timer = setTimeout(() => done(false), withinMs);
      this.#onProgress = () => {
        if (this.#streams.size <= outstanding || this.hasEnded || this.wrong !== undefined) done(true);
      };
      this.#onProgress();
    });
  }

  /** False: it is not closed within `withinMs`. */
  async closed(withinMs: number): Promise<boolean> {
    if (!this.hasEnded) await within(this.socket, "close", withinMs);
    return this.hasEnded;
  }

  #applyInitial(bytes: number): void {
    for (const stream of this.#streams.values()) stream.window += bytes - this.#initialWindow;
    this.#initialWindow = bytes;
  }

  #fail(what: string): void {
    if (this.isHostile) return;
    this.wrong ??= what;
    this.socket.destroy();
  }

  /** Sends of all uploads what the windows allow, in frames of any size, some padded, some with trailers. */
  #upload(): void {
    const random = this.#random;
    const frames: Buffer[] = [];
    for (const [id, stream] of this.#streams) {
      while (stream.upload.byteLength > 0) {
        const padding = random.int(4) === 0 ? random.int(100) : -1;
        const room = Math.min(stream.sendWindow, this.#sendWindow, FRAME_BYTES_MAX) - padding - 1;
        if (room <= 0) break;
        const piece = stream.upload.subarray(0, Math.min(room, 1 + random.int(FRAME_BYTES_MAX)));
        stream.upload = stream.upload.subarray(piece.byteLength);
        const isLast = stream.upload.byteLength === 0;
        const hasTrailers = isLast && random.int(3) === 0;
        const end = isLast && !hasTrailers ? FLAG.endStream : 0;
        const payload =
          padding < 0 ? piece : Buffer.concat([Buffer.from([padding]), piece, Buffer.alloc(padding)]);
        frames.push(frame(FRAME.data, end | (padding < 0 ? 0 : 8), id, payload));
        stream.sendWindow -= payload.byteLength;
        this.#sendWindow -= payload.byteLength;
        if (hasTrailers) {
          const block = this.#encoder.encode([["x-checksum", "1"]]);
          frames.push(frame(FRAME.headers, FLAG.endStream | FLAG.endHeaders, id, block));
        }
      }
    }
    if (frames.length > 0) this.send(Buffer.concat(frames));
  }

  #take(bytes: Buffer): void {
    this.bytes += bytes.byteLength;
    let rest = this.#rest.byteLength === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    while (rest.byteLength >= 9 && this.wrong === undefined) {
      const length = rest.readUIntBE(0, 3);
      if (length > FRAME_BYTES_MAX) {
        this.#fail(`a frame of ${length} bytes`);
        return;
      }
      if (rest.byteLength < 9 + length) break;
      const id = rest.readUInt32BE(5) & 0x7fffffff;
      this.#frame(rest.readUInt8(3), rest.readUInt8(4), id, rest.subarray(9, 9 + length));
      rest = rest.subarray(9 + length);
    }
    this.#rest = Buffer.from(rest);
    this.#onProgress?.();
  }

  #frame(type: number, flags: number, id: number, payload: Buffer): void {
    if (this.#block !== undefined && (type !== FRAME.continuation || id !== this.#block.id))
      this.#fail(`a frame of type ${type} within a header block`);
    else if (type === FRAME.headers || type === FRAME.continuation) {
      const block = (this.#block ??= { id, isEnd: (flags & FLAG.endStream) !== 0, pieces: [] });
      block.pieces.push(Buffer.from(payload));
      if ((flags & FLAG.endHeaders) === 0) return;
      this.#block = undefined;
      this.#head(id, block.isEnd, Buffer.concat(block.pieces));
    } else if (type === FRAME.data) this.#data(id, (flags & FLAG.endStream) !== 0, payload);
    else if (type === FRAME.rstStream) {
      const code = payload.readUInt32BE(0);
      // Ours to have forgotten; or the answer came whole, and the content is not wanted (section 8.1).
      if (!this.#streams.has(id)) return;
      this.#streams.delete(id);
      if (code === REFUSED_STREAM) this.refused++;
      else if (code === INTERNAL_ERROR) {
        this.broken++;
        this.lostAt ??= performance.now();
      } else this.#fail(`stream ${id} reset with code ${code}`);
    } else if (type === FRAME.goaway) {
      this.isClosing = true;
      this.goawayCode = payload.readUInt32BE(4);
      const lastId = payload.readUInt32BE(0);
      for (const key of this.#streams.keys()) if (key > lastId) this.#streams.delete(key);
      if (this.goawayCode !== 0) this.#fail(`GOAWAY with code ${this.goawayCode}`);
    } else if (type === FRAME.settings) this.#settings(flags, payload);
    else if (type === FRAME.windowUpdate) {
      const stream = this.#streams.get(id);
      if (id === 0) this.#sendWindow += payload.readUInt32BE(0);
      else if (stream !== undefined) stream.sendWindow += payload.readUInt32BE(0);
      this.#upload();
    } else if (type !== FRAME.ping) this.#fail(`a frame of type ${type}`);
  }

  #settings(flags: number, payload: Buffer): void {
    if ((flags & FLAG.ack) !== 0) {
      const bytes = this.#unacknowledged.shift();
      if (bytes !== undefined && this.#unacknowledged.every((later) => later <= bytes))
        this.#applyInitial(bytes);
      return;
    }
    for (let at = 0; at < payload.byteLength; at += 6) {
      const value = payload.readUInt32BE(at + 2);
      const name = payload.readUInt16BE(at);
      if (name === 3) this.streamsMax = value;
      if (name !== INITIAL_WINDOW_SIZE) continue;
      for (const stream of this.#streams.values()) stream.sendWindow += value - this.#peerWindow;
      this.#peerWindow = value;
    }
    this.send(frame(FRAME.settings, FLAG.ack, 0));
    this.#upload();
  }

  #head(id: number, isEnd: boolean, block: Buffer): void {
    const fields = this.#decoder.decode(block);
    if (typeof fields === "string") {
      this.#fail(`a header block that is ${fields}`);
      return;
    }
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    const value = (name: string): string | undefined => {
      const at = fields.findIndex((field, index) => index % 2 === 0 && field === name);
      return at === -1 ? undefined : fields[at + 1];
    };
    const status = Number(value(":status"));
    if (status >= 100 && status < 200) return;
    if (stream.hasHead) this.#fail(`a second head for ${stream.expected.path}`);
    stream.hasHead = true;
    stream.isOwn = status >= 500 || status === 408;
    const { statuses, mark, method, path, content } = stream.expected;
    if (!stream.isOwn && (!statuses.includes(status) || value("etag") !== mark))
      this.#fail(`expected ${statuses.join()} ${mark}, got ${fields.join("|")}`);
    const length = value("content-length");
    if (!stream.isOwn && method !== "HEAD" && status !== 304 && length !== String(content.byteLength))
      this.#fail(`expected ${content.byteLength} bytes of ${path}, got ${length}`);
    if (isEnd) this.#end(id, stream);
  }

  #data(id: number, isEnd: boolean, payload: Buffer): void {
    this.#window -= payload.byteLength;
    if (this.#window < 0) this.#fail("content beyond the connection's window");
    const stream = this.#streams.get(id);
    if (this.#client.isCrediting && payload.byteLength > 0 && this.#window < WINDOW_INITIAL / 2)
      this.credit(0, 2 * WINDOW_INITIAL);
    if (stream === undefined) return;
    stream.window -= payload.byteLength;
    // A frame without content is no content (section 6.9.1).
    if (payload.byteLength > 0 && stream.window < 0)
      this.#fail(`content of ${stream.expected.path} beyond its window`);
    const { content, path } = stream.expected;
    if (!stream.hasHead) this.#fail(`content before the head of ${path}`);
    if (!stream.isOwn) {
      const to = stream.at + payload.byteLength;
      if (to > content.byteLength || payload.compare(content, stream.at, to) !== 0)
        this.#fail(
          `wrong bytes of ${path} from ${stream.at}: ${JSON.stringify(payload.toString("latin1", 0, 80))}`,
        );
      stream.at = to;
    }
    if (isEnd) this.#end(id, stream);
    else if (this.#client.isCrediting && stream.window < this.#client.windowBytes / 2)
      this.credit(id, this.#client.windowBytes);
  }

  #end(id: number, stream: Asked): void {
    const { content, path } = stream.expected;
    if (!stream.isOwn && stream.at !== content.byteLength)
      this.#fail(`${path} ended at ${stream.at} of ${content.byteLength}`);
    this.#streams.delete(id);
    this.answered++;
    if (stream.isOwn) this.refused++;
  }
}
