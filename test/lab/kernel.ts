/** `npm run lab -- kernel`: what each setting that `isochrone doctor` asks for is worth, over an emulated network with real TCP. */
import { parseArgs } from "node:util";
import { quantile } from "#kit";
import { describeCommit, describeMachine } from "../bench/tools/machine.ts";
import { wholeNumber } from "../tools/flags.ts";
import { startProgram, WideAreaNetwork, whyNoNetwork } from "../wan/network.ts";

export const summary = "what each of doctor's kernel settings is worth, over 48 ms with loss";

const HELP = `Usage: npm run lab -- kernel [options]

${summary}: the same answers with and without it. A loss can make a single
time long, so look at the median and the tail, not at one. Needs root, network namespaces, a C compiler.

  --scale N   how many answers, in tenths of the usual count, 1 to 100 (default 10: about five minutes)
  --rtt N     round trip, ms, 1 to 500 (default 48)
  --loss N    packets lost of 1,000, each way, 0 to 200 (default 10)
  --seed N    of the losses (default 1)
  --help
`;

interface Case {
  readonly setting: string;
  readonly answers: string;
  readonly bytes: number;
  readonly count: number;
  readonly how: "cold" | "warm" | "idle";
  /** Where losses keep the window at ten segments anyway, how it begins again after a rest is not to be seen. */
  readonly isWithoutLoss?: true;
  /** Applied to the answering host. */
  readonly apply: (network: WideAreaNetwork) => Promise<unknown>;
}

const PORT = 5001;
const SERVER = "server";
const CLIENT = "client";

const route =
  (metrics: string) =>
  (network: WideAreaNetwork): Promise<unknown> =>
    network.setRoute(SERVER, metrics);

const CASES: readonly Case[] = [
  {
    setting: "initcwnd 32",
    answers: "100 KB, cold",
    bytes: 100_000,
    count: 60,
    how: "cold",
    apply: route("initcwnd 32"),
  },
  {
    setting: "rto_min 40ms",
    answers: "10 KB, warm",
    bytes: 10_000,
    count: 600,
    how: "warm",
    apply: route("rto_min 40ms"),
  },
  {
    setting: "tcp_slow_start_after_idle 0",
    answers: "100 KB, warm, after a second of rest, without loss",
    bytes: 100_000,
    count: 40,
    how: "idle",
    isWithoutLoss: true,
    apply: (network) => network.setKernel(SERVER, { "net.ipv4.tcp_slow_start_after_idle": 0 }),
  },
  {
    setting: "bbr",
    answers: "1 MB, warm",
    bytes: 1_000_000,
    count: 15,
    how: "warm",
    apply: route("congctl bbr"),
  },
];

async function measure(
  one: Case,
  isApplied: boolean,
  options: Record<"rtt" | "loss" | "seed" | "scale", number>,
) {
  const network = await WideAreaNetwork.start({
    hosts: [SERVER, CLIENT],
    seed: options.seed,
    keepsAwake: true,
  });
  try {
    await network.setCongestionControl(SERVER, "cubic");
    await network.setLinks(SERVER, CLIENT, {
      delayMs: options.rtt / 2,
      lossRatio: one.isWithoutLoss ? 0 : options.loss / 1000,
      rateMbit: 100,
    });
    await network.setKernel(SERVER, { "net.ipv4.tcp_no_metrics_save": 1 });
    if (isApplied) await one.apply(network);
    const server = await startProgram(network, SERVER, "exchange.ts", ["serve", String(PORT)]);
    const count = Math.max(3, Math.round((one.count * options.scale) / 10));
    const argv = ["ask", network.addressOf(SERVER), PORT, one.bytes, count, one.how].map(String);
    const program = new URL("../wan/exchange.ts", import.meta.url).pathname;
    const text = await network.run(CLIENT, process.execPath, [program, ...argv]);
    await server.stop();
    const times = (JSON.parse(text) as number[]).toSorted((a, b) => a - b);
    const at = (share: number): number => Math.round(quantile(times, share) * 10) / 10;
    return {
      count,
      p50: at(0.5),
      p95: at(0.95),
      p99: at(0.99),
      lateUsMax: (await network.stats()).lateUsMax,
    };
  } finally {
    await network.stop();
  }
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      scale: { type: "string", default: "10" },
      rtt: { type: "string", default: "48" },
      loss: { type: "string", default: "10" },
      seed: { type: "string", default: "1" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const options = {
    scale: wholeNumber("scale", values.scale, 1, 100),
    rtt: wholeNumber("rtt", values.rtt, 1, 500),
    loss: wholeNumber("loss", values.loss, 0, 200),
    seed: wholeNumber("seed", values.seed, 0, 2 ** 31),
  };
  const reason = whyNoNetwork();
  if (reason !== undefined) throw new Error(`No wide-area network can be emulated here: ${reason}`);
  const cases = [];
  for (const one of CASES) {
    const without = await measure(one, false, options);
    const having = await measure(one, true, options);
    process.stderr.write(
      `${one.setting}: ${one.answers}: p50 ${without.p50} -> ${having.p50} ms, p99 ${without.p99} -> ${having.p99} ms\n`,
    );
    cases.push({ setting: one.setting, answers: one.answers, without, with: having });
  }
  const result = { lab: "kernel", commit: describeCommit(), machine: describeMachine(), options, cases };
  process.stdout.write(`${JSON.stringify(result, undefined, 2)}\n`);
  return 0;
}
