/**
 * The UDP carrier over hostile networks: whatever is lost, late or doubled, every channel gives the bytes that were sent, in order, and nothing stays. And
 * datagrams that were tampered with, by strangers and by a peer that has the keys.
 */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { monotonicMs, Random } from "#kit";
import { UdpConnection } from "../../transport/core/udp/connection.ts";
import { AdaptiveRedundancy, FixedRedundancy } from "../../transport/core/udp/redundancy.ts";
import { type PacketProtection, TAG_BYTES } from "../../transport/core/udp/words.ts";
import { type PathShape, UdpPair } from "../tools/udp-network.ts";

const shape: fc.Arbitrary<PathShape> = fc.record({
  delayMs: fc.constantFrom(0.1, 8, 48, 150),
  lossRatio: fc.constantFrom(0, 0.014, 0.1, 0.2),
  jitterMs: fc.constantFrom(0, 5, 60),
  duplicateRatio: fc.constantFrom(0, 0.2),
  burst: fc.constantFrom({ everyMs: 400, lengthMs: 10 }, { everyMs: 1e9, lengthMs: 1 }),
});
const end = fc.record({
  congestion: fc.constantFrom("bbr" as const, "cubic" as const),
  repairRatio: fc.constantFrom(0, 0.1, 1, undefined),
  sealedMax: fc.constantFrom(600, 2 ** 23),
});
const message = fc.record({
  isUp: fc.boolean(),
  channel: fc.nat(63),
  bytes: fc.oneof(fc.integer({ min: 1, max: 2_000 }), fc.integer({ min: 1, max: 150_000 })),
  atMs: fc.nat(1_000),
});

/** The byte of a channel at an offset. */
const byteAt = (isUp: boolean, channel: number, offset: number): number =>
  ((offset * 31) >> 3) + channel * 7 + (isUp ? 1 : 0);

test("channels give what was sent, in order, over any network", () => {
  let restored = 0;
  let lost = 0;
  let updates = 0;
  fc.assert(
    fc.property(
      fc.nat(1e9),
      shape,
      shape,
      end,
      end,
      fc.array(message, { minLength: 1, maxLength: 12 }),
      (seed, up, down, client, server, messages) => {
        const optionsOf = ({ repairRatio, ...rest }: typeof client) => ({
          ...rest,
          redundancy: repairRatio === undefined ? new AdaptiveRedundancy() : new FixedRedundancy(repairRatio),
        });
        const pair = new UdpPair(String(seed), up, down, {
          client: optionsOf(client),
          server: optionsOf(server),
        });
        const sent = new Map<string, number>();
        for (const { isUp, channel, bytes, atMs } of messages)
          pair.network.at(atMs, () => {
            const from = sent.get(`${isUp} ${channel}`) ?? 0;
            sent.set(`${isUp} ${channel}`, from + bytes);
            const sender = isUp ? pair.client : pair.server;
            sender.connection.send(
              channel,
              Uint8Array.from({ length: bytes }, (_, index) => byteAt(isUp, channel, from + index)),
            );
            sender.pump();
          });
        const wanted = messages.reduce((bytes, each) => bytes + each.bytes, 0);
        let came = 0;
        pair.onClientData = (_channel, bytes) => void (came += bytes.length);
        pair.onServerData = pair.onClientData;
        pair.network.run(200_000, () => came === wanted);
        pair.network.run(pair.network.now + 15_000);
        expect([pair.client.connection.ended, pair.server.connection.ended]).toEqual([undefined, undefined]);
        for (const [key, bytes] of sent) {
          const [side, channel] = key.split(" ") as [string, string];
          const isUp = side === "true";
          const whole = Buffer.concat((isUp ? pair.atServer : pair.atClient).get(Number(channel)) ?? []);
          expect(whole.length, key).toBe(bytes);
          for (let offset = 0; offset < bytes; offset++)
            if (whole[offset] !== (byteAt(isUp, Number(channel), offset) & 0xff))
              expect.fail(`${key} at ${offset}`);
        }
        for (const { connection } of [pair.client, pair.server]) {
          expect(connection.keptPackets).toBe(0);
          expect(connection.heldBytes).toBe(0);
          restored += connection.counters.restoredPackets;
          lost += connection.counters.lostPackets;
          updates += connection.epoch;
        }
      },
    ),
    { numRuns: 80 },
  );
  expect(Math.min(restored, lost)).toBeGreaterThan(50);
  expect(updates).toBeGreaterThan(5);
}, 300_000);

/** Takes whatever comes, as from a peer with the keys that lies. */
const openDoor: PacketProtection = {
  seal: (packet, _headerBytes, payloadEnd) => void packet.fill(0, payloadEnd, payloadEnd + TAG_BYTES),
  open: () => true,
};

/** Datagrams of a conversation, as the server would receive them. */
function sampleDatagrams(protection: PacketProtection | undefined): Uint8Array[] {
  const options = protection === undefined ? {} : { protection };
  const lossy: PathShape = { delayMs: 10, lossRatio: 0.03, jitterMs: 4 };
  const pair = new UdpPair("samples", lossy, lossy, { client: options, server: options });
  const datagrams: Uint8Array[] = [];
  const send = pair.up.send.bind(pair.up);
  pair.up.send = (datagram, deliver) => {
    datagrams.push(datagram.slice());
    send(datagram, deliver);
  };
  for (let turn = 0; turn < 20; turn++)
    pair.network.at(turn * 40, () => {
      pair.client.connection.send(turn % 4, new Uint8Array(turn % 3 === 0 ? 9_000 : 100));
      pair.server.connection.send(turn % 4, new Uint8Array(2_000));
      pair.client.pump();
      pair.server.pump();
    });
  pair.network.run(3_000);
  return datagrams;
}

/** Datagrams in each run, and which ones; more and others: ISOCHRONE_TEST_DATAGRAMS, ISOCHRONE_TEST_SEED. */
const DATAGRAMS = Number(process.env["ISOCHRONE_TEST_DATAGRAMS"] ?? 100_000);
const SEED = process.env["ISOCHRONE_TEST_SEED"] ?? "";

function mutate(random: Random, datagram: Uint8Array): Uint8Array {
  const bytes = datagram.slice();
  for (let edits = 1 + random.int(4); edits > 0; edits--) bytes[random.int(bytes.length)] = random.int(256);
  return random.int(8) === 0 ? bytes.subarray(0, random.int(bytes.length + 1)) : bytes;
}

test("a stranger's datagrams change nothing and leave nothing behind", () => {
  const random = new Random(`strangers${SEED}`);
  const datagrams = sampleDatagrams(undefined);
  const pair = new UdpPair("strangers", { delayMs: 1 }, { delayMs: 1 });
  const { connection } = pair.server;
  const now = monotonicMs(0);
  const into = new Uint8Array(1_452);
  for (let count = 0; count < DATAGRAMS; count++) {
    const bytes = mutate(random, datagrams[random.int(datagrams.length)] as Uint8Array);
    // A packet that is whole by chance is no stranger's.
    bytes[bytes.length - 1] = 1 + random.int(255);
    expect(connection.handleDatagram(bytes, "203.0.113.1:1", now)).toBeTypeOf("string");
  }
  expect(connection.counters.droppedDatagrams).toBe(DATAGRAMS);
  expect(connection.pollEvent()).toBeUndefined();
  expect(connection.pollTransmit(into, now)).toBe(0);
  expect(connection.heldBytes + connection.keptPackets).toBe(0);
}, 3_000_000);

test("a peer that lies ends its connection, with a reason, and no other way", () => {
  const random = new Random(`liars${SEED}`);
  const datagrams = sampleDatagrams(openDoor);
  const reasons = new Map<string, number>();
  const into = new Uint8Array(1_452);
  let number = 0;
  let connection: UdpConnection | undefined;
  for (let count = 0; count < DATAGRAMS; count++) {
    const now = monotonicMs(count / 10);
    if (connection === undefined || connection.ended !== undefined) {
      connection = new UdpPair("liars", { delayMs: 1 }, { delayMs: 1 }, { server: { protection: openDoor } })
        .server.connection;
      number = 0;
    }
    connection.send(random.int(64), new Uint8Array(random.int(3_000)));
    const bytes = mutate(random, datagrams[random.int(datagrams.length)] as Uint8Array);
    if (bytes.length > 15 && random.int(2) === 0) {
      // Goes on where it was, so that frames are reached.
      bytes.set((datagrams[0] as Uint8Array).subarray(0, 9), 0);
      bytes.set([0, 0, number >> 24, number >> 16, number >> 8, number], 9);
      number += 1 + random.int(2);
    }
    connection.handleDatagram(bytes, `203.0.113.${random.int(2)}:1`, now);
    connection.handleTimeout(now);
    for (let sent = 0; sent < 20 && connection.pollTransmit(into, now) > 0; sent++);
    connection.pollTimeout(now);
    while (connection.pollEvent() !== undefined);
    if (connection.ended !== undefined)
      reasons.set(connection.ended, (reasons.get(connection.ended) ?? 0) + 1);
  }
  for (const reason of ["frame", "number", "ack-unsent", "channel", "window", "repair"])
    expect(reasons.get(reason), reason).toBeGreaterThan(0);
}, 3_000_000);
