/** `npm run bench -- NAME [options]`: speed and cost beside the real peers. Prints JSON, never asserts on time. */
import { runProgram } from "../tools/programs.ts";

process.exitCode = await runProgram(
  "bench",
  "Benchmarks: work per server CPU-second beside the peers that are found on PATH. JSON on stdout, talk on stderr.",
  import.meta.dirname,
  process.argv.slice(2),
);
