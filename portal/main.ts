/** `isochrone portal`: the customers' API and web page as a process. */
import { parseArgs } from "node:util";
import { ControlClient } from "#control";
import { createLogger, listenErrorHint, makeDirectory, stopSignal, systemClock } from "#kit/io";
import { dial, installWanFromEnvironment } from "#transport";
import { settings } from "./config.ts";
import { parseAccounts } from "./core/accounts.ts";
import { controlFeed } from "./io/control-port.ts";
import { createPortal } from "./io/server.ts";
import { webBuild } from "./io/web-build.ts";

const help = `The customers' API and web page.

Usage: isochrone portal --listen ADDRESS:PORT --control URL --state DIR

Options:
  --listen ADDRESS:PORT  where to serve; port 0 takes a free one and says which
  --control URL          control's API, such as http://127.10.0.1:8080
  --state DIR            where the last known good documents are kept

Environment:
  ISOCHRONE_PORTAL_ACCOUNTS  JSON list of {"name", "password", "customerId"}; customerId null is an operator;
                             "tokenDigests", if there, are the SHA-256 of its API tokens: printf %s TOKEN | sha256sum
  ISOCHRONE_CONTROL_TOKEN    the token that control was started with

Example:
  ISOCHRONE_CONTROL_TOKEN=... ISOCHRONE_PORTAL_ACCOUNTS='[{"name":"operator","password":"change-me","customerId":null}]' \\
    isochrone portal --listen 127.0.0.1:8088 --control http://127.0.0.1:8080 --state ./portal-state`;

function refuse(message: string): number {
  console.error(`isochrone portal: ${message}`);
  return 2;
}

/** `127.0.0.1:8080` or `[::1]:8080`; undefined when it is neither. */
function parseListen(text: string): { readonly host: string; readonly port: number } | undefined {
  const found = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const host = found?.[1] ?? found?.[2];
  const port = Number(found?.[3]);
  return host === undefined || port > 65_535 ? undefined : { host, port };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** A secret, taken out of the environment so that no child inherits it. */
function takeSecret(name: string): string | undefined {
  const value = process.env[name];
  delete process.env[name];
  return value === "" ? undefined : value;
}

/** Exit codes: 0 after a drain, 2 for bad usage or an address that cannot be had. */
export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    strict: true,
    options: {
      listen: { type: "string" },
      control: { type: "string" },
      state: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    console.log(help);
    return 0;
  }
  const token = takeSecret("ISOCHRONE_CONTROL_TOKEN");
  const stated = takeSecret("ISOCHRONE_PORTAL_ACCOUNTS");
  if (values.listen === undefined || values.control === undefined || values.state === undefined) {
    return refuse("--listen, --control and --state are needed; see --help");
  }
  const at = parseListen(values.listen);
  if (at === undefined)
    return refuse(`--listen: got ${JSON.stringify(values.listen)}, expected ADDRESS:PORT`);
  if (token === undefined)
    return refuse("ISOCHRONE_CONTROL_TOKEN: got nothing, expected the token that control was started with");
  if (stated === undefined)
    return refuse("ISOCHRONE_PORTAL_ACCOUNTS: got nothing, expected a JSON list of accounts; see --help");
  let accounts: ReturnType<typeof parseAccounts>;
  try {
    accounts = parseAccounts(stated);
  } catch (error) {
    return refuse(messageOf(error));
  }

  installWanFromEnvironment();
  const logger = createLogger({ role: "portal", id: "portal" });
  try {
    makeDirectory(values.state);
  } catch (error) {
    return refuse(`--state: cannot make ${JSON.stringify(values.state)}: ${messageOf(error)}`);
  }
  let client: ControlClient;
  try {
    client = new ControlClient({ url: values.control, token, nodeId: "portal", dial, logger });
  } catch (error) {
    return refuse(messageOf(error));
  }
  const portal = await createPortal({
    control: client,
    feed: controlFeed(client, values.state, logger),
    accounts,
    clock: systemClock,
    logger,
  });

  const stopped = stopSignal();
  let port: number;
  try {
    port = await portal.listen(at.host, at.port);
  } catch (error) {
    await portal.close();
    await client.close();
    return refuse(listenErrorHint(error, at.host, at.port));
  }
  const host = at.host.includes(":") ? `[${at.host}]` : at.host;
  console.log(`ready portal http://${host}:${port}`);
  // The API serves at once; the page follows when it is built.
  void webBuild({ logger, timeoutMs: settings.buildTimeoutMs }).then(
    (directory) => portal.setPage({ kind: "ready", directory }),
    (error: unknown) => {
      const reason = messageOf(error);
      logger.error("web-build-failed", { error });
      portal.setPage({ kind: "failed", reason });
    },
  );

  logger.info("stopping", { signal: await stopped });
  const late = setTimeout(() => portal.app.server.closeAllConnections(), settings.drainMs);
  late.unref();
  await portal.close();
  await client.close();
  return 0;
}
