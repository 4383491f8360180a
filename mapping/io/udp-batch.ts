/**
 * Many datagrams a system call: recvmmsg(2) and sendmmsg(2) on a socket's descriptor, through koffi. Half of the cost of a small answer over
 * `node:dgram` is one call and one callback for each packet.
 *
 * The kernel is given addresses of our memory, so that memory never moves and never goes: it is allocated once for each socket and
 * kept for the life of the process (`immortal`), even after the socket is closed. The kernel's answers (how many, how long) are
 * checked against what it was given before anything is read by them.
 */
import { endianness } from "node:os";
import { GATHER_MS, Gathering } from "../core/dns/gathering.ts";
import type { BlackBox } from "./black-box.ts";
import { WAIT_FIRST, WaitingQueries } from "./waiting-queries.ts";

/** Datagrams a call. Under load 30 to 45 wait. */
export const BATCH_MAX = 64;
/** The longest datagram: nothing is ever cut. Untouched pages cost nothing. */
const RECEIVE_BYTES = 65_536;
/** Not a power of two, so that the beginnings of the slots do not share the same few lines of the cache. */
const RECEIVE_STRIDE = RECEIVE_BYTES + 192;
/** 1,232 octets at most are sent (RFC 9715 and our own limit). */
const SEND_STRIDE = 1_344;
/** struct sockaddr_in6 has 28 octets. */
const NAME_STRIDE = 32;
const SOCKADDR_IN_BYTES = 16;
const SOCKADDR_IN6_BYTES = 28;
/** struct mmsghdr of 64-bit Linux: msghdr (56: name 0, namelen 8, iov 16, iovlen 24, control 32, controllen 40, flags 48), len 56. */
const HEADER_STRIDE = 64;
/** Where msg_namelen and msg_len stand in it, in words of 32 bits. */
const NAME_BYTES_WORD = 2;
const LENGTH_WORD = 14;
const IOVEC_STRIDE = 16;
const AF_INET = 2;
const AF_INET6 = 10;
const MSG_DONTWAIT = 0x40;
/** Level and option of IP_MTU_DISCOVER, by family; linux/in.h and linux/in6.h. */
const MTU_DISCOVER = [
  [0, 10],
  [41, 23],
] as const;
const PMTUDISC_PROBE = 3;
const errnos = { EINTR: 4, EAGAIN: 11, ENOBUFS: 105 } as const;
/** Batches that are looked at before what waits has its turn. */
const BATCHES_A_ROUND_MAX = 64;
/** What waits is answered for so long before the socket is looked at again: less than its buffer holds under a flood. */
const ROUND_MS = 1;
/** Then TCP, probes and timers have their turn of the event loop. */
const TURN_MS = 4;

/** A thread that waits for it sleeps until its time is up. */
const neverWoken = new Int32Array(new SharedArrayBuffer(4));

/**
 * Answers `query[at..end]` from the sender into `out[outAt..]`; octets written, 0: silence, `WAIT_FIRST` or `WAIT`, where the sender may wait:
 * it is handed over again once what came with it is looked at.
 */
export type BatchHandler = (
  query: Uint8Array,
  at: number,
  end: number,
  sender: BatchSender,
  out: Uint8Array,
  outAt: number,
) => number;

/** Who sent a datagram, filled anew for each. */
export interface BatchSender {
  family: 4 | 6;
  /** Network order; IPv4 in the first one. */
  readonly words: Uint32Array;
  port: number;
  /** Whether the query may be put off. */
  mayWait: boolean;
  /** When it came, by `performance.now()`: the clock is read once for a batch. */
  nowMs: number;
}

export interface BatchCounters {
  /** Batches that were received, by size: 1, 2-4, 5-8, 9-16, 17-32, 33-64. */
  readonly received: number[];
  sendFailures: number;
  unanswerable: number;
  /** recvmmsg failed otherwise than by having nothing. */
  receiveFailures: number;
}

export const batchSizes = ["1", "2-4", "5-8", "9-16", "17-32", "33-64"] as const;
const sizeClass = (size: number): number => (size <= 1 ? 0 : Math.max(1, Math.ceil(Math.log2(size)) - 1));

interface Calls {
  readonly receive: (fd: number, headers: Buffer, count: number, flags: number, timeout: null) => number;
  readonly send: (fd: number, headers: Buffer, count: number, flags: number) => number;
  readonly setOption: (fd: number, level: number, name: number, value: Int32Array, bytes: number) => number;
  readonly errno: () => number;
  readonly addressOf: (memory: Buffer) => bigint;
}

let loading: Promise<Calls | undefined> | undefined;
let loaded: Calls | undefined;

/** The system calls; undefined off 64-bit little-endian Linux, or where the package or its binary is missing. */
async function loadCalls(): Promise<Calls | undefined> {
  const isKnown = ["x64", "arm64"].includes(process.arch) && endianness() === "LE";
  if (process.platform !== "linux" || !isKnown) return undefined;
  try {
    const { default: koffi } = await import("koffi");
    const libc = koffi.load(null);
    return {
      receive: libc.func("int recvmmsg(int fd, void *headers, unsigned int count, int flags, void *timeout)"),
      send: libc.func("int sendmmsg(int fd, void *headers, unsigned int count, int flags)"),
      setOption: libc.func("int setsockopt(int fd, int level, int name, void *value, uint32 bytes)"),
      errno: () => koffi.errno(),
      addressOf: (memory) => koffi.address(memory),
    };
  } catch {
    return undefined;
  }
}

/** What the kernel knows the addresses of. */
const immortal: Buffer[] = [];

function forever(bytes: number): Buffer {
  // Not from a pool, whose memory would be shared with others.
  const memory = Buffer.allocUnsafeSlow(bytes).fill(0);
  immortal.push(memory);
  return memory;
}

function wordsOf(memory: Buffer): Uint32Array {
  return new Uint32Array(memory.buffer, memory.byteOffset, memory.length / 4);
}

export class UdpBatch {
  readonly counters: BatchCounters = {
    received: batchSizes.map(() => 0),
    sendFailures: 0,
    unanswerable: 0,
    receiveFailures: 0,
  };
  readonly #calls: Calls;
  readonly #fd: number;
  readonly #box: BlackBox | undefined;
  readonly #names = forever(BATCH_MAX * NAME_STRIDE);
  readonly #received: Buffer;
  readonly #waiting: WaitingQueries;
  readonly #sent = forever(BATCH_MAX * SEND_STRIDE);
  /** Headers to receive with, from each slot on: a first datagram that came otherwise has slot 0. */
  readonly #receiveHeaders: Buffer;
  readonly #receiveFrom: readonly Buffer[];
  readonly #receiveWords: Uint32Array;
  readonly #sendFrom: readonly Buffer[];
  readonly #sendWords: Uint32Array;
  readonly #sendVectors: Uint32Array;
  /** Address of each slot's sockaddr: low and high word. */
  readonly #nameAddresses: Uint32Array;
  /** Where the memory of those that wait begins. */
  readonly #waitingAddress: bigint;
  readonly #sender: BatchSender = {
    family: 4,
    words: new Uint32Array(4),
    port: 0,
    mayWait: true,
    nowMs: 0,
  };
  readonly #gathering = new Gathering();
  /** Datagrams of the last round. */
  #roundDatagrams = 0;
  #isClosed = false;
  #isResuming = false;

  private constructor(calls: Calls, fd: number, box: BlackBox | undefined) {
    this.#calls = calls;
    this.#fd = fd;
    this.#box = box;
    const memoryOf = (bytes: number): Buffer => box?.memory(bytes) ?? forever(bytes);
    this.#received = memoryOf(BATCH_MAX * RECEIVE_STRIDE);
    this.#waiting = new WaitingQueries(memoryOf);
    this.#waitingAddress = calls.addressOf(this.#waiting.memory);
    const slots = Array.from({ length: BATCH_MAX }, (_, slot) => slot);
    const names = calls.addressOf(this.#names);
    const addresses = BigUint64Array.from(slots, (slot) => names + BigInt(slot * NAME_STRIDE));
    this.#nameAddresses = new Uint32Array(addresses.buffer);
    const headers = (data: Buffer, stride: number, bytes: number) => {
      const vectors = forever(BATCH_MAX * IOVEC_STRIDE);
      const memory = forever(BATCH_MAX * HEADER_STRIDE);
      for (const slot of slots) {
        vectors.writeBigUInt64LE(calls.addressOf(data) + BigInt(slot * stride), slot * IOVEC_STRIDE);
        vectors.writeBigUInt64LE(BigInt(bytes), slot * IOVEC_STRIDE + 8);
        const at = slot * HEADER_STRIDE;
        memory.writeBigUInt64LE(addresses[slot] as bigint, at);
        memory.writeUInt32LE(NAME_STRIDE, at + 8);
        memory.writeBigUInt64LE(calls.addressOf(vectors) + BigInt(slot * IOVEC_STRIDE), at + 16);
        memory.writeBigUInt64LE(1n, at + 24);
      }
      return { memory, vectors, from: slots.map((slot) => memory.subarray(slot * HEADER_STRIDE)) };
    };
    const receive = headers(this.#received, RECEIVE_STRIDE, RECEIVE_BYTES);
    this.#receiveHeaders = receive.memory;
    this.#receiveFrom = receive.from;
    this.#receiveWords = wordsOf(receive.memory);
    const send = headers(this.#sent, SEND_STRIDE, 0);
    this.#sendFrom = send.from;
    this.#sendWords = wordsOf(send.memory);
    this.#sendVectors = wordsOf(send.vectors);
  }

  /** Loads what {@link open} needs: between a socket's first datagram and its listener nothing may wait. */
  static async load(): Promise<void> {
    loading ??= loadCalls();
    loaded = await loading;
  }

  /** @param fd of a bound UDP socket; undefined where batches are not to be had */
  static open(fd: number, box?: BlackBox): UdpBatch | undefined {
    const calls = loaded;
    if (calls === undefined) return undefined;
    const batch = new UdpBatch(calls, fd, box);
    // Never in fragments, which others can forge a part of, whatever an ICMP message says of the path (RFC 9715 section 3.1): 1,232 octets
    // pass everywhere. It also spares the kernel an id for each packet. A socket of IPv4 alone refuses the option of IPv6.
    for (const [level, name] of MTU_DISCOVER)
      calls.setOption(fd, level, name, Int32Array.of(PMTUDISC_PROBE), Int32Array.BYTES_PER_ELEMENT);
    // No slot: nothing can be lost, and a kernel or sandbox without the call says so.
    return calls.receive(fd, batch.#receiveHeaders, 0, MSG_DONTWAIT, null) < 0 &&
      calls.errno() !== errnos.EAGAIN
      ? undefined
      : batch;
  }

  /** Queries that were dropped because too many waited. */
  get shed(): Readonly<Record<"known" | "unknown", number>> {
    return this.#waiting.shed;
  }

  /**
   * Answers what waits at the socket: what is common at once, the rest by who asks, in slices between which the socket is emptied. Goes on in
   * the next turn of the event loop where it does not come to the end.
   *
   * @param handler must not throw
   * @param first a datagram that was received already, and its sender; it is answered with the first batch
   */
  drain(handler: BatchHandler, first?: { readonly bytes: Uint8Array; readonly sockaddr: Uint8Array }): void {
    let from = 0;
    if (first !== undefined && first.bytes.length <= RECEIVE_BYTES) {
      this.#received.set(first.bytes, 0);
      this.#names.set(first.sockaddr, 0);
      this.#receiveWords[NAME_BYTES_WORD] = first.sockaddr.length;
      this.#receiveWords[LENGTH_WORD] = first.bytes.length;
      from = 1;
    }
    // libuv reads up to 32 datagrams before it looks at anything else, and hands each to us: not a turn for each of them.
    if (this.#isResuming) {
      this.#receiveBatch(handler, from);
      return;
    }
    const gathering = this.#gathering;
    const beganMs = performance.now();
    gathering.begin(beganMs);
    for (;;) {
      const isEmpty = this.#receiveRound(handler, from);
      from = 0;
      const nowMs = performance.now();
      if (isEmpty && this.#waiting.length === 0) {
        if (!gathering.isWorthAWait(this.#roundDatagrams, nowMs)) return;
        Atomics.wait(neverWoken, 0, 0, GATHER_MS);
        continue;
      }
      this.#answerWaiting(handler, nowMs + ROUND_MS);
      if (performance.now() - beganMs >= TURN_MS) break;
    }
    this.#isResuming = true;
    setImmediate(() => {
      this.#isResuming = false;
      if (!this.#isClosed) this.drain(handler);
    });
  }

  /** Answers what was put off; nothing is received from now on. */
  close(handler: BatchHandler): void {
    this.#isClosed = true;
    while (this.#waiting.length > 0) this.#answerWaiting(handler, Number.POSITIVE_INFINITY);
  }

  /** Whether nothing more waits at the socket. @param from slots that are filled already */
  #receiveRound(handler: BatchHandler, from: number): boolean {
    this.#roundDatagrams = 0;
    for (let round = 0; round < BATCHES_A_ROUND_MAX; round++) {
      const count = this.#receiveBatch(handler, round === 0 ? from : 0);
      this.#roundDatagrams += count;
      if (count < BATCH_MAX) return true;
    }
    return false;
  }

  /** Datagrams that were received and looked at. @param from slots that are filled already */
  #receiveBatch(handler: BatchHandler, from: number): number {
    const room = BATCH_MAX - from;
    for (let slot = from; slot < BATCH_MAX; slot++)
      this.#receiveWords[(slot * HEADER_STRIDE) / 4 + NAME_BYTES_WORD] = NAME_STRIDE;
    let count = this.#calls.receive(this.#fd, this.#receiveFrom[from] as Buffer, room, MSG_DONTWAIT, null);
    if (count < 0) {
      if (this.#calls.errno() !== errnos.EAGAIN) this.counters.receiveFailures++;
      count = 0;
    }
    count = Math.min(count, room) + from;
    if (count === 0) return 0;
    (this.counters.received[sizeClass(count)] as number)++;
    this.#answerReceived(handler, count);
    return count;
  }

  #answerReceived(handler: BatchHandler, count: number): void {
    let answers = 0;
    const received = this.#received;
    const sender = this.#sender;
    sender.nowMs = performance.now();
    for (let slot = 0; slot < count; slot++) {
      const header = (slot * HEADER_STRIDE) / 4;
      const length = this.#receiveWords[header + LENGTH_WORD] as number;
      const nameBytes = this.#receiveWords[header + NAME_BYTES_WORD] as number;
      if (length > RECEIVE_BYTES || !this.#readSender(this.#names, slot * NAME_STRIDE, nameBytes)) {
        this.counters.unanswerable++;
        continue;
      }
      const at = slot * RECEIVE_STRIDE;
      sender.mayWait = true;
      const bytes = this.#ask(handler, received, at, at + length, answers);
      if (bytes < 0)
        this.#waiting.push(
          bytes === WAIT_FIRST,
          received,
          at,
          at + length,
          this.#names,
          slot * NAME_STRIDE,
          nameBytes,
        );
      if (bytes <= 0 || bytes > SEND_STRIDE) continue;
      const [low, high] = [this.#nameAddresses[slot * 2], this.#nameAddresses[slot * 2 + 1]];
      this.#address(answers++, low as number, high as number, nameBytes, bytes);
    }
    this.#send(answers);
  }

  #answerWaiting(handler: BatchHandler, untilMs: number): void {
    const waiting = this.#waiting;
    let answers = 0;
    const sender = this.#sender;
    sender.mayWait = false;
    while (waiting.length > 0) {
      sender.nowMs = performance.now();
      if (sender.nowMs >= untilMs) break;
      if (answers === BATCH_MAX) {
        this.#send(answers);
        answers = 0;
      }
      const slot = waiting.shift();
      const nameBytes = waiting.nameBytes(slot);
      this.#readSender(waiting.memory, waiting.nameAt(slot), nameBytes);
      const [at, end] = [waiting.queryAt(slot), waiting.queryEnd(slot)];
      const bytes = this.#ask(handler, waiting.memory, at, end, answers);
      if (bytes <= 0 || bytes > SEND_STRIDE) continue;
      const address = this.#waitingAddress + BigInt(waiting.nameAt(slot));
      const [low, high] = [Number(address & 0xffff_ffffn), Number(address >> 32n)];
      this.#address(answers++, low, high, nameBytes, bytes);
    }
    // The slots are others' from the next round on.
    this.#send(answers);
  }

  #ask(handler: BatchHandler, memory: Buffer, at: number, end: number, answers: number): number {
    const sender = this.#sender;
    const box = this.#box;
    box?.begin(memory, at, end, sender.family, sender.words, sender.port);
    const bytes = handler(memory, at, end, sender, this.#sent, answers * SEND_STRIDE);
    box?.end();
    return bytes;
  }

  /** Makes the n-th answer ready to go to the sockaddr at that address. */
  #address(n: number, low: number, high: number, nameBytes: number, bytes: number): void {
    const to = (n * HEADER_STRIDE) / 4;
    this.#sendWords[to] = low;
    this.#sendWords[to + 1] = high;
    this.#sendWords[to + NAME_BYTES_WORD] = nameBytes;
    this.#sendVectors[(n * IOVEC_STRIDE) / 4 + 2] = bytes;
  }

  /** False when nothing can be sent there: port 0, or no address of a family that is known. */
  #readSender(names: Buffer, at: number, nameBytes: number): boolean {
    const port = ((names[at + 2] as number) << 8) | (names[at + 3] as number);
    if (port === 0) return false;
    const family = (names[at] as number) | ((names[at + 1] as number) << 8);
    const sender = this.#sender;
    sender.port = port;
    const word = (offset: number): number =>
      (((names[offset] as number) << 24) |
        ((names[offset + 1] as number) << 16) |
        ((names[offset + 2] as number) << 8) |
        (names[offset + 3] as number)) >>>
      0;
    if (family === AF_INET && nameBytes === SOCKADDR_IN_BYTES) {
      sender.family = 4;
      sender.words[0] = word(at + 4);
      return true;
    }
    if (family !== AF_INET6 || nameBytes !== SOCKADDR_IN6_BYTES) return false;
    sender.family = 6;
    for (let index = 0; index < 4; index++) sender.words[index] = word(at + 8 + index * 4);
    const [w0, w1, w2, w3] = sender.words as unknown as [number, number, number, number];
    // IPv4 as a dual-stack socket shows it: ::ffff:a.b.c.d.
    if (w0 === 0 && w1 === 0 && w2 === 0xffff) {
      sender.family = 4;
      sender.words[0] = w3;
    }
    return true;
  }

  #send(count: number): void {
    for (let from = 0; from < count; ) {
      const left = count - from;
      const sent = this.#calls.send(this.#fd, this.#sendFrom[from] as Buffer, left, MSG_DONTWAIT);
      if (sent > 0) {
        from += Math.min(sent, left);
        continue;
      }
      const errno = this.#calls.errno();
      if (errno === errnos.EAGAIN || errno === errnos.ENOBUFS) {
        // The device is full: over UDP these are lost, and asked for again.
        this.counters.sendFailures += left;
        return;
      }
      // The first of them cannot be sent (no route, a firewall): the others may.
      if (errno !== errnos.EINTR) this.counters.sendFailures++;
      from += errno === errnos.EINTR ? 0 : 1;
    }
  }
}

/** struct sockaddr (Linux) of an address and port. */
export function sockaddrOf(
  address: { readonly family: 4 | 6; readonly words: readonly number[] },
  port: number,
): Uint8Array {
  const isIpv4 = address.family === 4;
  const bytes = new Uint8Array(isIpv4 ? SOCKADDR_IN_BYTES : SOCKADDR_IN6_BYTES);
  bytes[0] = isIpv4 ? AF_INET : AF_INET6;
  bytes[2] = port >> 8;
  bytes[3] = port;
  for (const [index, word] of address.words.entries())
    for (let octet = 0; octet < 4; octet++)
      bytes[(isIpv4 ? 4 : 8) + index * 4 + octet] = word >>> (24 - 8 * octet);
  return bytes;
}
