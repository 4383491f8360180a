/** Reading option values that several commands take. */
import { UsageError } from "./usage.ts";

/** For `parseArgs`: what every command takes that speaks with control (see `resolve-control.ts`). */
export const controlOptions = {
  control: { type: "string" },
  state: { type: "string" },
  json: { type: "boolean" },
  help: { type: "boolean", short: "h" },
} as const;

/** A port from 1 to 65535, or the default when the option is absent. */
export function findPort(option: string, value: string | undefined, fallback: number): number {
  if (value === undefined) return fallback;
  const port = Number(value);
  if (!/^\d{1,5}$/.test(value) || port < 1 || port > 65_535) {
    throw new UsageError(`${option}: got ${JSON.stringify(value)}, expected a port from 1 to 65535`);
  }
  return port;
}
