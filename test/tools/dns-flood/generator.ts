/**
 * A process that asks for names that do not exist, each one once, from many addresses, at a rate, whatever comes back. Many datagrams a system call (sendmmsg through koffi), so that it costs less than what it loads.
 */
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
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
  readonly answered: number;
  readonly seconds: number;
}

const BATCH = 32;
const HEADER_BYTES = 64;
const MSG_DONTWAIT = 0x40;
const LABEL_BYTES = 12;
const LABEL_AT = 13;
const TICK_MS = 2;
const LAST_ANSWERS_MS = 300;

/** Never collected: the kernel knows their addresses. */
const immortal: Buffer[] = [];
function forever(bytes: number): Buffer {
  const memory = Buffer.allocUnsafeSlow(bytes).fill(0);
  immortal.push(memory);
  return memory;
}

const sendmmsg = koffi.load(null).func("int sendmmsg(int fd, void *headers, unsigned int count, int flags)");

class Batch {
  readonly #headers = forever(BATCH * HEADER_BYTES);
  readonly #packets: readonly Buffer[];
  #counter = 0;

  constructor(port: number, zone: string) {
    const packet = query({ name: `${"x".repeat(LABEL_BYTES)}.${zone}` });
    const name = forever(16);
    name.writeUInt16LE(2, 0);
    name.writeUInt16BE(port, 2);
    name.set([127, 0, 0, 1], 4);
    this.#packets = Array.from({ length: BATCH }, (_, n) => {
      const bytes = forever(packet.length);
      bytes.set(packet);
      const vector = forever(16);
      vector.writeBigUInt64LE(koffi.address(bytes), 0);
      vector.writeBigUInt64LE(BigInt(packet.length), 8);
      const at = n * HEADER_BYTES;
      this.#headers.writeBigUInt64LE(koffi.address(name), at);
      this.#headers.writeUInt32LE(16, at + 8);
      this.#headers.writeBigUInt64LE(koffi.address(vector), at + 16);
      this.#headers.writeBigUInt64LE(1n, at + 24);
      return bytes;
    });
  }

  /** @returns how many the system took */
  send(fd: number, count: number): number {
    for (let n = 0; n < count; n++) {
      const bytes = this.#packets[n] as Buffer;
      let rest = ++this.#counter;
      bytes.writeUInt16BE(rest & 0xffff, 0);
      for (let at = 0; at < LABEL_BYTES; at++) {
        bytes[LABEL_AT + at] = 0x61 + (rest % 26);
        rest = Math.floor(rest / 26) + at;
      }
    }
    return Math.max(0, sendmmsg(fd, this.#headers, count, MSG_DONTWAIT) as number);
  }
}

function fdOf(socket: Socket): number {
  const symbol = Object.getOwnPropertySymbols(socket).find((one) => String(one).includes("state"));
  const state = symbol && (socket as unknown as Record<symbol, { handle?: { fd?: number } }>)[symbol];
  const fd = state?.handle?.fd;
  if (fd === undefined) throw new Error("a socket does not tell its descriptor");
  return fd;
}

async function flood(order: FloodOrder): Promise<FloodFigures> {
  let answered = 0;
  const sockets = await Promise.all(
    Array.from({ length: order.addresses }, async (_, n) => {
      const socket = createSocket({ type: "udp4", recvBufferSize: 65_536 }).bind(
        0,
        `127.${100 + (n >> 8)}.${n & 255}.1`,
      );
      await once(socket, "listening");
      socket.on("message", () => answered++);
      return socket;
    }),
  );
  const fds = sockets.map(fdOf);
  const batch = new Batch(order.port, order.zone);
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
  await new Promise((resolve) => setTimeout(resolve, LAST_ANSWERS_MS));
  for (const socket of sockets) socket.close();
  return { sent, answered, seconds };
}

process.on("message", (order: FloodOrder) => {
  void flood(order).then((figures) => process.send?.(figures));
});
