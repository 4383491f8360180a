/** From a world and its address plan to the processes that run it. Pure but for joining paths. */
import { join } from "node:path";
import type { TopologyDocument } from "#kit";
import type { AddressPlan, Endpoint } from "#kit/world";
import type { Secrets } from "./secrets.ts";
import type { ProcessSpec } from "./supervisor.ts";

export interface ProcessPlanInput {
  readonly topology: TopologyDocument;
  readonly plan: AddressPlan;
  readonly secrets: Secrets;
  readonly worldFile: string;
  readonly stateDirectory: string;
  /** What edges and name servers know of clients' countries; undefined: nothing. */
  readonly countriesFile: string | undefined;
  /** Where a child finds the link emulation of its site. */
  readonly wanFileOf: (clusterId: string) => string;
  /** Of a name server that stands in for the others; undefined: it does not. */
  readonly inputDelaySecondsOf: (clusterId: string) => number | undefined;
}

const at = (one: Endpoint) => `${one.address}:${one.port}`;

/** Control first, then all others in the order of the world file. */
export function processSpecs(input: ProcessPlanInput): {
  readonly control: ProcessSpec;
  readonly others: readonly ProcessSpec[];
} {
  const {
    topology,
    plan,
    secrets,
    worldFile,
    stateDirectory,
    countriesFile,
    wanFileOf,
    inputDelaySecondsOf,
  } = input;
  const cityOf = new Map(topology.clusters.map((cluster) => [cluster.clusterId as string, cluster.city]));
  const controlUrl = `http://${at(plan.control)}`;
  const operatorEnv = { ISOCHRONE_CONTROL_TOKEN: secrets.controlToken };
  const serverEnv = { ...operatorEnv, ISOCHRONE_PEER_KEY: secrets.peerKey };
  const countries = countriesFile === undefined ? [] : ["--countries", countriesFile];
  const stateOf = (id: string) => join(stateDirectory, "nodes", id);

  const spec = (
    role: string,
    id: string,
    place: Endpoint & { readonly clusterId: string },
    argv: readonly string[],
    env: Readonly<Record<string, string>>,
    servicePort = place.port,
  ): ProcessSpec => ({
    role,
    id,
    clusterId: place.clusterId,
    city: cityOf.get(place.clusterId) ?? "",
    address: place.address,
    port: servicePort,
    adminPort: place.port,
    argv,
    env: { ...env, ISOCHRONE_WAN: wanFileOf(place.clusterId) },
  });

  const control = spec(
    "control",
    "control",
    plan.control,
    ["control", "--listen", at(plan.control), "--state", stateOf("control")],
    operatorEnv,
  );
  const others: ProcessSpec[] = [];
  for (const cluster of topology.clusters) {
    for (const server of cluster.servers) {
      const id: string = server.serverId;
      const place = { clusterId: cluster.clusterId, address: server.address, port: server.port };
      const node = ["--node", id, "--control", controlUrl, "--state", stateOf(id)];
      switch (cluster.role) {
        case "edge":
        case "parent":
          others.push(
            spec(cluster.role, id, place, ["edge", "--listen", at(place), ...node, ...countries], serverEnv),
          );
          break;
        case "relay":
          others.push(spec("relay", id, place, ["relay", "--listen", at(place), ...node], serverEnv));
          break;
        case "origin":
          others.push(
            spec("origin", id, place, ["origin", "--listen", at(place), "--world", worldFile], operatorEnv),
          );
          break;
        case "nameserver": {
          const dnsPort = topology.nameService.nameServers.find((one) => one.serverId === id)?.dnsPort ?? 53;
          const delaySeconds = inputDelaySecondsOf(cluster.clusterId);
          const dns = [
            "dns",
            "--listen",
            `${place.address}:${dnsPort}`,
            "--admin",
            at(place),
            ...node,
            ...countries,
            ...(delaySeconds === undefined ? [] : ["--input-delay", String(delaySeconds)]),
          ];
          others.push(spec("nameserver", id, place, dns, serverEnv, dnsPort));
          break;
        }
        case "service":
          break;
      }
    }
  }
  others.push(
    ...plan.mappers.map((mapper) =>
      spec(
        "mapper",
        mapper.mapperId,
        mapper,
        [
          "mapper",
          "--world",
          worldFile,
          "--listen",
          at(mapper),
          "--control",
          controlUrl,
          "--id",
          mapper.mapperId,
          "--state",
          stateOf(mapper.mapperId),
        ],
        operatorEnv,
      ),
    ),
    spec(
      "portal",
      "portal",
      plan.portal,
      ["portal", "--listen", at(plan.portal), "--control", controlUrl, "--state", stateOf("portal")],
      {
        ...operatorEnv,
        ISOCHRONE_PORTAL_ACCOUNTS: JSON.stringify(secrets.accounts),
      },
    ),
  );
  return { control, others };
}
