/** Worlds and fault plans of the simulator's scenarios. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Fault, type FaultKind, type SimOptions, type SimReport, simulate } from "#sim";
import { parseWorld, type World } from "#kit/world";

export function worldOf(name: "small" | "demo", change = (yaml: string): string => yaml): World {
  const path = join(import.meta.dirname, `../../deploy/worlds/${name}.yaml`);
  return parseWorld(change(readFileSync(path, "utf8")), path);
}

export const small = worldOf("small");
export const demo = worldOf("demo");
/** The small one with a second name server, and one that takes its documents a minute late. */
export const withStandIn = worldOf("small", (yaml) =>
  yaml.replace(/^.*id: lon-dns.*\n/m, (line) =>
    [
      line,
      line.replace("lon-dns", "par-dns"),
      line
        .replace("lon-dns", "ams-late")
        .replace("role: nameserver", "role: nameserver, inputDelaySeconds: 60"),
    ].join(""),
  ),
);

export function fault(
  kind: FaultKind,
  target: string,
  atSeconds: number,
  lastsSeconds: number,
  degree = 0,
): Fault {
  return {
    id: `${kind}-${target}-${atSeconds}`,
    kind,
    target,
    at: atSeconds * 1_000,
    durationMs: lastsSeconds * 1_000,
    degree,
  };
}

export function run(options: Partial<SimOptions> = {}): SimReport {
  return simulate({ world: small, seed: 1, seconds: 60, ...options });
}

/** What a failed expectation should print. */
export function broken(report: SimReport): string {
  return report.broken === null ? report.verdict : `${report.broken.invariant}: ${report.broken.detail}`;
}
