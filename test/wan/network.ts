/**
 * A wide-area network on one machine, for tests, labs and benchmarks: hosts as network namespaces, links between them with delay,
 * jitter, loss, rate and queue, all of it changeable while it runs. Real kernel TCP and UDP cross it. Needs root and Linux
 * ({@link whyNoNetwork} tells what is missing).
 */
import { execFile, spawn, type ChildProcess, type SpawnOptions } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { isAlive } from "../tools/processes.ts";
import { Forwarder } from "./forwarder.ts";

export { whyNoNetwork } from "./forwarder.ts";

const execute = promisify(execFile);

/** Loss in runs: by packets (mean length of a run) or by time (mean length of a bad period). At most one of them. */
export interface LossRuns {
  readonly burstPackets?: number;
  readonly badPeriodMs?: number;
}

/** One direction between two hosts. */
export interface LinkOptions extends LossRuns {
  /** One way. */
  readonly delayMs: number;
  /** Added to the delay, uniformly from 0 up to it. */
  readonly jitterMs?: number;
  /** 0 to 1, of segments on the wire. */
  readonly lossRatio?: number;
  /** Without it as fast as the machine is. */
  readonly rateMbit?: number;
  /** Drop-tail queue before the rate; default 1 MiB. */
  readonly queueBytes?: number;
  /** Jitter may let a packet overtake another. */
  readonly mayReorder?: boolean;
}

/** What all links of a host share: a bottleneck, correlated loss. */
export interface AccessOptions extends LossRuns {
  readonly upMbit?: number;
  readonly downMbit?: number;
  readonly queueBytes?: number;
  readonly lossUpRatio?: number;
  readonly lossDownRatio?: number;
}

export interface NetworkOptions {
  /** Names: small letters, digits and hyphens, at most 16 characters. */
  readonly hosts: readonly string[];
  readonly seed?: number;
  /** Keeps the processors awake, for runs that measure; without it single packets may be late by milliseconds. */
  readonly keepsAwake?: boolean;
}

export interface LinkStats {
  readonly from: string;
  readonly to: string;
  /** Segments on the wire, lost ones included. */
  readonly packets: number;
  readonly bytes: number;
  readonly lost: number;
  readonly queueDrops: number;
  readonly cutDrops: number;
}

export interface NetworkStats {
  /** How long after their time packets were delivered: the emulation's own error. */
  readonly lateUsMean: number;
  readonly lateUsMax: number;
  /** Counts of packets late by less than 50 us, 200 us, 1 ms, 5 ms, 20 ms, and more. */
  readonly lateUnder50us200us1ms5ms20msMore: readonly number[];
  readonly delivered: number;
  readonly underWay: number;
  readonly unroutable: number;
  readonly overLimit: number;
  readonly writeErrors: number;
  readonly links: readonly LinkStats[];
}

export type CongestionControl = "reno" | "cubic" | "bbr";

const HOST_NAME = /^[a-z0-9][a-z0-9-]{0,15}$/;
const QUEUE_BYTES = 1 << 20;
const NAMESPACE_PREFIX = "isowan";
const NAMESPACE_DIRECTORY = "/run/netns";

function whole(what: string, value: number, scale: number, max: number): number {
  if (!(value >= 0 && value <= max)) throw new RangeError(`${what}: got ${value}, expected 0 to ${max}`);
  return Math.round(value * scale);
}

function runs(loss: LossRuns): string {
  return `${whole("burstPackets", loss.burstPackets ?? 0, 1, 10_000)} ${whole("badPeriodMs", loss.badPeriodMs ?? 0, 1000, 60_000)}`;
}

function ppm(what: string, ratio: number | undefined): number {
  return whole(what, ratio ?? 0, 1e6, 1);
}

function kbit(what: string, mbit: number | undefined): number {
  return whole(what, mbit ?? 0, 1000, 100_000);
}

/** The words of the forwarder's `link` command after the two hosts. Throws RangeError. */
function linkWords(link: LinkOptions): string {
  return [
    whole("delayMs", link.delayMs, 1000, 10_000),
    whole("jitterMs", link.jitterMs ?? 0, 1000, 10_000),
    ppm("lossRatio", link.lossRatio),
    runs(link),
    kbit("rateMbit", link.rateMbit),
    whole("queueBytes", link.queueBytes ?? QUEUE_BYTES, 1, 2 ** 32),
    link.mayReorder === true ? 1 : 0,
  ].join(" ");
}

function accessWords(access: AccessOptions): string {
  return [
    kbit("upMbit", access.upMbit),
    kbit("downMbit", access.downMbit),
    whole("queueBytes", access.queueBytes ?? QUEUE_BYTES, 1, 2 ** 32),
    ppm("lossUpRatio", access.lossUpRatio),
    ppm("lossDownRatio", access.lossDownRatio),
    runs(access),
  ].join(" ");
}

/** Deletes what forwarders left that were killed: a namespace names the process that asked for it. */
async function deleteLeftovers(): Promise<void> {
  let names: string[];
  try {
    names = readdirSync(NAMESPACE_DIRECTORY);
  } catch {
    return; // no namespace was ever made
  }
  for (const name of names) {
    const [, pid] = new RegExp(`^${NAMESPACE_PREFIX}([0-9]+)-`).exec(name) ?? [];
    // Another run may be deleting it too.
    if (pid !== undefined && !isAlive(Number(pid)))
      await execute("ip", ["netns", "del", name]).catch(() => undefined);
  }
}

/** Outside of the first namespace only controls of this list may be set, and the list is the machine's; it is made longer, never shorter. */
function allowCongestionControl(name: CongestionControl): void {
  const list = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
  const allowed = readFileSync(list, "latin1").trim().split(" ");
  if (!allowed.includes(name)) writeFileSync(list, [...allowed, name].join(" "));
}

let networksMade = 0;

/** A running network. {@link WideAreaNetwork.stop} it: that deletes its namespaces, and the processes in them lose their network. */
export class WideAreaNetwork {
  readonly hosts: readonly string[];
  readonly #forwarder: Forwarder;
  readonly #number: number;
  readonly #indexOf: ReadonlyMap<string, number>;
  readonly #children: ChildProcess[] = [];

  private constructor(hosts: readonly string[], forwarder: Forwarder) {
    this.hosts = hosts;
    this.#forwarder = forwarder;
    this.#number = networksMade++;
    this.#indexOf = new Map(hosts.map((host, index) => [host, index]));
  }

  /** Makes the hosts; their links have no delay and no limit yet. Rejects with what is missing or wrong; nothing is left then. */
  static async start(options: NetworkOptions): Promise<WideAreaNetwork> {
    const bad = options.hosts.find(
      (host, index) => !HOST_NAME.test(host) || options.hosts.indexOf(host) !== index,
    );
    if (bad !== undefined)
      throw new RangeError(
        `hosts: got ${JSON.stringify(bad)}, expected names of a-z, 0-9 and "-", at most 16 characters, each once`,
      );
    await deleteLeftovers();
    const forwarder = new Forwarder({ seed: options.seed ?? 1, keepsAwake: options.keepsAwake ?? false });
    const network = new WideAreaNetwork(options.hosts, forwarder);
    try {
      for (const host of options.hosts)
        await forwarder.ask(`host ${host} ${network.addressOf(host)} ${network.#namespaceOf(host)}`);
    } catch (error) {
      await forwarder.end();
      throw error;
    }
    return network;
  }

  /** IPv4 address of a host. */
  addressOf(host: string): string {
    const index = this.#indexOf.get(host);
    if (index === undefined)
      throw new RangeError(`host: got ${JSON.stringify(host)}, expected one of this network's`);
    return `10.77.${index >> 7}.${(index & 127) + 1}`;
  }

  #namespaceOf(host: string): string {
    return `${NAMESPACE_PREFIX}${process.pid}-${this.#number}-${this.#indexOf.get(host)}`;
  }

  /** One direction. */
  async setLink(from: string, to: string, link: LinkOptions): Promise<void> {
    await this.#forwarder.ask(`link ${from} ${to} ${linkWords(link)}`);
  }

  /** Both directions alike. */
  async setLinks(a: string, b: string, link: LinkOptions): Promise<void> {
    await Promise.all([this.setLink(a, b, link), this.setLink(b, a, link)]);
  }

  async setAccess(host: string, access: AccessOptions): Promise<void> {
    await this.#forwarder.ask(`access ${host} ${accessWords(access)}`);
  }

  /** A black hole in one direction; what is under way is lost as well. */
  async cut(from: string, to: string): Promise<void> {
    await this.#forwarder.ask(`cut ${from} ${to}`);
  }

  async heal(from: string, to: string): Promise<void> {
    await this.#forwarder.ask(`heal ${from} ${to}`);
  }

  /** New sockets of a host use it, unless they choose themselves. */
  async setCongestionControl(host: string, name: CongestionControl): Promise<void> {
    allowCongestionControl(name);
    await this.setKernel(host, { "net.ipv4.tcp_congestion_control": name });
  }

  /** Kernel settings of one host (`net.ipv4.tcp_*`). */
  async setKernel(host: string, settings: Readonly<Record<string, string | number>>): Promise<void> {
    const words = Object.entries(settings).map(([name, value]) => `${name}=${value}`);
    await execute("nsenter", [...this.#enter(host), "sysctl", "-q", "-w", ...words]);
  }

  /** What a host's connections with all others begin with: metrics as of `ip route`, such as "initcwnd 32". */
  async setRoute(host: string, metrics: string): Promise<void> {
    const route = `route replace 10.77.0.0/16 dev wan scope link src ${this.addressOf(host)} ${metrics}`;
    await this.run(host, "ip", route.split(" "));
  }

  /** Counters since the start or the last reset. */
  async stats(reset = false): Promise<NetworkStats> {
    const stats = JSON.parse(await this.#forwarder.ask("stats")) as NetworkStats;
    if (reset) await this.#forwarder.ask("reset");
    return stats;
  }

  /** Starts a program on a host, which {@link stop} ends. */
  spawn(host: string, command: string, argv: readonly string[], options: SpawnOptions): ChildProcess {
    const child = spawn("nsenter", [...this.#enter(host), command, ...argv], options);
    this.#children.push(child);
    return child;
  }

  /** Runs a program on a host to its end. Rejects when it fails. */
  async run(host: string, command: string, argv: readonly string[]): Promise<string> {
    const { stdout } = await execute("nsenter", [...this.#enter(host), command, ...argv]);
    return stdout;
  }

  #enter(host: string): string[] {
    this.addressOf(host); // refuses a name that is not ours
    return [`--net=${NAMESPACE_DIRECTORY}/${this.#namespaceOf(host)}`];
  }

  /** Ends the programs, then the network. */
  async stop(): Promise<void> {
    const left = this.#children.filter(
      ({ exitCode, signalCode }) => exitCode === null && signalCode === null,
    );
    for (const child of left) child.kill("SIGTERM");
    await Promise.all(left.map((child) => once(child, "exit")));
    await this.#forwarder.end();
  }
}

/** A program of this folder that serves on a host: resolves when it has said "ready". */
export async function startProgram(
  network: WideAreaNetwork,
  host: string,
  file: string,
  argv: readonly string[],
): Promise<{ stop(): Promise<void> }> {
  const child = network.spawn(host, process.execPath, [join(import.meta.dirname, file), ...argv], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(child, "exit");
  const [line] = await Promise.race([
    once(createInterface({ input: child.stdout! }), "line") as Promise<[string]>,
    exited.then(() => ["ended"]),
  ]);
  if (line !== "ready") throw new Error(`${file} did not start on ${host}: ${argv.join(" ")}`);
  return {
    stop: async () => {
      child.kill("SIGKILL");
      await exited;
    },
  };
}
