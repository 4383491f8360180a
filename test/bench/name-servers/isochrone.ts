/** Our own name server, as a deployment runs it: documents on its disk, control away, its own probes of every edge server. */
import { join } from "node:path";
import { LastKnownGood, makeDirectory } from "#kit/io";
import { freePort, startIsochrone } from "../../tools/processes.ts";
import { dieWithUs, scratchDirectory } from "../tools/program.ts";
import type { Deployment } from "./deployment.ts";
import type { NameServer } from "./name-server.ts";

/** Nobody listens there: the name server serves with what is on its disk. */
const NO_CONTROL = "http://127.0.0.1:9";

async function keep(directory: string, kind: string, id: string, body: unknown): Promise<void> {
  const path = join(directory, "documents", `${kind}.${id}.lkg`);
  await new LastKnownGood(path, (value) => value).save({ logId: "bench", seq: 1, version: 1, id, body });
}

async function stateOf(deployment: Deployment): Promise<string> {
  const directory = scratchDirectory("isochrone-dns");
  makeDirectory(join(directory, "documents"));
  await keep(directory, "topology", "main", deployment.topology);
  await keep(directory, "map", "main", deployment.snapshot);
  for (const property of deployment.properties)
    await keep(directory, "property", property.propertyId, property);
  for (const policy of deployment.policies) await keep(directory, "policy", policy.policyId, policy);
  return directory;
}

/** Every query is judged by both limits, and none is over them: dnsperf is one client that asks as fast as it can. */
const LIMITS = ["--rate-limit", "1000000", "--surplus-limit", "1000000000"];
const NO_LIMITS = ["--rate-limit", "0", "--surplus-limit", "0"];

function form(
  name: string,
  note: string,
  more: readonly string[],
  hasLog = true,
  limits: readonly string[] = LIMITS,
): NameServer {
  return {
    name: "isochrone",
    form: name,
    note,
    isMapped: true,
    hasPolicies: true,
    program: process.execPath,
    version: async () => `node ${process.versions.node}`,
    start: async (deployment, port) => {
      const state = await stateOf(deployment);
      const args = ["dns", "--node", "ns-1", "--listen", `127.0.0.1:${port}`];
      args.push(...limits);
      if (hasLog) args.push("--query-log", join(state, "queries.ndjson"));
      args.push("--admin", `127.0.0.1:${await freePort()}`, "--control", NO_CONTROL, "--state", state);
      const server = await startIsochrone([...args, ...more], {
        env: { ISOCHRONE_LOG: "error", ISOCHRONE_CONTROL_TOKEN: "bench" },
      });
      dieWithUs(server.pid);
      return { port, pids: [server.pid], stop: async () => void (await server.stop()) };
    },
  };
}

export const isochrone: readonly NameServer[] = [
  form(
    "default",
    "as started by `isochrone dns --node`, probes of every edge server, metrics, one query in 100 logged, each judged by both limits",
    [],
  ),
  {
    ...form("two-workers", "the same with two processes that share the port", ["--workers", "2"]),
    workers: 2,
  },
  form("no-limits", "the same without limits", [], true, NO_LIMITS),
  form("no-log", "the same without the query log", ["--query-sample", "0"], false),
  form("all-logged", "the same with every query logged", ["--query-sample", "1"]),
  form("plain-udp", "the same with one system call for each datagram", ["--plain-udp"]),
];
