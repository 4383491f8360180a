/**
 * A process that asks for names that do not exist, each one once, from many addresses, at a rate. Nobody reads what comes back. Many datagrams a system call (UDP_SEGMENT,
 * through koffi), so that it costs less than what it loads.
 */
import koffi from "koffi";
import { query } from "../../unit/mapping-dns/fixture.ts";

export interface FloodOrder {
  readonly port: number;
  readonly zone: string;
  readonly addresses: number;
  readonly seconds: number;
  readonly ratePerSecond: number;
}

export interface FloodFigures {
  readonly sent: number;
  readonly seconds: number;
}

/** Datagrams a system call; the kernel takes 64. */
const BATCH = 48;
const MSG_DONTWAIT = 0x40;
const LABEL_BYTES = 12;
const LABEL_AT = 13;
/** Letters of the label that count. */
const COUNTING_BYTES = 7;
const TICK_MS = 2;
const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOL_UDP = 17;
const UDP_SEGMENT = 103;

/** Never collected: the kernel knows their addresses. */
const immortal: Buffer[] = [];
function forever(bytes: number): Buffer {
  const memory = Buffer.allocUnsafeSlow(bytes).fill(0);
  immortal.push(memory);
  return memory;
}

const libc = koffi.load(null);
const sendto = libc.func(
  "long sendto(int fd, void *bytes, size_t length, int flags, void *to, unsigned int toBytes)",
);
const setsockopt = libc.func("int setsockopt(int fd, int level, int name, void *value, unsigned int bytes)");
const socket = libc.func("int socket(int family, int type, int protocol)");
const bind = libc.func("int bind(int fd, void *name, unsigned int bytes)");
const close = libc.func("int close(int fd)");

function sockaddr(address: readonly number[], port: number): Buffer {
  const name = forever(16);
  name.writeUInt16LE(AF_INET, 0);
  name.writeUInt16BE(port, 2);
  name.set(address, 4);
  return name;
}

/** A socket at an address of its own, in a network of its own, that sends datagrams of that length. */
function senderAt(n: number, datagramBytes: number): number {
  const fd = socket(AF_INET, SOCK_DGRAM, 0) as number;
  const size = Buffer.alloc(4);
  size.writeInt32LE(datagramBytes);
  const isBound = fd >= 0 && bind(fd, sockaddr([127, 100 + (n >> 8), n & 255, 1], 0), 16) === 0;
  if (!isBound || setsockopt(fd, SOL_UDP, UDP_SEGMENT, size, 4) !== 0)
    throw new Error(`sender ${n} cannot have its address, or the system has no UDP_SEGMENT`);
  return fd;
}

class Batch {
  readonly datagramBytes: number;
  readonly #to: Buffer;
  readonly #memory: Buffer;
  #counter = 0;

  constructor(port: number, zone: string) {
    const packet = query({ name: `${"x".repeat(LABEL_BYTES)}.${zone}` });
    this.#to = sockaddr([127, 0, 0, 1], port);
    this.datagramBytes = packet.length;
    this.#memory = forever(BATCH * packet.length);
    for (let n = 0; n < BATCH; n++) this.#memory.set(packet, n * packet.length);
  }

  /** @returns how many the system took */
  send(fd: number, count: number): number {
    const { datagramBytes } = this;
    const memory = this.#memory;
    for (let n = 0; n < count; n++) {
      const begin = n * datagramBytes;
      const counter = ++this.#counter;
      memory[begin] = counter >>> 8;
      memory[begin + 1] = counter;
      for (let digit = 0; digit < COUNTING_BYTES; digit++)
        memory[begin + LABEL_AT + digit] = 0x61 + ((counter >>> (4 * digit)) & 15);
    }
    const bytes = sendto(fd, memory, count * datagramBytes, MSG_DONTWAIT, this.#to, 16) as number;
    return bytes > 0 ? bytes / datagramBytes : 0;
  }
}

async function flood(order: FloodOrder): Promise<FloodFigures> {
  const batch = new Batch(order.port, order.zone);
  const fds = Array.from({ length: order.addresses }, (_, n) => senderAt(n, batch.datagramBytes));
  let sent = 0;
  let turn = 0;
  const beganMs = performance.now();
  const endMs = beganMs + order.seconds * 1_000;
  for (let nowMs = beganMs; nowMs < endMs; nowMs = performance.now()) {
    const due = Math.floor(((nowMs - beganMs) * order.ratePerSecond) / 1_000);
    while (sent < due) {
      const took = batch.send(fds[turn++ % fds.length] as number, Math.min(BATCH, due - sent));
      sent += took;
      if (took === 0) break;
    }
    await new Promise((resolve) => setTimeout(resolve, TICK_MS));
  }
  const seconds = (performance.now() - beganMs) / 1_000;
  for (const fd of fds) close(fd);
  return { sent, seconds };
}

process.on("message", (order: FloodOrder) => {
  void flood(order).then((figures) => process.send?.(figures));
});
