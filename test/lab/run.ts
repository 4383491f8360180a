/** `npm run lab -- NAME [options]`: faults and attacks on real processes, counted at the client. Prints JSON. */
import { runProgram } from "../tools/programs.ts";

process.exitCode = await runProgram(
  "lab",
  "Lab runs: faults, restarts and attacks on real processes, counted at the client. JSON on stdout, talk on stderr.",
  import.meta.dirname,
  process.argv.slice(2),
);
