/** What a session is, for its two sides (session.ts what is called, session-reader.ts what comes): its streams, what is to be sent and told, its end. */
import type { MonotonicMs } from "#kit";
import { Allowance } from "./allowance.ts";
import { encodeHello } from "./hello.ts";
import { ReceiveWindows } from "./incoming.ts";
import { Liveness } from "./liveness.ts";
import { type OutgoingEvents, OutgoingStreams } from "./outgoing.ts";
import { beginStream, type Stream } from "./stream.ts";
import {
  FRAME,
  type LinkEvent,
  type LinkLimits,
  type LinkRequestHead,
  type SessionReason,
  type StreamReason,
  STREAMS_MIN,
  WINDOW_BYTES_MIN,
} from "./words.ts";

/** Streams that a client may give up at once, and a second for ever: each may have cost more than it told. */
const CANCELS_BURST = 512;
const CANCELS_PER_SECOND = 128;
/** Times that a client may say that it comes by UDP: each makes keys. */
const UDP_BURST = 8;
const UDP_PER_SECOND = 1 / 4;

export class SessionState implements OutgoingEvents<Stream> {
  readonly isServer: boolean;
  readonly limits: LinkLimits;
  readonly outgoing = new OutgoingStreams<Stream>(this);
  readonly frames = this.outgoing.frames;
  readonly windows: ReceiveWindows;
  readonly liveness: Liveness;
  readonly streams = new Map<number, Stream>();
  #events: LinkEvent[] = [];
  #eventsAt = 0;
  now: MonotonicMs;
  /** The highest stream number so far, and the last stream that was begun with: others come while it drains. */
  topId = 0;
  lastId = 0;
  /** What the other side's HELLO allows; it is not here yet while `hasHello` is false. */
  hasHello = false;
  peerStreamsMax = STREAMS_MIN;
  peerWindowBytes = WINDOW_BYTES_MIN;
  isDraining = false;
  /** Why it is over. */
  endReason: SessionReason | undefined;
  /** Replies (pongs, refusals) that wait to be sent. */
  replies = 0;
  readonly cancels: Allowance;
  /** Where the other side takes UDP, and the last context that was agreed on for it: none is used twice. */
  peerUdpPort: number | undefined;
  udpContext = 0;
  readonly udpAsks: Allowance;

  constructor(role: "client" | "server", limits: LinkLimits, now: MonotonicMs) {
    this.isServer = role === "server";
    this.limits = limits;
    this.now = now;
    this.cancels = new Allowance(CANCELS_BURST, CANCELS_PER_SECOND, now);
    this.udpAsks = new Allowance(UDP_BURST, UDP_PER_SECOND, now);
    this.windows = new ReceiveWindows(limits);
    this.liveness = new Liveness(limits, now);
    this.frames.frame(FRAME.hello, 0, encodeHello(limits));
    this.frames.ping(this.liveness.pingNumber);
  }

  tell(event: LinkEvent): void {
    this.#events.push(event);
  }

  pollEvent(): LinkEvent | undefined {
    if (this.#eventsAt === this.#events.length) {
      if (this.#eventsAt > 0) this.#events = [];
      this.#eventsAt = 0;
      return undefined;
    }
    return this.#events[this.#eventsAt++];
  }

  drained(stream: Stream): void {
    this.tell({ kind: "drained", id: stream.id });
  }

  /** The end of what we send on it is in a frame. */
  ended(stream: Stream): void {
    // An answer that did not need the rest of the request's content asks for no more of it.
    if (this.isServer && !stream.hasRemoteEnded) this.frames.cancel(stream.id, "not-needed");
    if (this.isServer || stream.hasRemoteEnded) this.done(stream);
  }

  remoteEnded(stream: Stream): void {
    stream.hasRemoteEnded = true;
    if (stream.hasEnded) this.done(stream);
  }

  done(stream: Stream): void {
    if (this.isServer) this.tell({ kind: "done", id: stream.id });
    this.forget(stream);
  }

  begin(id: number, { urgency, method }: Pick<LinkRequestHead, "urgency" | "method">): Stream {
    const stream = beginStream(id, urgency, method === "HEAD", this.peerWindowBytes, this.windows, this.now);
    this.streams.set(id, stream);
    return stream;
  }

  /** Gives up a stream for what the other side did. */
  refuse(stream: Stream, reason: StreamReason): void {
    this.replies++;
    this.tell({ kind: "cancelled", id: stream.id, reason });
    this.cancel(stream, reason);
  }

  cancel(stream: Stream, reason: StreamReason): void {
    this.frames.cancel(stream.id, reason);
    this.forget(stream);
  }

  forget(stream: Stream): void {
    stream.isEndQueued = true;
    stream.hasEnded = true;
    this.streams.delete(stream.id);
    this.outgoing.drop(stream);
    this.windows.end(stream);
  }

  fail(reason: SessionReason): void {
    this.frames.goaway(reason, this.lastId);
    this.end(reason);
  }

  end(reason: SessionReason): void {
    this.endReason = reason;
    this.isDraining = true;
    for (const stream of this.streams.values()) {
      this.tell({ kind: "cancelled", id: stream.id, reason: "session-lost" });
      this.forget(stream);
    }
    this.tell({ kind: "closed", reason });
  }
}
