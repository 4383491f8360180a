/** `isochrone doctor`: is this machine's kernel set as a server of the overlay wants it, and what mends it? */
import { parseArgs } from "node:util";
import { checkKernel, type KernelCheck, readKernel, runKernelStep, undoSteps } from "#transport";
import { UsageError } from "./usage.ts";

const help = `Usage: isochrone doctor [--ports PORT,...] [--apply | --undo] [--json]

Looks whether this machine is set as a server wants it: idle connections that keep their rate, buffers, open files; and, with
--ports, BBR, a first window of 32 segments and a shortest retransmission timeout of 40 ms for connections from and to those
ports alone, by a routing table of their own (7400). Says for each what it found, what it wants, why, and what mends it.

  --ports LIST  ports on which our servers listen for each other, at most 16
  --apply       runs what mends it (as root); only connections that are opened afterwards have it, and a restart of the machine
                undoes it: deploy/kernel/ has the files that make it last
  --undo        takes the rules and the table away again; sysctls stay as they are
  --json        one JSON document

Exit code 0: all is well. 1: something is not, or could not be mended. 2: bad usage.

Examples:
  isochrone doctor
  isochrone doctor --ports 443,8443
  sudo isochrone doctor --ports 443,8443 --apply`;

const PORTS_MAX = 16;

function portsOf(text: string | undefined): number[] {
  if (text === undefined) return [];
  const ports = [...new Set(text.split(","))].map((word) =>
    /^\d{1,5}$/.test(word) ? Number(word) : Number.NaN,
  );
  if (ports.length > PORTS_MAX || !ports.every((port) => port >= 1 && port <= 65_535))
    throw new UsageError(
      `--ports: got ${JSON.stringify(text)}, expected 1 to ${PORTS_MAX} ports from 1 to 65535, such as 443,8443`,
    );
  return ports;
}

function lines(checks: readonly KernelCheck[]): string[] {
  return checks.flatMap(({ name, state, found, expected, why, steps, advice }) => [
    `${state.padEnd(8)}${name}: ${found}`,
    ...(state === "ok"
      ? []
      : [
          `        expected ${expected}: ${why}`,
          ...steps.map((step) => `        mend: ${step.map(quoted).join(" ")}`),
          ...(advice === undefined ? [] : [`        mend: ${advice}`]),
        ]),
  ]);
}

function quoted(word: string): string {
  return /^[\w./:=-]+$/.test(word) ? word : `'${word}'`;
}

/** Runs every step; what fails is told and does not keep the others. Returns how many failed. */
async function runAll(steps: readonly (readonly string[])[]): Promise<number> {
  let failed = 0;
  for (const step of steps) {
    try {
      await runKernelStep(step);
      process.stderr.write(`done: ${step.map(quoted).join(" ")}\n`);
    } catch (error) {
      failed++;
      process.stderr.write(`isochrone doctor: ${error instanceof Error ? error.message : String(error)}\n`);
    }
  }
  return failed;
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      ports: { type: "string" },
      apply: { type: "boolean" },
      undo: { type: "boolean" },
      json: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  if (values.apply && values.undo) throw new UsageError("--apply and --undo exclude each other; see --help");
  if (values.undo && values.ports !== undefined)
    throw new UsageError("--undo takes all of the overlay's rules away and has no --ports; see --help");
  const ports = portsOf(values.ports);
  if (values.undo) return (await runAll(undoSteps(await readKernel()))) === 0 ? 0 : 1;
  if (values.apply)
    await runAll(
      checkKernel(await readKernel(), ports).flatMap((one) => (one.state === "wrong" ? one.steps : [])),
    );
  const checks = checkKernel(await readKernel(), ports);
  if (values.json) console.log(JSON.stringify({ checks }, undefined, 2));
  else console.log(lines(checks).join("\n"));
  return checks.every(({ state }) => state === "ok") ? 0 : 1;
}
