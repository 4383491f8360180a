/**
 * ICMP echo and traces through the system's own programs: raw sockets would need privileges, and they have them. The options are
 * those of Linux (iputils, BusyBox, traceroute of Dmitry Butskoy).
 */
import { isIPv6 } from "node:net";
import { parsePing, parseTraceroute, type ProbeHop } from "../../core/measurements/probe-output.ts";
import { runProgram } from "./program.ts";

/** Beyond what ping waits for by itself: its start, and the last answer, ms. */
const GRACE_MS = 2_000;
/** From one packet to the next, s: the least that everyone may ask of iputils is 0.002, of others 0.2. */
const PACKET_INTERVAL_SECONDS = 0.2;
const HOPS_MAX = 30;
/** Hops in a row that say nothing: what is behind them hardly speaks either. */
const SILENT_HOPS_MAX = 4;

/** `error`: nothing could be sent. */
export type PingOutcome = { readonly rttMs: readonly (number | null)[] } | { readonly error: string };

const seconds = (ms: number): string => String(Math.max(1, Math.ceil(ms / 1_000)));
const family = (address: string): string => (isIPv6(address) ? "-6" : "-4");

/** `count` packets to an address. Rejects when there is no ping, or when it was aborted. */
export async function ping(
  address: string,
  count: number,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<PingOutcome> {
  const args = ["-n", family(address), "-c", String(count), "-i", String(PACKET_INTERVAL_SECONDS)];
  const { stdout, complaint } = await runProgram(
    "ping",
    [...args, "-W", seconds(timeoutMs), address],
    count * PACKET_INTERVAL_SECONDS * 1_000 + timeoutMs + GRACE_MS,
    signal,
  );
  const { rttMs, isSent } = parsePing(stdout);
  if (!isSent && rttMs.length === 0) return { error: complaint || "ping sent nothing" };
  const lost = Math.max(0, count - rttMs.length);
  return { rttMs: [...rttMs, ...Array.from({ length: lost }, () => null)] };
}

/**
 * The routers on the way to an address: by `traceroute` where it is installed, else by pings whose time to live is over at one after
 * the other, which tell who they are and not how far. Rejects when neither program is there, or when it was aborted.
 */
export async function trace(address: string, timeoutMs: number, signal: AbortSignal): Promise<ProbeHop[]> {
  const args = ["-n", family(address), "-q", "1", "-m", String(HOPS_MAX), "-w", seconds(timeoutMs)];
  try {
    const { stdout } = await runProgram("traceroute", [...args, address], HOPS_MAX * timeoutMs, signal);
    const hops = parseTraceroute(stdout);
    if (hops.length > 0) return withoutSilentEnd(hops);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  return traceByPing(address, timeoutMs, signal);
}

async function traceByPing(address: string, timeoutMs: number, signal: AbortSignal): Promise<ProbeHop[]> {
  const hops: ProbeHop[] = [];
  let silent = 0;
  for (let hop = 1; hop <= HOPS_MAX && silent < SILENT_HOPS_MAX; hop++) {
    const args = ["-n", family(address), "-c", "1", "-t", String(hop), "-W", seconds(timeoutMs), address];
    const { stdout } = await runProgram("ping", args, timeoutMs + GRACE_MS, signal);
    const { rttMs, expiredAt } = parsePing(stdout);
    const [arrivedMs] = rttMs;
    if (arrivedMs !== undefined) {
      hops.push({ hop, address, rttMs: arrivedMs });
      return hops;
    }
    silent = expiredAt === null ? silent + 1 : 0;
    hops.push({ hop, address: expiredAt, rttMs: null });
  }
  return withoutSilentEnd(hops);
}

function withoutSilentEnd(hops: readonly ProbeHop[]): ProbeHop[] {
  return hops.slice(0, hops.findLastIndex(({ address }) => address !== null) + 1);
}
