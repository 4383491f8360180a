/** What the other side of a session says: frames as they come, held against what a stream may do now. */
import { ByteReader } from "./bytes.ts";
import type { FrameSink } from "./frame-reader.ts";
import { decodeRequest, decodeResponse, decodeTrailers } from "./head-decoder.ts";
import { parseHello } from "./hello.ts";
import type { SessionState } from "./session-state.ts";
import { expectContent, isWithoutContent, type Stream } from "./stream.ts";
import { type FlatFields, FRAME, type SessionReason, sessionReasons, streamReasons } from "./words.ts";

/** Of a stream that has no head of its own what sending goes by. */
export const MOVED = { method: "GET", urgency: "normal" } as const;

/** What a sender may be allowed in all: far above every window, and a number that adds up exactly. */
const CREDIT_MAX = 2 ** 31;

export class SessionReader implements FrameSink {
  readonly #state: SessionState;

  constructor(state: SessionState) {
    this.#state = state;
  }

  frame(
    type: number,
    id: number,
    isEnd: boolean,
    bytes: Uint8Array,
    from: number,
    to: number,
  ): SessionReason | undefined {
    if (!this.#state.hasHello) {
      return type === FRAME.hello ? this.#helloFrame(new ByteReader(bytes, from, to)) : "hello-first";
    }
    switch (type) {
      case FRAME.head:
        return this.#state.isServer
          ? this.#requestFrame(id, isEnd, bytes, from, to)
          : this.#responseFrame(id, isEnd, bytes, from, to);
      case FRAME.trailers:
        return this.#trailersFrame(id, bytes, from, to);
      case FRAME.credit:
        return this.#creditFrame(id, new ByteReader(bytes, from, to));
      case FRAME.cancel:
        return this.#cancelFrame(id, bytes[from] as number);
      case FRAME.ping:
        this.#state.replies++;
        this.#state.frames.frame(FRAME.pong, 0, bytes.subarray(from, to));
        return undefined;
      case FRAME.pong:
        this.#state.liveness.handlePong(
          new DataView(bytes.buffer, bytes.byteOffset + from).getUint32(0),
          this.#state.now,
        );
        return undefined;
      case FRAME.goaway:
        return this.#goawayFrame(new ByteReader(bytes, from, to));
      case FRAME.move:
        return this.#moveFrame(id, new ByteReader(bytes, from, to));
      case FRAME.udp:
        return this.#udpFrame(new ByteReader(bytes, from, to));
      default:
        // A second HELLO.
        return "hello-first";
    }
  }

  content(id: number, bytes: number): SessionReason | undefined {
    if (!this.#state.hasHello) return "hello-first";
    if (id > this.#state.topId) return "stream-id";
    const stream = this.#state.streams.get(id);
    // Given up while the other side could not know yet.
    if (stream === undefined) return undefined;
    if (bytes > stream.receiveCredit) return "credit-exceeded";
    stream.receiveCredit -= bytes;
    if (stream.hasRemoteEnded || !stream.hasHead) this.#state.refuse(stream, "order");
    else if (stream.contentLeft !== undefined) {
      stream.contentLeft -= bytes;
      if (stream.contentLeft < 0) this.#state.refuse(stream, "content-length");
    }
    return undefined;
  }

  piece(id: number, piece: Uint8Array, isEnd: boolean): void {
    const stream = this.#state.streams.get(id);
    if (stream === undefined) return;
    if (isEnd && !this.#isWhole(stream)) return;
    stream.unreadBytes += piece.byteLength;
    this.#state.tell({ kind: "data", id, bytes: piece, isEnd });
    if (isEnd) this.#state.remoteEnded(stream);
  }

  #helloFrame(payload: ByteReader): SessionReason | undefined {
    const hello = parseHello(payload);
    if (typeof hello === "string") return hello;
    this.#state.hasHello = true;
    this.#state.peerStreamsMax = hello.streamsMax;
    this.#state.peerUdpPort = hello.udpPort;
    const more = hello.windowBytes - this.#state.peerWindowBytes;
    this.#state.peerWindowBytes = hello.windowBytes;
    for (const stream of this.#state.streams.values()) {
      stream.sendCredit += more;
      this.#state.outgoing.schedule(stream);
    }
    this.#state.tell({ kind: "open" });
    return undefined;
  }

  #requestFrame(
    id: number,
    isEnd: boolean,
    bytes: Uint8Array,
    from: number,
    to: number,
  ): SessionReason | undefined {
    if (id <= this.#state.topId) {
      const known = this.#state.streams.get(id);
      if (known !== undefined) this.#state.refuse(known, "order");
      return undefined;
    }
    const refused = this.#nextStream(id);
    if (refused !== undefined) return refused;
    if (this.#state.isDraining) return undefined;
    const head = decodeRequest(bytes, from, to);
    if (typeof head === "string") {
      this.#state.replies++;
      this.#state.frames.cancel(id, head);
      return undefined;
    }
    const stream = this.#state.begin(id, head);
    const fault = expectContent(stream, head.fields, isEnd, false);
    if (fault !== undefined) {
      this.#state.replies++;
      this.#state.cancel(stream, fault);
      return undefined;
    }
    stream.hasRemoteEnded = isEnd;
    this.#state.tell({ kind: "request", id, head, isEnd });
    return undefined;
  }

  /** The next number of the client's. After GOAWAY its streams are read over: the client takes them elsewhere. */
  #nextStream(id: number): SessionReason | undefined {
    if (id !== this.#state.topId + 1) return "stream-id";
    this.#state.topId = id;
    if (this.#state.isDraining) return undefined;
    if (this.#state.streams.size >= this.#state.limits.streamsMax) return "streams-exceeded";
    this.#state.lastId = id;
    return undefined;
  }

  #moveFrame(id: number, payload: ByteReader): SessionReason | undefined {
    if (!this.#state.isServer || this.#state.limits.udpPort === undefined) return "frame-type";
    const channel = payload.byte();
    const stream = payload.number();
    if (stream <= 0 || payload.at !== payload.end) return "number";
    const refused = this.#nextStream(id);
    if (refused !== undefined || this.#state.isDraining) return refused;
    const moved = this.#state.begin(id, MOVED);
    moved.hasRemoteEnded = true;
    moved.hasSentHead = true;
    this.#state.tell({ kind: "move", id, channel, stream });
    return undefined;
  }

  #responseFrame(
    id: number,
    isEnd: boolean,
    bytes: Uint8Array,
    from: number,
    to: number,
  ): SessionReason | undefined {
    if (id > this.#state.topId) return "stream-id";
    const stream = this.#state.streams.get(id);
    if (stream === undefined) return undefined;
    const head = decodeResponse(bytes, from, to);
    if (typeof head === "string") {
      this.#state.refuse(stream, head);
      return undefined;
    }
    const isInterim = head.status < 200;
    if (stream.hasHead || stream.hasRemoteEnded || (isInterim && isEnd)) {
      this.#state.refuse(stream, "order");
      return undefined;
    }
    const hasNone = stream.isForHead || isWithoutContent(head.status);
    const fault = isInterim ? undefined : expectContent(stream, head.fields, isEnd, hasNone);
    if (fault !== undefined) {
      this.#state.refuse(stream, fault);
      return undefined;
    }
    this.#state.tell({ kind: "response", id, head, isEnd });
    if (isEnd) this.#state.remoteEnded(stream);
    return undefined;
  }

  #trailersFrame(id: number, bytes: Uint8Array, from: number, to: number): SessionReason | undefined {
    if (id > this.#state.topId) return "stream-id";
    const stream = this.#state.streams.get(id);
    if (stream === undefined) return undefined;
    const fields = decodeTrailers(bytes, from, to);
    const fault =
      stream.hasRemoteEnded || !stream.hasHead
        ? "order"
        : typeof fields === "string"
          ? fields
          : fields.includes("content-length")
            ? "field-name"
            : undefined;
    if (fault !== undefined) this.#state.refuse(stream, fault);
    else if (this.#isWhole(stream)) {
      this.#state.tell({ kind: "trailers", id, fields: fields as FlatFields });
      this.#state.remoteEnded(stream);
    }
    return undefined;
  }

  #creditFrame(id: number, payload: ByteReader): SessionReason | undefined {
    const more = payload.number();
    if (more <= 0 || payload.at !== payload.end) return "number";
    if (id > this.#state.topId) return "stream-id";
    const stream = this.#state.streams.get(id);
    if (stream === undefined) return undefined;
    stream.sendCredit += more;
    if (stream.sendCredit > CREDIT_MAX) return "credit-overflow";
    this.#state.outgoing.schedule(stream);
    return undefined;
  }

  #cancelFrame(id: number, code: number): SessionReason | undefined {
    if (id > this.#state.topId) return "stream-id";
    const stream = this.#state.streams.get(id);
    if (stream === undefined) return undefined;
    const reason = streamReasons[code] ?? "internal";
    if (this.#state.isServer && !this.#state.cancels.take(this.#state.now)) return "cancel-flood";
    this.#state.tell(
      stream.hasRemoteEnded && !this.#state.isServer
        ? { kind: "stopped", id, reason }
        : { kind: "cancelled", id, reason },
    );
    this.#state.forget(stream);
    return undefined;
  }

  #goawayFrame(payload: ByteReader): SessionReason | undefined {
    const code = payload.byte();
    const lastId = payload.number();
    if (lastId < 0 || payload.at !== payload.end) return "number";
    const reason = sessionReasons[code] ?? "internal";
    if (reason !== "done") {
      this.#state.end(reason);
      return undefined;
    }
    this.#state.isDraining = true;
    this.#state.tell({ kind: "goaway", reason });
    if (this.#state.isServer) return undefined;
    // It has not begun with them, and will not.
    for (const stream of this.#state.streams.values()) {
      if (stream.id <= lastId) continue;
      this.#state.tell({ kind: "cancelled", id: stream.id, reason: "refused" });
      this.#state.forget(stream);
    }
    return undefined;
  }

  #udpFrame(payload: ByteReader): SessionReason | undefined {
    if (!this.#state.isServer || this.#state.limits.udpPort === undefined) return "frame-type";
    const context = payload.number();
    if (context <= this.#state.udpContext || payload.at !== payload.end) return "number";
    if (!this.#state.udpAsks.take(this.#state.now)) return "control-flood";
    this.#state.udpContext = context;
    if (!this.#state.isDraining) this.#state.tell({ kind: "udp", context });
    return undefined;
  }

  /** Whether as much has come as was stated; otherwise the stream is refused. */
  #isWhole(stream: Stream): boolean {
    if (stream.contentLeft === undefined || stream.contentLeft === 0) return true;
    this.#state.refuse(stream, "content-length");
    return false;
  }
}
