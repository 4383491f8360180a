/** `isochrone world`: what a world holds - the running one, or a file. */
import { parseArgs } from "node:util";
import { readWorldText } from "#kit/io";
import { generateWorld, parseWorld, planAddresses, topologyOf, type World } from "#kit/world";
import { defaultAddresses } from "./up/addresses.ts";
import { requireRunningWorld } from "./runtime.ts";
import { formatTable } from "./table.ts";
import { askAdmin } from "./up/admin.ts";
import { UsageError, wholeNumber } from "./usage.ts";

const help = `Usage: isochrone world [FILE] [--json] [--state DIR]
       isochrone world generate [--clusters 200] [--seed 1]

Lists sites (with their servers), limits that sites share, client networks (with their prefixes) and properties (with their
host names) of the running world, or of a world FILE. A file that is wrong is refused with
file:line:column, path, value and what was expected (exit code 2).
generate prints a world file (JSON, which is YAML) with that many edge clusters, 4..240, and twice as many client networks where people are.

Examples:
  isochrone world generate --clusters 200 --seed 1 > large.yaml
  isochrone world --json | jq -r '.clientNetworks[] | "\\(.city) \\(.prefixes[0])"'
  isochrone world deploy/worlds/demo.yaml`;

/** The printed shape of a world; also what the supervisor answers. */
export function describeWorld(world: World, topology: ReturnType<typeof topologyOf>) {
  return {
    world: world.name,
    sites: topology.clusters.map((cluster) => ({
      id: cluster.clusterId,
      region: cluster.regionId,
      role: cluster.role,
      city: cluster.city,
      coordinates: cluster.coordinates,
      servers: cluster.servers.map((server) => ({
        id: server.serverId,
        address: server.address,
        port: server.port,
      })),
    })),
    shareMax: topology.shareMax,
    limits: topology.limits,
    nameServers: topology.nameService.nameServers.map((one) => ({
      id: one.serverId,
      name: one.name,
      address: one.address,
      port: one.dnsPort,
    })),
    clientNetworks: world.clients.map((client) => ({
      id: client.id,
      city: client.city,
      continent: client.continent,
      coordinates: client.coordinates,
      prefixes: client.prefixes,
      demandPerSecond: client.demandPerSecond,
    })),
    properties: world.customers.flatMap((customer) =>
      customer.properties.map((property) => ({
        id: property.id,
        customer: customer.id,
        hostnames: property.hostnames,
        content: property.content ?? null,
        origin: property.origin,
      })),
    ),
  };
}
export type WorldDescription = ReturnType<typeof describeWorld>;

export async function main(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      json: { type: "boolean" },
      state: { type: "string" },
      clusters: { type: "string" },
      seed: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  const isGenerated = positionals[0] === "generate";
  if (!isGenerated && (values.clusters ?? values.seed) !== undefined)
    throw new UsageError('--clusters and --seed belong to "world generate"');
  if (isGenerated) {
    const clusters = wholeNumber("--clusters", values.clusters, 4, 240, 200);
    const world = generateWorld({ clusters, seed: wholeNumber("--seed", values.seed, 0, 1e9, 1) });
    console.log(JSON.stringify(world, null, 1));
    return 0;
  }
  const description =
    positionals[0] === undefined ? await runningDescription(values.state) : fileDescription(positionals[0]);
  if (values.json) {
    console.log(JSON.stringify(description, null, 2));
    return 0;
  }
  console.log(
    formatTable(
      ["site", "role", "city", "region", "servers"],
      description.sites.map((site) => [
        site.id,
        site.role,
        site.city,
        site.region,
        site.servers.map((server) => `${server.id} ${server.address}`).join(", "),
      ]),
    ),
  );
  if (description.limits.length > 0)
    console.log(
      `\n${formatTable(
        ["limit", "of", "requests/s", "bits/s"],
        description.limits.map((limit) => [
          limit.name,
          limit.regionId ?? (limit.clusterIds ?? []).join(" "),
          limit.requestsPerSecondMax ?? "-",
          limit.bitsPerSecondMax ?? "-",
        ]),
      )}`,
    );
  console.log(
    `\n${formatTable(
      ["client network", "city", "continent", "prefixes"],
      description.clientNetworks.map((client) => [
        client.id,
        client.city,
        client.continent,
        client.prefixes.join(" "),
      ]),
    )}`,
  );
  console.log(
    `\n${formatTable(
      ["property", "customer", "host names", "content"],
      description.properties.map((one) => [
        one.id,
        one.customer,
        one.hostnames.join(" "),
        one.content ?? "-",
      ]),
    )}`,
  );
  return 0;
}

async function runningDescription(state: string | undefined): Promise<WorldDescription> {
  return (await askAdmin(requireRunningWorld(state).adminSocket, "/world")) as WorldDescription;
}

function fileDescription(file: string): WorldDescription {
  const world = parseWorld(readWorldText(file), file);
  return describeWorld(world, topologyOf(world, planAddresses(world, defaultAddresses)));
}
