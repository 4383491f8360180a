/** `npm run lab -- wan`: is the emulated wide-area network what it says it is, and what does one TCP connection carry over it? */
import { parseArgs } from "node:util";
import { describeCommit, describeMachine } from "../bench/tools/machine.ts";
import { wholeNumber } from "../tools/flags.ts";
import { WideAreaNetwork, whyNoNetwork, type CongestionControl } from "../wan/network.ts";
import { ping } from "../wan/pings.ts";
import { receive, startSender } from "../wan/transfers.ts";

export const summary =
  "the emulated wide-area network: its own error, and TCP's throughput by distance, loss and control";

const HELP = `Usage: npm run lab -- wan [options]

${summary}. Exit code 1: a round trip is
more than 1 ms and 2 % off, a loss is outside its confidence interval, a link carries less than 200 Mbit/s, or a byte was wrong.
Needs root, network namespaces, /dev/net/tun, a C compiler and ping.

  --hosts N      hosts of the mesh, 2 to 90 (default 12)
  --seconds N    length of a transfer, 1 to 60 (default 10)
  --rounds N     transfers for each cell of the table, 1 to 20 (default 3); the median counts
  --packets N    packets for each check of loss, 1000 to 1000000 (default 20000)
  --seed N       of the draws (default 1)
  --help

Example: npm run --silent lab -- wan --seconds 5 > wan.json
`;

/** Distances and losses of table 1 in Nygren, Sitaraman, Sun, "The Akamai Network", 2010; its links carry 100 Mbit/s here. */
const DISTANCES = [
  { rttMs: 1.6, lossRatio: 0.006 },
  { rttMs: 16, lossRatio: 0.007 },
  { rttMs: 48, lossRatio: 0.01 },
  { rttMs: 96, lossRatio: 0.014 },
] as const;
const CONTROLS: readonly CongestionControl[] = ["reno", "cubic", "bbr"];
const LINK_MBIT = 100;
const RATE_GOAL_MBIT = 200;
const LOSS_CHECKS = [
  { lossRatio: 0.01, burstPackets: 0 },
  { lossRatio: 0.05, burstPackets: 0 },
  { lossRatio: 0.05, burstPackets: 8 },
] as const;
/** Of the normal distribution: one check in 370 would fail by chance. */
const DEVIATIONS = 3;

interface Options {
  readonly hosts: number;
  readonly seconds: number;
  readonly rounds: number;
  readonly packets: number;
  readonly seed: number;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** Every pair of neighbours in the list of hosts, each at its own distance. */
async function checkRoundTrips(options: Options) {
  const hosts = Array.from({ length: options.hosts }, (_, index) => `h${index}`);
  const startMs = performance.now();
  const network = await WideAreaNetwork.start({ hosts, seed: options.seed, keepsAwake: true });
  try {
    const startedMs = performance.now() - startMs;
    const oneWayMs = (i: number, j: number): number => 0.8 + ((i * 17 + j * 29) % 100);
    for (const [i, from] of hosts.entries())
      for (const [j, to] of hosts.entries())
        if (i !== j) await network.setLink(from, to, { delayMs: oneWayMs(i, j) });
    const found = [];
    for (const [i, from] of hosts.entries()) {
      const j = (i + 1) % hosts.length;
      const { rttMsMin, rttMsMean } = await ping(network, from, hosts[j]!);
      const askedMs = oneWayMs(i, j) + oneWayMs(j, i);
      found.push({ askedMs, seenMs: rttMsMean, leastMs: rttMsMin });
    }
    const worst = found.reduce((a, b) => (b.seenMs - b.askedMs > a.seenMs - a.askedMs ? b : a));
    const isOk = found.every(
      ({ askedMs, seenMs }) => Math.abs(seenMs - askedMs) <= Math.max(1, askedMs * 0.02),
    );
    return { hosts: hosts.length, startedMs, pairs: found.length, worst, isOk };
  } finally {
    await network.stop();
  }
}

async function checkLosses(options: Options) {
  const found = [];
  for (const { lossRatio, burstPackets } of LOSS_CHECKS) {
    const network = await WideAreaNetwork.start({ hosts: ["a", "b"], seed: options.seed });
    try {
      await network.setLink("a", "b", { delayMs: 0, lossRatio, burstPackets });
      await network.run("a", "ping", ["-q", "-f", "-c", String(options.packets), network.addressOf("b")]);
      const link = (await network.stats()).links.find(({ from }) => from === "a");
      const packets = link?.packets ?? 0;
      const seenRatio = (link?.lost ?? 0) / packets;
      // Runs with a mean of n packets have about (2n - 1) times the variance of single losses.
      const variance = (lossRatio * (1 - lossRatio) * (2 * Math.max(1, burstPackets) - 1)) / packets;
      const intervalRatio = DEVIATIONS * Math.sqrt(variance);
      found.push({
        lossRatio,
        burstPackets,
        packets,
        seenRatio,
        intervalRatio,
        isOk: Math.abs(seenRatio - lossRatio) <= intervalRatio,
      });
    } finally {
      await network.stop();
    }
  }
  return found;
}

/** One connection over one link, in turn for each control, `rounds` times. */
async function transfer(
  options: Options,
  control: CongestionControl,
  link: { readonly rttMs: number; readonly lossRatio: number; readonly rateMbit?: number },
) {
  const network = await WideAreaNetwork.start({ hosts: ["a", "b"], seed: options.seed, keepsAwake: true });
  try {
    await network.setCongestionControl("a", control);
    const { rttMs, lossRatio, rateMbit } = link;
    const rate = rateMbit === undefined ? {} : { rateMbit };
    await network.setLink("a", "b", { delayMs: rttMs / 2, lossRatio, ...rate });
    await network.setLink("b", "a", { delayMs: rttMs / 2, ...rate });
    const sender = await startSender(network, "a");
    const rounds = [];
    for (let round = 0; round < options.rounds; round++)
      rounds.push(await receive(network, "b", sender, options.seconds));
    await sender.stop();
    const { lateUsMean, lateUsMax } = await network.stats();
    return {
      control,
      ...link,
      mbit: median(rounds.map(({ mbit }) => mbit)),
      mbitWorst: Math.min(...rounds.map(({ mbit }) => mbit)),
      mbitBest: Math.max(...rounds.map(({ mbit }) => mbit)),
      wrong: rounds.reduce((sum, { wrong }) => sum + wrong, 0),
      lateUsMean,
      lateUsMax,
    };
  } finally {
    await network.stop();
  }
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      hosts: { type: "string", default: "12" },
      seconds: { type: "string", default: "10" },
      rounds: { type: "string", default: "3" },
      packets: { type: "string", default: "20000" },
      seed: { type: "string", default: "1" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const options: Options = {
    hosts: wholeNumber("hosts", values.hosts, 2, 90),
    seconds: wholeNumber("seconds", values.seconds, 1, 60),
    rounds: wholeNumber("rounds", values.rounds, 1, 20),
    packets: wholeNumber("packets", values.packets, 1000, 1_000_000),
    seed: wholeNumber("seed", values.seed, 0, 2 ** 31),
  };
  const reason = whyNoNetwork();
  if (reason !== undefined) throw new Error(`No wide-area network can be emulated here: ${reason}`);

  const roundTrips = await checkRoundTrips(options);
  say(`round trips of ${roundTrips.hosts} hosts: ${roundTrips.isOk ? "as asked" : "NOT as asked"}`);
  const losses = await checkLosses(options);
  say(`losses: ${losses.every(({ isOk }) => isOk) ? "as asked" : "NOT as asked"}`);
  const unlimited = await transfer(options, "cubic", { rttMs: 1, lossRatio: 0 });
  say(`one link without a limit: ${unlimited.mbit.toFixed(0)} Mbit/s`);
  const table = [];
  for (const distance of DISTANCES)
    for (const control of CONTROLS) {
      const cell = await transfer(options, control, { ...distance, rateMbit: LINK_MBIT });
      say(
        `${distance.rttMs} ms, ${(distance.lossRatio * 100).toFixed(1)} %, ${control}: ${cell.mbit.toFixed(1)} Mbit/s`,
      );
      table.push(cell);
    }
  const wrong = [unlimited, ...table].reduce((sum, cell) => sum + cell.wrong, 0);
  const isOk =
    roundTrips.isOk && losses.every((one) => one.isOk) && unlimited.mbit >= RATE_GOAL_MBIT && wrong === 0;
  const result = {
    lab: "wan",
    commit: describeCommit(),
    machine: describeMachine(),
    options,
    isOk,
    roundTrips,
    losses,
    unlimited,
    table,
  };
  process.stdout.write(`${JSON.stringify(result, undefined, 2)}\n`);
  return isOk ? 0 : 1;
}
