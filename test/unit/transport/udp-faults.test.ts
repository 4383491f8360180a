/** Goal: what becomes of a connection over UDP when its path or its other end fails. Method: virtual time, seeded network, no socket. */
import { describe, expect, test } from "vitest";
import { Random } from "#kit";
import { Bottleneck, fetches, nameOf, type PathShape, UdpPair } from "../../tools/udp-network.ts";

const FAR: PathShape = { delayMs: 48 };
const CUT: PathShape = { delayMs: 48, lossRatio: 1 };
const BYTES = 100_000;
/** More than may be under way. */
const WHOLE_BYTES = 8_000_000;

/** A queue on the way to the client, which may hold 600,000 bytes under way. */
const narrow = (): PathShape => ({ ...FAR, bottleneck: new Bottleneck(50, 600_000) });

/** Both directions. */
function setBoth(pair: UdpPair, shape: PathShape): void {
  pair.up.shape = shape;
  pair.down.shape = shape;
}
/** What came at the client on channel 0, bytes. */
const cameBytes = (pair: UdpPair): number =>
  (pair.atClient.get(0) ?? []).reduce((sum, { length }) => sum + length, 0);

/** The server has this to send from now on. */
function serve(pair: UdpPair, bytes: number): void {
  pair.server.connection.send(0, new Uint8Array(bytes));
  pair.server.pump();
}

describe("a path that is cut", { timeout: 120_000 }, () => {
  test.each([
    ["both directions", CUT, CUT],
    ["what is sent", FAR, CUT],
    ["acknowledgements", CUT, FAR],
  ])("for 8 s under a transfer, %s: goes on where it was when the path is whole again", (_what, up, down) => {
    const pair = new UdpPair("cut", FAR, narrow());
    fetches(pair, 10, BYTES);
    const before = cameBytes(pair);
    serve(pair, WHOLE_BYTES);
    pair.network.run(pair.network.now + 60);
    const cutAt = pair.network.now;
    pair.up.shape = up;
    pair.down.shape = down;
    const { sentPackets } = pair.server.connection.counters;
    pair.network.run(cutAt + 8_000);
    expect(cameBytes(pair) - before).toBeLessThan(WHOLE_BYTES);
    // Two packets a probe timeout, which doubles; and what was allowed to be under way.
    expect(pair.server.connection.counters.sentPackets - sentPackets).toBeLessThan(1_500);
    expect(pair.server.connection.counters.probeTimeouts).toBeGreaterThan(2);
    setBoth(pair, FAR);
    pair.network.run(cutAt + 8_000 + 60_000, () => cameBytes(pair) - before === WHOLE_BYTES);
    expect(cameBytes(pair) - before).toBe(WHOLE_BYTES);
    // The last probe timeout may have just begun; then 8 MB at 50 Mbit/s, begun slowly.
    expect(pair.network.now - cutAt - 8_000).toBeLessThan(2_000 + 4_000);
    expect([pair.client.connection.ended, pair.server.connection.ended]).toEqual([undefined, undefined]);
  });

  test("is as fast as before soon after a cut of a second", () => {
    const pair = new UdpPair("heals", FAR, FAR);
    const usualMs = Math.max(...fetches(pair, 20, BYTES).slice(10));
    pair.network.at(pair.network.now + 200, () => setBoth(pair, CUT));
    pair.network.at(pair.network.now + 1_200, () => setBoth(pair, FAR));
    const times = fetches(pair, 20, BYTES);
    expect(Math.max(...times)).toBeGreaterThan(1_000);
    expect(Math.max(...times.slice(-10))).toBeLessThanOrEqual(usualMs * 1.2);
  });

  test("for 30 s, ends what is under way on both sides by silence, with little sent into it", () => {
    const pair = new UdpPair("black-out", FAR, narrow());
    fetches(pair, 10, BYTES);
    serve(pair, 10_000_000);
    pair.network.run(pair.network.now + 100);
    const cutAt = pair.network.now;
    setBoth(pair, CUT);
    const { sentPackets } = pair.server.connection.counters;
    pair.client.connection.send(1, new Uint8Array(100));
    pair.client.pump();
    pair.network.run(cutAt + 30_000);
    setBoth(pair, FAR);
    pair.network.run(cutAt + 120_000);
    expect([pair.client.connection.ended, pair.server.connection.ended]).toEqual(["silent", "silent"]);
    expect(pair.server.connection.counters.sentPackets - sentPackets).toBeLessThan(1_500);
    for (const { connection } of [pair.client, pair.server]) expect(connection.heldBytes).toBe(0);
  });

  test("for 30 s, is not noticed by a connection that has nothing to say", () => {
    const pair = new UdpPair("idle", FAR, FAR);
    fetches(pair, 5, BYTES);
    // What is on its way still comes.
    pair.network.run(pair.network.now + 1_000);
    setBoth(pair, CUT);
    pair.network.run(pair.network.now + 30_000);
    setBoth(pair, FAR);
    const times = fetches(pair, 5, BYTES);
    expect(times).toHaveLength(5);
    expect(times[0]).toBeLessThan(400);
  });
});

describe("asymmetric loss", { timeout: 120_000 }, () => {
  test("of a third of all acknowledgements costs what is sent the other way little", () => {
    const whole = fetches(new UdpPair("acks", FAR, FAR), 60, BYTES);
    const lossy = fetches(new UdpPair("acks", { ...FAR, lossRatio: 0.33 }, FAR), 60, BYTES);
    const median = (times: readonly number[]): number =>
      times.toSorted((a, b) => a - b)[times.length >> 1] as number;
    expect(lossy).toHaveLength(60);
    // A request that is lost costs a probe timeout; half of them come at once.
    expect(median(lossy)).toBeLessThan(median(whole) * 1.5);
  });

  test("of a fifth of what is sent: all comes, and only that direction counts as lossy", () => {
    const pair = new UdpPair("down", FAR, { ...FAR, lossRatio: 0.2 });
    expect(fetches(pair, 60, BYTES)).toHaveLength(60);
    const lossOf = ({ lostPackets, restoredPackets, sentPackets }: typeof pair.server.connection.counters) =>
      (lostPackets + restoredPackets) / sentPackets;
    expect(lossOf(pair.server.connection.counters)).toBeGreaterThan(0.1);
    // What the client sends arrives: only acknowledgements of it are lost, and a probe may be sent for nothing.
    expect(lossOf(pair.client.connection.counters)).toBeLessThan(0.1);
  });
});

describe("an address that changes", { timeout: 120_000 }, () => {
  test("every second while a transfer is under way (a NAT that forgets): it goes on at its pace", () => {
    const pair = new UdpPair("nat", FAR, FAR);
    const usualMs = Math.max(...fetches(pair, 20, BYTES).slice(10));
    let port = 1_000;
    const rebind = (): void => {
      pair.client.address = `192.0.2.1:${++port}`;
      // What is on its way to the port before is lost, as behind a NAT; the client has something to say soon.
      pair.client.connection.send(1, new Uint8Array(10));
      pair.client.pump();
      if (port < 1_010) pair.network.at(pair.network.now + 1_000, rebind);
    };
    pair.network.at(pair.network.now + 500, rebind);
    const times = fetches(pair, 60, BYTES);
    expect(port).toBe(1_010);
    expect(times).toHaveLength(60);
    expect(Math.max(...times.slice(-5))).toBeLessThanOrEqual(usualMs * 1.2);
    expect(pair.server.connection.remote).toBe("192.0.2.1:1010");
    expect(pair.server.connection.isRemoteValidated).toBe(true);
  });
});

describe("a peer that restarts", { timeout: 120_000 }, () => {
  /** A pair with other names on the same network: what the restarted peer agrees on by a new handshake. */
  const again = (pair: UdpPair): UdpPair =>
    new UdpPair(
      "again",
      FAR,
      FAR,
      {
        client: { localName: nameOf(3), remoteName: nameOf(4) },
        server: { localName: nameOf(4), remoteName: nameOf(3) },
      },
      pair.network,
    );

  test("knows nothing of what was: the other side ends by silence, and what it still sends disturbs no new connection", () => {
    const pair = new UdpPair("restarts", FAR, FAR);
    fetches(pair, 5, BYTES);
    const fresh = again(pair);
    // The process of the server is another one: what comes for the old name meets the new connection.
    pair.up.send = (datagram) => {
      const bytes = datagram.slice();
      pair.network.at(pair.network.now + 48, () => fresh.server.receive(bytes, pair.client.address));
    };
    const restartedAt = pair.network.now;
    pair.client.connection.send(0, new Uint8Array(5_000));
    pair.client.pump();
    const times = fetches(fresh, 30, BYTES);
    expect(times).toHaveLength(30);
    pair.network.run(restartedAt + 20_000);
    expect(pair.client.connection.ended).toBe("silent");
    expect(fresh.server.connection.ended).toBeUndefined();
    expect(fresh.server.connection.remote).toBe("192.0.2.1:1000");
    const { droppedDatagrams, lostPackets } = fresh.server.connection.counters;
    expect(droppedDatagrams).toBeGreaterThan(3);
    expect(lostPackets).toBe(0);
  });
});

describe("an end that shares its processor", { timeout: 120_000 }, () => {
  /** Answers of 100 KB, asked for at random, eight a second, whatever became of those before; their times, by the second in which they were asked for. */
  function load(pair: UdpPair, untilMs: number): number[][] {
    const random = new Random("moments");
    const free = Array.from({ length: 64 }, (_, channel) => channel);
    const lanes = new Map<number, { readonly askedAt: number; left: number }>();
    const times: number[][] = Array.from({ length: Math.ceil(untilMs / 1_000) + 1 }, () => []);
    pair.onServerData = (channel) => {
      pair.server.connection.send(channel, new Uint8Array(BYTES));
      pair.server.pump();
    };
    pair.onClientData = (channel, bytes) => {
      const lane = lanes.get(channel) as { askedAt: number; left: number };
      lane.left -= bytes.length;
      if (lane.left > 0) return;
      lanes.delete(channel);
      free.push(channel);
      times[Math.floor(lane.askedAt / 1_000)]?.push(pair.network.now - lane.askedAt);
    };
    const ask = (): void => {
      const channel = free.shift();
      if (channel !== undefined) {
        lanes.set(channel, { askedAt: pair.network.now, left: BYTES });
        pair.client.connection.send(channel, new Uint8Array(6));
        pair.client.pump();
      }
      if (pair.network.now < untilMs) pair.network.at(pair.network.now + random.exponential(125), ask);
    };
    ask();
    return times;
  }

  test.each([0, 0.007])(
    "and stands still now and then for a few round trips, while %d is lost, has answers later by that alone",
    (lossRatio) => {
      const stall = { everyMs: 300, lengthMs: 40 };
      const quantiles = (isStalled: boolean): readonly number[] => {
        const way = (): PathShape => ({ delayMs: 8, lossRatio, bottleneck: new Bottleneck(100, 200_000) });
        const pair = new UdpPair("still", way(), way());
        if (isStalled) for (const end of [pair.client, pair.server]) end.stall = stall;
        const times = fetches(pair, 200, 1_000_000).toSorted((a, b) => a - b);
        return [times[100] as number, times[190] as number];
      };
      const [p50 = 0, p95 = 0] = quantiles(false);
      const [stalledP50 = 0, stalledP95 = 0] = quantiles(true);
      // Either end, up to twice `lengthMs`, once or at most twice in a transfer.
      expect(stalledP50 - p50).toBeLessThan(2 * stall.lengthMs);
      expect(stalledP95 - p95).toBeLessThan(4 * stall.lengthMs);
    },
  );

  test.each([
    [100, 0.014, 48, 1_500],
    [200, 0, 48, Infinity],
    [100, 0.007, 8, 1_500],
  ])(
    "and has a turn each %d ms for 10 s, while %d is lost over %d ms, bears the load, and is as fast as before soon after",
    (turnMs, lossRatio, delayMs, mostMs) => {
      const bottleneck = (): Bottleneck => new Bottleneck(100, 25_000 * delayMs);
      const up = { delayMs, bottleneck: bottleneck() };
      const pair = new UdpPair("1", up, { delayMs, lossRatio, bottleneck: bottleneck() });
      const times = load(pair, 30_000);
      for (const [at, turn] of [
        [10_000, turnMs],
        [20_000, 0],
      ] as const)
        pair.network.at(at, () => {
          for (const end of [pair.server, pair.client]) end.turnMs = turn;
        });
      pair.network.run(60_000);
      const median = (from: number, to: number): number => {
        const all = times
          .slice(from, to)
          .flat()
          .toSorted((a, b) => a - b);
        return all[all.length >> 1] as number;
      };
      expect(times.flat().length).toBeGreaterThan(200);
      expect(median(14, 20)).toBeLessThan(mostMs);
      expect(median(22, 26)).toBeLessThanOrEqual(median(2, 10) * 1.2);
    },
  );
});
