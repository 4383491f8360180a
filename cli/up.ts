/** `isochrone up`: a whole CDN on one machine. */
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import type { PropertyDocument, TopologyDocument } from "#kit";
import { createLogger, makeDirectory, readWorldText, resolveWorldPath } from "#kit/io";
import { ControlClient } from "#control";
import {
  type AddressPlan,
  type AddressPlanOptions,
  parseWorld,
  planAddresses,
  propertiesOf,
  topologyOf,
  type World,
} from "#kit/world";
import { findPort } from "./options.ts";
import { registerRunningWorld, runtimeDirectory } from "./runtime.ts";
import type { WorldStatus } from "./status.ts";
import { formatTable } from "./table.ts";
import { serveAdmin } from "./up/admin.ts";
import { defaultAddresses, hasLoopbackRange, requireFreeAddresses } from "./up/addresses.ts";
import { writeCountries } from "./up/countries.ts";
import { processSpecs } from "./up/processes.ts";
import { publishWorld } from "./up/publish.ts";
import { loadSecrets, type Secrets } from "./up/secrets.ts";
import { lockStateDirectory } from "./up/state-lock.ts";
import { type ProcessSpec, StartError, Supervisor, warmCompileCache } from "./up/supervisor.ts";
import { worldAdmin } from "./up/world-admin.ts";
import { WorldWan } from "./up/wan.ts";
import { messageOf, UsageError } from "./usage.ts";
import { describeWorld } from "./world.ts";

const help = `Usage: isochrone up [WORLD] [--port N] [--dns-port N] [--state DIR] [--loopback 127.X]

Runs a world on this machine: control, mapper, portal, name servers, origins, relays, parents and
edges, one process a server, each on its own loopback address, with the delays of the world's links
between them. WORLD is a file, or "demo" (the default) or "small". Ctrl-C ends all of it.

  --port N         HTTP port of every server (default ${defaultAddresses.port})
  --dns-port N     DNS port of every name server (default ${defaultAddresses.dnsPort})
  --state DIR      keep documents, secrets, caches and logs here (default: a new temporary
                   directory, removed at the end)
  --loopback 127.X take addresses 127.X.*.* (default ${defaultAddresses.loopback}); "none": ports on 127.0.0.1

Examples:
  isochrone up
  isochrone up small --port 9080 --state ~/.isochrone
  isochrone status; isochrone kill fra-1; isochrone heal       (in another terminal)`;

export async function main(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      port: { type: "string" },
      "dns-port": { type: "string" },
      state: { type: "string" },
      loopback: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  if (positionals.length > 1) throw new UsageError("name one world");
  if (values.state === "") throw new UsageError("--state: got nothing, expected a directory");
  const startedAtMs = performance.now();
  // Tokens, keys, logs and caches: of this user only, whatever the directory that was given allows.
  process.umask(0o077);
  const worldFile = realpathSync(resolveWorldPath(positionals[0] ?? "demo"));
  const world = parseWorld(readWorldText(worldFile), positionals[0] ?? worldFile);
  const loopback = await chooseLoopback(values.loopback);
  const plan = planFor(world, {
    loopback,
    port: findPort("--port", values.port, defaultAddresses.port),
    dnsPort: findPort("--dns-port", values["dns-port"], defaultAddresses.dnsPort),
  });
  const topology = topologyOf(world, plan);
  const properties = propertiesOf(world, plan);
  // Where the world will be found by: known to be usable before thirty processes are started.
  runtimeDirectory();
  const stopping = Promise.withResolvers<void>();
  let isStopping = false;
  const onSignal = () => {
    isStopping = true;
    stopping.resolve();
  };
  const isTemporary = values.state === undefined;
  const stateDirectory =
    values.state === undefined ? mkdtempSync(join(tmpdir(), "isochrone-")) : resolve(values.state);
  makeDirectory(stateDirectory);
  const unlock = lockStateDirectory(stateDirectory);
  try {
    await requireFreeAddresses(plan);
  } catch (error) {
    unlock();
    if (isTemporary) rmSync(stateDirectory, { recursive: true, force: true });
    throw error;
  }
  makeDirectory(join(stateDirectory, "logs"));
  const { secrets, isNew } = await loadSecrets(
    stateDirectory,
    world.customers.map((customer) => customer.id),
  );
  const wan = new WorldWan(world, plan, topology, stateDirectory);
  const { control, others } = processSpecs({
    topology,
    plan,
    secrets,
    worldFile,
    stateDirectory,
    countriesFile: await writeCountries(world, stateDirectory),
    wanFileOf: (id) => wan.fileOf(id),
    inputDelaySecondsOf: (id) =>
      world.regions.flatMap(({ clusters }) => clusters).find((one) => one.id === id)?.inputDelaySeconds,
  });

  const supervisor = new Supervisor(join(stateDirectory, "logs"));
  reportDeaths(supervisor);
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, onSignal);

  const cleanups: (() => void)[] = [];
  let exitCode = 0;
  try {
    supervisor.broadcast((spec) => ({ type: "wan", state: wan.stateFor(spec.clusterId) }));
    console.error(`Starting ${others.length + 1} processes; logs in ${join(stateDirectory, "logs")}`);
    const warming = warmCompileCache();
    await Promise.race([supervisor.start(control), stopping.promise]);
    if (!isStopping) await publish(control, secrets, topology, properties);
    await warming;
    await startAll(supervisor, others, () => isStopping, stopping.promise);
    if (!isStopping) {
      const adminSocket = adminSocketIn(stateDirectory);
      rmSync(adminSocket, { force: true });
      const description = describeWorld(world, topology);
      const status = (): WorldStatus => ({
        world: world.name,
        pid: process.pid,
        stateDirectory,
        cuts: wan.cuts,
        processes: supervisor.status(),
      });
      const server = await serveAdmin(adminSocket, worldAdmin({ supervisor, wan, status, description }));
      cleanups.push(() => server.close());
      const portalUrl = `http://${plan.portal.address}:${plan.portal.port}/`;
      cleanups.push(
        registerRunningWorld({
          world: world.name,
          worldFile,
          pid: process.pid,
          startedAtEpochMs: Date.now(),
          stateDirectory,
          adminSocket,
          controlUrl: `http://${plan.control.address}:${plan.control.port}`,
          portalUrl,
          nameServerAdminUrls: plan.servers
            .filter((one) => one.dnsPort !== null)
            .map((one) => `http://${one.address}:${one.port}`),
          mapperAdminUrls: plan.mappers.map((one) => `http://${one.address}:${one.port}`),
          token: secrets.controlToken,
        }),
      );
      printEndpoints(
        supervisor,
        topology.nameService.nameServers,
        properties,
        portalUrl,
        secrets,
        isNew,
        stateDirectory,
      );
      console.log(
        `ready ${world.name}: ${others.length + 1} processes in ${((performance.now() - startedAtMs) / 1_000).toFixed(1)} s`,
      );
      await stopping.promise;
    }
  } catch (error) {
    if (!isStopping) {
      exitCode = error instanceof UsageError ? error.exitCode : 1;
      // What the process refused was given to us: an address, a document, a directory.
      if (error instanceof StartError && error.code === 2) exitCode = 2;
      console.error(`isochrone up: ${messageOf(error)}`);
    }
  }
  if (exitCode === 0) console.error("Stopping all processes");
  // The lanes of startAll that are still at work must not start another one.
  isStopping = true;
  for (const cleanup of cleanups) cleanup();
  await supervisor.stop();
  unlock();
  if (isTemporary) rmSync(stateDirectory, { recursive: true, force: true });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.off(signal, onSignal);
  return exitCode;
}

/** The plan, or {@link UsageError} when the world does not fit the addresses and ports that were asked for. */
function planFor(world: World, options: AddressPlanOptions): AddressPlan {
  let plan: AddressPlan;
  try {
    plan = planAddresses(world, options);
  } catch (error) {
    if (error instanceof RangeError)
      throw new UsageError(`${error.message}; see --port, --dns-port and --loopback`);
    throw error;
  }
  const both = plan.servers.find((one) => one.dnsPort === one.port);
  if (both !== undefined)
    throw new UsageError(
      `--port and --dns-port are both ${both.port}, and name servers listen on each over TCP; choose two ports`,
    );
  return plan;
}

/** In the state directory, unless the kernel could not hold the path (sun_path: 104 bytes on macOS, 108 on Linux). */
function adminSocketIn(stateDirectory: string): string {
  const path = join(stateDirectory, "admin.sock");
  return Buffer.byteLength(path) < 104 ? path : join(runtimeDirectory(), `${process.pid}.sock`);
}

async function chooseLoopback(option: string | undefined): Promise<string | undefined> {
  if (option === "none") return undefined;
  if (option !== undefined && !/^127\.\d{1,3}$/.test(option)) {
    throw new UsageError(
      `--loopback: got ${JSON.stringify(option)}, expected 127.X with X from 0 to 255, or none`,
    );
  }
  const loopback = option ?? defaultAddresses.loopback;
  if (loopback === undefined || (await hasLoopbackRange(loopback))) return loopback;
  if (option !== undefined)
    throw new UsageError(`Cannot use --loopback ${option}: this machine has no such addresses; leave it out`);
  return undefined;
}

function reportDeaths(supervisor: Supervisor): void {
  supervisor.on("died", (spec, { how, delayMs, words }) => {
    const said = words === "" ? "" : `: ${words}`;
    console.error(
      `${spec.id} (${spec.role}) died: ${how}${said}; starting it again in ${(delayMs / 1_000).toFixed(0)} s`,
    );
  });
  const born = new Set<string>();
  supervisor.on("ready", (spec) => {
    if (born.has(spec.id)) console.error(`${spec.id} (${spec.role}) is ready again`);
    born.add(spec.id);
  });
  supervisor.on("unwilling", (spec, graceMs) =>
    console.error(`${spec.id} (${spec.role}) did not end within ${graceMs / 1_000} s and was killed`),
  );
  supervisor.on("killed", (spec) =>
    console.error(`${spec.id} (${spec.role}) was killed and stays down until \`isochrone heal\``),
  );
}

async function publish(
  control: ProcessSpec,
  secrets: Secrets,
  topology: TopologyDocument,
  properties: readonly PropertyDocument[],
): Promise<void> {
  const client = new ControlClient({
    url: `http://${control.address}:${control.port}`,
    token: secrets.controlToken,
    nodeId: "up",
    logger: createLogger({ role: "up", id: "up" }),
  });
  try {
    await publishWorld(client, topology, properties);
  } finally {
    await client.close();
  }
}

/**
 * Starts them a few at a time: a start is mostly CPU, and thirty at once on two cores would all be late together.
 * Rejects with the last words of the first that fails.
 */
async function startAll(
  supervisor: Supervisor,
  specs: readonly ProcessSpec[],
  isStopping: () => boolean,
  stopped: Promise<void>,
): Promise<void> {
  const queue = [...specs];
  const lane = async () => {
    for (let spec = queue.shift(); spec !== undefined && !isStopping(); spec = queue.shift()) {
      await Promise.race([supervisor.start(spec), stopped]);
    }
  };
  await Promise.all(Array.from({ length: Math.max(2, availableParallelism() + 1) }, lane));
}

function printEndpoints(
  supervisor: Supervisor,
  nameServers: readonly { readonly name: string; readonly address: string; readonly dnsPort: number }[],
  properties: readonly { readonly hostnames: readonly string[]; readonly propertyId: string }[],
  portalUrl: string,
  secrets: Secrets,
  isNew: boolean,
  stateDirectory: string,
): void {
  const rows = supervisor.status().map((one) => [one.role, one.id, one.city, `${one.address}:${one.port}`]);
  console.log(formatTable(["role", "id", "city", "address"], rows));
  console.log("");
  for (const one of nameServers) console.log(`dns      ${one.address}:${one.dnsPort}  (${one.name})`);
  console.log(`portal   ${portalUrl}`);
  if (isNew) for (const one of secrets.accounts) console.log(`login    ${one.name} / ${one.password}`);
  else console.log(`login    accounts and passwords are in ${join(stateDirectory, "secrets.json")}`);
  for (const one of properties) console.log(`property ${one.propertyId}: ${one.hostnames.join(", ")}`);
  console.log("");
}
