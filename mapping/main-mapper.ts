/** The mapper process: `isochrone mapper`. */
import { IsochroneError } from "#kit";
import { createLogger, readWorldText, stopSignal } from "#kit/io";
import { parseWorld, WorldError } from "#kit/world";
import { installWanFromEnvironment } from "#transport";
import type { AdminServer } from "./io/admin-server.ts";
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
  const world = parseWorld(readWorldText(options.worldFile), options.worldFile);
  const logger = createLogger({ role: "mapper", id: options.mapperId });
  const mapper = new Mapper({ ...options, world, token, logger });
  let admin: AdminServer | undefined;
  try {
    admin = await listenMapperAdmin({ ...options.listen, token, mapper });
    await mapper.start();
    process.on("SIGHUP", () => mapper.reloadClientNetworks());
    console.log(`ready mapper ${admin.url} clients=${mapper.clientNetworks.networks}`);
    logger.info("stopping", { signal: await stopped });
    return 0;
  } finally {
    await mapper.close();
    await admin?.close();
  }
}
