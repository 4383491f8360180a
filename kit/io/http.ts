/**
 * `node:http`, whose values are taken from here and only its types by an `import`: an `import` of the module reads each of its exports, and
 * three of those (`WebSocket` and its events) load undici's copy inside Node, 0.11 s of CPU in each process, of which none uses them.
 */
export const http = process.getBuiltinModule("node:http");
