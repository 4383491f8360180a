/** `isochrone debug-token`: makes a token with which a request is told how its answer came to be. */
import { parseArgs } from "node:util";
import { makeDebugToken } from "#edge";
import type { EpochMs } from "#kit";
import { systemClock } from "#kit/io";
import { findRunningWorld } from "./runtime.ts";
import { UsageError } from "./usage.ts";

const MINUTES_DEFAULT = 60;
const MINUTES_MAX = 10_080;

const help = `Usage: isochrone debug-token (--property ID | --all) [--minutes N] [--json] [--state DIR]

Prints a token for the request field Isochrone-Debug. Answers to requests with it, of the property
or of all, carry Server-Timing, the request's id, the cache key in Cache-Status, and what Pragma asks
for: akamai-x-cache-on, akamai-x-cache-remote-on, akamai-x-check-cacheable, akamai-x-get-cache-key,
akamai-x-get-true-cache-key, akamai-x-get-request-id, akamai-x-get-client-ip.
It is signed with ISOCHRONE_CONTROL_TOKEN, without it with that of the world that runs here, and ends by
itself after --minutes (1 to ${MINUTES_MAX}, default ${MINUTES_DEFAULT}).

Examples:
  isochrone debug-token --property shop-www
  curl -sI -H "Isochrone-Debug: $(isochrone debug-token --all)" -H "Pragma: akamai-x-cache-on" URL`;

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      property: { type: "string" },
      all: { type: "boolean" },
      minutes: { type: "string" },
      json: { type: "boolean" },
      state: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  const scope = scopeOf(values.property, values.all ?? false);
  const minutes = Number(values.minutes ?? MINUTES_DEFAULT);
  if (!Number.isInteger(minutes) || minutes < 1 || minutes > MINUTES_MAX)
    throw new UsageError(
      `--minutes: got ${JSON.stringify(values.minutes)}, expected a whole number from 1 to ${MINUTES_MAX}`,
    );
  const secret = process.env["ISOCHRONE_CONTROL_TOKEN"] || findRunningWorld(values.state)?.token;
  if (secret === undefined)
    throw new UsageError(
      "Nothing to sign with: no world runs here (isochrone up); set ISOCHRONE_CONTROL_TOKEN to the one that the servers were started with",
      1,
    );
  const expiresAt = (systemClock.epoch() + minutes * 60_000) as EpochMs;
  const token = makeDebugToken(secret, expiresAt, scope);
  console.log(values.json ? JSON.stringify({ token, scope, expiresAtEpochMs: expiresAt }) : token);
  return 0;
}

function scopeOf(property: string | undefined, isAll: boolean): string {
  if (isAll && property === undefined) return "*";
  if (property === undefined || isAll)
    throw new UsageError("expected either --property ID or --all; see --help");
  if (!/^[a-z0-9][a-z0-9-]{0,62}$/.test(property))
    throw new UsageError(`--property: got ${JSON.stringify(property)}, expected a property id`);
  return property;
}
