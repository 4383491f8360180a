/** The peers of the name service, each with one worker, its own configuration in its own directory, on a free port. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { writeConfiguration } from "../peers/peer.ts";
import { findProgram, listening, runToEnd, scratchDirectory, startProgram } from "../tools/program.ts";
import { addressesFor, ANSWER_TTL_SECONDS, type Deployment, policyName, ZONE } from "./deployment.ts";
import type { NameServer } from "./name-server.ts";

const VERSION_TIMEOUT_MS = 5_000;

const zoneLines = (): string[] => [
  `$ORIGIN ${ZONE}.`,
  `@ 3600 IN SOA ns1 hostmaster 1 7200 1800 1209600 60`,
  "@ 3600 IN NS ns1",
  "ns1 3600 IN A 127.0.0.1",
];

const staticLines = (deployment: Deployment): string[] =>
  deployment.hostnames.flatMap((name) =>
    (deployment.addresses[0] ?? []).map((address) => `${name}. ${ANSWER_TTL_SECONDS} IN A ${address}`),
  );

/** For those that do not tell it themselves. */
async function packagedVersion(name: string): Promise<string> {
  const query = ["-W", "-f", "${Version}", name];
  return runToEnd("dpkg-query", query, VERSION_TIMEOUT_MS).catch(() => "unknown");
}

/** Starts one whose command stays in the foreground and listens on TCP too. */
async function start(name: string, command: string, args: readonly string[], port: number) {
  const program = startProgram(command, args);
  await listening(program, name, port);
  return { port, pids: [program.pid], stop: () => program.stop() };
}

const gdnsd: NameServer = {
  name: "gdnsd",
  form: "geoip",
  note: "plugin geoip with a nets map of all client networks, plugins weighted, simplefo and geoip for policies, one UDP thread",
  isMapped: true,
  hasPolicies: true,
  program: findProgram("gdnsd"),
  version: () => packagedVersion("gdnsd"),
  start: async (deployment, port) => {
    const directory = scratchDirectory("gdnsd");
    for (const name of ["run", "state"]) mkdirSync(join(directory, name));
    const dc = (index: number): string => `d${index + 1}`;
    writeConfiguration(join(directory, "config"), [
      "options => {",
      `  listen => 127.0.0.1:${port}`,
      "  udp_threads => 1",
      "  tcp_threads => 1",
      `  run_dir => "${join(directory, "run")}"`,
      `  state_dir => "${join(directory, "state")}"`,
      "  edns_client_subnet => true",
      "}",
      "plugins => {",
      "  weighted => { service_types => up, w => {",
      ...deployment.targets.map(({ address, weight }, index) => `    t${index} => [ ${address}, ${weight} ]`),
      "  } }",
      "  simplefo => { service_types => up, f => {",
      `    primary => ${deployment.targets[0]?.address ?? ""}, secondary => ${deployment.targets[1]?.address ?? ""}`,
      "  } }",
      "  geoip => {",
      `  maps => { m => { datacenters => [${deployment.addresses.map((_, index) => dc(index)).join(", ")}], nets => "m.nets" } }`,
      "  resources => { www => { map => m, service_types => up, dcmap => {",
      ...deployment.addresses.map(
        (addresses, index) =>
          `    ${dc(index)} => { addrs_v4 => { ${addresses.map((address, one) => `a${one} => ${address}`).join(", ")} } }`,
      ),
      "  } }",
      "  p => { map => m, service_types => up, dcmap => {",
      ...deployment.addresses.map((_, index) => {
        const { address } = deployment.targets[index % deployment.targets.length] ?? { address: "" };
        return `    ${dc(index)} => { addrs_v4 => { a => ${address} } }`;
      }),
      "  } } }",
      "} }",
    ]);
    writeConfiguration(
      join(directory, "geoip", "m.nets"),
      deployment.networks.map(({ prefix, clusters }) => `${prefix} => [ ${clusters.map(dc).join(", ")} ]`),
    );
    writeConfiguration(join(directory, "zones", ZONE), [
      ...zoneLines(),
      ...deployment.hostnames.map((name) => `${name}. ${ANSWER_TTL_SECONDS} DYNA geoip!www`),
      `${policyName("weighted")}. ${ANSWER_TTL_SECONDS} DYNA weighted!w`,
      `${policyName("failover")}. ${ANSWER_TTL_SECONDS} DYNA simplefo!f`,
      `${policyName("performance")}. ${ANSWER_TTL_SECONDS} DYNA geoip!p`,
    ]);
    return start("gdnsd", gdnsd.program ?? "gdnsd", ["-c", directory, "start"], port);
  },
};

/** Knot's module matches by subnet and says the subnet's length as scope. */
const knot: NameServer = {
  name: "knot",
  form: "geoip",
  note: "mod-geoip in mode subnet with all client networks, one UDP worker",
  isMapped: true,
  program: findProgram("knotd"),
  version: () => runToEnd(knot.program ?? "knotd", ["--version"], VERSION_TIMEOUT_MS),
  start: async (deployment, port) => {
    const directory = scratchDirectory("knot");
    mkdirSync(join(directory, "db"));
    const zone = writeConfiguration(join(directory, "zone"), [...zoneLines(), ...staticLines(deployment)]);
    const geo = writeConfiguration(
      join(directory, "geo.conf"),
      deployment.hostnames.flatMap((name) => [
        `${name}:`,
        ...deployment.networks.flatMap((network) => [
          `  - net: ${network.prefix}`,
          `    A: [ ${addressesFor(deployment, network).join(", ")} ]`,
        ]),
      ]),
    );
    const conf = writeConfiguration(join(directory, "knot.conf"), [
      "server:",
      `  rundir: ${directory}`,
      `  listen: 127.0.0.1@${port}`,
      "  udp-workers: 1",
      "  tcp-workers: 1",
      "  background-workers: 1",
      "  edns-client-subnet: on",
      "database:",
      `  storage: ${join(directory, "db")}`,
      "mod-geoip:",
      "  - id: geo",
      `    config-file: ${geo}`,
      `    ttl: ${ANSWER_TTL_SECONDS}`,
      "    mode: subnet",
      "zone:",
      `  - domain: ${ZONE}`,
      `    file: ${zone}`,
      "    module: mod-geoip/geo",
    ]);
    return start("knot", knot.program ?? "knotd", ["-c", conf], port);
  },
};

/** PowerDNS keeps whole answers by client subnet where it can: both caches are on, as packaged. */
const powerdns: NameServer = {
  name: "powerdns",
  form: "geoip",
  note: "geoip backend with all client networks for each name, packet and query cache on, one receiver thread; of policies weights and networks, failover is a plain record",
  isMapped: true,
  hasPolicies: true,
  program: findProgram("pdns_server"),
  // Its --version ends with exit code 99.
  version: async () => packagedVersion("pdns-server"),
  start: async (deployment, port) => {
    const directory = scratchDirectory("powerdns");
    const target = (index: number): string => `d${index + 1}.dc.${ZONE}`;
    const zones = writeConfiguration(join(directory, "zones.yaml"), [
      "domains:",
      `- domain: ${ZONE}`,
      `  ttl: ${ANSWER_TTL_SECONDS}`,
      "  records:",
      `    ${ZONE}:`,
      `      - soa: ns1.${ZONE} hostmaster.${ZONE} 1 7200 1800 1209600 60`,
      `      - ns: ns1.${ZONE}`,
      ...deployment.addresses.flatMap((addresses, index) => [
        `    ${target(index)}:`,
        ...addresses.map((address) => `      - a: ${address}`),
      ]),
      `    ${policyName("weighted")}:`,
      ...deployment.targets.flatMap(({ address, weight }) => [
        "      - a:",
        `          content: ${address}`,
        `          weight: ${weight}`,
      ]),
      `    ${policyName("failover")}:`,
      `      - a: ${deployment.targets[0]?.address ?? ""}`,
      ...deployment.targets.flatMap(({ address }, index) => [
        `    t${index + 1}.dc.${ZONE}:`,
        `      - a: ${address}`,
      ]),
      "  services:",
      ...deployment.hostnames.flatMap((name) => [
        `    ${name}:`,
        `      default: [ '${target(0)}' ]`,
        ...deployment.networks.map(
          ({ prefix, clusters }) => `      ${prefix}: [ '${target(clusters[0] ?? 0)}' ]`,
        ),
      ]),
      `    ${policyName("performance")}:`,
      `      default: [ 't1.dc.${ZONE}' ]`,
      ...deployment.networks.map(
        ({ prefix, clusters }) =>
          `      ${prefix}: [ 't${((clusters[0] ?? 0) % deployment.targets.length) + 1}.dc.${ZONE}' ]`,
      ),
    ]);
    writeConfiguration(join(directory, "pdns.conf"), [
      "launch=geoip",
      `geoip-zones-file=${zones}`,
      "geoip-database-files=",
      "edns-subnet-processing=yes",
      "local-address=127.0.0.1",
      `local-port=${port}`,
      `socket-dir=${directory}`,
      "daemon=no",
      "guardian=no",
      "disable-syslog=yes",
      "write-pid=no",
      "receiver-threads=1",
      "distributor-threads=1",
    ]);
    return start("powerdns", powerdns.program ?? "pdns_server", [`--config-dir=${directory}`], port);
  },
};

const bind: NameServer = {
  name: "bind",
  form: "static",
  note: "plain zone, the same answer for everyone (BIND has no client subnets), one thread",
  isMapped: false,
  program: findProgram("named"),
  version: () => runToEnd(bind.program ?? "named", ["-v"], VERSION_TIMEOUT_MS),
  start: async (deployment, port) => {
    const directory = scratchDirectory("bind");
    const zone = writeConfiguration(join(directory, "zone"), [...zoneLines(), ...staticLines(deployment)]);
    const conf = writeConfiguration(join(directory, "named.conf"), [
      "options {",
      `  directory "${directory}";`,
      `  pid-file "${join(directory, "named.pid")}";`,
      `  session-keyfile "${join(directory, "session.key")}";`,
      `  listen-on port ${port} { 127.0.0.1; };`,
      "  listen-on-v6 { none; };",
      "  recursion no;",
      "  dnssec-validation no;",
      "};",
      "controls { };",
      `zone "${ZONE}" { type primary; file "${zone}"; };`,
    ]);
    return start("bind", bind.program ?? "named", ["-g", "-n", "1", "-c", conf], port);
  },
};

const dns2: NameServer = {
  name: "dns2",
  form: "plain",
  note: "the package's own server on node:dgram, the same answer for everyone, no ECS",
  isMapped: false,
  program: process.execPath,
  version: async () => "3.1.1",
  start: async (deployment, port) => {
    const script = join(import.meta.dirname, "dns2-server.ts");
    const addresses = (deployment.addresses[0] ?? []).join(",");
    return start("dns2", process.execPath, [script, String(port), addresses], port);
  },
};

const bare: NameServer = {
  name: "bare",
  form: "batched",
  note: "no name service: recvmmsg, one fixed answer, sendmmsg; what is left is the kernel's",
  isMapped: false,
  program: process.execPath,
  version: async () => `node ${process.versions.node}`,
  start: async (deployment, port) => {
    const script = join(import.meta.dirname, "bare-server.ts");
    return start(
      "bare",
      process.execPath,
      [script, String(port), (deployment.addresses[0] ?? []).join(",")],
      port,
    );
  },
};

export const peers: readonly NameServer[] = [gdnsd, knot, powerdns, bind, dns2, bare];
