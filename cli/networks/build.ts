/** `isochrone networks build`. */
import { existsSync } from "node:fs";
import { quoteValue } from "#kit";
import { systemClock } from "#kit/io";
import {
  cutClientNetworks,
  cutDefaults,
  diffNetworks,
  nameNetworks,
  networkRecords,
  readNetworkFile,
  routesOfRanges,
  writeNetworkFile,
} from "#mapping";
import { UsageError, wholeNumber } from "../usage.ts";
import { readDemand, readMeasured, readPlaces, readRoutes, readSystems } from "./inputs.ts";

export interface BuildOptions {
  readonly routes?: readonly string[] | undefined;
  readonly places?: readonly string[] | undefined;
  readonly as?: readonly string[] | undefined;
  readonly demand?: readonly string[] | undefined;
  readonly measured?: readonly string[] | undefined;
  readonly before?: string | undefined;
  readonly count?: string | undefined;
  readonly "difference-ms"?: string | undefined;
  readonly "demand-total"?: string | undefined;
  readonly out?: string | undefined;
  readonly json?: boolean | undefined;
}

/** What a map holds at most. */
const COUNT_MAX = 500_000;

export async function build(options: BuildOptions): Promise<number> {
  const { out } = options;
  if (out === undefined || out === "")
    throw new UsageError("--out is missing: where the result goes; see --help");
  if (options.routes === undefined && options.as === undefined)
    throw new UsageError("--routes is missing (or --as, which may stand for it); see --help");
  const settings = {
    countMax: wholeNumber("--count", options.count, 1, COUNT_MAX, cutDefaults.countMax),
    differenceMsMax: decimal("--difference-ms", options["difference-ms"], 1_000, cutDefaults.differenceMsMax),
    demandPerSecond: decimal("--demand-total", options["demand-total"], 1e9, cutDefaults.demandPerSecond),
  };
  const startedAt = performance.now();
  const progress = (text: string): void => {
    const seconds = ((performance.now() - startedAt) / 1_000).toFixed(1);
    console.error(`isochrone networks: ${seconds} s: ${text}`);
  };
  // A bad file of names is told of before the long work, and replaced by none of ours.
  const beforeFile = options.before ?? (existsSync(out) ? out : undefined);
  const before = beforeFile === undefined ? [] : (await readNetworkFile(beforeFile)).networks;
  if (beforeFile !== undefined) progress(`${beforeFile}: ${before.length} names`);

  const table = options.routes === undefined ? undefined : await readRoutes(options.routes, progress);
  const places = await readPlaces(options.places ?? [], progress);
  const systems = await readSystems(options.as ?? [], progress);
  const demand = await readDemand(options.demand ?? [], progress);
  const measured = await readMeasured(options.measured ?? [], progress);
  const routes = table?.build() ?? (systems === null ? undefined : routesOfRanges(systems));
  if (routes === undefined || routes.runs.count === 0)
    throw new UsageError("The files announce no address space: nothing was written", 1);
  progress("cutting");
  const sets = cutClientNetworks({ routes, places, autonomousSystems: systems, measured, demand }, settings);
  const names = nameNetworks(sets, before, demand);
  const networks = [...networkRecords(sets, names, (cell) => table?.prefixOf(cell))];
  progress(`${networks.length} client networks; writing`);
  await writeNetworkFile(out, networks, Math.round(systemClock.epoch()));

  const { kept, gone, added } = diffNetworks(before, networks);
  const result = {
    file: out,
    networks: networks.length,
    networksUnbounded: sets.countUnbounded,
    prefixes: networks.reduce((sum, { prefixes }) => sum + prefixes.length, 0),
    demandPerSecond: networks.reduce((sum, { demandPerSecond }) => sum + demandPerSecond, 0),
    unroutedDemandPerSecond: sets.unroutedDemandPerSecond,
    names: { kept, added: added.length, gone: gone.length },
  };
  console.log(
    options.json === true
      ? JSON.stringify(result)
      : [
          `${out}: ${result.networks} client networks of ${result.prefixes} prefixes` +
            (result.networksUnbounded > result.networks ? `, merged from ${result.networksUnbounded}` : ""),
          `  demand: ${result.demandPerSecond.toFixed(1)} requests per second, ${result.unroutedDemandPerSecond.toFixed(1)} from space that is not announced`,
          `  names: ${kept} kept, ${added.length} new, ${gone.length} gone`,
        ].join("\n"),
  );
  return 0;
}

/** A number from 0; throws {@link UsageError}. */
function decimal(option: string, text: string | undefined, max: number, fallback: number): number {
  if (text === undefined) return fallback;
  const value = /^[0-9]{1,10}(?:\.[0-9]{1,6})?$/.test(text) ? Number(text) : Number.NaN;
  if (!(value <= max))
    throw new UsageError(`${option}: got ${quoteValue(text)}, expected a number from 0 to ${max}`);
  return value;
}
