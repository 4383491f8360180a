/** `npm run lab -- fuzz`: millions of mutated requests into the HTTP/1.1 connection, in-process. */
import { parseArgs } from "node:util";
import { fuzzFlatPath, fuzzServer } from "../tools/hostile/fuzz.ts";
import { wholeNumber } from "../tools/flags.ts";

export const summary =
  "mutated requests in-process: no throw, no hang, nothing passed on that a strict reader refuses";

const HELP = `Usage: npm run lab -- fuzz [options]

Mutates canonical requests, pipelines and the smuggling vectors. Exit code 1: an input broke an invariant; it is printed.

  --count N    inputs for the flat path (default 20000000)
  --server N   inputs for the whole server with its hand-over to node:http's parser (default count / 100)
  --seed N     the same seed gives the same inputs (default: from the clock; printed)
`;

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      count: { type: "string", default: "20000000" },
      server: { type: "string" },
      seed: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const count = wholeNumber("count", values.count, 1, 10_000_000_000);
  const seed = wholeNumber("seed", values.seed ?? String(Date.now() % 2 ** 31), 0, 2 ** 31 - 1);
  const serverCount = wholeNumber(
    "server",
    values.server ?? String(Math.ceil(count / 100)),
    1,
    10_000_000_000,
  );
  console.error(`fuzz: seed ${seed}`);
  const flatPath = await fuzzFlatPath({ count, seed });
  const server = await fuzzServer({ count: serverCount, seed });
  console.log(JSON.stringify({ seed, flatPath, server }, undefined, 2));
  return flatPath.findings.length + server.findings.length === 0 ? 0 : 1;
}
