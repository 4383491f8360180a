/** `isochrone control`: the process that holds the documents. */
import { randomBytes } from "node:crypto";
import { isIP } from "node:net";
import { parseArgs } from "node:util";
import { IsochroneError } from "#kit";
import { createLogger, systemClock } from "#kit/io";
import { ControlServer } from "./io/server.ts";
import { SqliteStore } from "./io/store-sqlite.ts";

const help = `Usage: isochrone control --listen ADDRESS:PORT --state DIR

Holds topology, properties and maps as numbered versions, tells every node what is active, and sends purges.
Everything acknowledged is on the disk (DIR/control.sqlite). The nodes go on without it, from their own disks.

Environment:
  ISOCHRONE_CONTROL_TOKEN   what operators and nodes prove themselves with, 16 characters or more (required)
  ISOCHRONE_LOG             debug, info, warn, error or silent

Examples:
  export ISOCHRONE_CONTROL_TOKEN=$(openssl rand -hex 24)
  isochrone control --listen 127.0.0.1:7000 --state ./control-state
  curl -H "Authorization: Bearer $ISOCHRONE_CONTROL_TOKEN" http://127.0.0.1:7000/v1/documents`;

/** A shorter one could be guessed over the network. */
const TOKEN_CHARACTERS_MIN = 16;

/** Serves until SIGTERM or SIGINT. @returns the exit code: 0 drained, 1 could not serve, 2 bad usage */
export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: { listen: { type: "string" }, state: { type: "string" }, help: { type: "boolean", short: "h" } },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  const endpoint = parseEndpoint(values.listen);
  if (endpoint === undefined || values.state === undefined || values.state === "") {
    const what = endpoint === undefined ? "--listen ADDRESS:PORT" : "--state DIR";
    console.error(
      `isochrone control: ${what} is missing or wrong, such as: --listen 127.0.0.1:7000 --state ./control-state`,
    );
    return 2;
  }
  const token = process.env["ISOCHRONE_CONTROL_TOKEN"] ?? "";
  if (!/^[!-~]+$/.test(token) || token.length < TOKEN_CHARACTERS_MIN) {
    console.error(
      `isochrone control: ISOCHRONE_CONTROL_TOKEN must hold ${TOKEN_CHARACTERS_MIN} printable characters or more; make one with: export ISOCHRONE_CONTROL_TOKEN=$(openssl rand -hex 24)`,
    );
    return 2;
  }
  const logger = createLogger({ role: "control", id: "control" });
  let store: SqliteStore | undefined;
  try {
    store = new SqliteStore({ stateDirectory: values.state, newLogId: randomBytes(8).toString("hex") });
    const server = new ControlServer({ store, token, clock: systemClock, logger });
    const stopped = new Promise<NodeJS.Signals>((resolve) => {
      process.once("SIGTERM", resolve);
      process.once("SIGINT", resolve);
    });
    const url = await server.listen(endpoint.host, endpoint.port);
    console.log(`ready control ${url}`);
    const signal = await stopped;
    logger.info("stopping", { signal });
    await server.close();
    return 0;
  } catch (error) {
    if (!(error instanceof IsochroneError)) throw error;
    console.error(`isochrone control: ${error.message}`);
    return 1;
  } finally {
    store?.close();
  }
}

/** `127.0.0.1:7000`, `[::1]:7000`; port 0 takes a free one. */
function parseEndpoint(
  text: string | undefined,
): { readonly host: string; readonly port: number } | undefined {
  const [, bracketed, plain, portText] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text ?? "") ?? [];
  const host = bracketed ?? plain;
  const port = Number(portText);
  if (host === undefined || port > 65_535) return undefined;
  return isIP(host) === (bracketed === undefined ? 4 : 6) || host === "localhost"
    ? { host, port }
    : undefined;
}
