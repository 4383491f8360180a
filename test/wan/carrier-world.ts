/** Every carrier between two servers, each from a far host of its own to one near host, over links of one shape. */
import type { ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { benchTopology } from "../bench/tools/link-product.ts";
import { dieWithUs, findProgram, scratchDirectory } from "../bench/tools/program.ts";
import { makeCertificate } from "../tools/certificates.ts";
import { testAuthority } from "../tools/node-credentials.ts";
import type { Asked, CarrierKind, CarriersFile, Plan } from "./carriers.ts";
import { type CongestionControl, type LinkOptions, WideAreaNetwork } from "./network.ts";

export const NEAR = "near";
const PORT = 9_000;
const SERVER_NAME = "far.test";
const PROGRAM = join(import.meta.dirname, "carriers.ts");
/** A server of the overlay as `isochrone doctor` wants it. */
const DOCTOR_ROUTE = "initcwnd 32 rto_min 40ms";

interface Known {
  readonly kind: CarrierKind;
  /** Of the kernel, where it carries. */
  readonly control?: CongestionControl;
}

export const carriers = {
  udp: { kind: "udp" },
  "link-cubic": { kind: "link", control: "cubic" },
  "link-bbr": { kind: "link", control: "bbr" },
  "choice-cubic": { kind: "choice", control: "cubic" },
  "choice-bbr": { kind: "choice", control: "bbr" },
  "http2-cubic": { kind: "http2", control: "cubic" },
  "http2-bbr": { kind: "http2", control: "bbr" },
  "http1-cubic": { kind: "http1", control: "cubic" },
  "http1-bbr": { kind: "http1", control: "bbr" },
  "nginx-cubic": { kind: "nginx", control: "cubic" },
  "nginx-bbr": { kind: "nginx", control: "bbr" },
} as const satisfies Record<string, Known>;
export type CarrierName = keyof typeof carriers;
export const carrierNames = Object.keys(carriers) as CarrierName[];

export interface CarrierWorldOptions {
  readonly carriers: readonly CarrierName[];
  /** From the far hosts, and to them. */
  readonly down: LinkOptions;
  readonly up: LinkOptions;
  readonly seed: number;
}

/** A program that asks, and answers plans by what it saw. */
class Asker {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(child: ChildProcess) {
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  }

  async line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error("A program of the carriers ended too early");
    return value;
  }

  async ask(plan: Plan): Promise<Asked> {
    this.#child.stdin?.write(`${JSON.stringify(plan)}\n`);
    return JSON.parse(await this.line()) as Asked;
  }
}

export class CarrierWorld {
  readonly network: WideAreaNetwork;
  readonly #names: readonly CarrierName[];
  readonly #askers = new Map<CarrierName, Asker>();
  readonly #directory = scratchDirectory("carriers", true);

  private constructor(network: WideAreaNetwork, names: readonly CarrierName[]) {
    this.network = network;
    this.#names = names;
  }

  static async start({ carriers: names, down, up, seed }: CarrierWorldOptions): Promise<CarrierWorld> {
    const network = await WideAreaNetwork.start({ hosts: [NEAR, ...names], seed, keepsAwake: true });
    const world = new CarrierWorld(network, names);
    try {
      for (const name of names) {
        await network.setLink(name, NEAR, down);
        await network.setLink(NEAR, name, up);
        const { control = "cubic" } = carriers[name] as Known;
        await world.#setKernel(name, control);
      }
      await world.#setKernel(NEAR, "bbr");
      await world.#startPrograms();
    } catch (error) {
      await world.stop();
      throw error;
    }
    return world;
  }

  async stop(): Promise<void> {
    await this.network.stop();
  }

  /** The same at the same moments over all of them. */
  async ask(plan: Plan, names: readonly CarrierName[] = this.#names): Promise<Map<CarrierName, Asked>> {
    const asked = names.map(
      async (name) => [name, await (this.#askers.get(name) as Asker).ask(plan)] as const,
    );
    return new Map(await Promise.all(asked));
  }

  async #setKernel(host: string, control: CongestionControl): Promise<void> {
    await this.network.setCongestionControl(host, control);
    await this.network.setKernel(host, {
      "net.ipv4.tcp_no_metrics_save": 1,
      "net.ipv4.tcp_slow_start_after_idle": 0,
    });
    await this.network.setRoute(host, DOCTOR_ROUTE);
  }

  async #startPrograms(): Promise<void> {
    const path = join(this.#directory, "carriers.json");
    writeFileSync(path, JSON.stringify(await this.#file()), { mode: 0o600 });
    const start = async (host: string, verb: "serve" | "ask", name: CarrierName): Promise<Asker> => {
      const child = this.network.spawn(host, process.execPath, [PROGRAM, verb, path, name], {
        stdio: ["pipe", "pipe", "inherit"],
      });
      dieWithUs(child.pid!);
      const asker = new Asker(child);
      if ((await asker.line()) !== "ready") throw new Error(`${name} did not ${verb} on ${host}`);
      return asker;
    };
    for (const name of this.#names) await start(name, "serve", name);
    await this.#startNginx();
    for (const name of this.#names) this.#askers.set(name, await start(NEAR, "ask", name));
  }

  async #file(): Promise<CarriersFile> {
    const near = this.network.addressOf(NEAR);
    const authority = makeCertificate({ names: ["authority"], isAuthority: true });
    const own = makeCertificate({ names: [SERVER_NAME], issuer: authority });
    const ours = await testAuthority();
    const topology = benchTopology(PORT);
    return {
      carriers: Object.fromEntries(
        this.#names.map((name, index) => {
          const serve = { address: this.network.addressOf(name), port: PORT };
          const { kind } = carriers[name];
          const ask = kind === "nginx" ? { address: near, port: PORT + index } : serve;
          return [name, { kind, serve, ask, secret: randomBytes(32).toString("hex") }];
        }),
      ),
      edge: await ours.credentials(topology, "edge-1"),
      parent: await ours.credentials(topology, "parent-1"),
      serverName: SERVER_NAME,
      authorityPem: authority.certPem,
      certificatePem: own.certPem,
      keyPem: own.keyPem,
    };
  }

  /** One on the near host, which asks the far ones of its carriers. */
  async #startNginx(): Promise<void> {
    const names = this.#names.filter((name) => carriers[name].kind === "nginx");
    if (names.length === 0) return;
    const near = this.network.addressOf(NEAR);
    const directory = this.#directory;
    const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    const path = join(directory, "nginx.conf");
    writeFileSync(
      path,
      [
        "user root; worker_processes 1; daemon off;",
        `pid ${directory}/nginx.pid; error_log ${directory}/nginx.err;`,
        "events { worker_connections 1024; }",
        "http { access_log off; keepalive_requests 1000000;",
        ...temporary.map((what) => `${what}_temp_path ${directory}/nginx-${what};`),
        ...names.flatMap((name) => [
          `upstream ${name} { server ${this.network.addressOf(name)}:${PORT}; keepalive 64; keepalive_requests 1000000; }`,
          `server { listen ${near}:${PORT + this.#names.indexOf(name)}; location / { proxy_pass http://${name}; proxy_http_version 1.1; proxy_set_header Connection ""; } }`,
        ]),
        "}",
      ].join("\n"),
    );
    const child = this.network.spawn(NEAR, findProgram("nginx")!, ["-c", path], { stdio: "inherit" });
    dieWithUs(child.pid!);
    // It listens as soon as its file was read.
    await pause(300);
    if (child.exitCode !== null) throw new Error("nginx did not start on the near host");
  }
}
