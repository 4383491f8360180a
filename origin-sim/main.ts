/** `isochrone origin`: the scripted origin as a process. */
import { parseArgs } from "node:util";
import { IsochroneError } from "#kit";
import {
  createLogger,
  formatListenAddress,
  LISTEN_ADDRESS_EXPECTED,
  listenErrorHint,
  parseListenAddress,
  readWorldText,
  stopSignal,
  systemClock,
} from "#kit/io";
import { parseWorld, type World, WorldError } from "#kit/world";
import { OriginServer } from "./io/server.ts";

const HELP = `Usage: isochrone origin --listen ADDRESS:PORT [--world FILE]

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

/** Runs until SIGTERM or SIGINT. Returns the exit code: 0 after a drain, 2 for bad usage, a bad world or an address that cannot be had. */
export async function main(argv: readonly string[]): Promise<number> {
  let values: { listen?: string; world?: string; help?: boolean };
  try {
    const options = {
      listen: { type: "string" },
      world: { type: "string" },
      help: { type: "boolean", short: "h" },
    } as const;
    ({ values } = parseArgs({ args: [...argv], options, strict: true }));
  } catch (error) {
    return refuse(`${error instanceof Error ? error.message : String(error)}; see --help`);
  }
  if (values.help === true) {
    process.stdout.write(HELP);
    return 0;
  }
  const listen = parseListenAddress(values.listen ?? "");
  if (listen === undefined) {
    return refuse(
      `--listen: got ${JSON.stringify(values.listen ?? "")}, expected ${LISTEN_ADDRESS_EXPECTED}; see --help`,
    );
  }
  let world: World | undefined;
  try {
    if (values.world !== undefined) world = parseWorld(readWorldText(values.world), values.world);
  } catch (error) {
    if (error instanceof WorldError || error instanceof IsochroneError) return refuse(error.message);
    throw error;
  }
  const server = new OriginServer({
    clock: systemClock,
    logger: createLogger({ role: "origin", id: formatListenAddress(listen) }),
    world,
    token: process.env["ISOCHRONE_CONTROL_TOKEN"],
  });
  const asked = stopSignal();
  let bound: { address: string; port: number };
  try {
    bound = await server.listen(listen.host, listen.port);
  } catch (error) {
    return refuse(listenErrorHint(error, listen.host, listen.port));
  }
  const at = formatListenAddress({ host: bound.address, port: bound.port });
  const serves = world === undefined ? "generic paths" : `world ${world.name}`;
  process.stdout.write(`ready origin http://${at} (${serves})\n`);
  await asked;
  await server.close();
  return 0;
}

function refuse(why: string): number {
  process.stderr.write(`isochrone origin: ${why}\n`);
  return 2;
}
