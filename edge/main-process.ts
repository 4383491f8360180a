/** `isochrone edge` before anything is loaded: the process's memory is put in order, then it is main.ts. */
import { restartForMemory } from "./io/process-memory.ts";

/** For the command, before it has loaded anything else: what it had loaded would be loaded again. */
export { restartForMemory } from "./io/process-memory.ts";

/** As main.ts's `main`; in a process that is not in order yet it does not return, the process begins anew. */
export async function main(argv: readonly string[]): Promise<number> {
  restartForMemory();
  const edge = await import("./main.ts");
  return await edge.main(argv);
}
