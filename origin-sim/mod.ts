/** `#origin-sim`: a scripted origin, as a process (main.ts) and as an object for tests. */
export { contentAt, type ContentRequest, type Resource } from "./core/content.ts";
export { type Fault, faultKinds } from "./core/faults.ts";
export { type Pattern, patternBytes, patternOf } from "./core/pattern.ts";
export type { CountedRequest, RequestCounts } from "./io/request-log.ts";
export { OriginServer, type OriginServerOptions, type OriginSettings } from "./io/server.ts";
