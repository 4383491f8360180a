/**
 * `npm run lab -- link-restart`: an edge asks two parents by link while one of them is replaced, ended and started again, and killed, again
 * and again. Clients ask for what the edge does not have, and change what they like; what is lost is counted at them, and what is done
 * twice at the origin.
 */
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { Agent, createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { createLogger } from "#kit/io";
import { ControlClient } from "#control";
import { wholeNumber } from "../tools/flags.ts";
import { freePort, isAlive, runIsochrone, startIsochrone, waitFor } from "../tools/processes.ts";
import { HOST, tierWorld } from "../tools/tier-world.ts";

export const summary =
  "parents are replaced, restarted and killed while an edge asks them by link: requests that were lost, or done twice";

const HELP = `Usage: npm run lab -- link-restart [options]

${summary}. Exit code 1: a GET was lost, a POST was lost by a replacement, or one was done twice; or hardly anything went by link.

  --rounds N      replacement, restart and kill of a parent (default 4)
  --clients N     that ask without a pause (default 24)
  --requests N    answers between two faults (default 1500)
  --help
`;

export const FAULTS = ["replace", "restart", "kill"] as const;
type Fault = (typeof FAULTS)[number];

export interface LinkRestartOptions {
  readonly rounds: number;
  readonly clients: number;
  readonly requests: number;
  readonly log: (line: string) => void;
}

export interface LinkRestartResult {
  readonly answers: number;
  /** Turned away because the edge's event loop was late: the machine is too busy. */
  readonly shed: number;
  /** By method, and the fault that was last. */
  readonly lost: Readonly<Record<string, number>>;
  readonly doneTwice: number;
  /** Answers that the edge got from its parents, by protocol, and what became of link sessions and of their UDP carriers. */
  readonly byProtocol: Readonly<Record<string, number>>;
  readonly links: Readonly<Record<string, number>>;
  readonly udp: Readonly<Record<string, number>>;
  readonly isGood: boolean;
}

const ENVIRONMENT = {
  ISOCHRONE_CONTROL_TOKEN: "0123456789abcdef0123456789abcdef",
  ISOCHRONE_PEER_KEY: "00112233445566778899aabbccddeeff",
  ISOCHRONE_LOG: "error",
};
/** One request in so many changes something. */
const POST_EVERY = 4;
/** What of the edge's requests has to go by link at least. */
const LINK_SHARE_MIN = 0.5;
const VICTIM = "p1-1";

export async function linkRestartLab(options: LinkRestartOptions): Promise<LinkRestartResult> {
  const directory = await mkdtemp(join(tmpdir(), "isochrone-lab-"));
  const done = new Map<string, number>();
  const origin = createServer((asked, response) => {
    const { url = "", method } = asked;
    asked.resume();
    asked.once("end", () => {
      if (method === "POST") done.set(url, (done.get(url) ?? 0) + 1);
      response.writeHead(200, { "cache-control": "max-age=60" });
      response.end(`${method} ${url}`);
    });
  }).listen(0, "127.0.0.1");
  await once(origin, "listening");
  const { port: originPort } = origin.address() as AddressInfo;
  const shape = { edgeClusters: 1, edgesPerCluster: 1, parents: 1, serversPerParent: 2, originPort };
  const ports = new Map<string, number>();
  const names = Object.values(tierWorld({ ...shape, portOf: () => 1 }).servers).flat();
  for (const name of ["control", ...names]) ports.set(name, await freePort());
  const portOf = (name: string): number => ports.get(name) ?? 0;
  const world = tierWorld({ ...shape, portOf });
  const argumentsOf = (name: string): string[] => {
    const at = `--listen 127.0.0.1:${portOf(name)} --state ${join(directory, name)}`.split(" ");
    const node = `--node ${name} --control http://127.0.0.1:${portOf("control")} --memory 64MiB`.split(" ");
    return name === "control"
      ? ["control", ...at]
      : ["edge", ...node, "--run", join(directory, "run"), ...at];
  };
  const pids = new Map<string, number>();
  const start = async (name: string): Promise<void> => {
    const { pid } = await startIsochrone(argumentsOf(name), { env: ENVIRONMENT, timeoutMs: 120_000 });
    pids.set(name, pid);
  };
  const end = async (name: string, signal: NodeJS.Signals): Promise<void> => {
    const pid = pids.get(name);
    if (pid === undefined || !isAlive(pid)) return;
    process.kill(pid, signal);
    await waitFor(() => !isAlive(pid), { timeoutMs: 90_000, what: `the end of ${name}` });
  };
  const agent = new Agent({ keepAlive: true });
  const lost: Record<string, number> = {};
  let answers = 0;
  let shed = 0;
  let isOver = false;
  let last: Fault | "none" = "none";
  const ask = async (client: number, turn: number): Promise<void> => {
    const method = turn % POST_EVERY === 0 ? "POST" : "GET";
    const path = `/${client}/${turn}`;
    const fault = last;
    try {
      const got = await exchange(agent, portOf("e1-1"), method, path);
      if (got.includes("(server-busy)")) shed++;
      else if (got === `200 ${method} ${path}`) answers++;
      else throw new Error(got);
    } catch (error) {
      const why = `${method} ${last === fault ? last : `${fault}, ${last}`}`;
      lost[why] = (lost[why] ?? 0) + 1;
      options.log(`lost: ${method} ${path}: ${String(error).slice(0, 200)}`);
    }
  };
  await start("control");
  const control = new ControlClient({
    url: `http://127.0.0.1:${portOf("control")}`,
    token: ENVIRONMENT.ISOCHRONE_CONTROL_TOKEN,
    nodeId: "lab",
    logger: createLogger({ role: "test", id: "lab" }, { level: "silent" }),
  });
  try {
    await control.put("topology", "world", world.topology, { expectedVersion: 0 });
    await control.put("map", "world", world.map, { expectedVersion: 0 });
    await control.put("property", "shop", world.property, { expectedVersion: 0, activate: true });
    await Promise.all(names.map(start));
    const figures = async (): Promise<string> =>
      await (await fetch(`http://127.0.0.1:${portOf("e1-1")}/metrics`)).text();
    await waitFor(
      async () =>
        (await exchange(agent, portOf("e1-1"), "GET", `/warm/${performance.now()}`)).startsWith("200") &&
        (figuresOf(await figures(), "isochrone_transport_link_sessions")[""] ?? 0) >= 2,
      { what: "links to both parents", timeoutMs: 60_000 },
    );
    const clients = Array.from({ length: options.clients }, async (_, client) => {
      for (let turn = 0; !isOver; turn++) await ask(client, turn);
    });
    const more = async (): Promise<void> => {
      const wanted = answers + options.requests;
      await waitFor(() => answers >= wanted, { what: `${wanted} answers`, timeoutMs: 300_000 });
    };
    await more();
    for (let round = 0; round < options.rounds; round++) {
      for (const fault of FAULTS) {
        last = fault;
        if (fault === "replace") {
          const command = await runIsochrone([...argumentsOf(VICTIM), "--replace"], {
            env: ENVIRONMENT,
            timeoutMs: 90_000,
          });
          if (command.code !== 0) throw new Error(`The parent was not replaced: ${command.stderr}`);
          pids.set(VICTIM, Number(/by process ([0-9]+)/.exec(command.stdout)?.[1]));
        } else {
          await end(VICTIM, fault === "kill" ? "SIGKILL" : "SIGTERM");
          await more();
          await start(VICTIM);
        }
        await more();
        options.log(`round ${round + 1}, ${fault}: ${answers} answers, lost ${JSON.stringify(lost)}`);
      }
    }
    isOver = true;
    await Promise.all(clients);
    const text = await figures();
    const byProtocol = figuresOf(text, "isochrone_transport_answers_total");
    const links = figuresOf(text, "isochrone_transport_link_total");
    const udp = figuresOf(text, "isochrone_transport_link_udp_total");
    const doneTwice = [...done.values()].filter((times) => times > 1).length;
    const bad = Object.keys(lost).filter((why) => !/^POST .*(kill|restart)/.test(why));
    const share = ((byProtocol["link"] ?? 0) + (byProtocol["link-udp"] ?? 0)) / answers;
    const isGood = bad.length === 0 && doneTwice === 0 && share >= LINK_SHARE_MIN;
    return { answers, shed, lost, doneTwice, byProtocol, links, udp, isGood };
  } finally {
    isOver = true;
    await control.close();
    agent.destroy();
    for (const name of [...names, "control"]) await end(name, "SIGKILL").catch(() => {});
    origin.close();
    origin.closeAllConnections();
    await rm(directory, { recursive: true, force: true });
  }
}

/** Status and content. Never retries. */
async function exchange(agent: Agent, port: number, method: "GET" | "POST", path: string): Promise<string> {
  return await new Promise((resolve, reject) => {
    const asked = request(
      { agent, port, host: "127.0.0.1", method, path, headers: { host: HOST }, timeout: 60_000 },
      (response) => {
        let text = "";
        response.on("data", (chunk: Buffer) => (text += chunk.toString()));
        response.once("end", () => resolve(`${response.statusCode} ${text}`));
        response.once("error", reject);
      },
    );
    asked.once("timeout", () => asked.destroy(new Error("no answer in a minute")));
    asked.once("error", reject);
    asked.end(method === "POST" ? "content" : undefined);
  });
}

/** Values of a metric by its one label; "" where it has none. */
function figuresOf(text: string, name: string): Record<string, number> {
  const found: Record<string, number> = {};
  for (const [, label = "", value] of text.matchAll(
    new RegExp(`^${name}(?:\\{[a-z]+="([^"]*)"\\})? ([0-9.]+)$`, "gm"),
  ))
    found[label] = Number(value);
  return found;
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      rounds: { type: "string", default: "4" },
      clients: { type: "string", default: "24" },
      requests: { type: "string", default: "1500" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  const result = await linkRestartLab({
    rounds: wholeNumber("rounds", values.rounds, 1, 1_000),
    clients: wholeNumber("clients", values.clients, 1, 1_000),
    requests: wholeNumber("requests", values.requests, 1, 1_000_000),
    log: (line) => console.error(line),
  });
  console.log(JSON.stringify(result, undefined, 1));
  return result.isGood ? 0 : 1;
}
