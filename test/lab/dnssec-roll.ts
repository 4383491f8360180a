/** `npm run lab -- dnssec-roll`: keys of two zones roll, one after the other, in a real control with real name servers, while unbound asks. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { UsageError } from "../../cli/usage.ts";
import { ControlClient } from "#control";
import { dnssecDocument, propertyDocument, topologyDocument } from "#kit";
import { createLogger } from "#kit/io";
import { dsTextOf } from "#mapping";
import { wholeNumber } from "../tools/flags.ts";
import {
  freePort,
  type IsochroneProcess,
  requireProgram,
  runIsochrone,
  startIsochrone,
} from "../tools/processes.ts";
import { ValidatingResolver } from "../tools/validating-resolver.ts";

export const summary =
  "keys roll in a running deployment while a validating resolver asks: nothing is bogus, nothing goes insecure";

const HELP = `Usage: npm run lab -- dnssec-roll [options]

${summary}. A zone and one below it are signed and rolled by TTLs of 2 s; one name server is
killed in the middle of a roll and started again. Wants unbound and dig. Exit code: 1 for a bogus or failed answer, for one that is
not validated though the zone was secure before, or a roll that does not end.

  --rolls N   rolls of the lower zone (default 2)
  --help
`;

const PARENT = "op.example";
const CHILD = "shop.op.example";
const TTL_SECONDS = 2;
const ROLL_TIMEOUT_MS = 90_000;
const SERVERS = ["ns-1", "ns-2"] as const;

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: { rolls: { type: "string", default: "2" }, help: { type: "boolean" } },
  });
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  const rolls = wholeNumber("rolls", values.rolls, 1, 20);
  const unbound = requireProgram("unbound");
  const dig = requireProgram("dig");
  if (unbound === undefined || dig === undefined)
    throw new UsageError("unbound and dig are wanted: apt-get install unbound bind9-dnsutils");
  const lab = new Lab(unbound, dig);
  try {
    await lab.start();
    const result = await lab.run(rolls);
    console.log(JSON.stringify(result, undefined, 2));
    return result.failed === 0 && result.secure > 0 && result.ended ? 0 : 1;
  } finally {
    await lab.stop();
  }
}

/** What a resolver has learned before the parent had a DS is out of its cache: that there is none, and the answers after it. */
const FORGOTTEN_MS = 2 * TTL_SECONDS * 1_000;

interface Asking {
  isOn: boolean;
  asked: number;
  /** From here on an answer that is not validated is a failure; undefined: none was validated yet. */
  secureFromMs: number | undefined;
  secure: number;
  readonly failed: string[];
}

class Lab {
  readonly #unbound: string;
  readonly #dig: string;
  readonly #directory = mkdtempSync(join(tmpdir(), "isochrone-roll-"));
  readonly #env = {
    ISOCHRONE_CONTROL_TOKEN: "lab-token-0123456789abcdef",
    ISOCHRONE_PEER_KEY: "7b".repeat(32),
    ISOCHRONE_LOG: "error",
    XDG_RUNTIME_DIR: this.#directory,
  };
  readonly #ports = new Map<string, number>();
  readonly #servers = new Map<string, IsochroneProcess>();
  #control: IsochroneProcess | undefined;
  #client: ControlClient | undefined;
  #resolver: ValidatingResolver | undefined;
  #url = "";

  constructor(unbound: string, dig: string) {
    this.#unbound = unbound;
    this.#dig = dig;
  }

  async start(): Promise<void> {
    const env = this.#env;
    const state = join(this.#directory, "control");
    this.#control = await startIsochrone(["control", "--listen", "127.0.0.1:0", "--state", state], { env });
    this.#url = this.#control.readyLine.split(" ").at(-1) ?? "";
    this.#client = new ControlClient({
      url: this.#url,
      token: env.ISOCHRONE_CONTROL_TOKEN,
      nodeId: "lab",
      logger: createLogger({ role: "lab", id: "dnssec-roll" }, { level: "error" }),
    });
    for (const serverId of SERVERS) this.#ports.set(serverId, await freePort());
    await this.#putDocuments(this.#client);
    for (const serverId of SERVERS) await this.#startServer(serverId);
    for (const zone of [PARENT, CHILD]) await this.#dnssec("sign", zone, ...timing());
    const record = await this.#client.document("dnssec", "roll");
    const key = dnssecDocument.parse(record?.body).zones.find((one) => one.zone === PARENT)?.keys[0];
    this.#resolver = await ValidatingResolver.start(
      {
        program: this.#unbound,
        server: [
          `trust-anchor: "${dsTextOf(PARENT, key?.publicKey ?? "")}"`,
          `cache-max-ttl: ${TTL_SECONDS}`,
        ],
        more: [PARENT, CHILD].flatMap((zone) => [
          "stub-zone:",
          `  name: "${zone}"`,
          ...[...this.#ports.values()].map((port) => `  stub-addr: 127.0.0.1@${port}`),
          "  stub-prime: no",
        ]),
      },
      this.#dig,
    );
  }

  async stop(): Promise<void> {
    await this.#resolver?.stop();
    for (const server of this.#servers.values()) await server.stop();
    await this.#client?.close();
    await this.#control?.stop();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async run(rolls: number) {
    const asking: Asking = { isOn: true, asked: 0, secureFromMs: undefined, secure: 0, failed: [] };
    const asker = this.#ask(asking);
    const steps: string[] = [];
    let ended = true;
    const startMs = performance.now();
    ended =
      (await this.#until((zones) =>
        zones.every(
          ({ keys }) => keys[0]?.dsSeenAtEpochMs !== undefined || keys[0]?.delegatedAtEpochMs !== undefined,
        ),
      )) && ended;
    for (let n = 0; n < rolls && ended; n++) {
      const before = performance.now();
      ended = await this.#until((zones) =>
        zones.some(({ zone, keys }) => zone === CHILD && keys[0]?.dsSeenAtEpochMs !== undefined),
      );
      await this.#dnssec("roll", CHILD);
      if (n === 0) {
        // It holds the roll up, and takes it from its disk and control where it left it.
        const killed = this.#servers.get("ns-2");
        killed?.signal("SIGKILL");
        await killed?.exit;
        await new Promise((resolve) => setTimeout(resolve, 3_000));
        await this.#startServer("ns-2");
      }
      ended =
        ended &&
        (await this.#until((zones) =>
          zones.some(
            ({ zone, keys }) => zone === CHILD && keys.length === 1 && keys[0]?.keyId === `key-${n + 2}`,
          ),
        ));
      steps.push(`roll ${n + 1}: ${Math.round(performance.now() - before)} ms`);
    }
    asking.isOn = false;
    await asker;
    return {
      lab: "dnssec-roll",
      rolls: steps,
      ended,
      elapsedMs: Math.round(performance.now() - startMs),
      asked: asking.asked,
      secure: asking.secure,
      beforeSecure: asking.asked - asking.secure - asking.failed.length,
      failed: asking.failed.length,
      failures: asking.failed.slice(0, 10),
    };
  }

  /** Names that nobody has asked for, and the one that all ask for, one after the other. */
  async #ask(asking: Asking): Promise<void> {
    for (let n = 0; asking.isOn; n++) {
      const name = n % 2 === 0 ? `www.${CHILD}` : `x${n}.${CHILD}`;
      const said = await this.#resolver?.ask(name).catch(() => undefined);
      asking.asked++;
      const nowMs = performance.now();
      const isWhole =
        said !== undefined && said.status !== "SERVFAIL" && (n % 2 === 1 || said.answers.length > 0);
      if (isWhole && said.isAuthentic) {
        asking.secure++;
        asking.secureFromMs ??= nowMs + FORGOTTEN_MS;
      } else if (!isWhole || nowMs > (asking.secureFromMs ?? Infinity))
        asking.failed.push(
          `${Math.round(nowMs)} ms: ${name}: ${isWhole ? "not validated" : (said?.status ?? "no answer")}`,
        );
    }
  }

  async #until(isSo: (zones: ReturnType<typeof dnssecDocument.parse>["zones"]) => boolean): Promise<boolean> {
    const deadlineMs = performance.now() + ROLL_TIMEOUT_MS;
    while (performance.now() < deadlineMs) {
      const record = await this.#client?.document("dnssec", "roll");
      if (record !== undefined && isSo(dnssecDocument.parse(record.body).zones)) return true;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    console.error((await this.#dnssec("status")).stdout);
    return false;
  }

  async #dnssec(...args: string[]) {
    const done = await runIsochrone(["dnssec", ...args, "--control", this.#url], { env: this.#env });
    if (done.code !== 0) throw new Error(`dnssec ${args.join(" ")}: ${done.stderr}`);
    return done;
  }

  async #startServer(serverId: string): Promise<void> {
    const server = await startIsochrone(
      [
        "dns",
        "--node",
        serverId,
        "--listen",
        `127.0.0.1:${this.#ports.get(serverId)}`,
        "--admin",
        `127.0.0.1:${await freePort()}`,
        "--control",
        this.#url,
        "--state",
        join(this.#directory, serverId),
        "--rate-limit",
        "0",
      ],
      { env: this.#env },
    );
    this.#servers.set(serverId, server);
  }

  async #putDocuments(client: ControlClient): Promise<void> {
    const options = { expectedVersion: 0, note: "", author: "lab", activate: true };
    const site = (clusterId: string, role: string, servers: readonly object[]) => ({
      clusterId,
      regionId: "world",
      role,
      city: clusterId,
      coordinates: { latitude: 0, longitude: 0 },
      servers,
    });
    const topology = topologyDocument.parse({
      name: "roll",
      clusters: [
        site("fra", "edge", [{ serverId: "fra-1", address: "127.0.0.1", port: 9 }]),
        site(
          "ns",
          "nameserver",
          SERVERS.map((serverId) => ({ serverId, address: "127.0.0.1", port: 9 })),
        ),
      ],
      nameService: {
        zones: [PARENT, CHILD],
        nameServers: SERVERS.map((serverId, n) => ({
          serverId,
          name: `ns${n + 1}.${PARENT}`,
          address: "127.0.0.1",
          dnsPort: this.#ports.get(serverId),
        })),
      },
    });
    await client.put("topology", "roll", topology, options);
    const property = propertyDocument.parse({
      propertyId: "shop",
      customerId: "acme",
      hostnames: [`www.${CHILD}`],
      origins: [{ scheme: "http", host: "127.0.0.1", port: 9 }],
    });
    await client.put("property", "shop", property, options);
  }
}

function timing(): string[] {
  return ["--dnskey-ttl", "--zone-ttl-max", "--ds-ttl", "--propagation"].flatMap((name) => [
    name,
    String(TTL_SECONDS),
  ]);
}
