/** The command line of `isochrone relay`, parsed strictly. */
import { parseArgs } from "node:util";
import { id, ParseError, type ServerId } from "#kit";
import { LISTEN_ADDRESS_EXPECTED, type ListenAddress, parseListenAddress } from "#kit/io";

/** How long open tunnels may go on after SIGTERM unless told, ms: a request's tail, not a download. */
const DRAIN_MS = 2_000;

export type RelayOptions = {
  readonly node: ServerId;
  readonly listen: ListenAddress;
  readonly controlUrl: string;
  readonly stateDirectory: string;
  readonly drainMs: number;
  readonly megabitsPerSecondMax: number;
};

export const relayHelp = `Usage: isochrone relay --node SERVER --listen ADDRESS:PORT --control URL --state DIR

Forwards connections for servers that prove themselves, to parents and origins only.

  --node SERVER          this server's id in the topology, such as nyc-1
  --listen ADDRESS:PORT  where to listen; IPv6 addresses in brackets
  --control URL          the control process, such as http://127.10.0.1:8080
  --state DIR            where documents are kept for a start without control
  --drain-ms N           how long open tunnels may go on after SIGTERM; default 2000
  --megabits-max N       what all tunnels may carry a second, both ways together, shared equally among
                         customers that want more; default: all that comes

Environment: ISOCHRONE_PEER_KEY (the key that all servers share, hexadecimal), ISOCHRONE_CONTROL_TOKEN.

Example:
  isochrone relay --node nyc-1 --listen 127.10.7.1:8080 --control http://127.10.0.1:8080 --state .isochrone/nyc-1
`;

/** Undefined: help was asked for. Throws an Error with one line that says what is wrong. */
export function parseRelayOptions(argv: readonly string[]): RelayOptions | undefined {
  const values = parsed(argv);
  if (values.help) return undefined;
  const need = (name: "node" | "listen" | "control" | "state"): string => {
    const value = values[name];
    if (value === undefined || value === "") throw new Error(`--${name} is missing; see --help`);
    return value;
  };
  let node: ServerId;
  try {
    node = id<ServerId>().parse(need("node"));
  } catch (error) {
    if (error instanceof ParseError)
      throw new Error(`--node: got ${JSON.stringify(values.node)}, expected ${error.expected}`, {
        cause: error,
      });
    throw error;
  }
  const listenText = need("listen");
  const listen = parseListenAddress(listenText);
  if (listen === undefined)
    throw new Error(`--listen: got ${JSON.stringify(listenText)}, expected ${LISTEN_ADDRESS_EXPECTED}`);
  const controlUrl = need("control");
  if (!URL.canParse(controlUrl) || !/^https?:$/.test(new URL(controlUrl).protocol))
    throw new Error(
      `--control: got ${JSON.stringify(controlUrl)}, expected a URL such as http://127.10.0.1:8080`,
    );
  const drainText = values["drain-ms"] ?? String(DRAIN_MS);
  if (!/^[0-9]{1,7}$/.test(drainText))
    throw new Error(`--drain-ms: got ${JSON.stringify(drainText)}, expected a whole number of ms`);
  const megabitsText = values["megabits-max"];
  if (megabitsText !== undefined && !/^[1-9][0-9]{0,6}$/.test(megabitsText))
    throw new Error(
      `--megabits-max: got ${JSON.stringify(megabitsText)}, expected a whole number of megabits a second, 1 to 9999999`,
    );
  return {
    node,
    listen,
    controlUrl,
    stateDirectory: need("state"),
    drainMs: Number(drainText),
    megabitsPerSecondMax: megabitsText === undefined ? Infinity : Number(megabitsText),
  };
}

function parsed(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      strict: true,
      allowPositionals: false,
      options: {
        node: { type: "string" },
        listen: { type: "string" },
        control: { type: "string" },
        state: { type: "string" },
        "drain-ms": { type: "string" },
        "megabits-max": { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    }).values;
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.message : String(error)}; see --help`, {
      cause: error,
    });
  }
}
