/**
 * An io_uring(7) of this process, through koffi: entries are written and read in the memory that the kernel shares with us, and one
 * system call submits all that were written and runs what became ready. Nothing here knows what the entries are for.
 *
 * The kernel writes to memory of its own making and to mappings that are never undone alone, so that none can go while an operation
 * still does. It reads from memory of ours as well ({@link Ring.addressOf}), which whoever asks for that has to keep until the kernel is done.
 * What it answers is checked by who reads it.
 */
import { endianness } from "node:os";
import { Socket } from "node:net";
import { getSystemErrorName } from "node:util";

/** Operations: linux/io_uring.h. */
export const RECEIVE = 27;
export const SEND = 26;
export const SEND_MESSAGE = 9;
export const CANCEL = 14;
const NOTHING_TO_DO = 0;
/** Flags of a submission: its buffer is chosen from the group; its completion: a buffer was chosen; more will come. */
export const BUFFER_SELECT = 1 << 5;
export const HAS_BUFFER = 1 << 0;
export const HAS_MORE = 1 << 1;
/** In `ioprio` of a receive: it goes on until it is cancelled. */
export const MULTISHOT = 1 << 1;
/** The one group of buffers. */
export const BUFFER_GROUP = 1;

const syscalls = { setup: 425, enter: 426, register: 427 } as const;
const setup = {
  CQSIZE: 1 << 3,
  CLAMP: 1 << 4,
  TASKRUN_FLAG: 1 << 9,
  SINGLE_ISSUER: 1 << 12,
  DEFER_TASKRUN: 1 << 13,
};
const GET_EVENTS = 1;
const REGISTER_EVENTFD = 4;
const REGISTER_BUFFER_RING = 22;
/** In the word of flags: completions wait in the kernel for room in the ring; work of ours waits to be run. */
const SQ_CQ_OVERFLOW = 1 << 1;
const SQ_TASKRUN = 1 << 2;
const CQ_EVENTFD_DISABLED = 1;
const OFFSET_RINGS = 0;
const OFFSET_ENTRIES = 0x1000_0000;
const SUBMISSION_WORDS = 16;
const COMPLETION_WORDS = 4;
const PAGE_BYTES = 4_096;
const INTERRUPTIONS_MAX = 8;
const EINTR = 4;
const EAGAIN = 11;
const EBUSY = 16;

/** Memory that this process keeps for ever, and its address in two words. */
export interface Mapping {
  readonly bytes: Buffer;
  readonly address: bigint;
}

/** How many submissions and completions the rings hold: powers of two. */
export interface RingSizes {
  readonly submissions: number;
  readonly completions: number;
}

export interface RingEvents {
  /** Completions wait: {@link Ring.submit} runs them. */
  readonly onWake: () => void;
  /** The kernel takes no more. The ring is released, nothing that was asked of it will be answered. */
  readonly onFailure: (error: Error) => void;
}

interface Calls {
  readonly map: (bytes: number, fd: number, offset: number) => Mapping;
  /** Puts memory of nobody's in the place of a mapping: views of it stay valid, what was mapped is let go. */
  readonly unmap: (mapping: Mapping) => void;
  readonly system: (number: number, a: number, b: number, c: number, d: number) => number;
  readonly enter: (fd: number, submissions: number, flags: number) => number;
  readonly eventDescriptor: () => number;
  readonly socketPair: () => readonly [number, number];
  readonly duplicate: (from: number, to: number, flags: number) => number;
  readonly close: (fd: number) => number;
  /** Where the bytes lie. */
  readonly addressOf: (bytes: Uint8Array) => number;
  readonly errno: () => number;
}

const PROTECTION_READ_WRITE = 3;
const MAP_SHARED_POPULATE = 0x8001;
const MAP_PRIVATE_ANONYMOUS = 0x22;
const MAP_FIXED = 0x10;
const EFD_CLOEXEC_NONBLOCK = 0x8_0800;
const O_CLOEXEC = 0x8_0000;
const AF_UNIX = 1;
const SOCK_STREAM_CLOEXEC = 0x8_0001;

async function loadCalls(): Promise<Calls> {
  if (process.platform !== "linux" || !["x64", "arm64"].includes(process.arch) || endianness() !== "LE")
    throw new Error("it is there on 64-bit Linux only");
  const { default: koffi } = await import("koffi");
  const libc = koffi.load(null);
  const mmap = libc.func("void *mmap(void *a, size_t n, int protection, int flags, int fd, int64_t offset)");
  const remap = libc.func("mmap", "uintptr_t", ["uintptr_t", "size_t", "int", "int", "int", "int64_t"]);
  // The one call that gives back where its argument lies.
  const memmove = libc.func("memmove", "uintptr_t", ["void *", "void *", "size_t"]);
  const syscall = libc.func("syscall", "long", [
    "long",
    "uintptr_t",
    "uintptr_t",
    "uintptr_t",
    "uintptr_t",
    "uintptr_t",
    "uintptr_t",
  ]);
  const enter = libc.func("syscall", "long", [
    "long",
    "int",
    "uint32",
    "uint32",
    "uint32",
    "uintptr_t",
    "uintptr_t",
  ]);
  const eventfd = libc.func("int eventfd(uint32 count, int flags)");
  const socketpair = libc.func("int socketpair(int domain, int type, int protocol, void *pair)");
  return {
    map: (bytes, fd, offset) => {
      const flags = fd < 0 ? MAP_PRIVATE_ANONYMOUS : MAP_SHARED_POPULATE;
      const pointer: unknown = mmap(null, bytes, PROTECTION_READ_WRITE, flags, fd, offset);
      const address = koffi.address(pointer);
      if (address === 0xffff_ffff_ffff_ffffn || address === 0n) throw failed("mmap", koffi.errno());
      return { bytes: Buffer.from(koffi.view(pointer, bytes)), address };
    },
    unmap: ({ bytes, address }) => {
      const flags = MAP_PRIVATE_ANONYMOUS | MAP_FIXED;
      remap(address, bytes.byteLength, PROTECTION_READ_WRITE, flags, -1, 0);
    },
    system: (number, a, b, c, d) => Number(syscall(number, a, b, c, d, 0, 0)),
    enter: (fd, submissions, flags) => enter(syscalls.enter, fd, submissions, 0, flags, 0, 0) as number,
    eventDescriptor: () => eventfd(0, EFD_CLOEXEC_NONBLOCK) as number,
    socketPair: () => {
      const pair = Buffer.alloc(8);
      if (socketpair(AF_UNIX, SOCK_STREAM_CLOEXEC, 0, pair) !== 0) throw failed("socketpair", koffi.errno());
      return [pair.readInt32LE(0), pair.readInt32LE(4)];
    },
    duplicate: libc.func("int dup3(int from, int to, int flags)"),
    close: libc.func("int close(int fd)"),
    addressOf: (bytes) => Number(memmove(bytes, bytes, 0)),
    errno: () => koffi.errno(),
  };
}

function failed(what: string, errno: number): Error {
  return new Error(`${what} failed with ${getSystemErrorName(-errno)}`);
}

export class Ring {
  readonly #calls: Calls;
  readonly #fd: number;
  readonly #events: RingEvents;
  readonly #mappings: readonly Mapping[];
  readonly #wake: Socket;
  /** The shared words: heads, tails and completions. */
  readonly #words: Int32Array;
  /** Words of the submissions: write at `submission()`. */
  readonly entries: Int32Array;
  readonly #submissionTail: number;
  readonly #submissionFlags: number;
  readonly #submissionMask: number;
  readonly #completionHead: number;
  readonly #completionTail: number;
  readonly #completionFlags: number;
  readonly #completionMask: number;
  readonly #completions: number;
  #tail: number;
  #head: number;
  /** Submissions that were written and not taken yet. */
  #pending = 0;
  #isReleased = false;

  private constructor(calls: Calls, fd: number, parameters: DataView, events: RingEvents) {
    this.#calls = calls;
    this.#fd = fd;
    this.#events = events;
    // struct io_uring_params: entries 0 and 4; offsets of the submission ring from 40 on, of the completion ring from 80 on.
    const field = (at: number): number => parameters.getUint32(at, true);
    const submissions = field(0);
    const completions = field(4);
    const bytes = Math.max(field(64) + submissions * 4, field(100) + completions * COMPLETION_WORDS * 4);
    this.#mappings = [
      calls.map(bytes, fd, OFFSET_RINGS),
      calls.map(submissions * SUBMISSION_WORDS * 4, fd, OFFSET_ENTRIES),
    ];
    const [rings, entries] = this.#mappings.map((mapping) => mapping.bytes) as [Buffer, Buffer];
    this.#words = new Int32Array(rings.buffer, rings.byteOffset, bytes >> 2);
    this.entries = new Int32Array(entries.buffer, entries.byteOffset, submissions * SUBMISSION_WORDS);
    this.#submissionTail = field(44) >> 2;
    this.#submissionFlags = field(56) >> 2;
    this.#submissionMask = submissions - 1;
    this.#completionHead = field(80) >> 2;
    this.#completionTail = field(84) >> 2;
    this.#completions = field(100) >> 2;
    this.#completionFlags = field(104) >> 2;
    this.#completionMask = completions - 1;
    for (let index = 0; index < submissions; index++) this.#words[(field(64) >> 2) + index] = index;
    this.#tail = this.#words[this.#submissionTail] as number;
    this.#head = this.#words[this.#completionHead] as number;
    try {
      this.#wake = this.#listen();
    } catch (error) {
      for (const mapping of this.#mappings) calls.unmap(mapping);
      throw error;
    }
  }

  /** Opens one. Rejects with an Error that says what the system refused. */
  static async open({ submissions, completions }: RingSizes, events: RingEvents): Promise<Ring> {
    const calls = await loadCalls();
    const memory = calls.map(PAGE_BYTES, -1, 0);
    const parameters = new DataView(memory.bytes.buffer, memory.bytes.byteOffset, 120);
    parameters.setUint32(4, completions, true);
    parameters.setUint32(
      8,
      setup.CQSIZE | setup.CLAMP | setup.TASKRUN_FLAG | setup.SINGLE_ISSUER | setup.DEFER_TASKRUN,
      true,
    );
    const fd = calls.system(syscalls.setup, submissions, Number(memory.address), 0, 0);
    if (fd < 0) throw failed("io_uring_setup", calls.errno());
    try {
      return new Ring(calls, fd, parameters, events);
    } catch (error) {
      calls.close(fd);
      throw error;
    }
  }

  /**
   * Has the kernel tell the event loop. libuv polls no descriptor that it has not opened itself: a socket of a pair is opened, and
   * the event descriptor put in its place before the loop looks at it. Reading it gives eight bytes that tell nothing.
   */
  #listen(): Socket {
    const event = this.#calls.eventDescriptor();
    if (event < 0) throw failed("eventfd", this.#calls.errno());
    try {
      const argument = this.map(PAGE_BYTES);
      argument.bytes.writeInt32LE(event, 0);
      this.#register(REGISTER_EVENTFD, argument, 1);
      return this.#listenTo(event);
    } finally {
      this.#calls.close(event);
    }
  }

  #listenTo(event: number): Socket {
    const [mine, other] = this.#calls.socketPair();
    const wake = new Socket({
      fd: mine,
      writable: false,
      onread: {
        buffer: Buffer.allocUnsafeSlow(64),
        callback: () => {
          this.#events.onWake();
          return true;
        },
      },
    });
    const duplicated = this.#calls.duplicate(event, mine, O_CLOEXEC);
    this.#calls.close(other);
    if (duplicated !== mine) {
      wake.destroy();
      throw failed("dup3", this.#calls.errno());
    }
    wake.resume();
    wake.unref();
    return wake;
  }

  /** Whether the process lives for what the ring waits for. */
  hold(isHeld: boolean): void {
    if (isHeld) this.#wake.ref();
    else this.#wake.unref();
  }

  /** Memory for operations; it is never given back. */
  map(bytes: number): Mapping {
    return this.#calls.map(bytes, -1, 0);
  }

  /**
   * Where bytes of ours lie: for as long as they are referred to, since V8 moves no contents but those of arrays of some dozen bytes. So:
   * not for short ones.
   */
  addressOf(bytes: Uint8Array): number {
    return this.#calls.addressOf(bytes);
  }

  /** Two connected stream sockets, as descriptors. Throws. */
  socketPair(): readonly [number, number] {
    return this.#calls.socketPair();
  }

  /**
   * Ends it: the kernel cancels what is under way. What was mapped holds the ring as its descriptor does, so both are let go. From
   * then on submissions go nowhere and nothing completes.
   */
  release(): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    this.#wake.destroy();
    for (const mapping of this.#mappings) this.#calls.unmap(mapping);
    this.#calls.close(this.#fd);
    this.#pending = 0;
    this.#tail = 0;
    this.#head = 0;
  }

  #fail(error: Error): void {
    this.release();
    this.#events.onFailure(error);
  }

  #register(operation: number, argument: Mapping, count: number): void {
    if (this.#calls.system(syscalls.register, this.#fd, operation, Number(argument.address), count) < 0)
      throw failed("io_uring_register", this.#calls.errno());
  }

  /** Registers the ring of buffers that receives choose from. `entries`: a power of two. Throws. */
  registerBuffers(ring: Mapping, entries: number): void {
    // struct io_uring_buf_reg
    const argument = this.map(PAGE_BYTES);
    argument.bytes.writeBigUInt64LE(ring.address, 0);
    argument.bytes.writeUInt32LE(entries, 8);
    argument.bytes.writeUInt16LE(BUFFER_GROUP, 12);
    this.#register(REGISTER_BUFFER_RING, argument, 1);
  }

  /** The first word of a new submission, all zero, in {@link entries}. It is the kernel's from the next {@link submit} on. */
  submission(): number {
    if (this.#pending > this.#submissionMask) this.submit();
    // What was asked for a connection cannot be left out, so none of them can go on.
    if (this.#pending > this.#submissionMask && !this.#isReleased)
      this.#fail(new Error("io_uring takes no submissions"));
    if (this.#isReleased) this.#pending = 0;
    const at = (this.#tail & this.#submissionMask) * SUBMISSION_WORDS;
    // A loop: `fill` of sixteen words costs as much as the rest of this.
    for (let word = at; word < at + SUBMISSION_WORDS; word++) this.entries[word] = 0;
    this.#tail = (this.#tail + 1) | 0;
    this.#pending++;
    return at;
  }

  /** Submits what was written and runs what is ready; completions of it can be read afterwards. */
  submit(): void {
    if (this.#isReleased) return;
    Atomics.store(this.#words, this.#submissionTail, this.#tail);
    for (let attempt = 0; ; attempt++) {
      const taken = this.#calls.enter(this.#fd, this.#pending, GET_EVENTS);
      if (taken >= 0) {
        this.#pending -= taken;
        return;
      }
      const errno = this.#calls.errno();
      if (errno === EAGAIN || errno === EBUSY) return;
      if (errno === EINTR && attempt < INTERRUPTIONS_MAX) continue;
      this.#fail(failed("io_uring_enter", errno));
      return;
    }
  }

  /**
   * Hands over what was written, so that no later submission names a descriptor that is about to be closed: its number may be another
   * connection's by then. What of it the kernel does not take now does nothing when it is taken, and ends.
   */
  settle(fd: number): void {
    if (this.#pending > 0) this.submit();
    for (let back = this.#pending; back > 0; back--) {
      const at = ((this.#tail - back) & this.#submissionMask) * SUBMISSION_WORDS;
      if (this.entries[at] !== CANCEL && this.entries[at + 1] === fd) this.entries[at] = NOTHING_TO_DO;
    }
  }

  /** Whether submissions wait, or the kernel has something to run or to be read. */
  get isBusy(): boolean {
    if (this.#isReleased) return false;
    return (
      this.#pending > 0 ||
      Atomics.load(this.#words, this.#completionTail) !== this.#head ||
      (Atomics.load(this.#words, this.#submissionFlags) & (SQ_TASKRUN | SQ_CQ_OVERFLOW)) !== 0
    );
  }

  /** Whether completions wake the event loop. Look at {@link isBusy} after it was switched on. */
  set isWaking(isWaking: boolean) {
    Atomics.store(this.#words, this.#completionFlags, isWaking ? 0 : CQ_EVENTFD_DISABLED);
  }

  /** Takes the completions that are there. `handle` may write submissions; when it throws, the others stay. */
  reap(handle: (low: number, high: number, result: number, flags: number) => void): void {
    const end = Atomics.load(this.#words, this.#completionTail);
    const words = this.#words;
    while (this.#head !== end && !this.#isReleased) {
      const at = this.#completions + (this.#head & this.#completionMask) * COMPLETION_WORDS;
      const low = words[at] as number;
      const high = words[at + 1] as number;
      const result = words[at + 2] as number;
      const flags = words[at + 3] as number;
      this.#head = (this.#head + 1) | 0;
      Atomics.store(words, this.#completionHead, this.#head);
      handle(low, high, result, flags);
    }
  }
}
