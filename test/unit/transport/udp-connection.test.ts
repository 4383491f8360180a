/** Goal: two ends of the UDP carrier over paths that lose, delay, cut and move. Method: virtual time, seeded network, no socket. */
import { describe, expect, test } from "vitest";
import { monotonicMs, quantile } from "#kit";
import { UdpConnection } from "../../../transport/core/udp/connection.ts";
import { FixedRedundancy } from "../../../transport/core/udp/redundancy.ts";
import {
  Bottleneck,
  checksum,
  type EndOptions,
  fetches,
  nameOf,
  type PathShape,
  UdpPair,
  VirtualNetwork,
} from "../../tools/udp-network.ts";

const FAR: PathShape = { delayMs: 48 };

const sum = (chunks: readonly Uint8Array[] = []): number =>
  chunks.reduce((bytes, chunk) => bytes + chunk.length, 0);

describe("a connection over UDP", { timeout: 120_000 }, () => {
  test("carries channels both ways, closes with a reason, and both sides know", () => {
    const pair = new UdpPair("both ways", FAR, FAR);
    for (let channel = 0; channel < 64; channel++) {
      pair.client.connection.send(channel, new Uint8Array(5_000));
      pair.server.connection.send(channel, new Uint8Array(3_000));
    }
    pair.client.pump();
    pair.server.pump();
    pair.network.run(3_000);
    for (let channel = 0; channel < 64; channel++) {
      expect(sum(pair.atServer.get(channel))).toBe(5_000);
      expect(sum(pair.atClient.get(channel))).toBe(3_000);
    }
    pair.client.connection.close();
    pair.client.pump();
    pair.network.run(3_100);
    expect(pair.events.filter(({ event }) => event.kind === "closed").map(({ end }) => end)).toEqual([
      "client",
      "server",
    ]);
    expect(pair.server.connection.ended).toBe("done");
  });

  test("a lost packet is restored without a round trip more; without repairs it costs one", () => {
    const lossy: PathShape = { delayMs: 48, lossRatio: 0.014 };
    const with20 = { redundancy: new FixedRedundancy(0.2) };
    const repaired = new UdpPair("lossy", FAR, lossy, { server: with20 });
    const bare = new UdpPair("lossy", FAR, lossy, { server: { redundancy: new FixedRedundancy(0) } });
    const repairedMs = fetches(repaired, 200, 10_000);
    const bareMs = fetches(bare, 200, 10_000);
    expect(repaired.server.connection.counters.restoredPackets).toBeGreaterThan(10);
    expect(bare.server.connection.counters.lostPackets).toBeGreaterThan(10);
    const late = (times: readonly number[]): number => times.filter((ms) => ms > 130).length;
    expect(late(bareMs)).toBeGreaterThan(10);
    expect(late(repairedMs)).toBeLessThanOrEqual(late(bareMs) / 5);
  });

  test("repairs adapt: spread loss gets them, a clean path and bursts do not", () => {
    const shares = (down: PathShape): number => {
      const pair = new UdpPair("adapts", FAR, down);
      fetches(pair, 150, 100_000);
      const before = { ...pair.server.connection.counters };
      fetches(pair, 200, 100_000);
      const { repairPackets, sentPackets } = pair.server.connection.counters;
      return (repairPackets - before.repairPackets) / (sentPackets - before.sentPackets);
    };
    expect(shares({ delayMs: 48, lossRatio: 0.014 })).toBeGreaterThan(0.03);
    expect(shares(FAR)).toBe(0);
    const bursts = shares({ delayMs: 48, burst: { everyMs: 400, lengthMs: 40 } });
    expect(bursts).toBeLessThan(0.05);
  });

  test.each([0, 0.014])(
    "fills a bottleneck with its content while %d of it is lost by chance, and the queue stays short",
    (lossRatio) => {
      const bottleneck = new Bottleneck(100, 2_000_000);
      const pair = new UdpPair("bulk", FAR, { delayMs: 48, lossRatio, bottleneck });
      let came = 0;
      pair.onClientData = (_channel, bytes) => {
        if (pair.network.now > 2_000) came += bytes.length;
      };
      const feed = (): void => {
        while (pair.server.connection.isWritable(0)) pair.server.connection.send(0, new Uint8Array(65_536));
        pair.server.pump();
        pair.network.at(pair.network.now + 1, feed);
      };
      feed();
      pair.network.run(2_000);
      bottleneck.waitsMs.length = 0;
      pair.network.run(12_000);
      const waits = bottleneck.waitsMs.toSorted((a, b) => a - b);
      expect(waits[Math.floor(waits.length * 0.95)]).toBeLessThan(96);
      // Heads and tags are 4 %. What goes on for so long has no repairs: they would cost 5 %.
      expect((came * 8) / 10_000 / 1_000).toBeGreaterThan(lossRatio === 0 ? 95 : 92);
    },
  );

  test("transfers that fit the path, again and again, find its rate and come to lose nothing in its queue", () => {
    const bottleneck = new Bottleneck(100, 600_000);
    const pair = new UdpPair("again", { delayMs: 24 }, { delayMs: 24, bottleneck });
    fetches(pair, 15, 1_000_000);
    const { drops } = bottleneck;
    const times = fetches(pair, 15, 1_000_000).toSorted((a, b) => a - b);
    expect(bottleneck.drops).toBe(drops);
    // A round trip, and 83 ms for the bytes.
    expect(times[7]).toBeLessThan(48 + 83 + 15);
  });

  test("a loss by chance that is taken for one of a queue costs little: over 16 ms and 0.7 % 19 of 20 megabytes take two fifths more than they must", () => {
    const times = ["0", "1", "2", "3"].flatMap((seed) => {
      const path = (lossRatio: number): PathShape => ({
        delayMs: 8,
        lossRatio,
        bottleneck: new Bottleneck(100, 200_000),
      });
      return fetches(new UdpPair(seed, path(0), path(0.007)), 30, 1_000_000);
    });
    // A round trip, and 83 ms for the bytes with the heads of their packets.
    expect(
      quantile(
        times.toSorted((a, b) => a - b),
        0.95,
      ),
    ).toBeLessThan(1.4 * (16 + 83));
  });

  test("a small transfer beside a long one has its repairs", () => {
    const bottleneck = new Bottleneck(100, 2_000_000);
    const pair = new UdpPair("beside", FAR, { delayMs: 48, lossRatio: 0.014, bottleneck });
    const feed = (): void => {
      while (pair.server.connection.isWritable(1)) pair.server.connection.send(1, new Uint8Array(65_536));
      pair.server.pump();
      pair.network.at(pair.network.now + 1, feed);
    };
    feed();
    pair.network.run(5_000);
    const { repairPackets } = pair.server.connection.counters;
    pair.network.run(8_000);
    expect(pair.server.connection.counters.repairPackets).toBe(repairPackets);
    const times = fetches(pair, 60, 10_000);
    expect(pair.server.connection.counters.repairPackets - repairPackets).toBeGreaterThan(50);
    const median = times.toSorted((a, b) => a - b)[30] as number;
    expect(times.filter((ms) => ms > median + 60).length).toBeLessThanOrEqual(2);
  });

  test("what finds no room in a queue is no loss of the path: no repairs for it", () => {
    const pair = new UdpPair("full", FAR, { delayMs: 48, bottleneck: new Bottleneck(100, 300_000) });
    fetches(pair, 200, 100_000);
    const { lostPackets } = pair.server.connection.counters;
    pair.server.connection.send(1, new Uint8Array(6_000_000));
    pair.server.pump();
    pair.network.run(pair.network.now + 3_000);
    expect(pair.server.connection.counters.lostPackets - lostPackets).toBeGreaterThan(300);
    const { repairPackets } = pair.server.connection.counters;
    fetches(pair, 20, 100_000);
    expect(pair.server.connection.counters.repairPackets).toBe(repairPackets);
  });

  test.each([0.25, 1, 4])(
    "leaves CUBIC beside it 40 %% of a bottleneck whose queue holds %d round trips",
    (products) => {
      const network = new VirtualNetwork("fair");
      const queue = new Bottleneck(20, products * 20 * 48 * 125);
      const got = [0, 0];
      const flows: EndOptions[] = [{}, { congestion: "cubic", redundancy: new FixedRedundancy(0) }];
      for (const [index, server] of flows.entries()) {
        const pair = new UdpPair(
          "fair",
          { delayMs: 24 },
          { delayMs: 24, bottleneck: queue },
          { server },
          network,
        );
        pair.onClientData = (_channel, bytes) => {
          if (network.now > 10_000) got[index] = (got[index] as number) + bytes.length;
        };
        const feed = (): void => {
          while (pair.server.connection.isWritable(0)) pair.server.connection.send(0, new Uint8Array(65_536));
          pair.server.pump();
          network.at(network.now + 10, feed);
        };
        network.at(1_000 * index, feed);
      }
      network.run(60_000);
      const [ours, theirs] = got as [number, number];
      expect(theirs / (ours + theirs)).toBeGreaterThan(0.4);
      expect(((ours + theirs) * 8) / 50_000 / 1_000).toBeGreaterThan(17);
    },
  );

  test("goes on after a black-out of 5 s, and ends by silence in one that lasts", () => {
    const pair = new UdpPair("cut", FAR, FAR);
    fetches(pair, 3, 10_000);
    const { now } = pair.network;
    pair.up.shape = { delayMs: 48, lossRatio: 1 };
    pair.network.at(now + 5_000, () => {
      pair.up.shape = FAR;
    });
    expect(fetches(pair, 3, 10_000)).toHaveLength(3);
    pair.down.shape = { delayMs: 48, lossRatio: 1 };
    expect(fetches(pair, 1, 10_000)).toEqual([]);
    expect(pair.client.connection.ended).toBe("silent");
  });

  test("another port goes on at once, another address after a challenge, with no more than three times what came before", () => {
    const pair = new UdpPair("moves", FAR, FAR);
    fetches(pair, 20, 100_000);
    pair.client.address = "192.0.2.1:1001";
    expect(fetches(pair, 2, 100_000)).toHaveLength(2);
    pair.client.address = "198.51.100.7:1000";
    let cameBytes = 0;
    let sentBytes = 0;
    const [receive, send] = [pair.server.receive.bind(pair.server), pair.down.send.bind(pair.down)];
    pair.server.receive = (datagram, from) => {
      if (from === pair.client.address) cameBytes += datagram.length;
      receive(datagram, from);
    };
    let sentBefore = 0;
    pair.down.send = (datagram, deliver) => {
      if (pair.server.connection.remote === pair.client.address) sentBytes += datagram.length;
      if (!pair.server.connection.isRemoteValidated) {
        expect(sentBytes).toBeLessThanOrEqual(3 * cameBytes);
        sentBefore = sentBytes;
      }
      send(datagram, deliver);
    };
    expect(fetches(pair, 2, 100_000)).toHaveLength(2);
    expect(sentBefore).toBeGreaterThan(0);
    expect(pair.server.connection.remote).toBe("198.51.100.7:1000");
    expect(pair.server.connection.isRemoteValidated).toBe(true);
    expect(pair.events.filter(({ event }) => event.kind === "moved")).toHaveLength(2);
  });

  test("a copy of a packet from elsewhere moves nothing for long: the true peer is heard again", () => {
    const pair = new UdpPair("spoofed", FAR, FAR);
    fetches(pair, 2, 10_000);
    const send = pair.up.send.bind(pair.up);
    let spoofed = 0;
    pair.up.send = (datagram, deliver) => {
      // An attacker on the path is faster.
      if (spoofed++ === 0) pair.server.receive(datagram.slice(), "203.0.113.66:9");
      send(datagram, deliver);
    };
    expect(fetches(pair, 3, 10_000)).toHaveLength(3);
    expect(pair.server.connection.remote).toBe("192.0.2.1:1000");
  });

  test("an address that is not validated gets three times what it sent", () => {
    const pair = new UdpPair("unknown", FAR, FAR, { server: { isRemoteValidated: false } });
    pair.server.connection.send(0, new Uint8Array(100_000));
    pair.server.pump();
    pair.network.run(1_000);
    expect(pair.down.sent).toBe(0);
    pair.client.connection.send(0, new Uint8Array(100));
    pair.client.pump();
    pair.network.run(1_000 + 50);
    const { sentBytes } = pair.server.connection.counters;
    expect(sentBytes).toBeGreaterThan(0);
    expect(sentBytes).toBeLessThanOrEqual(3 * pair.client.connection.counters.sentBytes);
    pair.network.run(5_000);
    expect(sum(pair.atClient.get(0))).toBe(100_000);
  });

  test("keys change under way, in both directions, with packets late and lost", () => {
    const shape: PathShape = { delayMs: 20, lossRatio: 0.02, jitterMs: 10 };
    const pair = new UdpPair("keys", shape, shape, {
      client: { sealedMax: 200 },
      server: { sealedMax: 200 },
    });
    expect(fetches(pair, 40, 50_000)).toHaveLength(40);
    expect(pair.server.connection.epoch).toBeGreaterThan(5);
  });

  test("datagrams grow to what the path takes, and shrink when it takes less", () => {
    const pair = new UdpPair("mtu", FAR, { delayMs: 48, mtuBytes: 1_400 });
    fetches(pair, 20, 100_000);
    expect(pair.server.connection.datagramBytes).toBe(1_350);
    pair.down.shape = { delayMs: 48, mtuBytes: 1_250 };
    expect(fetches(pair, 3, 100_000)).toHaveLength(3);
    expect(pair.server.connection.datagramBytes).toBe(1_200);
  });

  test("a datagram that came is not taken again, and one under another name or key never", () => {
    const pair = new UdpPair("replay", FAR, FAR);
    const seen: Uint8Array[] = [];
    const send = pair.up.send.bind(pair.up);
    pair.up.send = (datagram, deliver) => {
      seen.push(datagram.slice());
      send(datagram, deliver);
    };
    fetches(pair, 2, 1_000);
    const now = monotonicMs(pair.network.now);
    const { connection } = pair.server;
    expect(seen.length).toBeGreaterThan(2);
    for (const datagram of seen)
      expect(connection.handleDatagram(datagram.slice(), "192.0.2.1:1000", now)).toBe("duplicate");
    const first = seen[0] as Uint8Array;
    const changed = first.slice();
    // A number that never came: the seal is of another one.
    changed[14] = 250;
    expect(connection.handleDatagram(changed, "192.0.2.1:1000", now)).toBe("unopened");
    const renamed = first.slice();
    renamed[1] = 99;
    expect(connection.handleDatagram(renamed, "192.0.2.1:1000", now)).toBe("connection");
  });

  test("what a peer may make it hold is bounded", () => {
    const now = monotonicMs(0);
    const connection = new UdpConnection(
      {
        protection: checksum,
        localName: nameOf(1),
        remoteName: nameOf(2),
        remote: "192.0.2.1:1",
        isRemoteValidated: true,
        unpredictable: () => new Uint8Array(8),
      },
      now,
    );
    let fault: string | undefined;
    let most = 0;
    for (let piece = 0; fault === undefined && piece < 100_000; piece++) {
      fault = connection.data(piece % 64, 4 + 2 * Math.floor(piece / 64), Uint8Array.of(1));
      most = Math.max(most, connection.heldBytes);
    }
    expect(fault).toBe("held-bytes");
    expect(most).toBe(32_769);
    expect(connection.data(0, 5 << 20, Uint8Array.of(1))).toBe("window");
  });
});
