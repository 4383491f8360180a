/** The probe agent: measures a list of targets, a bounded number at a time, and hands over a record for each measurement. */
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { type Clock, type EpochMs, epochMs, formatAddress, parseAddress } from "#kit";
import type { ProbeRecord } from "../../core/measurements/probe-record.ts";
import type { ProbeTarget } from "../../core/measurements/probe-target.ts";
import { type ConnectOutcome, timeHttp, timeTcp } from "./connect.ts";
import { ping, trace } from "./icmp.ts";

export interface ProbeAgentOptions {
  readonly agent: string;
  /** Canonical text; null: not told. */
  readonly from: string | null;
  readonly targets: readonly ProbeTarget[];
  /** Packets or connections for each target and round. */
  readonly count: number;
  readonly concurrency: number;
  /** For each measurement. */
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Awaited, so that a slow reader slows the agent down. */
  readonly onRecord: (record: ProbeRecord) => Promise<void>;
  /** Resolves when the next target may be begun with; at once unless given. */
  readonly pace?: (() => Promise<void>) | undefined;
  /** Trusted in place of the system's certification authorities (PEM). */
  readonly ca?: string | undefined;
}

/**
 * Every target once. Rejects when the signal is aborted, or when records cannot be handed over. Handshakes and requests go first:
 * they are timed in this process, which stands still for milliseconds whenever it starts a program.
 */
export async function probeRound(options: ProbeAgentOptions): Promise<void> {
  const isTimedHere = ({ kind }: ProbeTarget): boolean => kind === "tcp" || kind === "http";
  const { targets } = options;
  await probeAll(targets.filter(isTimedHere), options);
  await probeAll(
    targets.filter((target) => !isTimedHere(target)),
    options,
  );
}

async function probeAll(targets: readonly ProbeTarget[], options: ProbeAgentOptions): Promise<void> {
  const { concurrency, signal } = options;
  let next = 0;
  const work = async (): Promise<void> => {
    for (let target = targets[next++]; target !== undefined; target = targets[next++]) {
      signal.throwIfAborted();
      await options.pace?.();
      await probeTarget(target, options);
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, targets.length) }, work));
}

type Measured = Pick<ProbeRecord, "rttMs"> & Partial<Pick<ProbeRecord, "error" | "hops" | "http">>;

async function probeTarget(target: ProbeTarget, options: ProbeAgentOptions): Promise<void> {
  const { agent, from, clock, signal, onRecord } = options;
  const method = target.kind === "trace" ? "icmp" : target.kind;
  const began = clock.monotonic();
  let to: string | null = null;
  const write = (at: EpochMs, measured: Measured): Promise<void> =>
    onRecord({ agent, method, target: target.text, from, to, at: epochMs(Math.round(at)), ...measured });
  const elapsedMs = (): number => microseconds(clock.monotonic() - began);
  try {
    to = await resolve(target.host);
    const dnsMs = isIP(target.host) === 0 ? elapsedMs() : 0;
    await measure(target, to, dnsMs, options, write);
  } catch (error) {
    if (signal.aborted) throw error;
    await write(clock.epoch(), { rttMs: null, error: reasonOf(error) });
  }
}

async function measure(
  target: ProbeTarget,
  address: string,
  dnsMs: number,
  { count, timeoutMs, clock, signal, ca }: ProbeAgentOptions,
  write: (at: EpochMs, measured: Measured) => Promise<void>,
): Promise<void> {
  if (target.kind === "icmp") {
    const at = clock.epoch();
    const pinged = await ping(address, count, timeoutMs, signal);
    if ("error" in pinged) await write(at, { rttMs: null, error: pinged.error });
    else for (const rttMs of pinged.rttMs) await write(at, { rttMs });
    return;
  }
  if (target.kind === "trace") {
    const at = clock.epoch();
    const hops = await trace(address, timeoutMs, signal);
    const last = hops.at(-1);
    await write(at, { rttMs: last?.address === address ? last.rttMs : null, hops });
    return;
  }
  for (let n = 0; n < count; n++) {
    const at = clock.epoch();
    if (target.kind === "tcp") {
      await write(at, measuredOf(await timeTcp({ address, port: target.port }, timeoutMs, clock, signal)));
      continue;
    }
    const fetched = await timeHttp({ ...target, address }, timeoutMs, clock, signal, ca);
    if (fetched.outcome !== "answered") {
      await write(at, measuredOf(fetched));
      continue;
    }
    const { status } = fetched;
    const connectMs = microseconds(fetched.connectMs);
    const tlsMs = fetched.tlsMs === null ? null : microseconds(fetched.tlsMs);
    await write(at, { rttMs: microseconds(fetched.rttMs), http: { dnsMs, connectMs, tlsMs, status } });
  }
}

function measuredOf(outcome: ConnectOutcome): Measured {
  if (outcome.outcome === "answered") return { rttMs: microseconds(outcome.rttMs) };
  return outcome.outcome === "lost" ? { rttMs: null } : { rttMs: null, error: lineOf(outcome.error) };
}

/** A time in ms, cut to what a clock of a process is good for. */
function microseconds(ms: number): number {
  return Math.round(ms * 1_000) / 1_000;
}

async function resolve(host: string): Promise<string> {
  const { address } = await lookup(host);
  const parsed = parseAddress(address);
  if (parsed === undefined)
    throw new Error(`"${host}" resolves to ${JSON.stringify(address)}, no plain address`);
  return formatAddress(parsed);
}

function reasonOf(error: unknown): string {
  const { code, message, syscall } = error as NodeJS.ErrnoException;
  if (code === "ENOENT" && syscall?.startsWith("spawn") === true)
    return `${syscall.slice("spawn ".length)} is not installed here`;
  return lineOf(message);
}

/** As a record may hold it. */
function lineOf(message: string): string {
  return message.replaceAll(/\p{Cc}+/gu, " ").slice(0, 300);
}
