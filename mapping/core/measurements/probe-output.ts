/** What the system's `ping` (iputils, BusyBox, BSD) and `traceroute` print, with numeric addresses. */
import { formatAddress, parseAddress } from "#kit";
import { RTT_MS_MAX } from "./sample.ts";

/** One hop of a traceroute; the address of the first who answered. */
export interface ProbeHop {
  /** 1..255. */
  readonly hop: number;
  /** Null: nobody answered. */
  readonly address: string | null;
  readonly rttMs: number | null;
}

/**
 * Round trips by the number of the packet, ms. Each packet counts once (a duplicate says nothing), and lines that are no answer
 * are passed over. What is not there was lost, or not sent: `isSent` tells whether the program came to send at all.
 */
export function parsePing(output: string): {
  readonly rttMs: readonly number[];
  readonly isSent: boolean;
  /** Who said that the packet's time to live was over. */
  readonly expiredAt: string | null;
} {
  const bySequence = new Map<string, number>();
  let isSent = false;
  let expiredAt: string | null = null;
  for (const line of output.split("\n")) {
    const answer = /(?:icmp_)?seq=([0-9]{1,6})\b.* time[=<]([0-9]{1,6}(?:\.[0-9]{1,6})?) ?ms/.exec(line);
    const [, sequence, time] = answer ?? [];
    if (sequence !== undefined && !bySequence.has(sequence) && Number(time) <= RTT_MS_MAX)
      bySequence.set(sequence, Number(time));
    isSent ||= /^[1-9][0-9]* packets transmitted/.test(line);
    const expired = /^(?:From|[0-9]+ bytes from) ([0-9a-fA-F.:]+?):? .*Time to live exceeded/i.exec(line);
    const expiredAtLine = expired && parseAddress(expired[1] as string);
    // iputils says for IPv6 "Time exceeded: Hop limit".
    const limit = /^From ([0-9a-fA-F:]+) .*Time exceeded/.exec(line);
    const address = expiredAtLine ?? (limit ? parseAddress(limit[1] as string) : undefined);
    if (address) expiredAt ??= formatAddress(address);
  }
  return { rttMs: [...bySequence.values()], isSent, expiredAt };
}

/** Lines of `traceroute -n -q 1`: ` 3  192.0.2.1  12.3 ms` or ` 3  *`. Hops in ascending order; others are passed over. */
export function parseTraceroute(output: string): ProbeHop[] {
  const hops: ProbeHop[] = [];
  for (const line of output.split("\n")) {
    const parts =
      /^ {0,3}([0-9]{1,3}) {1,3}(?:\*|([0-9a-fA-F.:]+) {1,3}([0-9]{1,6}(?:\.[0-9]{1,6})?) ms\b)/.exec(line);
    const hop = Number(parts?.[1]);
    if (!(hop >= 1 && hop <= 255 && hop > (hops.at(-1)?.hop ?? 0))) continue;
    const address = parts?.[2] === undefined ? undefined : parseAddress(parts[2]);
    const rttMs = address !== undefined && Number(parts?.[3]) <= RTT_MS_MAX ? Number(parts?.[3]) : null;
    hops.push({ hop, address: address === undefined ? null : formatAddress(address), rttMs });
  }
  return hops;
}
