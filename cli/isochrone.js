#!/usr/bin/env node
// The one file that is plain JavaScript: it must parse under whatever Node the machine has. Isochrone needs a Node that
// runs TypeScript natively and has the HTTP desync fixes; where the running one is older, the same command line is handed
// to the one that `npm ci` installed beside us.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import module from "node:module";
import { constants } from "node:os";
import { fileURLToPath } from "node:url";

/** The oldest Node that may serve traffic: earlier ones have HTTP desync faults that were fixed since. */
const NODE_VERSION_MIN = [24, 18, 1];

/**
 * @param {string} version such as "24.21.0"
 * @returns {boolean} whether it is at least NODE_VERSION_MIN
 */
function isNewEnough(version) {
  const parts = version.split(".").map((part) => Number.parseInt(part, 10));
  for (const [index, min] of NODE_VERSION_MIN.entries()) {
    const part = parts[index] ?? 0;
    if (part !== min) return part > min;
  }
  return true;
}

/** Runs this same file with the pinned Node; ends with the exit code or the signal that the child ended with. */
function runPinned() {
  const pinned = fileURLToPath(new URL("../node_modules/node/bin/node", import.meta.url));
  const wanted = NODE_VERSION_MIN.join(".");
  if (!existsSync(pinned)) {
    console.error(
      `isochrone: Node ${process.versions.node} is older than ${wanted} and ${pinned} does not exist: run "npm ci" in ${fileURLToPath(new URL("..", import.meta.url))}`,
    );
    process.exitCode = 1;
    return;
  }
  const child = spawn(
    pinned,
    [...process.execArgv, fileURLToPath(import.meta.url), ...process.argv.slice(2)],
    {
      stdio: "inherit",
    },
  );
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, () => {
      // A terminal sends Ctrl-C to the whole foreground group: the child has it already, and a second one would mean "now".
      if (signal === "SIGINT" && process.stdin.isTTY) return;
      child.kill(signal);
    });
  }
  child.on("error", (error) => {
    console.error(
      `isochrone: cannot start ${pinned}: ${error.message}: run "npm ci" to install it for this machine`,
    );
    process.exitCode = 1;
  });
  child.on("exit", (code, signal) => {
    // A shell's convention: 128 plus the number of the signal.
    process.exit(signal === null ? (code ?? 1) : 128 + (constants.signals[signal] ?? 0));
  });
}

if (isNewEnough(process.versions.node)) {
  module.enableCompileCache();
  // Who serves takes its memory's flags before anything is open.
  if (process.argv[2] === "edge" || process.argv[2] === "dns")
    (await import("../edge/main-process.ts")).restartForMemory();
  const { run } = await import("./main.ts");
  process.exitCode = await run(process.argv.slice(2));
} else {
  runPinned();
}
