/**
 * What the UDP carrier is worth by its own core, on a virtual network in virtual time: transfers over lossy links with and without repairs, beside the same core
 * without them as a model of TCP's recovery (CUBIC, BBR); and how it shares a bottleneck. Nothing here is encrypted or sent: bench `link` has CPU.
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { quantile } from "#kit";
import { FixedRedundancy } from "../../transport/core/udp/redundancy.ts";
import { wholeNumber } from "../tools/flags.ts";
import {
  Bottleneck,
  type EndOptions,
  type PathShape,
  UdpPair,
  VirtualNetwork,
} from "../tools/udp-network.ts";
import { describeCommit } from "./tools/machine.ts";

export const summary =
  "model of the UDP carrier: transfers over lossy links, repairs, fairness, in virtual time";

const help = `Usage: npm run bench -- link-udp [options]

${summary}

  --count N   transfers of each kind (default 1000)
  --seed N    of the losses (default 1)
  --out FILE  the JSON to a file too
  --help
`;

const SENDERS: Readonly<Record<string, () => EndOptions>> = {
  "cubic, no repairs": () => ({ congestion: "cubic", redundancy: new FixedRedundancy(0) }),
  "bbr, no repairs": () => ({ redundancy: new FixedRedundancy(0) }),
  "bbr, 10 % repairs": () => ({ redundancy: new FixedRedundancy(0.1) }),
  "bbr, 20 % repairs": () => ({ redundancy: new FixedRedundancy(0.2) }),
  "bbr, adaptive repairs": () => ({}),
};

interface LinkShape {
  readonly rttMs: number;
  readonly lossRatio?: number;
  readonly burst?: { readonly everyMs: number; readonly lengthMs: number };
}
const LINKS: Readonly<Record<string, LinkShape>> = {
  "96 ms, 1.4 %": { rttMs: 96, lossRatio: 0.014 },
  "48 ms, 1.0 %": { rttMs: 48, lossRatio: 0.01 },
  "16 ms, 0.7 %": { rttMs: 16, lossRatio: 0.007 },
  "96 ms, bursts of 10 ms": { rttMs: 96, burst: { everyMs: 700, lengthMs: 10 } },
  "96 ms, no loss": { rttMs: 96 },
};
const SIZES = [10_000, 100_000, 1_000_000];
const LINK_MEGABITS = 100;
/** Transfers before those that count: the connection is warm. */
const WARM_UP = 20;
/** Between an answer and the next request, ms. */
const PAUSE_MS = 50;
const REQUEST_BYTES = 100;
const VIRTUAL_MS_MAX = 1e8;

/** Of a queue that holds what a path holds, bytes. */
const productBytes = (megabits: number, rttMs: number): number => (megabits * 1e3 * rttMs) / 8;

function pathOf({ rttMs, ...rest }: LinkShape): PathShape {
  const queueBytes = Math.max(100_000, productBytes(LINK_MEGABITS, rttMs));
  return { delayMs: rttMs / 2, ...rest, bottleneck: new Bottleneck(LINK_MEGABITS, queueBytes) };
}

/** Transfers one after the other over one warm connection. */
function transfers(link: LinkShape, sender: () => EndOptions, bytes: number, count: number, seed: string) {
  const pair = new UdpPair(seed, pathOf(link), pathOf(link), { client: sender(), server: sender() });
  const timesMs: number[] = [];
  let came = 0;
  let askedAt = 0;
  let warm = { ...pair.server.connection.counters };
  const ask = (): void => {
    came = 0;
    askedAt = pair.network.now;
    pair.client.connection.send(0, new Uint8Array(REQUEST_BYTES));
    pair.client.pump();
  };
  let asked = 0;
  pair.onServerData = (_channel, piece) => {
    asked += piece.length;
    if (asked < REQUEST_BYTES) return;
    asked = 0;
    pair.server.connection.send(0, new Uint8Array(bytes));
    pair.server.pump();
  };
  pair.onClientData = (_channel, piece) => {
    came += piece.length;
    if (came < bytes) return;
    timesMs.push(pair.network.now - askedAt);
    if (timesMs.length === WARM_UP) warm = { ...pair.server.connection.counters };
    pair.network.at(pair.network.now + PAUSE_MS, ask);
  };
  ask();
  pair.network.run(VIRTUAL_MS_MAX, () => timesMs.length === count + WARM_UP);
  const sorted = timesMs.slice(WARM_UP).toSorted((a, b) => a - b);
  const { counters } = pair.server.connection;
  const since = (key: keyof typeof counters): number => counters[key] - warm[key];
  const at = (q: number): number => Math.round(quantile(sorted, q));
  return {
    count: sorted.length,
    p50: at(0.5),
    p95: at(0.95),
    p99: at(0.99),
    repairShare: rounded(since("repairPackets") / since("sentPackets")),
    restored: since("restoredPackets"),
    lost: since("lostPackets"),
  };
}

const FAIR_MEGABITS = 20;
const FAIR_RTT_MS = 48;
const FAIR_MS = 120_000;
const FAIR_FROM_MS = 20_000;

/** A flow of bulk beside another over one bottleneck: the other one's share of what both got, and how long packets queued. */
function fairness(ours: () => EndOptions, other: () => EndOptions, queueProducts: number, seed: string) {
  const network = new VirtualNetwork(seed);
  const queue = new Bottleneck(FAIR_MEGABITS, queueProducts * productBytes(FAIR_MEGABITS, FAIR_RTT_MS));
  const shape: PathShape = { delayMs: FAIR_RTT_MS / 2 };
  const got = [0, 0];
  const repairs: number[] = [];
  const pairs = [ours, other].map((sender, index) => {
    const pair = new UdpPair(
      seed,
      shape,
      { ...shape, bottleneck: queue },
      { client: sender(), server: sender() },
      network,
    );
    pair.onClientData = (_channel, bytes) => {
      if (network.now >= FAIR_FROM_MS) got[index] = (got[index] as number) + bytes.length;
    };
    const feed = (): void => {
      while (pair.server.connection.isWritable(0)) pair.server.connection.send(0, new Uint8Array(65_536));
      pair.server.pump();
      network.at(network.now + 10, feed);
    };
    // One begins while the other is under way.
    network.at(index * 2_000, feed);
    return pair;
  });
  network.run(FAIR_FROM_MS);
  queue.waitsMs.length = 0;
  network.run(FAIR_MS);
  for (const { server } of pairs) repairs.push(server.connection.counters.repairPackets);
  const [mine, theirs] = got as [number, number];
  const waits = queue.waitsMs.toSorted((a, b) => a - b);
  return {
    otherShare: rounded(theirs / (mine + theirs)),
    megabits: rounded(((mine + theirs) * 8) / (FAIR_MS - FAIR_FROM_MS) / 1e3),
    queueMs: { p50: Math.round(quantile(waits, 0.5)), p95: Math.round(quantile(waits, 0.95)) },
    repairs: repairs[0],
  };
}

const rounded = (value: number): number => Math.round(value * 1_000) / 1_000;

export function main(argv: readonly string[]): number {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      count: { type: "string" },
      seed: { type: "string" },
      out: { type: "string" },
      help: { type: "boolean" },
    },
  });
  if (values.help) {
    process.stdout.write(help);
    return 0;
  }
  const count = wholeNumber("count", values.count ?? "1000", 20, 100_000);
  const seed = values.seed ?? "1";
  const links = Object.entries(LINKS).flatMap(([link, shape]) =>
    SIZES.flatMap((bytes) =>
      Object.entries(SENDERS).map(([sender, options]) => {
        const row = { link, bytes, sender, ...transfers(shape, options, bytes, count, seed) };
        process.stderr.write(`${link}, ${bytes} bytes, ${sender}: ${row.p50} / ${row.p95} / ${row.p99} ms\n`);
        return row;
      }),
    ),
  );
  const bottleneck = ["cubic, no repairs", "bbr, no repairs"].flatMap((other) =>
    [0.25, 0.5, 1, 2, 4].map((queueProducts) => {
      const options = SENDERS[other] as () => EndOptions;
      const row = { other, queueProducts, ...fairness(() => ({}), options, queueProducts, seed) };
      process.stderr.write(
        `beside ${other}, queue of ${queueProducts}: ${row.otherShare}, queue ${row.queueMs.p95} ms\n`,
      );
      return row;
    }),
  );
  const json = `${JSON.stringify({ name: "link-udp", commit: describeCommit(), options: { count, seed }, links, bottleneck }, undefined, 2)}\n`;
  process.stdout.write(json);
  if (values.out !== undefined) writeFileSync(values.out, json);
  return 0;
}
