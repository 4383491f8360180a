/** Goal: the parts of the UDP carrier, each by itself. Method: models, tables and vectors of the RFCs' formulas; no clock. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { monotonicMs } from "#kit";
import { ByteReader } from "../../../transport/core/link/bytes.ts";
import { Bbr } from "../../../transport/core/udp/bbr.ts";
import type { AckSample } from "../../../transport/core/udp/congestion.ts";
import { Cubic } from "../../../transport/core/udp/cubic.ts";
import { DeliveryRate } from "../../../transport/core/udp/delivery-rate.ts";
import { KeyEpochs } from "../../../transport/core/udp/key-epochs.ts";
import { type Group, LossDetection, type SentPacket } from "../../../transport/core/udp/loss-detection.ts";
import { MtuSearch } from "../../../transport/core/udp/mtu-search.ts";
import { Pacer } from "../../../transport/core/udp/pacer.ts";
import {
  type Ack,
  type FrameSink,
  readFrames,
  readHead,
  readNumber48,
  writeAck,
  writeDataHead,
  writeHead,
  writeNumber48,
  writeRepair,
} from "../../../transport/core/udp/packet.ts";
import { PathValidation } from "../../../transport/core/udp/path-validation.ts";
import { Ranges } from "../../../transport/core/udp/ranges.ts";
import { ReceiveChannel } from "../../../transport/core/udp/receive-channel.ts";
import { ReceivedPackets } from "../../../transport/core/udp/received-packets.ts";
import { AdaptiveRedundancy, repairsNeeded } from "../../../transport/core/udp/redundancy.ts";
import { SendChannel } from "../../../transport/core/udp/send-channel.ts";
import { CHANNEL_WINDOW_BYTES, RECEIVED_RANGES_MAX } from "../../../transport/core/udp/words.ts";

const at = monotonicMs;

describe("ranges", () => {
  test("are the set that was added and removed, in as few ranges as it takes", () => {
    const step = fc.record({ isAdd: fc.boolean(), from: fc.nat(60), length: fc.nat(12) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const ranges = new Ranges();
        const model = new Set<number>();
        for (const { isAdd, from, length } of steps) {
          if (isAdd) ranges.add(from, from + length);
          else ranges.remove(from, from + length);
          for (let number = from; number < from + length; number++)
            if (isAdd) model.add(number);
            else model.delete(number);
        }
        for (let number = 0; number < 80; number++) expect(ranges.has(number)).toBe(model.has(number));
        for (let index = 0; index < ranges.count; index++) {
          expect(ranges.from(index)).toBeLessThan(ranges.to(index));
          if (index > 0) expect(ranges.from(index)).toBeGreaterThan(ranges.to(index - 1));
        }
      }),
    );
  });
});

describe("packets", () => {
  test("numbers of 48 bits come back", () => {
    const bytes = new Uint8Array(6);
    for (const value of [0, 1, 255, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 47 + 12345, 2 ** 48 - 1]) {
      expect(writeNumber48(bytes, 0, value)).toBe(6);
      expect(readNumber48(bytes, 0)).toBe(value);
    }
  });

  const name = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  test("heads are written as README.md draws them, and strangers' refused", () => {
    const bytes = new Uint8Array(60);
    writeHead(bytes, name, { number: 0x0102_0304_0506, isInGroup: true, epochBit: 1 });
    expect(Buffer.from(bytes.subarray(0, 15)).toString("hex")).toBe("570102030405060708010203040506");
    expect(readHead(bytes, name)).toEqual({ number: 0x0102_0304_0506, isInGroup: true, epochBit: 1 });
    expect(readHead(bytes, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 9))).toBe("connection");
    expect(readHead(bytes.subarray(0, 31), name)).toBe("length");
    expect(readHead(new Uint8Array(1_453), name)).toBe("length");
    bytes[0] = 0x5b;
    expect(readHead(bytes, name)).toBe("version");
  });

  function framesOf(bytes: Uint8Array): { result: ReturnType<typeof readFrames>; seen: unknown[] } {
    const seen: unknown[] = [];
    const sink: FrameSink = {
      ack: (ack) => void seen.push(ack),
      data: (channel, offset, content) => void seen.push({ channel, offset, content: [...content] }),
      repair: (first, sources, index, symbol) =>
        void seen.push({ first, sources, index, symbol: [...symbol] }),
      challenge: (challenge) => void seen.push({ challenge: [...challenge] }),
      response: (response) => void seen.push({ response: [...response] }),
      close: (reason) => void seen.push({ reason }),
    };
    return { result: readFrames(new ByteReader(bytes, 0, bytes.length), sink), seen };
  }

  test("acknowledgements come back", () => {
    const gaps = fc.array(
      fc.record({ gap: fc.integer({ min: 1, max: 70_000 }), length: fc.integer({ min: 1, max: 70_000 }) }),
      {
        minLength: 1,
        maxLength: 32,
      },
    );
    fc.assert(
      fc.property(gaps, fc.nat(10_000), fc.nat(2 ** 30 - 1), (steps, delayUnits, restored) => {
        let to = 2 ** 40;
        const ranges: number[] = [];
        for (const { gap, length } of steps) {
          ranges.push(to - length, to);
          to -= length + gap;
        }
        const ack: Ack = { ranges, delayUnits, restored };
        const bytes = new Uint8Array(400);
        const end = writeAck(bytes, 0, ack);
        expect(framesOf(bytes.subarray(0, end))).toEqual({ result: false, seen: [ack] });
      }),
    );
  });

  test("content and repairs come back, and ask for an acknowledgement", () => {
    const bytes = new Uint8Array(60);
    let end = writeDataHead(bytes, 0, 63, 2 ** 33, 3);
    bytes.set([7, 8, 9], end);
    end = writeRepair(bytes, end + 3, 2 ** 34, 200, 54, Uint8Array.of(0, 1, 5));
    expect(framesOf(bytes.subarray(0, end))).toEqual({
      result: true,
      seen: [
        { channel: 63, offset: 2 ** 33, content: [7, 8, 9] },
        { first: 2 ** 34, sources: 200, index: 54, symbol: [0, 1, 5] },
      ],
    });
  });

  test.each([
    ["unknown type", "08", "frame"],
    ["channel beyond the last", "0340 000000000000 01 aa", "channel"],
    ["content that is not all there", "0300 000000000000 02 aa", "frame"],
    ["content of no bytes", "0300 000000000000 00", "frame"],
    ["no ranges", "02 000000000005 00 00 00", "frame"],
    ["a range below 0", "02 000000000005 00 00 01 07", "number"],
    ["a gap of nothing", "02 000000000009 00 00 02 01 00 01", "number"],
    ["a repair of no sources", "04 000000000000 00 00 0000", "repair"],
    ["a repair that no code has", "04 000000000000 c8 37 0000", "repair"],
    ["half a challenge", "0501020304", "frame"],
    ["an unknown reason", "07ff", "frame"],
  ])("%s ends the connection", (_name, hex, reason) => {
    expect(framesOf(Buffer.from(hex.replaceAll(" ", ""), "hex")).result).toBe(reason);
  });
});

describe("received packets", () => {
  test("a number counts once, and below the oldest range remembered as one that came", () => {
    const received = new ReceivedPackets(at(0));
    for (let index = 0; index <= RECEIVED_RANGES_MAX; index++)
      received.handleReceived(2 * index, true, at(0));
    expect(received.has(4)).toBe(true);
    expect(received.has(5)).toBe(false);
    expect(received.has(0)).toBe(true);
    // Never came, but the ranges that would tell are forgotten.
    received.handleReceived(1_000, true, at(0));
    received.handleReceived(2_000, true, at(0));
    expect(received.has(1)).toBe(true);
  });

  test("in order, four packets or 5 ms are acknowledged together; a gap at once", () => {
    const received = new ReceivedPackets(at(0));
    for (let number = 0; number < 3; number++) received.handleReceived(number, true, at(number));
    expect(received.isAckDue(at(3))).toBe(false);
    expect(received.pollTimeout(at(3))).toBe(5);
    expect(received.isAckDue(at(5))).toBe(true);
    received.handleReceived(3, true, at(3));
    expect(received.takeAck(at(4), 32)).toEqual({ ranges: [0, 4], delayUnits: 8, restored: 0 });
    expect(received.pollTimeout(at(4))).toBeUndefined();
    received.handleReceived(5, true, at(6));
    expect(received.isAckDue(at(6))).toBe(true);
    received.handleRestored(4);
    expect(received.takeAck(at(6), 32)).toEqual({ ranges: [0, 6], delayUnits: 0, restored: 1 });
  });
});

const packet = (number: number, sentAt: number, more: Partial<SentPacket> = {}): SentPacket => ({
  number,
  sentAt: at(sentAt),
  bytes: 1_000,
  isEliciting: true,
  pieces: [0, 1_000 * number, 1_000],
  group: undefined,
  mtuProbeBytes: 0,
  deliveredBytes: 0,
  deliveredAt: at(0),
  firstSentAt: at(0),
  isAppLimited: false,
  ...more,
});
const ackOf = (...ranges: number[]): Ack => ({ ranges, delayUnits: 0, restored: 0 });
const numbers = (packets: readonly SentPacket[]): number[] => packets.map(({ number }) => number);

describe("loss detection", () => {
  test("three packets later is lost, two is not until 9/8 of the round trip", () => {
    const loss = new LossDetection();
    for (let number = 0; number < 5; number++) loss.handleSent(packet(number, 0));
    const result = loss.handleAck(ackOf(3, 4), at(100));
    expect(result?.rttMs).toBe(100);
    expect(numbers(loss.takeLost(at(100)))).toEqual([0]);
    expect(loss.pollTimeout()).toBe(112.5);
    expect(numbers(loss.takeLost(at(112.5)))).toEqual([1, 2]);
    expect(loss.bytesInFlight).toBe(1_000);
  });

  test("a probe timeout is srtt, four deviations and the delay of acknowledgements, doubled each time up to 2 s", () => {
    const loss = new LossDetection();
    loss.handleSent(packet(0, 0));
    // RFC 9002, 6.2.2: 333 ms, half of it as deviation.
    expect(loss.pollTimeout()).toBeCloseTo(333 + 4 * 166.5 + 5);
    loss.handleAck(ackOf(0, 1), at(100));
    loss.handleSent(packet(1, 100));
    expect(loss.pollTimeout()).toBe(100 + 100 + 4 * 50 + 5);
    expect(numbers(loss.handleProbeTimeout(2))).toEqual([1]);
    expect(loss.pollTimeout()).toBe(100 + 2 * 305);
    // 2 s at most: 305, 610, 1220, 2440.
    for (let probes = 1; probes < 60; probes++) loss.handleProbeTimeout(2);
    expect(loss.pollTimeout()).toBe(100 + 2_000);
  });

  test("an acknowledgement of what was never sent is refused", () => {
    expect(new LossDetection().handleAck(ackOf(0, 1), at(1))).toBeUndefined();
  });

  test("an acknowledgement of 2^47 packets costs no more than what is under way", () => {
    const loss = new LossDetection();
    const last = 2 ** 47;
    loss.handleSent(packet(last, 0));
    expect(numbers(loss.handleAck(ackOf(0, last + 1), at(1))?.acked ?? [])).toEqual([last]);
  });

  const groupOf = (repairs: number): Group => ({
    first: 0,
    repairs,
    lastNumber: 5,
    lastSentAt: at(0),
    lost: 0,
  });
  test("a packet that repairs may restore is waited for until they had their chance", () => {
    const loss = new LossDetection();
    const group = groupOf(2);
    for (let number = 0; number < 8; number++)
      loss.handleSent(packet(number, 0, { group: number < 6 ? group : undefined }));
    loss.handleAck(ackOf(1, 5), at(100));
    expect(loss.takeLost(at(100))).toEqual([]);
    loss.handleAck(ackOf(1, 8), at(101));
    expect(numbers(loss.takeLost(at(101)))).toEqual([0]);
  });

  test("more than repairs can restore is lost at once", () => {
    const loss = new LossDetection();
    const group = groupOf(2);
    for (let number = 0; number < 8; number++) loss.handleSent(packet(number, 0, { group }));
    loss.handleAck(ackOf(6, 7), at(100));
    expect(numbers(loss.takeLost(at(100)))).toEqual([0, 1, 2, 3]);
  });

  /** Ten packets, one each `everyMs`, of which these come, acknowledged when the last one has. Before them one round trip of 100 ms was measured. */
  function isPersistent(everyMs: number, ...came: number[]): boolean {
    const loss = new LossDetection();
    loss.handleSent(packet(0, 0));
    loss.handleAck(ackOf(0, 1), at(100));
    for (let number = 1; number <= 10; number++) loss.handleSent(packet(number, 100 + everyMs * number));
    for (const number of came) loss.handleAck(ackOf(number, number + 1), at(200 + everyMs * number));
    const lost = loss.takeLost(at(200 + everyMs * 10));
    expect(lost).toHaveLength(10 - came.length);
    return loss.takePersistentCongestion(lost);
  }
  test("nothing that came while packets left for three probe timeouts is persistent congestion (RFC 9002, 7.6)", () => {
    // From packet 1 to 9 it is 8 times; the timeout is 100 + 4 x 50 + 5 ms before the last round trip was measured, and 255 ms with it.
    expect(isPersistent(100, 10)).toBe(true);
    expect(isPersistent(90, 10)).toBe(false);
    // One of them that came tells that the path goes on.
    expect(isPersistent(100, 5, 10)).toBe(false);
    expect(isPersistent(300, 5, 10)).toBe(true);
  });

  test("probe timeouts alone are none: an end that stood still answers all of them", () => {
    const loss = new LossDetection();
    loss.handleSent(packet(0, 0));
    loss.handleAck(ackOf(0, 1), at(20));
    for (let number = 1; number < 9; number++) {
      loss.handleSent(packet(number, 20 + 100 * number));
      loss.handleProbeTimeout(2);
    }
    loss.handleAck(ackOf(1, 9), at(1_000));
    const lost = loss.takeLost(at(1_000));
    expect(lost).toEqual([]);
    expect(loss.takePersistentCongestion(lost)).toBe(false);
  });

  test("restored packets are told once, whatever order acknowledgements come in", () => {
    const loss = new LossDetection();
    for (let number = 0; number < 4; number++) loss.handleSent(packet(number, 0));
    expect(loss.handleAck({ ...ackOf(0, 3), restored: 2 }, at(1))?.restored).toBe(2);
    expect(loss.handleAck({ ...ackOf(0, 1), restored: 1 }, at(2))?.restored).toBe(0);
    expect(loss.handleAck({ ...ackOf(0, 4), restored: 2 }, at(3))?.restored).toBe(0);
  });
});

describe("channels", () => {
  test("what is lost leaves again, what came does not, and memory goes with what came", () => {
    const sending = new SendChannel();
    sending.push(Uint8Array.from({ length: 10 }, (_, index) => index));
    sending.push(Uint8Array.from({ length: 10 }, (_, index) => 10 + index));
    expect(sending.take(8)).toEqual({ offset: 0, length: 8 });
    expect(sending.take(8)).toEqual({ offset: 8, length: 8 });
    sending.handleAcked(8, 8);
    sending.handleLost(0, 12);
    expect(sending.take(100)).toEqual({ offset: 0, length: 8 });
    sending.handleAcked(0, 8);
    expect(sending.take(100)).toEqual({ offset: 16, length: 4 });
    const into = new Uint8Array(6);
    sending.copy(16, 4, into, 1);
    expect([...into]).toEqual([0, 16, 17, 18, 19, 0]);
    sending.handleLost(0, 16);
    expect(sending.hasSome).toBe(false);
  });

  test("nothing leaves beyond the window", () => {
    const sending = new SendChannel();
    sending.push(new Uint8Array(CHANNEL_WINDOW_BYTES + 10));
    expect(sending.take(CHANNEL_WINDOW_BYTES + 10)).toEqual({ offset: 0, length: CHANNEL_WINDOW_BYTES });
    expect(sending.hasSome).toBe(false);
    sending.handleAcked(0, 4);
    expect(sending.readyBytes).toBe(4);
  });

  test("pieces in any order, twice and overlapping, give the bytes once and in order", () => {
    const piece = fc.record({ from: fc.nat(50), length: fc.integer({ min: 1, max: 20 }) });
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
        const receiving = new ReceiveChannel();
        const came: number[] = [];
        const take = (from: number, length: number): void =>
          receiving.receive(
            from,
            Uint8Array.from({ length }, (_, index) => from + index),
            (bytes) => came.push(...bytes),
          );
        for (const { from, length } of pieces) take(from, length);
        take(0, 80);
        expect(came).toEqual(Array.from({ length: came.length }, (_, index) => index));
        expect(came.length).toBeGreaterThanOrEqual(80);
        expect(receiving.heldBytes).toBe(0);
        expect(receiving.heldPieces).toBe(0);
      }),
    );
  });
});

describe("redundancy", () => {
  test("repairs are as many as the loss asks for", () => {
    // P(more than r of k + r are lost) < 0.2 %, by the binomial.
    expect(repairsNeeded(8, 0.014, 8)).toBe(2);
    expect(repairsNeeded(80, 0.014, 20)).toBe(5);
    expect(repairsNeeded(80, 0.3, 20)).toBe(20);
    expect(repairsNeeded(8, 0.0001, 8)).toBe(0);
  });

  test("none on a path that is clean, some on one that is not known", () => {
    const redundancy = new AdaptiveRedundancy();
    expect(redundancy.repairsFor(8, at(0))).toBeGreaterThan(0);
    redundancy.handlePackets(150, 0);
    expect(redundancy.repairsFor(8, at(0))).toBeGreaterThan(0);
    redundancy.handlePackets(4_000, 0);
    expect(redundancy.repairsFor(8, at(0))).toBe(0);
  });

  test("pauses while bursts leave nothing to restore, longer each time, and comes back", () => {
    const redundancy = new AdaptiveRedundancy();
    redundancy.handlePackets(1_000, 20);
    for (let group = 0; group < 8; group++) redundancy.handleGroup(group === 0, at(0));
    expect(redundancy.repairsFor(50, at(29_999))).toBe(0);
    expect(redundancy.repairsFor(50, at(30_000))).toBeGreaterThan(0);
    for (let group = 0; group < 3; group++) redundancy.handleGroup(false, at(30_000));
    expect(redundancy.repairsFor(50, at(89_999))).toBe(0);
    expect(redundancy.repairsFor(50, at(90_000))).toBeGreaterThan(0);
    for (let group = 0; group < 40; group++) redundancy.handleGroup(true, at(90_000));
    expect(redundancy.isPaused(at(90_000))).toBe(false);
  });
});

describe("keys", () => {
  test("a side goes on when half is used, the other follows, late packets are read under the old key", () => {
    const ours = new KeyEpochs(4);
    const theirs = new KeyEpochs(4);
    expect([ours.seal(), ours.seal()]).toEqual([0, 0]);
    expect(ours.seal()).toBe(1);
    expect(theirs.epochOf(2, 1)).toBe(1);
    theirs.handleOpened(2, 1);
    expect(theirs.epochOf(1, 0)).toBe(0);
    expect(theirs.seal()).toBe(1);
    // Until the other has used it, there is no next one; then the key is used up.
    expect([ours.seal(), ours.seal(), ours.seal()]).toEqual([1, 1, 1]);
    expect(ours.seal()).toBeUndefined();
    expect(ours.epochOf(5, 0)).toBe(0);
    ours.handleOpened(6, 1);
    expect(ours.seal()).toBe(2);
  });

  test("a packet of the next epoch that is not authentic changes nothing", () => {
    const keys = new KeyEpochs();
    keys.epochOf(1, 1);
    expect(keys.epoch).toBe(0);
  });
});

describe("path", () => {
  const challenge = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  const path = (isValidated: boolean): PathValidation =>
    new PathValidation("a:1", isValidated, () => challenge, at(0));

  test("three times what came is sent to an address that is not validated", () => {
    const unknown = path(false);
    expect(unknown.maySend(1)).toBe(false);
    unknown.handleReceived("a:1", 400, true, at(0));
    expect(unknown.maySend(1_200)).toBe(true);
    unknown.handleSent(1_200);
    expect(unknown.maySend(1)).toBe(false);
    unknown.handleResponse(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 9));
    expect(unknown.isValidated).toBe(false);
    unknown.handleResponse(challenge);
    expect(unknown.maySend(1e9)).toBe(true);
  });

  test("only the newest packet moves a path; three challenges in silence move it back", () => {
    const moving = path(true);
    expect(moving.handleReceived("b:1", 100, false, at(0))).toBe(false);
    expect(moving.handleReceived("b:1", 100, true, at(0))).toBe(true);
    expect(moving.maySend(301)).toBe(false);
    for (const now of [0, 50, 100]) expect(moving.takeChallenge(50, at(now))).toBe(challenge);
    expect(moving.takeChallenge(50, at(149))).toBeUndefined();
    expect(moving.handleTimeout(at(150))).toBe(true);
    expect(moving.remote).toBe("a:1");
    expect(moving.isValidated).toBe(true);
  });

  test("who is heard at the old address again needs no challenge", () => {
    const moving = path(true);
    moving.handleReceived("b:1", 100, true, at(0));
    expect(moving.handleReceived("a:1", 100, true, at(1))).toBe(true);
    expect(moving.isValidated).toBe(true);
    expect(moving.pollTimeout()).toBeUndefined();
  });
});

describe("path MTU", () => {
  test("goes up by probes, stops where three are lost, and falls in a black hole", () => {
    const mtu = new MtuSearch();
    expect(mtu.bytes).toBe(1_200);
    expect(mtu.probe(at(0))).toBe(1_350);
    mtu.handleSent();
    expect(mtu.probe(at(0))).toBe(0);
    mtu.handleAcked(1_350);
    for (let probe = 0; probe < 3; probe++) {
      expect(mtu.probe(at(1))).toBe(1_452);
      mtu.handleSent();
      mtu.handleLost(at(1));
    }
    expect(mtu.bytes).toBe(1_350);
    expect(mtu.probe(at(2))).toBe(0);
    mtu.handleProbeTimeout(1, at(3));
    expect(mtu.bytes).toBe(1_350);
    mtu.handleProbeTimeout(2, at(3));
    expect(mtu.bytes).toBe(1_200);
    expect(mtu.probe(at(600_003))).toBe(1_350);
  });
});

describe("pace", () => {
  test("a burst after a pause, then the rate", () => {
    const pacer = new Pacer(3_000, at(0));
    let leftAt = 0;
    const sentAt: number[] = [];
    for (let sent = 0; sent < 8; sent++) {
      leftAt = pacer.readyAt(100, 50, at(leftAt));
      sentAt.push(leftAt);
      pacer.handleSent(1_000);
    }
    expect(sentAt).toEqual([0, 0, 0, 0, 10, 20, 30, 40]);
  });

  test("an eighth of a round trip is made up for where content waited, and nothing after a pause", () => {
    const leaving = (isIdle: boolean): number => {
      const pacer = new Pacer(3_000, at(0));
      pacer.readyAt(1_000, 100, at(0));
      pacer.handleSent(10_000);
      if (isIdle) pacer.handleIdle();
      let bytes = 0;
      for (; pacer.readyAt(1_000, 100, at(60)) <= 60; bytes += 500) pacer.handleSent(500);
      expect(pacer.takeLate()).toBe(!isIdle);
      expect(pacer.takeLate()).toBe(false);
      return bytes;
    };
    expect(leaving(false)).toBe(13_000);
    // What a timer's lateness lets through: 4 ms.
    expect(leaving(true)).toBe(4_500);
  });

  test("on a short path 10 ms are made up for: a process with a turn each 10 ms sends at its rate", () => {
    const pacer = new Pacer(3_000, at(0));
    let bytes = 0;
    for (let now = 0; now < 1_000; now += 10)
      for (; pacer.readyAt(1_000, 16, at(now)) <= now; bytes += 1_000) pacer.handleSent(1_000);
    expect(bytes).toBeGreaterThan(980_000);
  });
});

const sample = (more: Partial<AckSample>): AckSample => ({
  ackedBytes: 1_200,
  priorInFlightBytes: 12_000,
  inFlightBytes: 10_800,
  rttMs: 100,
  srttMs: 100,
  deliveredBytes: 0,
  priorDeliveredBytes: 0,
  deliveryRate: undefined,
  isAppLimited: false,
  ...more,
});

describe("delivery rate", () => {
  /** Packets of 1,200 bytes that left at these times behind a pause; told of their acknowledgements as [until which packet, when]. */
  function tell(sentAt: readonly number[], acks: readonly (readonly [to: number, atMs: number])[]) {
    const rate = new DeliveryRate(at(0));
    const packets = sentAt.map((ms, number) => ({
      ...packet(number, ms),
      bytes: 1_200,
      ...rate.stamp(1_200 * number, at(ms)),
    }));
    let from = 0;
    let most = 0;
    for (const [to, atMs] of acks) {
      const acked = packets.slice(from, to);
      from = to;
      const rttMs = atMs - (acked.at(-1) as SentPacket).sentAt;
      most = Math.max(most, rate.handleAcked(acked, 0, rttMs, at(atMs)) ?? 0);
    }
    return { most, isOfPath: rate.isPathLimited };
  }
  const burst = Array.from({ length: 80 }, () => 0);
  /** A path of 100 ms that takes 10 packets, 12,000 bytes, a millisecond. */
  const inTime = Array.from(
    { length: 20 },
    (_, index) => [4 * (index + 1), 100 + 0.4 * (index + 1)] as const,
  );

  test("of what left at once after a pause is found by its acknowledgements", () => {
    expect(tell(burst, inTime).most).toBeGreaterThan(10_500);
    expect(tell(burst, inTime).most).toBeLessThanOrEqual(12_500);
  });

  test("is that of the path where acknowledgements come evenly, for longer than it took to send; not where an end was late", () => {
    const many = Array.from({ length: 200 }, () => 0);
    const evenly = Array.from({ length: 50 }, (_, n) => [4 * (n + 1), 100 + 0.4 * n] as const);
    const inTurns = evenly.map(([to, ms]) => [to, 15 * Math.ceil(ms / 15)] as const);
    expect(tell(many, evenly).isOfPath).toBe(true);
    // Sent as fast as the path takes it; a short one; and an end that has a turn each 15 ms.
    const atItsRate = Array.from({ length: 200 }, (_, n) => n / 10);
    expect(tell(atItsRate, evenly).isOfPath).toBe(false);
    expect(tell(burst, inTime).isOfPath).toBe(false);
    expect(tell(many, inTurns).isOfPath).toBe(false);
  });

  test("is never taken for more because an end was late and saw acknowledgements of a while at once", () => {
    for (const lateMs of [1, 5, 20, 80]) {
      const late = inTime.map(([to, ms]) => [to, Math.max(ms, 100 + lateMs)] as const);
      expect(tell(burst, [[1, 100], ...late]).most).toBeLessThanOrEqual(12_500);
    }
  });
});

describe("cubic", () => {
  test("doubles in slow start, loses three tenths once a round trip, and comes back to where it was at K", () => {
    const cubic = new Cubic(1_200);
    for (let ack = 0; ack < 90; ack++) cubic.handleAck(sample({}), at(100));
    expect(cubic.windowBytes).toBe(120_000);
    cubic.handleLoss(1_200, at(50), at(100));
    cubic.handleLoss(1_200, at(99), at(101));
    expect(cubic.windowBytes).toBeCloseTo(84_000);
    // RFC 9438, 4.2: K = cbrt((100 - 70) / 0.4) s.
    const kMs = 1_000 * Math.cbrt(30 / 0.4);
    for (let now = 200; now < 200 + kMs; now += 10) cubic.handleAck(sample({ ackedBytes: 8_400 }), at(now));
    expect(cubic.windowBytes / 1_200).toBeGreaterThan(98);
    expect(cubic.windowBytes / 1_200).toBeLessThan(104);
  });

  test("a window that is not used does not grow", () => {
    const cubic = new Cubic(1_200);
    cubic.handleAck(sample({ isAppLimited: true, priorInFlightBytes: 2_400 }), at(1));
    expect(cubic.windowBytes).toBe(12_000);
  });
});

describe("BBR", () => {
  /** Twice what a path of 100 ms holds at 1,000 bytes a millisecond, and what one acknowledgement brings. */
  const WINDOW_BYTES = 2 * 1_000 * 100 + 10_000;

  /** Rounds of a path that delivers so much a millisecond. */
  function rounds(bbr: Bbr, count: number, rate: number, from: number): number {
    let now = from;
    for (let round = 0; round < count; round++) {
      for (let ack = 1; ack <= 10; ack++) {
        now += 10;
        const deliveredBytes = now * rate;
        bbr.handleAck(
          sample({
            deliveredBytes,
            priorDeliveredBytes: ack === 10 ? deliveredBytes : 0,
            deliveryRate: rate,
            inFlightBytes: 0,
            ackedBytes: rate * 10,
          }),
          at(now),
        );
      }
    }
    return now;
  }

  test("finds the rate, stops doubling when it does not grow, and keeps twice the product under way", () => {
    const bbr = new Bbr(1_200);
    expect(bbr.state).toBe("startup");
    rounds(bbr, 8, 1_000, 0);
    expect(bbr.state).toBe("probe-rate");
    expect(bbr.rate).toBe(1_000);
    expect(bbr.windowBytes).toBe(WINDOW_BYTES);
  });

  test("random loss of a few per cent costs nothing; a fifth of two round trips binds as CUBIC would", () => {
    const bbr = new Bbr(1_200);
    const now = rounds(bbr, 8, 1_000, 0);
    bbr.handleLoss(3 * 1_200, at(now));
    rounds(bbr, 1, 1_000, now);
    expect(bbr.windowBytes).toBe(WINDOW_BYTES);
    bbr.handleLoss(25_000, at(now + 100));
    rounds(bbr, 1, 1_000, now + 100);
    // A burst is over in one round trip; what goes on is no burst.
    expect(bbr.windowBytes).toBe(WINDOW_BYTES);
    bbr.handleLoss(25_000, at(now + 200));
    rounds(bbr, 1, 1_000, now + 200);
    expect(bbr.windowBytes).toBeLessThan(0.8 * 100_000);
  });

  /** Round trips of 130 ms on such a path, 150,000 bytes under way: a queue, or an end that reads what came by turns of `turnMs`. */
  function longRounds(bbr: Bbr, count: number, turnMs: number, from: number): number {
    let now = from;
    for (let round = 0; round < count; round++)
      for (let ack = 0; ack < 130; ack += 10) {
        now = from + Math.ceil((130 * round + ack + 10) / turnMs) * turnMs;
        const deliveredBytes = 1_000 * (from + 130 * round + ack);
        bbr.handleAck(
          sample({
            deliveredBytes,
            priorDeliveredBytes: ack === 120 ? deliveredBytes : 0,
            deliveryRate: 1_000,
            rttMs: 130,
            ackedBytes: 10_000,
            priorInFlightBytes: 150_000,
            inFlightBytes: 140_000,
          }),
          at(now),
        );
      }
    return now;
  }

  test("one packet that is lost while a queue stands binds too", () => {
    const bbr = new Bbr(1_200);
    const now = longRounds(bbr, 2, 10, rounds(bbr, 8, 1_000, 0));
    expect(bbr.windowBytes).toBe(WINDOW_BYTES);
    bbr.handleLoss(1_200, at(now));
    longRounds(bbr, 1, 10, now);
    expect(bbr.windowBytes).toBeLessThan(0.71 * 150_000);
  });

  test("round trips that are long because an end stood still are no queue", () => {
    const bbr = new Bbr(1_200);
    const now = longRounds(bbr, 2, 30, rounds(bbr, 8, 1_000, 0));
    expect(bbr.windowBytes).toBeGreaterThanOrEqual(WINDOW_BYTES);
    bbr.handleLoss(1_200, at(now));
    longRounds(bbr, 1, 30, now);
    expect(bbr.windowBytes).toBeGreaterThanOrEqual(WINDOW_BYTES);
    expect(bbr.isQueueing).toBe(false);
  });

  test("bound, it grows as in slow start up to nearly what the path holds while no queue is met", () => {
    const bbr = new Bbr(1_200);
    let now = longRounds(bbr, 1, 10, rounds(bbr, 8, 1_000, 0));
    for (let lost = 0; lost < 6; lost++) {
      bbr.handleLoss(1_200, at(now));
      now = longRounds(bbr, 1, 10, now);
    }
    expect(bbr.windowBytes).toBeLessThan(65_000);
    // As CUBIC alone it would take seconds.
    rounds(bbr, 3, 1_000, now);
    expect(bbr.windowBytes).toBeGreaterThan(75_000);
    expect(bbr.windowBytes).toBeLessThan(WINDOW_BYTES);
  });

  test("acknowledgements that come together after a while let as much more be under way, a tenth of a second's worth at most", () => {
    for (const [everyMs, extraBytes] of [
      [50, 50_000],
      [400, 100_000],
    ] as const) {
      const bbr = new Bbr(1_200);
      const now = rounds(bbr, 8, 1_000, 0);
      for (let turn = 1; turn <= 4; turn++)
        bbr.handleAck(
          sample({ deliveredBytes: 1e9, deliveryRate: 1_000, ackedBytes: 1_000 * everyMs }),
          at(now + turn * everyMs),
        );
      expect(bbr.windowBytes).toBe(200_000 + extraBytes);
    }
  });

  test("a rate that was measured with nothing more to send never lowers what is known", () => {
    const bbr = new Bbr(1_200);
    const now = rounds(bbr, 8, 1_000, 0);
    for (let ack = 0; ack < 50; ack++)
      bbr.handleAck(
        sample({
          deliveredBytes: 1e7 + ack,
          priorDeliveredBytes: 1e7 + ack,
          deliveryRate: 10,
          isAppLimited: true,
        }),
        at(now + ack),
      );
    expect(bbr.rate).toBe(1_000);
  });
});
