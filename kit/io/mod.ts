/** `#kit/io`: what every driver needs from the machine - time, logs, durable files. Cores must not import it. */
export { systemClock } from "./clock.ts";
export { readFileIfThere, writeFileDurable } from "./files.ts";
export type { LastKnownGoodDamage, LastKnownGoodOptions } from "./last-known-good.ts";
export { LastKnownGood } from "./last-known-good.ts";
export { listenErrorHint } from "./listen-error.ts";
export type { LogFields, LoggerIdentity, LoggerOptions, LogLevel } from "./logger.ts";
export { createLogger, LOG_LEVELS, Logger } from "./logger.ts";
