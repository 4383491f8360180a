/** `isochrone origin`: the scripted origin as a process. */
import { parseArgs } from "node:util";
import { IsochroneError, parseAddress } from "#kit";
import { createLogger, listenErrorHint, readFileIfThere, systemClock } from "#kit/io";
import { parseWorld, WORLD_TEXT_LENGTH_MAX, type World, WorldError } from "#kit/world";
import { OriginServer } from "./io/server.ts";

const HELP = `isochrone origin --listen ADDRESS:PORT [--world FILE]

A scripted origin: content, cache headers and faults on demand.

  --listen ADDRESS:PORT  where to listen; port 0 takes a free one
  --world FILE           serve the properties of this world, by host name; without it generic paths for every host
  --help                 this text

Environment: ISOCHRONE_CONTROL_TOKEN opens /.isochrone/requests, /.isochrone/faults and /.isochrone/content.

Examples:
  isochrone origin --listen 127.0.0.1:9000
  curl -i 'http://127.0.0.1:9000/delay/200/file-1MiB.bin?cc=max-age%3D5'
  curl -H "Authorization: Bearer $ISOCHRONE_CONTROL_TOKEN" -d '{"kind":"hang"}' http://127.0.0.1:9000/.isochrone/faults
`;

/** Runs until SIGTERM or SIGINT. Returns the exit code: 0 after a drain, 1 when it cannot listen, 2 for bad input. */
export async function main(argv: readonly string[]): Promise<number> {
  let values: { listen?: string; world?: string; help?: boolean };
  try {
    const options = {
      listen: { type: "string" },
      world: { type: "string" },
      help: { type: "boolean" },
    } as const;
    ({ values } = parseArgs({ args: [...argv], options, strict: true }));
  } catch (error) {
    return refuse(`${error instanceof Error ? error.message : String(error)}; see isochrone origin --help`);
  }
  if (values.help === true) {
    process.stdout.write(HELP);
    return 0;
  }
  const listen = listenOf(values.listen ?? "");
  if (listen === undefined) {
    return refuse(
      `--listen: got ${JSON.stringify(values.listen ?? "")}, expected ADDRESS:PORT such as 127.0.0.1:9000`,
    );
  }
  let world: World | undefined;
  try {
    if (values.world !== undefined) world = readWorld(values.world);
  } catch (error) {
    if (error instanceof WorldError || error instanceof IsochroneError) return refuse(error.message);
    throw error;
  }
  const server = new OriginServer({
    clock: systemClock,
    logger: createLogger({ role: "origin", id: `${listen.host}:${listen.port}` }),
    world,
    token: process.env["ISOCHRONE_CONTROL_TOKEN"],
  });
  let bound: { address: string; port: number };
  try {
    bound = await server.listen(listen.host, listen.port);
  } catch (error) {
    process.stderr.write(`${listenErrorHint(error, listen.host, listen.port)}\n`);
    return 1;
  }
  const asked = new Promise<void>((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => resolve());
  });
  const host = bound.address.includes(":") ? `[${bound.address}]` : bound.address;
  const serves = world === undefined ? "generic paths" : `world ${world.name}`;
  process.stdout.write(`ready origin http://${host}:${bound.port} (${serves})\n`);
  await asked;
  await server.close();
  return 0;
}

function refuse(why: string): number {
  process.stderr.write(`isochrone origin: ${why}\n`);
  return 2;
}

/** An address, not a name: what is listened on must not depend on a resolver. */
function listenOf(text: string): { host: string; port: number } | undefined {
  const [, literal, plain, digits] = /^(?:\[([^\]]+)\]|([^:[\]]+)):([0-9]{1,5})$/.exec(text) ?? [];
  const host = literal ?? plain ?? "";
  const port = Number(digits ?? Number.NaN);
  if (parseAddress(host) === undefined || !(port <= 65_535)) return undefined;
  return { host, port };
}

function readWorld(file: string): World {
  // UTF-8 takes at most three bytes for one UTF-16 unit.
  const bytes = readFileIfThere(file, WORLD_TEXT_LENGTH_MAX * 3);
  if (bytes === undefined) {
    throw new IsochroneError(
      `Cannot read ${JSON.stringify(file)}: no such file; name a world such as deploy/worlds/demo.yaml`,
      {
        code: "ENOENT",
        source: "configuration",
        retry: "never",
      },
    );
  }
  return parseWorld(bytes.toString("utf8"), file);
}
