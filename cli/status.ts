/** `isochrone status`: every process of the running world. */
import { parseArgs } from "node:util";
import { ControlClient, ControlError } from "#control";
import { createLogger } from "#kit/io";
import { type FleetHealth, fleetHealth, formatHealth } from "./fleet-health.ts";
import { requireRunningWorld } from "./runtime.ts";
import { formatTable } from "./table.ts";
import { askAdmin } from "./up/admin.ts";
import type { ProcessStatus } from "./up/supervisor.ts";

const help = `Usage: isochrone status [--json] [--state DIR]

Lists every process of the running world: role, id, cluster, city, address, port, pid, state. Below it what servers report: how
long the certificates are good by which they know each other, and servers of origins that are not asked, with who sees it so.
Exit code 0 when all are ready, 1 when one is not or no world runs.

Examples:
  isochrone status
  isochrone status --json | jq '.processes[] | select(.state != "ready")'`;

/** A control that hangs does not keep the processes from being told of. */
const CONTROL_TIMEOUT_MS = 3_000;

export interface WorldStatus {
  readonly world: string;
  readonly pid: number;
  readonly stateDirectory: string;
  readonly cuts: readonly (readonly [string, string])[];
  readonly processes: readonly ProcessStatus[];
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: { json: { type: "boolean" }, state: { type: "string" }, help: { type: "boolean", short: "h" } },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  const world = requireRunningWorld(values.state);
  const status = (await askAdmin(world.adminSocket, "/status")) as WorldStatus;
  const health = await healthNow(values.state);
  if (values.json) console.log(JSON.stringify({ ...status, health }, null, 2));
  else {
    const rows = status.processes.map((one) => [
      one.role,
      one.id,
      one.cluster,
      one.city,
      `${one.address}:${one.port}`,
      one.pid ?? "-",
      one.state,
      one.restarts,
    ]);
    console.log(formatTable(["role", "id", "cluster", "city", "address", "pid", "state", "restarts"], rows));
    for (const [a, b] of status.cuts) console.log(`cut: ${a} - ${b}`);
    console.log(
      health === null
        ? "control does not answer: what certificates and origins are like is not known"
        : formatHealth(health),
    );
  }
  return status.processes.every((one) => one.state === "ready") ? 0 : 1;
}

/** Null: control does not say. */
async function healthNow(state: string | undefined): Promise<FleetHealth | null> {
  const { controlUrl, token } = requireRunningWorld(state);
  const logger = createLogger({ role: "cli", id: "cli" }, { level: "silent" });
  const client = new ControlClient({
    url: controlUrl,
    token,
    nodeId: "cli",
    logger,
    requestTimeoutMs: CONTROL_TIMEOUT_MS,
  });
  try {
    return fleetHealth(await client.reports());
  } catch (error) {
    if (error instanceof ControlError) return null;
    throw error;
  } finally {
    await client.close();
  }
}
