/** Round trips between two hosts as the system's ping sees them: the kernel stamps them, so they are those of the network alone. */
import type { WideAreaNetwork } from "./network.ts";

export interface Pings {
  readonly sent: number;
  readonly received: number;
  readonly rttMsMin: number;
  readonly rttMsMean: number;
  readonly rttMsMax: number;
}

/** Resolves also when nothing comes back: then the times are NaN. */
export async function ping(
  network: WideAreaNetwork,
  from: string,
  to: string,
  { count = 20, intervalMs = 20 }: { readonly count?: number; readonly intervalMs?: number } = {},
): Promise<Pings> {
  const argv = [
    "-n",
    "-q",
    "-c",
    String(count),
    "-i",
    String(intervalMs / 1000),
    "-W",
    "1",
    network.addressOf(to),
  ];
  const text = await pingText(network, from, argv);
  const counts = /(\d+) packets transmitted, (\d+) received/.exec(text);
  const times = /= ([\d.]+)\/([\d.]+)\/([\d.]+)\//.exec(text);
  return {
    sent: Number(counts?.[1]),
    received: Number(counts?.[2]),
    rttMsMin: Number(times?.[1]),
    rttMsMean: Number(times?.[2]),
    rttMsMax: Number(times?.[3]),
  };
}

/** Each round trip that came back, ms. */
export async function roundTrips(
  network: WideAreaNetwork,
  from: string,
  to: string,
  { count, intervalMs }: { readonly count: number; readonly intervalMs: number },
): Promise<number[]> {
  const argv = ["-n", "-c", String(count), "-i", String(intervalMs / 1000), "-W", "1", network.addressOf(to)];
  const text = await pingText(network, from, argv);
  return Array.from(text.matchAll(/ time=([\d.]+) ms/g), ([, ms]) => Number(ms));
}

/** What ping prints. Exit code 1: fewer came back than were sent; it prints its figures all the same. */
async function pingText(network: WideAreaNetwork, from: string, argv: readonly string[]): Promise<string> {
  return await network.run(from, "ping", argv).catch((error: unknown) => {
    const { code, stdout } = error as { code?: number; stdout?: string };
    if (code === 1 && stdout !== undefined) return stdout;
    throw error;
  });
}
