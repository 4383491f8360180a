/** The command line of `isochrone mapper`, parsed strictly. */
import { parseArgs } from "node:util";
import { parseDurationMs } from "#kit";
import { scopeDefaults } from "../core/resolver-scopes.ts";
import { OPERATOR_ID } from "../core/publisher-election.ts";
import { LISTEN_ADDRESS_EXPECTED, type ListenAddress, parseListenAddress } from "#kit/io";

export interface MapperOptions {
  readonly mapperId: string;
  readonly worldFile: string;
  readonly listen: ListenAddress;
  readonly controlUrl: string;
  readonly stateDirectory: string;
  readonly samplesPerSecond: number | undefined;
  readonly measurementSaveMs: number | undefined;
  readonly probesPerMinute: number | undefined;
  /** Undefined: the default of `ScopeSettings.queryPriceMs`. */
  readonly queryPriceMs: number | undefined;
  /** Undefined: the world's client networks. */
  readonly clientNetworksFile: string | undefined;
  /** The first map need not resemble the one in force. */
  readonly isForced: boolean;
}

/** The command line is wrong; the message is one line. */
export class MapperOptionError extends Error {}

export const mapperHelp = `Usage: isochrone mapper --world WORLD --listen ADDRESS:PORT --control URL --state DIR

The mapping engine: measurements, load reports and liveness in, snapshots of the map out, published through
control every 10 s and at once when a server dies or comes back. Several may run: control elects one that
publishes, the others stand by with maps of their own and take over within seconds (see /.isochrone/status).
Measurements of others come by "isochrone
measurements import" (POST /.isochrone/measurements with the token).

  --world FILE           client networks, and the links whose noisy samples are measured
  --listen ADDRESS:PORT  HTTP: /livez /readyz /metrics, and with the token /.isochrone/status
  --control URL          http://ADDRESS:PORT of control; may be away, then it is tried again
  --id ID                its name among several mappers; "mapper" unless told
  --state DIR            where the last known good topology and map are kept
  --samples-per-second N samples of the world's links, 0..100000; 100 unless told. 0: none, the map rests on
                         what is imported, and on geography where nothing is
  --probes-per-minute N  what the probe agents of all clusters ("isochrone probe --plan") are told to measure together,
                         0..10000000; 600 unless told
  --measurements-save TIME  from one file of the measurements to the next (DIR/measurements.bin), 1s..1h; 30s unless told: what a
                         mapper that is killed loses at most
  --query-price MS       what one query more of a resolver with ECS must spare its users, ms of round trips summed over
                         look-ups, 0..10000; ${scopeDefaults.queryPriceMs} unless told. 0: scopes are as wide as answers are the same
  --client-networks FILE client networks made by "isochrone networks build", instead of the world's. Read again on SIGHUP
                         and on POST /.isochrone/reload; a file that is not whole and good never replaces the last good one,
                         and what was measured of a network stays with its name
  --accept-change        the first map may differ from the one in force beyond what the check allows
                         (after more than half of the client networks or clusters were removed on purpose)

Environment: ISOCHRONE_CONTROL_TOKEN, the bearer token for control.

Example:
  isochrone mapper --world deploy/worlds/demo.yaml --listen 127.10.0.2:8080 \\
    --control http://127.10.0.1:8080 --state /var/lib/isochrone/mapper
  isochrone mapper ... --client-networks /var/lib/isochrone/networks.ndjson.gz   # kill -HUP reads it again`;

/** Throws {@link MapperOptionError}. "help": `--help` was given. */
export function parseMapperOptions(argv: readonly string[]): MapperOptions | "help" {
  const values = parsed(argv);
  if (values.help === true) return "help";
  const samples = values["samples-per-second"];
  if (samples !== undefined && !(/^[0-9]{1,6}$/.test(samples) && Number(samples) <= 100_000))
    throw new MapperOptionError(
      `--samples-per-second: got ${JSON.stringify(samples)}, expected a whole number from 0 to 100000`,
    );
  const probes = values["probes-per-minute"];
  if (probes !== undefined && !(/^[0-9]{1,8}$/.test(probes) && Number(probes) <= 10_000_000))
    throw new MapperOptionError(
      `--probes-per-minute: got ${JSON.stringify(probes)}, expected a whole number from 0 to 10000000`,
    );
  const save = values["measurements-save"];
  const measurementSaveMs = save === undefined ? undefined : parseDurationMs(save);
  if (
    save !== undefined &&
    !(measurementSaveMs !== undefined && measurementSaveMs >= 1_000 && measurementSaveMs <= 3_600_000)
  )
    throw new MapperOptionError(
      `--measurements-save: got ${JSON.stringify(save)}, expected a time from 1s to 1h such as 30s`,
    );
  const price = values["query-price"];
  if (price !== undefined && !(/^[0-9]{1,5}$/.test(price) && Number(price) <= 10_000))
    throw new MapperOptionError(
      `--query-price: got ${JSON.stringify(price)}, expected a whole number from 0 to 10000, ms`,
    );
  const control = required("--control", values.control);
  if (!URL.canParse(control) || !/^https?:$/.test(new URL(control).protocol))
    throw new MapperOptionError(`--control: got ${JSON.stringify(control)}, expected http://ADDRESS:PORT`);
  const mapperId = values.id ?? "mapper";
  // "operator" is who holds the place of the publisher while an older map is to stay in force.
  if (!/^[a-z][a-z0-9-]{0,62}$/.test(mapperId) || mapperId === OPERATOR_ID)
    throw new MapperOptionError(
      `--id: got ${JSON.stringify(mapperId)}, expected a name such as "mapper-2", of a-z, 0-9 and -, and not "${OPERATOR_ID}"`,
    );
  return {
    mapperId,
    worldFile: required("--world", values.world),
    listen: listenOf(required("--listen", values.listen)),
    controlUrl: control,
    stateDirectory: required("--state", values.state),
    samplesPerSecond: samples === undefined ? undefined : Number(samples),
    measurementSaveMs,
    probesPerMinute: probes === undefined ? undefined : Number(probes),
    queryPriceMs: price === undefined ? undefined : Number(price),
    clientNetworksFile: values["client-networks"],
    isForced: values["accept-change"] ?? false,
  };
}

function parsed(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: false,
      options: {
        help: { type: "boolean", short: "h" },
        world: { type: "string" },
        listen: { type: "string" },
        control: { type: "string" },
        state: { type: "string" },
        id: { type: "string" },
        "samples-per-second": { type: "string" },
        "measurements-save": { type: "string" },
        "probes-per-minute": { type: "string" },
        "query-price": { type: "string" },
        "client-networks": { type: "string" },
        "accept-change": { type: "boolean" },
      },
    }).values;
  } catch (error) {
    throw new MapperOptionError(
      `${(error instanceof Error ? error.message : String(error)).replaceAll(/\s+/g, " ")}; see --help`,
    );
  }
}

function required(name: string, value: string | undefined): string {
  if (value === undefined || value === "") throw new MapperOptionError(`${name} is missing; see --help`);
  return value;
}

function listenOf(text: string): ListenAddress {
  const address = parseListenAddress(text);
  if (address === undefined)
    throw new MapperOptionError(`--listen: got ${JSON.stringify(text)}, expected ${LISTEN_ADDRESS_EXPECTED}`);
  return address;
}
