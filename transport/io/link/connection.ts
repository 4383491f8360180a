/**
 * A session of the link protocol over one connection: reads into it, writes what it has to say, keeps its time. What is said in one turn of
 * the event loop leaves in one write, and no more is taken from the session than the connection takes, so that who goes first is decided late.
 * What does not fill a segment waits for what follows it at once, where something does (`core/segment-filling.ts`).
 */
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import { systemClock } from "#kit/io";
import { LinkSession } from "../../core/link/session.ts";
import { fillingBytes, REST_MS_MAX } from "../../core/segment-filling.ts";
import type { LinkEvent, LinkLimits, SessionReason } from "../../core/link/words.ts";
import { ChannelStream } from "./udp-channels.ts";

/** Most of one write. */
const WRITE_BYTES_MAX = 65_536;
/** Less than this left of a slab is left alone. */
const SLAB_REST_BYTES = 16_384;
/**
 * What is sent lies here, of all connections: written one after the other, never twice, since a write may still be under way when the next
 * one is made. Each slab lives until the last write out of it is done.
 */
const SLAB_BYTES = 262_144;
let slab = Buffer.alloc(0);
let slabAt = 0;
/**
 * TLS records are decrypted when they are whole: short ones after a pause give the first bytes sooner (208 against 152 ms at 48 ms and
 * 4 KiB), long ones cost less.
 */
const RECORD_BYTES_FIRST = 4_096;
const RECORD_BYTES = 16_384;
const FIRST_BYTES = 131_072;
const PAUSE_MS = 1_000;
/** From our last word until a peer is cut that does not close, ms. */
const LINGER_MS = 1_000;

export interface ConnectionUser {
  handleEvent(event: LinkEvent): void;
  /** Nothing more is heard of it. `why`: for messages. */
  handleGone(why: string): void;
}

export class LinkConnection {
  readonly session: LinkSession;
  readonly #socket: Duplex;
  readonly #user: ConnectionUser;
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Infinity;
  #isFlushDue = false;
  /** What was said last is followed at once. */
  #isFollowed = false;
  /** Taken from the session, less than a segment; its place in the slab. */
  #rest: Buffer | undefined;
  #restTimer: NodeJS.Timeout | undefined;
  #isEnding = false;
  #isGone = false;
  #error: Error | undefined;
  #recordBytes = RECORD_BYTES;
  #writtenBytes = 0;
  #writtenAtMs = 0;

  constructor(role: "client" | "server", socket: Duplex, limits: LinkLimits, user: ConnectionUser) {
    this.session = new LinkSession(role, limits, systemClock.monotonic());
    this.#socket = socket;
    this.#user = user;
    socket.on("data", (bytes: Buffer) => this.#received(bytes));
    socket.on("drain", () => this.flush());
    socket.on("end", () => this.#end());
    socket.on("error", (error) => {
      this.#error = error;
    });
    socket.once("close", () => this.#gone());
    this.flush();
  }

  /** Something was said to the session: it leaves at the end of this turn, or what does not fill a segment with what follows it at once. */
  wake(isFollowed = false): void {
    this.#isFollowed = isFollowed;
    if (this.#isFlushDue) return;
    this.#isFlushDue = true;
    setImmediate(this.#flushDue);
  }

  readonly #flushDue = (): void => {
    this.#isFlushDue = false;
    this.flush();
  };

  destroy(): void {
    this.#socket.destroy();
  }

  #received(bytes: Buffer): void {
    this.session.handleBytes(bytes, systemClock.monotonic());
    this.#tell();
  }

  /** Hands on what the session tells. What is answered to it at once leaves with what else is said in this turn, also of further reads. */
  #tell(): void {
    for (let event = this.session.pollEvent(); event !== undefined; event = this.session.pollEvent())
      this.#user.handleEvent(event);
    this.wake();
  }

  /** Writes what there is, as far as the connection takes it. */
  flush(): void {
    const socket = this.#socket;
    const isFollowed = this.#isFollowed && !(socket instanceof ChannelStream);
    this.#isFollowed = false;
    while (
      !socket.writableNeedDrain &&
      socket.writable &&
      (this.session.hasOutput || this.#rest !== undefined)
    ) {
      if (slab.byteLength - slabAt < SLAB_REST_BYTES) {
        slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
        slabAt = 0;
      }
      const room = slab.subarray(slabAt, slabAt + WRITE_BYTES_MAX);
      const restBytes = this.#takeRest()?.copy(room) ?? 0;
      const bytes = restBytes + this.session.pollTransmit(room.subarray(restBytes));
      if (bytes === 0) break;
      slabAt += bytes;
      this.#sizeRecords(bytes);
      const isWritten = !isFollowed || this.session.hasOutput;
      const now = isWritten ? bytes : fillingBytes(bytes, this.#recordBytes);
      if (now > 0) socket.write(room.subarray(0, now));
      if (now === bytes) continue;
      this.#rest = room.subarray(now, bytes);
      this.#restTimer = setTimeout(this.#flushRest, REST_MS_MAX);
      break;
    }
    // Room for content was made: who waits to write more is told.
    for (let event = this.session.pollEvent(); event !== undefined; event = this.session.pollEvent())
      this.#user.handleEvent(event);
    const { endReason, isDraining, streams, hasOutput } = this.session;
    if (endReason !== undefined || (isDraining && streams === 0 && !hasOutput)) this.#end();
    else this.#armTimer();
  }

  #takeRest(): Buffer | undefined {
    const rest = this.#rest;
    this.#rest = undefined;
    clearTimeout(this.#restTimer);
    return rest;
  }

  /** Nothing followed. */
  readonly #flushRest = (): void => this.flush();

  #sizeRecords(bytes: number): void {
    const nowMs = performance.now();
    if (nowMs - this.#writtenAtMs > PAUSE_MS) this.#writtenBytes = 0;
    this.#writtenAtMs = nowMs;
    this.#writtenBytes += bytes;
    const wanted = this.#writtenBytes <= FIRST_BYTES ? RECORD_BYTES_FIRST : RECORD_BYTES;
    if (wanted === this.#recordBytes) return;
    this.#recordBytes = wanted;
    (this.#socket as Partial<TLSSocket>).setMaxSendFragment?.(wanted);
  }

  /** One timer that may come too early: deadlines mostly move away. */
  #armTimer(): void {
    const at = this.session.pollTimeout() ?? Infinity;
    if (at >= this.#timerAt || this.#isGone) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(this.#timeout, Math.max(1, Math.ceil(at - systemClock.monotonic())));
    this.#timer.unref();
  }

  readonly #timeout = (): void => {
    this.#timerAt = Infinity;
    this.session.handleTimeout(systemClock.monotonic());
    this.#tell();
  };

  /** What was written leaves, then the connection closes. */
  #end(): void {
    if (this.#isEnding) return;
    this.#isEnding = true;
    this.#socket.end(this.#takeRest());
    this.#socket.resume();
    const linger = (): void => void setTimeout(() => this.#socket.destroy(), LINGER_MS).unref();
    // What a channel of UDP was given is out of our hands when it has come; it waits for no silent peer.
    if (this.#socket instanceof ChannelStream) this.#socket.once("finish", linger);
    else linger();
  }

  #gone(): void {
    if (this.#isGone) return;
    this.#isGone = true;
    clearTimeout(this.#timer);
    this.#takeRest();
    this.#user.handleGone(reasonOf(this.session.endReason, this.#error));
  }
}

function reasonOf(reason: SessionReason | undefined, error: Error | undefined): string {
  if (reason !== undefined) return `the session ended: ${reason}`;
  return error === undefined ? "the peer closed the connection" : error.message;
}
