/** `isochrone steer`: what operators say against the map - empty a cluster, weigh it, pin clients to it - from the command line. */
import { parseArgs } from "node:util";
import { type ControlClient, ControlError } from "#control";
import { type MapOverrides, mapOverrides, ParseError, parsePrefix, trafficClasses } from "#kit";
import { systemClock } from "#kit/io";
import { authorName } from "./author.ts";
import { withControl } from "./resolve-control.ts";
import { formatTable } from "./table.ts";
import { UsageError } from "./usage.ts";
import { controlOptions } from "./options.ts";

const help = `Usage: isochrone steer ACTION [options]

  show                        what is in force, and until when
  drain CLUSTER|SERVER        takes no new clients and loses those that it has with the next map
  weigh CLUSTER FACTOR        multiplies its scores: 2 drives clients off, 0.5 draws them from afar (0.1 to 10)
  pin CLIENTS CLUSTER         sends them there whatever the scores say, while it is in service; wants --hours.
                              CLIENTS: a client network's name, a prefix, or LATITUDE,LONGITUDE,KM
  clear SUBJECT               takes back what was said of a cluster, a server or clients

Each entry ends after --hours N (pins must have an end, a month at most). A new word on a subject replaces the one before.
Options: --hours N, --class interactive|bulk|live (of a pin; all of them without it), --note TEXT, --control URL, or
ISOCHRONE_CONTROL_URL (token by ISOCHRONE_CONTROL_TOKEN; without it the world that runs here), --state DIR, --json
Exit code: 0 done, 1 control refused or is not there, 2 bad usage.

Examples:
  isochrone steer drain fra --hours 4 --note "power works"
  isochrone steer pin 198.18.0.0/20 lon --hours 24 --class bulk
  isochrone steer pin 52.5,13.4,300 fra --hours 2
  isochrone steer clear fra`;

const HOURS_MAX = 31 * 24;
const HOUR_MS = 3_600_000;

export interface SteerFlags {
  readonly hours?: string | undefined;
  readonly class?: string | undefined;
  readonly note?: string | undefined;
}

type Raw = Record<"weights" | "pins" | "drains", readonly object[]> & { readonly name: string };
type Edit = (before: MapOverrides, names: SteerNames) => Raw;
/** What is known by name, to tell a server from a cluster. */
export interface SteerNames {
  readonly clusters: ReadonlySet<string>;
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      ...controlOptions,
      hours: { type: "string" },
      class: { type: "string" },
      note: { type: "string" },
    },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  const [action = "", ...subjects] = positionals;
  if (action === "show" && subjects.length > 0) throw new UsageError("steer show takes no further word");
  const edit = action === "show" ? undefined : steerEdit(action, subjects, values, systemClock.epoch());
  try {
    await withControl(values, (client) => steer(client, edit, values.json === true));
    return 0;
  } catch (error) {
    if (error instanceof ControlError) throw new UsageError(error.message, 1);
    throw error;
  }
}

/** What a command line makes of the overrides in force. Throws {@link UsageError} for a line that cannot be meant. */
export function steerEdit(
  action: string,
  subjects: readonly string[],
  flags: SteerFlags,
  nowEpochMs: number,
): Edit {
  const [subject, second, ...more] = subjects;
  const wanted = { drain: 1, weigh: 2, pin: 2, clear: 1 }[action];
  if (wanted === undefined)
    throw new UsageError(
      `steer: no action ${JSON.stringify(action)}; there are show, drain, weigh, pin, clear`,
    );
  if (subject === undefined || (second === undefined) !== (wanted === 1) || more.length > 0)
    throw new UsageError(`steer ${action} takes ${wanted} word${wanted === 1 ? "" : "s"}; see --help`);
  if (flags.class !== undefined && action !== "pin") throw new UsageError(`steer ${action} takes no --class`);
  const rest = {
    ...(flags.hours !== undefined && { untilEpochMs: nowEpochMs + hoursOf(flags.hours) * HOUR_MS }),
    ...(flags.note !== undefined && { note: flags.note }),
  };
  switch (action) {
    case "drain":
      return (before, names) => ({
        ...without(before, subject, flags, ["drains"]),
        drains: [
          ...without(before, subject, flags, ["drains"]).drains,
          { ...(names.clusters.has(subject) ? { clusterId: subject } : { serverId: subject }), ...rest },
        ],
      });
    case "weigh": {
      const factor = Number(second);
      if (!(factor >= 0.1 && factor <= 10))
        throw new UsageError(`steer weigh: got ${JSON.stringify(second)}, expected a factor from 0.1 to 10`);
      return (before) => ({
        ...before,
        weights: [
          ...without(before, subject, flags, ["weights"]).weights,
          { clusterId: subject, factor, ...rest },
        ],
      });
    }
    case "pin": {
      if (flags.hours === undefined) throw new UsageError("steer pin wants --hours: a pin must have an end");
      const pin = {
        ...clientsOf(subject),
        clusterId: second,
        ...(flags.class !== undefined && { trafficClass: classOf(flags.class) }),
        ...rest,
      };
      return (before) => ({
        ...before,
        pins: [...without(before, subject, flags, ["pins"]).pins, pin],
      });
    }
    default:
      return (before) => {
        const after = without(before, subject, flags, ["weights", "pins", "drains"]);
        if (after.weights.length + after.pins.length + after.drains.length === entryCount(before))
          throw new UsageError(
            `steer clear: nothing was said of ${JSON.stringify(subject)}; see steer show`,
            1,
          );
        return after;
      };
  }
}

function entryCount({ weights, pins, drains }: MapOverrides): number {
  return weights.length + pins.length + drains.length;
}

/** The overrides without what they say of a subject in these lists; pins by class where one is named. */
function without(
  before: MapOverrides,
  subject: string,
  flags: SteerFlags,
  lists: readonly (keyof Omit<Raw, "name">)[],
): Raw {
  const is = (list: keyof Omit<Raw, "name">): boolean => lists.includes(list);
  const clients = JSON.stringify(clientsOf(subject));
  return {
    name: before.name,
    weights: before.weights.filter((one) => !is("weights") || one.clusterId !== subject),
    pins: before.pins.filter(({ clientNetworkId, prefix, around, trafficClass }) => {
      const named = JSON.stringify({
        ...(clientNetworkId !== undefined && { clientNetworkId }),
        ...(prefix !== undefined && { prefix }),
        ...(around !== undefined && { around }),
      });
      return !is("pins") || named !== clients || (flags.class !== undefined && flags.class !== trafficClass);
    }),
    drains: before.drains.filter(
      (one) => !is("drains") || (one.clusterId !== subject && one.serverId !== subject),
    ),
  };
}

function clientsOf(text: string): object {
  if (parsePrefix(text) !== undefined) return { prefix: text };
  const circle = /^(-?[0-9.]+),(-?[0-9.]+),([0-9.]+)$/.exec(text);
  if (circle === null) return { clientNetworkId: text };
  const [, latitude, longitude, radiusKm] = circle.map(Number) as [number, number, number, number];
  return { around: { coordinates: { latitude, longitude }, radiusKm } };
}

function hoursOf(text: string): number {
  const hours = Number(text);
  if (!(hours > 0 && hours <= HOURS_MAX))
    throw new UsageError(
      `--hours: got ${JSON.stringify(text)}, expected a number above 0, at most ${HOURS_MAX}`,
    );
  return hours;
}

function classOf(text: string): string {
  if (!trafficClasses.some((one) => one === text))
    throw new UsageError(
      `--class: got ${JSON.stringify(text)}, expected one of ${trafficClasses.join(", ")}`,
    );
  return text;
}

async function steer(client: ControlClient, edit: Edit | undefined, isJson: boolean): Promise<void> {
  const [topology, ...others] = await client.documents("topology");
  if (topology === undefined || others.length > 0)
    throw new UsageError(`Control has ${others.length + (topology ? 1 : 0)} topologies, expected one`, 1);
  const name = topology.id;
  const stored = await client.document("overrides", name);
  let overrides = mapOverrides.parse(stored?.body ?? { name });
  if (edit !== undefined) {
    const body = (await client.document("topology", name))?.body as
      | { readonly clusters: readonly { readonly clusterId: string }[] }
      | undefined;
    const names = { clusters: new Set(body?.clusters.map(({ clusterId }) => clusterId)) };
    overrides = parsed(edit(overrides, names));
    const versions = await client.versions("overrides", name);
    await client.put("overrides", name, overrides, {
      expectedVersion: versions.at(-1)?.version ?? 0,
      author: authorName(),
      note: "isochrone steer",
      activate: true,
    });
  }
  if (isJson) console.log(JSON.stringify(overrides, null, 2));
  else console.log(formatOverrides(overrides, systemClock.epoch()));
}

function parsed(value: Raw): MapOverrides {
  try {
    return mapOverrides.parse(value);
  } catch (error) {
    if (error instanceof ParseError) throw new UsageError(`steer: ${error.message}`);
    throw error;
  }
}

/** What is in force, for people. */
export function formatOverrides({ weights, pins, drains }: MapOverrides, nowEpochMs: number): string {
  const end = (until: number | undefined): string =>
    until === undefined
      ? "taken back"
      : until <= nowEpochMs
        ? "over"
        : `${((until - nowEpochMs) / HOUR_MS).toFixed(1)} h more`;
  const rows = [
    ...drains.map((one) => [
      "drained",
      one.clusterId ?? one.serverId ?? "",
      "",
      end(one.untilEpochMs),
      one.note,
    ]),
    ...weights.map((one) => ["weighed", one.clusterId, `x ${one.factor}`, end(one.untilEpochMs), one.note]),
    ...pins.map((one) => {
      const { around } = one;
      const circle =
        around && `${around.coordinates.latitude},${around.coordinates.longitude},${around.radiusKm}`;
      const clients = one.clientNetworkId ?? one.prefix ?? circle ?? "";
      const to = `to ${one.clusterId}${one.trafficClass === undefined ? "" : `, ${one.trafficClass}`}`;
      return ["pinned", clients, to, end(one.untilEpochMs), one.note];
    }),
  ];
  if (rows.length === 0) return "Nothing is said against the map.";
  return formatTable(
    ["what", "of", "how", "until", "note"],
    rows.map((row) => row.map((cell) => cell ?? "")),
  );
}
