/** What a process needs that holds control itself: the server and its stores. */
export { NodeAuthority } from "./node-authority.ts";
export { ControlServer, type ControlServerOptions } from "./server.ts";
export type { DocumentStore } from "./store.ts";
export { MemoryStore } from "./store-memory.ts";
export { SqliteStore } from "./store-sqlite.ts";
