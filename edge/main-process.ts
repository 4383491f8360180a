/**
 * `isochrone edge` and `isochrone dns` before the command has loaded anything: the process's memory is put in order. It is no name server's code, but to
 * load one file of the edge costs less than to load a face.
 */
export { restartForMemory } from "./io/process-memory.ts";
