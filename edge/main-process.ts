/** `isochrone edge` before the command has loaded anything: the process's memory is put in order. */
export { restartForMemory } from "./io/process-memory.ts";
