/** Datagrams by many a system call, on real sockets: what leaves together comes one by one, each as long as it was. */
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { afterEach, describe, expect, test } from "vitest";
import { Random, parseAddress, type IpAddress } from "#kit";
import { BATCH_MAX, DatagramBatch, SOCKADDR_STRIDE, sockaddrOf } from "#kit/io";

const open: Socket[] = [];
afterEach(async () => {
  for (const socket of open.splice(0)) await new Promise<void>((resolve) => socket.close(resolve));
});

async function bound(): Promise<Socket> {
  const socket = createSocket("udp4");
  open.push(socket);
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  return socket;
}

const BYTES = 1_452;
const lists: readonly (readonly [string, readonly number[]])[] = [
  ["alike", Array.from({ length: BATCH_MAX }, () => BYTES)],
  ["one", [700]],
  ["alike, the last one shorter", [1_200, 1_200, 1_200, 40]],
  ["longer behind shorter", [40, 1_200, 1_200, 1_300, 1_300, 1, 1, 2]],
  ["each another one", Array.from({ length: BATCH_MAX }, (_, at) => BYTES - at)],
];

describe.skipIf(process.platform !== "linux")("datagrams that are sent together", () => {
  test.each(lists)("%s", async (_what, lengths) => {
    await DatagramBatch.load();
    const sender = await bound();
    const receiver = await bound();
    receiver.setRecvBufferSize(1 << 20);
    const came: Buffer[] = [];
    const { promise, resolve } = Promise.withResolvers<void>();
    receiver.on("message", (datagram) => {
      came.push(datagram);
      if (came.length === lengths.length) resolve();
    });
    const batch = DatagramBatch.open(sender, { receiveBytes: 2_048, sendBytes: BYTES }) as DatagramBatch;
    const name = batch.memory(SOCKADDR_STRIDE);
    const sockaddr = sockaddrOf(parseAddress("127.0.0.1") as IpAddress, receiver.address().port);
    name.set(sockaddr);
    const at = batch.addressOf(name);
    const random = new Random("bytes");
    for (let index = 0; index < batch.sent.length; index++) batch.sent[index] = random.int(256);
    // Twice: what the first call left behind disturbs nothing.
    expect(batch.sendTo(Number(at & 0xffff_ffffn), Number(at >> 32n), sockaddr.length, [9, 9, 8])).toBe(3);
    expect(batch.sendTo(Number(at & 0xffff_ffffn), Number(at >> 32n), sockaddr.length, lengths)).toBe(
      lengths.length,
    );
    expect(batch.counters.sendFailures).toBe(0);
    await promise;
    await expect.poll(() => came.length).toBe(lengths.length + 3);
    expect(came.map(({ length }) => length)).toEqual([9, 9, 8, ...lengths]);
    for (const [slot, bytes] of lengths.entries())
      expect(came[slot + 3]?.equals(batch.sent.subarray(slot * BYTES, slot * BYTES + bytes))).toBe(true);
  });
});
