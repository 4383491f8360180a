/**
 * Many datagrams a system call: recvmmsg(2) and sendmmsg(2) on a socket's descriptor, through koffi. Half of the cost of a small datagram over
 * `node:dgram` is one call and one callback for each.
 *
 * The kernel is given addresses of our memory, so that memory never moves and never goes: it is allocated once for each socket and
 * kept for the life of the process (`immortal`), even after the socket is closed. The kernel's answers (how many, how long) are
 * checked against what it was given before anything is read by them.
 */
import type { Socket } from "node:dgram";
import { endianness } from "node:os";
import { addressFromBytes, addressToBytes, type IpAddress } from "#kit";

/** Datagrams a call. */
export const BATCH_MAX = 64;
/** Not a power of two, so that the beginnings of the slots do not share the same few lines of the cache. */
const STRIDE_REST = 192;
/** struct sockaddr_in6 has 28 octets. */
export const SOCKADDR_STRIDE = 32;
const SOCKADDR_IN_BYTES = 16;
const SOCKADDR_IN6_BYTES = 28;
/** struct mmsghdr of 64-bit Linux: msghdr (56: name 0, namelen 8, iov 16, iovlen 24, control 32, controllen 40, flags 48), len 56. */
const HEADER_STRIDE = 64;
/** Where msg_namelen, msg_iov, msg_iovlen, msg_control, msg_controllen and msg_len stand in it, in words of 32 bits; and how many it has. */
const NAME_BYTES_WORD = 2;
const VECTORS_WORD = 4;
const VECTOR_COUNT_WORD = 6;
const CONTROL_WORD = 8;
const CONTROL_BYTES_WORD = 10;
const LENGTH_WORD = 14;
const HEADER_WORDS = HEADER_STRIDE / 4;
const IOVEC_STRIDE = 16;
const IOVEC_WORDS = IOVEC_STRIDE / 4;
/** Where iov_len stands. */
const IOVEC_LENGTH_WORD = 2;
const AF_INET = 2;
const AF_INET6 = 10;
const MSG_DONTWAIT = 0x40;
/** Level and option of IP_MTU_DISCOVER, by family; linux/in.h and linux/in6.h. */
const MTU_DISCOVER = [
  [0, 10],
  [41, 23],
] as const;
const PMTUDISC_PROBE = 3;
const errnos = { EINTR: 4, EIO: 5, EAGAIN: 11, EINVAL: 22, ENOBUFS: 105 } as const;
/** struct cmsghdr with two octets (cmsg(3)): length 18, level SOL_UDP, type UDP_SEGMENT (udp(7)), the length of a segment. */
const CONTROL_STRIDE = 32;
const CONTROL_BYTES = 24;
const CONTROL_LENGTH = 18;
const SOL_UDP = 17;
const UDP_SEGMENT = 103;
const SEGMENT_AT = 16;
/** What a run may have: less than a datagram's length says, and what every kernel that knows segments takes. */
const RUN_BYTES_MAX = 65_000;
/** So often a run may be refused (a device without checksums, a segment longer than the path takes) before none is made any more. */
const REFUSALS_MAX = 3;

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

export interface DatagramBatchOptions {
  /** The longest datagram that is received whole, and sent. Untouched pages cost nothing. */
  readonly receiveBytes: number;
  readonly sendBytes: number;
  /** Where what is received lies, if not in memory of our own; called once, never to be given to anybody else. */
  readonly memoryOf?: ((bytes: number) => Buffer) | undefined;
}

/** The slots of one socket: those that were received into, and those that are to be sent. */
export class DatagramBatch {
  /** Slot n begins at n times the stride. */
  readonly received: Buffer;
  readonly receiveStride: number;
  readonly receiveBytes: number;
  readonly sent: Buffer;
  readonly sendStride: number;
  /** The sockaddr of each received slot, {@link SOCKADDR_STRIDE} apart. */
  readonly names = forever(BATCH_MAX * SOCKADDR_STRIDE);
  /** Only grow: calls that failed otherwise than by having nothing, datagrams that could not be sent. */
  readonly counters = { receiveFailures: 0, sendFailures: 0 };
  readonly #calls: Calls;
  readonly #fd: number;
  /** Headers from each slot on. */
  readonly #receiveFrom: readonly Buffer[];
  readonly #receiveWords: Uint32Array;
  readonly #sendFrom: readonly Buffer[];
  readonly #sendWords: Uint32Array;
  readonly #sendVectors: Uint32Array;
  /** Address of each slot's sockaddr: low and high word. The same of each slot's iovec to send, and of each message's control. */
  readonly #nameAddresses: Uint32Array;
  readonly #vectorAddresses: Uint32Array;
  readonly #controlAddresses: Uint32Array;
  readonly #controls = forever(BATCH_MAX * CONTROL_STRIDE);
  /** First slot of each message that {@link sendTo} made. */
  readonly #firsts: number[] = [];
  #refusals = 0;

  private constructor(calls: Calls, fd: number, { receiveBytes, sendBytes, memoryOf }: DatagramBatchOptions) {
    this.#calls = calls;
    this.#fd = fd;
    this.receiveBytes = receiveBytes;
    this.receiveStride = receiveBytes + STRIDE_REST;
    this.sendStride = sendBytes;
    this.received = (memoryOf ?? forever)(BATCH_MAX * this.receiveStride);
    this.sent = forever(BATCH_MAX * this.sendStride);
    const slots = Array.from({ length: BATCH_MAX }, (_, slot) => slot);
    const addressesIn = (memory: Buffer, stride: number): BigUint64Array => {
      const from = calls.addressOf(memory);
      return BigUint64Array.from(slots, (slot) => from + BigInt(slot * stride));
    };
    const addresses = addressesIn(this.names, SOCKADDR_STRIDE);
    this.#nameAddresses = new Uint32Array(addresses.buffer);
    const headers = (data: Buffer, stride: number, bytes: number) => {
      const vectors = forever(BATCH_MAX * IOVEC_STRIDE);
      const memory = forever(BATCH_MAX * HEADER_STRIDE);
      for (const slot of slots) {
        vectors.writeBigUInt64LE(calls.addressOf(data) + BigInt(slot * stride), slot * IOVEC_STRIDE);
        vectors.writeBigUInt64LE(BigInt(bytes), slot * IOVEC_STRIDE + 8);
        const at = slot * HEADER_STRIDE;
        memory.writeBigUInt64LE(addresses[slot] as bigint, at);
        memory.writeUInt32LE(SOCKADDR_STRIDE, at + 8);
        memory.writeBigUInt64LE(calls.addressOf(vectors) + BigInt(slot * IOVEC_STRIDE), at + 16);
        memory.writeBigUInt64LE(1n, at + 24);
      }
      return { memory, vectors, from: slots.map((slot) => memory.subarray(slot * HEADER_STRIDE)) };
    };
    const receive = headers(this.received, this.receiveStride, receiveBytes);
    this.#receiveFrom = receive.from;
    this.#receiveWords = wordsOf(receive.memory);
    const send = headers(this.sent, this.sendStride, 0);
    this.#sendFrom = send.from;
    this.#sendWords = wordsOf(send.memory);
    this.#sendVectors = wordsOf(send.vectors);
    this.#vectorAddresses = new Uint32Array(addressesIn(send.vectors, IOVEC_STRIDE).buffer);
    this.#controlAddresses = new Uint32Array(addressesIn(this.#controls, CONTROL_STRIDE).buffer);
    for (const slot of slots) {
      const at = slot * CONTROL_STRIDE;
      this.#controls.writeBigUInt64LE(BigInt(CONTROL_LENGTH), at);
      this.#controls.writeInt32LE(SOL_UDP, at + 8);
      this.#controls.writeInt32LE(UDP_SEGMENT, at + 12);
    }
  }

  /** Loads what {@link open} needs: between a socket's first datagram and its listener nothing may wait. */
  static async load(): Promise<void> {
    loading ??= loadCalls();
    loaded = await loading;
  }

  /** Of a bound socket, which sends no fragments from now on; undefined where batches are not to be had. */
  static open(socket: Socket, options: DatagramBatchOptions): DatagramBatch | undefined {
    const fd = handleOf(socket)?.fd;
    const calls = loaded;
    if (calls === undefined || typeof fd !== "number" || !Number.isInteger(fd) || fd <= 2) return undefined;
    const batch = new DatagramBatch(calls, fd, options);
    // Whatever an ICMP message says of the path: others can forge a part of fragments (RFC 9715 section 3.1), and it spares the kernel an id for
    // each packet. A socket of IPv4 alone refuses the option of IPv6.
    for (const [level, name] of MTU_DISCOVER)
      calls.setOption(fd, level, name, Int32Array.of(PMTUDISC_PROBE), Int32Array.BYTES_PER_ELEMENT);
    // No slot: nothing can be lost, and a kernel or sandbox without the call says so.
    return calls.receive(fd, batch.#receiveFrom[0] as Buffer, 0, MSG_DONTWAIT, null) < 0 &&
      calls.errno() !== errnos.EAGAIN
      ? undefined
      : batch;
  }

  /** Puts a datagram that came otherwise into the first slot. False: it is too long. */
  put(bytes: Uint8Array, sockaddr: Uint8Array): boolean {
    if (bytes.length > this.receiveBytes) return false;
    this.received.set(bytes, 0);
    this.names.set(sockaddr, 0);
    this.#receiveWords[NAME_BYTES_WORD] = sockaddr.length;
    this.#receiveWords[LENGTH_WORD] = bytes.length;
    return true;
  }

  /** Receives what waits. How many slots are filled then. @param from slots that are filled already */
  receive(from = 0): number {
    const room = BATCH_MAX - from;
    for (let slot = from; slot < BATCH_MAX; slot++)
      this.#receiveWords[slot * HEADER_WORDS + NAME_BYTES_WORD] = SOCKADDR_STRIDE;
    const count = this.#calls.receive(this.#fd, this.#receiveFrom[from] as Buffer, room, MSG_DONTWAIT, null);
    if (count >= 0) return Math.min(count, room) + from;
    if (this.#calls.errno() !== errnos.EAGAIN) this.counters.receiveFailures++;
    return from;
  }

  /** Bytes of the datagram in a received slot, cut to its room; -1: the kernel says more than it had room for, which is not to be read by. */
  length(slot: number): number {
    const bytes = this.#receiveWords[slot * HEADER_WORDS + LENGTH_WORD] as number;
    return bytes > this.receiveBytes ? -1 : bytes;
  }

  /** Bytes of its sender's sockaddr. */
  nameBytes(slot: number): number {
    return this.#receiveWords[slot * HEADER_WORDS + NAME_BYTES_WORD] as number;
  }

  /** Zeroed memory that never moves and never goes, for sockaddrs that {@link addressTo} is told of. */
  memory(bytes: number): Buffer {
    return forever(bytes);
  }

  /** Where memory lies that never moves. */
  addressOf(memory: Buffer): bigint {
    return this.#calls.addressOf(memory);
  }

  /** The n-th datagram to send has so many bytes, and goes to the sender of a received slot. */
  addressBack(n: number, slot: number, bytes: number): void {
    const [low, high] = [this.#nameAddresses[slot * 2], this.#nameAddresses[slot * 2 + 1]];
    this.addressTo(n, low as number, high as number, this.nameBytes(slot), bytes);
  }

  /** It goes to the sockaddr at an address, of which these are the low and the high word. */
  addressTo(n: number, low: number, high: number, nameBytes: number, bytes: number): void {
    const to = n * HEADER_WORDS;
    this.#sendWords[to] = low;
    this.#sendWords[to + 1] = high;
    this.#sendWords[to + NAME_BYTES_WORD] = nameBytes;
    this.#sendVectors[n * IOVEC_WORDS + IOVEC_LENGTH_WORD] = bytes;
  }

  /** Sends the first `count`. How many of them left, or never can; the others found no room at the device. */
  send(count: number): number {
    for (let from = 0; from < count; ) {
      const left = count - from;
      const sent = this.#calls.send(this.#fd, this.#sendFrom[from] as Buffer, left, MSG_DONTWAIT);
      if (sent > 0) {
        from += Math.min(sent, left);
        continue;
      }
      const errno = this.#calls.errno();
      if (errno === errnos.EAGAIN || errno === errnos.ENOBUFS) return from;
      // The first of them cannot be sent (no route, a firewall): the others may.
      if (errno !== errnos.EINTR) this.counters.sendFailures++;
      from += errno === errnos.EINTR ? 0 : 1;
    }
    return count;
  }

  /**
   * Sends the first slots, which have so many bytes each, to one address; what stands in {@link addressTo} is not looked at. Slots of one length leave as
   * one message that the kernel cuts late (UDP_SEGMENT), where it can: that is most of what sending costs. How many left, or never can, as {@link send}.
   */
  sendTo(low: number, high: number, nameBytes: number, lengths: readonly number[]): number {
    for (let from = 0; from < lengths.length; ) {
      const count = this.#makeRuns(from, low, high, nameBytes, lengths);
      const sent = this.#calls.send(this.#fd, this.#sendFrom[0] as Buffer, count, MSG_DONTWAIT);
      if (sent > 0) {
        from = this.#firsts[sent] as number;
        continue;
      }
      const errno = this.#calls.errno();
      if (errno === errnos.EAGAIN || errno === errnos.ENOBUFS) return from;
      if (errno === errnos.EINTR) continue;
      const slots = (this.#firsts[1] as number) - from;
      if (slots > 1 && (errno === errnos.EIO || errno === errnos.EINVAL))
        this.#refusals = Math.min(REFUSALS_MAX, this.#refusals + 1);
      else {
        this.counters.sendFailures += slots;
        from += slots;
      }
    }
    return lengths.length;
  }

  /** Makes messages of the slots from one on; their number. */
  #makeRuns(from: number, low: number, high: number, nameBytes: number, lengths: readonly number[]): number {
    const words = this.#sendWords;
    const slotsMax = this.#refusals < REFUSALS_MAX ? BATCH_MAX : 1;
    let count = 0;
    for (let first = from; first < lengths.length; count++) {
      const bytes = lengths[first] as number;
      let end = first;
      // The last segment may be shorter.
      for (
        let length = bytes, sum = 0;
        length === bytes && end - first < slotsMax && end < lengths.length;
      ) {
        length = lengths[end] as number;
        sum += length;
        if (length > bytes || sum > RUN_BYTES_MAX) break;
        this.#sendVectors[end * IOVEC_WORDS + IOVEC_LENGTH_WORD] = length;
        end++;
      }
      const to = count * HEADER_WORDS;
      words[to] = low;
      words[to + 1] = high;
      words[to + NAME_BYTES_WORD] = nameBytes;
      words[to + VECTORS_WORD] = this.#vectorAddresses[2 * first] as number;
      words[to + VECTORS_WORD + 1] = this.#vectorAddresses[2 * first + 1] as number;
      words[to + VECTOR_COUNT_WORD] = end - first;
      const isRun = end - first > 1;
      words[to + CONTROL_WORD] = isRun ? (this.#controlAddresses[2 * count] as number) : 0;
      words[to + CONTROL_WORD + 1] = isRun ? (this.#controlAddresses[2 * count + 1] as number) : 0;
      words[to + CONTROL_BYTES_WORD] = isRun ? CONTROL_BYTES : 0;
      if (isRun) this.#controls.writeUInt16LE(bytes, count * CONTROL_STRIDE + SEGMENT_AT);
      this.#firsts[count] = first;
      first = end;
    }
    this.#firsts[count] = lengths.length;
    return count;
  }
}

/** Port of a sockaddr; 0: nothing can be sent there. */
export function sockaddrPort(names: Uint8Array, at: number): number {
  return ((names[at + 2] as number) << 8) | (names[at + 3] as number);
}

/** Family of a sockaddr of so many bytes; undefined: it is none of IPv4 or IPv6. */
export function sockaddrFamily(names: Uint8Array, at: number, bytes: number): 4 | 6 | undefined {
  const family = (names[at] as number) | ((names[at + 1] as number) << 8);
  if (family === AF_INET && bytes === SOCKADDR_IN_BYTES) return 4;
  return family === AF_INET6 && bytes === SOCKADDR_IN6_BYTES ? 6 : undefined;
}

/** Where the address stands in a sockaddr. */
export const sockaddrAddressAt = { 4: 4, 6: 8 } as const;

/** The address in a sockaddr, without its zone. */
export function sockaddrAddress(names: Uint8Array, at: number, family: 4 | 6): IpAddress {
  const from = at + sockaddrAddressAt[family];
  return addressFromBytes(family, names.subarray(from, from + (family === 4 ? 4 : 16)));
}

/** struct sockaddr (Linux) of an address and port. */
export function sockaddrOf(address: IpAddress, port: number): Uint8Array {
  const { family } = address;
  const bytes = new Uint8Array(family === 4 ? SOCKADDR_IN_BYTES : SOCKADDR_IN6_BYTES);
  bytes[0] = family === 4 ? AF_INET : AF_INET6;
  bytes[2] = port >> 8;
  bytes[3] = port;
  bytes.set(addressToBytes(address), sockaddrAddressAt[family]);
  return bytes;
}

/**
 * The handle of a bound socket, which tells its descriptor; undefined where it is not to be had. `node:dgram` keeps it under a symbol: no
 * documented way leads there.
 */
export function handleOf(socket: Socket): { readonly fd?: unknown } | undefined {
  const symbol = Object.getOwnPropertySymbols(socket).find(
    ({ description }) => description === "state symbol",
  );
  if (symbol === undefined) return undefined;
  return (socket as unknown as Record<symbol, { readonly handle?: { readonly fd?: unknown } } | undefined>)[
    symbol
  ]?.handle;
}
