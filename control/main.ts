/** `isochrone control`: the process that holds the documents. */
import { randomBytes } from "node:crypto";
import { parseArgs } from "node:util";
import { IsochroneError } from "#kit";
import { createLogger, LISTEN_ADDRESS_EXPECTED, parseListenAddress, stopSignal, systemClock } from "#kit/io";
import { NodeAuthority } from "./io/node-authority.ts";
import { ControlServer } from "./io/server.ts";
import { SqliteStore } from "./io/store-sqlite.ts";

const help = `Usage: isochrone control --listen ADDRESS:PORT --state DIR

Holds topology, properties and maps as numbered versions, tells every node what is active, and sends purges.
Everything acknowledged is on the disk (DIR/control.sqlite). Signs the servers' certificates (DIR/node-authority.json). The nodes go on without it, from their own disks.

Environment:
  ISOCHRONE_CONTROL_TOKEN   what operators and nodes prove themselves with, 16 characters or more (required)
                            and what the authority's key is sealed under
  ISOCHRONE_CONTROL_TOKEN_BEFORE   the former token, at the first start with another one: seals that key anew
  ISOCHRONE_LOG             debug, info, warn, error or silent

Examples:
  export ISOCHRONE_CONTROL_TOKEN=$(openssl rand -hex 24)
  isochrone control --listen 127.0.0.1:7000 --state ./control-state
  curl -H "Authorization: Bearer $ISOCHRONE_CONTROL_TOKEN" http://127.0.0.1:7000/v1/documents`;

/** A shorter one could be guessed over the network. */
const TOKEN_CHARACTERS_MIN = 16;

/** Serves until SIGTERM or SIGINT. Exit codes: 0 drained; 2 bad usage, or an address or directory that cannot be had. */
export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: { listen: { type: "string" }, state: { type: "string" }, help: { type: "boolean", short: "h" } },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  const listen = parseListenAddress(values.listen ?? "");
  if (listen === undefined)
    return refuse(
      `--listen: got ${JSON.stringify(values.listen ?? "")}, expected ${LISTEN_ADDRESS_EXPECTED}; see --help`,
    );
  if (values.state === undefined || values.state === "") return refuse("--state is missing; see --help");
  const token = process.env["ISOCHRONE_CONTROL_TOKEN"] ?? "";
  if (!/^[!-~]+$/.test(token) || token.length < TOKEN_CHARACTERS_MIN) {
    return refuse(
      `ISOCHRONE_CONTROL_TOKEN must hold ${TOKEN_CHARACTERS_MIN} printable characters or more; make one with: export ISOCHRONE_CONTROL_TOKEN=$(openssl rand -hex 24)`,
    );
  }
  const logger = createLogger({ role: "control", id: "control" });
  let store: SqliteStore | undefined;
  try {
    store = new SqliteStore({ stateDirectory: values.state, newLogId: randomBytes(8).toString("hex") });
    const authority = await NodeAuthority.open({
      stateDirectory: values.state,
      token,
      previousToken: process.env["ISOCHRONE_CONTROL_TOKEN_BEFORE"],
      clock: systemClock,
    });
    const server = new ControlServer({ store, authority, token, clock: systemClock, logger });
    const stopped = stopSignal();
    const url = await server.listen(listen.host, listen.port);
    console.log(`ready control ${url}`);
    const signal = await stopped;
    logger.info("stopping", { signal });
    await server.close();
    return 0;
  } catch (error) {
    if (!(error instanceof IsochroneError)) throw error;
    return refuse(error.message);
  } finally {
    store?.close();
  }
}

function refuse(message: string): number {
  console.error(`isochrone control: ${message}`);
  return 2;
}
