/** What the supervisor answers to `status`, `world`, `kill`, `cut` and `heal`. */
import { array, boolean, object, string } from "#kit";
import { UsageError } from "../usage.ts";
import type { WorldDescription } from "../world.ts";
import type { AdminHandler } from "./admin.ts";
import type { Supervisor } from "./supervisor.ts";
import type { WorldWan } from "./wan.ts";

const killRequest = object({ servers: array(string(), { min: 1, max: 1_000 }), restart: boolean() });
const cutRequest = object({ sites: array(string(), { min: 2, max: 2 }) });
const healRequest = object({ names: array(string(), { max: 2 }) });

export interface WorldAdminInput {
  readonly supervisor: Supervisor;
  readonly wan: WorldWan;
  readonly status: () => object;
  readonly description: WorldDescription;
}

export function worldAdmin({ supervisor, wan, status, description }: WorldAdminInput): AdminHandler {
  const requireServer = (id: string) => {
    if (supervisor.has(id)) return;
    throw new UsageError(`No server ${JSON.stringify(id)}; \`isochrone status\` lists them`);
  };
  const spreadLinks = () =>
    supervisor.broadcast((spec) => ({ type: "wan", state: wan.stateFor(spec.clusterId) }));

  const kill = (body: unknown) => {
    const { servers, restart } = killRequest.parse(body);
    for (const id of servers) requireServer(id);
    const killed: string[] = [];
    const down: string[] = [];
    for (const id of servers) (supervisor.kill(id, restart) ? killed : down).push(id);
    return { killed, down };
  };
  const cut = (body: unknown) => {
    const { sites } = cutRequest.parse(body);
    const cuts = wan.cut(sites[0] ?? "", sites[1] ?? "");
    spreadLinks();
    return { cuts };
  };
  const heal = (body: unknown) => {
    const [first, second] = healRequest.parse(body).names;
    if (first !== undefined && second === undefined) {
      requireServer(first);
      return { mended: [], started: supervisor.revive([first]) };
    }
    const mended = wan.heal(first === undefined || second === undefined ? undefined : [first, second]);
    spreadLinks();
    return { mended, started: first === undefined ? supervisor.revive() : [] };
  };

  return async (path, body) => {
    switch (path) {
      case "/status":
        return status();
      case "/world":
        return description;
      case "/kill":
        return kill(body);
      case "/cut":
        return cut(body);
      case "/heal":
        return heal(body);
      default:
        throw new UsageError(`The running world does not know ${path}; is it of another version?`);
    }
  };
}
