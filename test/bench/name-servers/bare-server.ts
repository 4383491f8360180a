/**
 * No name service at all: batches of datagrams are received, given one fixed answer and sent back. What a query costs here is the kernel's, and
 * the least for any server that reads and writes as ours does. argv is the port and the addresses.
 */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer } from "node:net";
import { DatagramBatch } from "#kit/io";
import { ANSWER_TTL_SECONDS } from "./deployment.ts";

const HEADER_BYTES = 12;
const TYPE_A = 1;
/** Queries of the bench have at most so many octets, and answers. */
const BYTES_MAX = 512;
/** How long the socket is left alone when it is empty, as the name server does under load. */
const GATHER_MS = 0.2;

const [port = "", addresses = ""] = process.argv.slice(2);
/** A pointer to the question's name, A, IN. */
const records = addresses
  .split(",")
  .flatMap((address) => [
    0xc0,
    HEADER_BYTES,
    0,
    TYPE_A,
    0,
    1,
    0,
    0,
    0,
    ANSWER_TTL_SECONDS,
    0,
    4,
    ...address.split(".").map(Number),
  ]);
const recordCount = addresses.split(",").length;

await DatagramBatch.load();
const socket = createSocket("udp4");
socket.bind(Number(port), "127.0.0.1");
await once(socket, "listening");
const batch = DatagramBatch.open(socket, { receiveBytes: BYTES_MAX, sendBytes: BYTES_MAX });
if (batch === undefined) throw new Error("no batches of datagrams here: koffi and Linux are wanted");
// Whoever starts it waits for a port that takes connections.
createServer().listen(Number(port), "127.0.0.1");

const { received, sent, receiveStride, sendStride } = batch;
const never = new Int32Array(new SharedArrayBuffer(4));

function answer(at: number, to: number): number {
  let cursor = at + HEADER_BYTES;
  while (received[cursor] !== 0) cursor += 1 + (received[cursor] as number);
  const questionEnd = cursor + 5;
  const isA = received[cursor + 2] === TYPE_A;
  const bytes = questionEnd - at;
  for (let n = 0; n < bytes; n++) sent[to + n] = received[at + n] as number;
  sent[to + 2] = 0x84;
  sent[to + 3] = 0;
  sent[to + 7] = isA ? recordCount : 0;
  sent[to + 11] = 0;
  if (!isA) return bytes;
  for (let n = 0; n < records.length; n++) sent[to + bytes + n] = records[n] as number;
  return bytes + records.length;
}

setImmediate(() => {
  // Nothing else has a turn: a signal ends it.
  for (;;) {
    const count = batch.receive();
    if (count === 0) Atomics.wait(never, 0, 0, GATHER_MS);
    for (let slot = 0; slot < count; slot++)
      batch.addressBack(slot, slot, answer(slot * receiveStride, slot * sendStride));
    batch.send(count);
  }
});
