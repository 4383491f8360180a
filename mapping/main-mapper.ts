/** The mapper process: `isochrone mapper`. */
import { once } from "node:events";
import type { Server } from "node:http";
import { IsochroneError } from "#kit";
import { createLogger, readFileIfThere } from "#kit/io";
import { parseWorld, WORLD_TEXT_LENGTH_MAX, WorldError } from "#kit/world";
import { installWanFromEnvironment } from "#transport";
import { Mapper } from "./io/mapper.ts";
import { listenMapperAdmin } from "./io/mapper-admin.ts";
import { MapperOptionError, mapperHelp, parseMapperOptions } from "./io/mapper-options.ts";

/** Serves until SIGTERM or SIGINT. Exit codes: 0 drained; 2 bad option, bad world, address not to be had. */
export async function main(argv: readonly string[]): Promise<number> {
  try {
    return await run(argv);
  } catch (error) {
    if (
      error instanceof MapperOptionError ||
      error instanceof WorldError ||
      (error instanceof IsochroneError && error.source === "configuration")
    ) {
      process.stderr.write(`isochrone mapper: ${error.message}\n`);
      return 2;
    }
    throw error;
  }
}

async function run(argv: readonly string[]): Promise<number> {
  const options = parseMapperOptions(argv);
  if (options === "help") {
    console.log(mapperHelp);
    return 0;
  }
  const token = process.env["ISOCHRONE_CONTROL_TOKEN"];
  if (token === undefined || token === "")
    throw new MapperOptionError(
      "the environment variable ISOCHRONE_CONTROL_TOKEN is not set; give it control's token",
    );
  installWanFromEnvironment();
  const stopped = stopSignal();
  const bytes = readFileIfThere(options.worldFile, WORLD_TEXT_LENGTH_MAX);
  if (bytes === undefined)
    throw new MapperOptionError(`--world: there is no file ${JSON.stringify(options.worldFile)}`);
  const world = parseWorld(bytes.toString("utf8"), options.worldFile);
  const logger = createLogger({ role: "mapper", id: "mapper" });
  const mapper = new Mapper({ ...options, world, token, logger });
  let admin: Server | undefined;
  try {
    admin = await listenMapperAdmin({ address: options.address, port: options.port, token, mapper });
    await mapper.start();
    const bound = admin.address();
    const port = typeof bound === "object" && bound !== null ? bound.port : options.port;
    console.log(
      `ready mapper http://${options.address.includes(":") ? `[${options.address}]` : options.address}:${port} clients=${world.clients.length}`,
    );
    logger.info("stopping", { signal: await stopped });
    return 0;
  } finally {
    await mapper.close();
    if (admin?.listening === true) {
      admin.closeAllConnections();
      admin.close();
      await once(admin, "close");
    }
  }
}

/** Resolves with the first of SIGTERM and SIGINT. */
function stopSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => resolve(signal));
  });
}
