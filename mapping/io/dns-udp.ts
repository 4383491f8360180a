/** DNS over UDP (RFC 1035 section 4.2.1): datagrams in, datagrams out, no policy. In batches where the system can do that. */
import { type BindOptions, createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { isIPv6 } from "node:net";
import { parseAddress } from "#kit";
import { handleOf, sockaddrOf } from "#kit/io";
import type { BlackBox } from "./black-box.ts";
import { resolverAddressOf } from "./dns-handler.ts";
import { type BatchHandler, type BatchSender, batchSizes, UdpBatch } from "./udp-batch.ts";

export interface UdpCounters {
  /** Answers that the system refused to send. */
  readonly sendFailures: number;
  /** Queries from port 0, to which nothing can be sent. */
  readonly unanswerable: number;
  readonly receiveFailures: number;
  /** Batches by size; all 0 without batches. */
  readonly batches: Readonly<Record<string, number>>;
  /** Dropped because too many waited; none without batches. */
  readonly shed: Readonly<Record<"known" | "unknown", number>>;
}

export interface UdpOptions {
  readonly reusePort?: boolean;
  /** One system call for each datagram, as off Linux. */
  readonly isPlain?: boolean;
  /** A {@link UdpListener.handle} of another process, in place of a socket of our own. */
  readonly lent?: unknown;
  /** Told what is worked on. */
  readonly box?: BlackBox | undefined;
}

/** What the kernel may hold while we are busy: about 20,000 queries. Linux caps it at net.core.rmem_max. */
const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024;
/** Room for the longest answer over UDP. */
const ANSWER_BYTES_MAX = 1_344;

/** One UDP socket. With `reusePort` several processes or workers share the port and the kernel spreads the queries. */
export class UdpListener {
  readonly #socket: Socket;
  readonly #handler: BatchHandler;
  readonly #batch: UdpBatch | undefined;
  readonly #box: BlackBox | undefined;
  readonly #sender: BatchSender = {
    family: 4,
    words: new Uint32Array(4),
    port: 0,
    mayWait: false,
    nowMs: 0,
  };
  #sendFailures = 0;
  #unanswerable = 0;

  private constructor(
    socket: Socket,
    handler: BatchHandler,
    batch: UdpBatch | undefined,
    box: BlackBox | undefined,
  ) {
    this.#socket = socket;
    this.#box = box;
    this.#handler = handler;
    this.#batch = batch;
    // After binding, errors are of single datagrams (an ICMP error that came back): the next one may do.
    socket.on("error", () => {
      this.#sendFailures++;
    });
    socket.on("message", (bytes: Buffer, from: RemoteInfo) => {
      // One that came through the event loop tells that more may wait.
      const address = batch === undefined || from.port === 0 ? undefined : parseAddress(from.address);
      if (batch === undefined || address === undefined) {
        this.#answerOne(bytes, from);
        batch?.drain(handler);
      } else batch.drain(handler, { bytes, sockaddr: sockaddrOf(address, from.port) });
    });
  }

  /** Binds; rejects with the system's error. Port 0: any free one. `handler` must not throw. */
  static async bind(
    address: string,
    port: number,
    handler: BatchHandler,
    options: UdpOptions = {},
  ): Promise<UdpListener> {
    if (options.isPlain !== true) await UdpBatch.load();
    const socket = createSocket({
      type: isIPv6(address) ? "udp6" : "udp4",
      reusePort: options.reusePort ?? false,
    });
    const bound = Promise.withResolvers<UdpListener>();
    const onError = (error: Error): void => {
      socket.close();
      bound.reject(error);
    };
    socket.once("error", onError);
    // The listener is there before the first datagram is.
    const onBound = (): void => {
      socket.off("error", onError);
      const batch = options.isPlain === true ? undefined : UdpBatch.open(socket, options.box);
      bound.resolve(new UdpListener(socket, handler, batch, options.box));
    };
    if (options.lent === undefined) socket.bind({ address, port, exclusive: true }, onBound);
    // A handle that another process has bound: `bind` takes one, its types do not say so.
    else socket.bind(options.lent as unknown as BindOptions, onBound);
    const listener = await bound.promise;
    try {
      socket.setRecvBufferSize(RECEIVE_BUFFER_BYTES);
    } catch {
      // A system with a smaller limit serves with what it has.
    }
    return listener;
  }

  /** What another process can read the socket by, and go on when this one has closed it; undefined where it is not to be had. */
  get handle(): unknown {
    return handleOf(this.#socket);
  }

  get port(): number {
    return this.#socket.address().port;
  }

  /** Whether datagrams are read and written in batches. */
  get isBatched(): boolean {
    return this.#batch !== undefined;
  }

  get counters(): UdpCounters {
    const counters = this.#batch?.counters;
    return {
      sendFailures: this.#sendFailures + (counters?.sendFailures ?? 0),
      unanswerable: this.#unanswerable + (counters?.unanswerable ?? 0),
      receiveFailures: counters?.receiveFailures ?? 0,
      shed: this.#batch?.shed ?? { known: 0, unknown: 0 },
      batches: Object.fromEntries(batchSizes.map((size, n) => [size, counters?.received[n] ?? 0])),
    };
  }

  /** Stops receiving; resolves when the socket is closed. */
  close(): Promise<void> {
    this.#batch?.close(this.#handler);
    return new Promise((resolve) => this.#socket.close(() => resolve()));
  }

  #answerOne(bytes: Buffer, from: RemoteInfo): void {
    if (from.port === 0) {
      this.#unanswerable++;
      return;
    }
    const { family, words } = resolverAddressOf(from.address);
    const sender = this.#sender;
    sender.family = family;
    sender.words.set(words);
    sender.port = from.port;
    sender.nowMs = performance.now();
    const answer = Buffer.allocUnsafe(ANSWER_BYTES_MAX);
    this.#box?.beginMessage(bytes, family, words, from.port);
    const length = this.#handler(bytes, 0, bytes.length, sender, answer, 0);
    this.#box?.end();
    if (length > 0) this.#socket.send(answer, 0, length, from.port, from.address, this.#onSent);
  }

  readonly #onSent = (error: Error | null): void => {
    if (error !== null) this.#sendFailures++;
  };
}
