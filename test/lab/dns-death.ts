/** `npm run lab -- dns-death`: edge servers of a running world crash and hang; when the name server's answers stop naming them, at the client. */
import { createSocket, type Socket } from "node:dgram";
import { mkdtempSync, rmSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { setTimeout as pause } from "node:timers/promises";
import { formatAddress } from "#kit";
import { askAdmin } from "../../cli/up/admin.ts";
import { requireRunningWorld } from "../../cli/runtime.ts";
import type { WorldStatus } from "../../cli/status.ts";
import { readMessage } from "../../mapping/core/dns/wire.ts";
import { wholeNumber } from "../tools/flags.ts";
import { freePort, startIsochrone, waitFor } from "../tools/processes.ts";
import { query } from "../unit/mapping-dns/fixture.ts";

export const summary =
  "a crashed server leaves the answers within 2 s, a hung one within 3 s: seen at a client of a running world";

const HELP = `Usage: npm run lab -- dns-death [options]

${summary}. A client asks 50 times a second for a name whose answer names the victim; the victim is killed (SIGKILL) or
stopped (SIGSTOP), and the last answer that named it is timed. Exit code 1: one was later, or an answer was empty.

  --world WORLD  a world file, or "demo" or "small" (default small)
  --kills N      servers killed (default 20)
  --stops N      servers stopped (default 20)
  --help
`;

const ASK_MS = 20;
/** Nobody names it for so long: it is out. */
const QUIET_MS = 1_500;
const GIVE_UP_MS = 15_000;
const READY_TIMEOUT_MS = 120_000;
const OUT_MS_MAX = { kill: 2_000, stop: 3_000 } as const;
const NAME = "www.shop.example";
const SUBNETS = ["0001 18 00 c61200", "0001 18 00 c61210", "0001 18 00 c61220"];

/** Answers to one question, again and again. */
class Asker {
  readonly #socket: Socket = createSocket("udp4");
  readonly #timer: NodeJS.Timeout;
  #addresses: readonly string[] = [];
  #heardMs = 0;
  empty = 0;
  answers = 0;

  constructor(address: string, port: number, ecs: string) {
    this.#socket.on("message", (bytes) => {
      const read = readMessage(bytes);
      if (!read.ok) return;
      this.#addresses = read.message.answers.flatMap(({ data }) =>
        data.kind === "address" ? [formatAddress(data.address)] : [],
      );
      this.answers++;
      if (this.#addresses.length === 0) this.empty++;
      this.#heardMs = performance.now();
    });
    this.#timer = setInterval(
      () => this.#socket.send(query({ name: NAME, ecs, id: this.answers & 0xffff }), port, address),
      ASK_MS,
    );
  }

  get addresses(): readonly string[] {
    return this.#addresses;
  }

  /** How long after `fromMs` the last answer named the address, ms; undefined: it still does. */
  async lastNamed(address: string, fromMs: number): Promise<number | undefined> {
    let lastMs = fromMs;
    while (performance.now() - fromMs < GIVE_UP_MS) {
      if (this.#addresses.includes(address)) lastMs = this.#heardMs;
      if (performance.now() - lastMs > QUIET_MS && this.#heardMs > lastMs)
        return Math.max(0, lastMs - fromMs);
      await pause(ASK_MS / 2);
    }
    return undefined;
  }

  close(): void {
    clearInterval(this.#timer);
    this.#socket.close();
  }
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      world: { type: "string", default: "small" },
      kills: { type: "string", default: "20" },
      stops: { type: "string", default: "20" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const kills = wholeNumber("kills", values.kills, 0, 1_000);
  const stops = wholeNumber("stops", values.stops, 0, 1_000);
  const state = mkdtempSync(join(tmpdir(), "isochrone-lab-"));
  const ports = [
    "--port",
    String(await freePort("127.10.0.1")),
    "--dns-port",
    String(await freePort("127.10.0.1")),
  ];
  const world = await startIsochrone(["up", values.world, ...ports, "--state", state], {
    timeoutMs: READY_TIMEOUT_MS,
  });
  const outMs: Record<keyof typeof OUT_MS_MAX, number[]> = { kill: [], stop: [] };
  let late = 0;
  let [answers, empty] = [0, 0];
  try {
    const { adminSocket } = requireRunningWorld(state);
    const processes = async () => ((await askAdmin(adminSocket, "/status")) as WorldStatus).processes;
    const nameServer = (await processes()).find(({ role }) => role === "nameserver");
    const dnsPort = Number(ports.at(-1));
    for (let n = 0; n < kills + stops; n++) {
      const how =
        n % 2 === 0 && outMs.kill.length < kills ? "kill" : outMs.stop.length < stops ? "stop" : "kill";
      const asker = new Asker(nameServer?.address ?? "", dnsPort, SUBNETS[n % SUBNETS.length] as string);
      try {
        await waitFor(() => asker.addresses.length > 0, { timeoutMs: READY_TIMEOUT_MS, what: "an answer" });
        const address = asker.addresses[0] as string;
        const victim = (await processes()).find((one) => one.address === address && one.role === "edge");
        const { pid } = victim ?? {};
        if (victim === undefined || typeof pid !== "number") throw new Error(`who is ${address}?`);
        const fromMs = performance.now();
        if (how === "kill") await askAdmin(adminSocket, "/kill", { servers: [victim.id], restart: false });
        else process.kill(pid, "SIGSTOP");
        const tookMs = await asker.lastNamed(address, fromMs);
        outMs[how].push(Math.round(tookMs ?? GIVE_UP_MS));
        if (tookMs === undefined || tookMs > OUT_MS_MAX[how]) late++;
        console.error(`dns-death: ${how} ${victim.id}: out after ${Math.round(tookMs ?? GIVE_UP_MS)} ms`);
        if (how === "kill") await askAdmin(adminSocket, "/heal", { names: [victim.id] });
        else process.kill(pid, "SIGCONT");
        // Back where it was before the next one.
        await waitFor(() => asker.addresses.includes(address), {
          timeoutMs: READY_TIMEOUT_MS,
          what: `${victim.id} back`,
        });
      } finally {
        answers += asker.answers;
        empty += asker.empty;
        asker.close();
      }
    }
  } finally {
    await world.stop();
    rmSync(state, { recursive: true, force: true });
  }
  const figures = (all: readonly number[]) => {
    const sorted = [...all].sort((a, b) => a - b);
    return { count: all.length, medianMs: sorted[all.length >> 1], mostMs: sorted.at(-1) };
  };
  const result = { kill: figures(outMs.kill), stop: figures(outMs.stop), late, answers, empty };
  console.log(JSON.stringify({ ...result, world: values.world, loadAverage: loadavg()[0] }, undefined, 1));
  return late === 0 && empty === 0 ? 0 : 1;
}
