/** `#kit/io`: what every driver needs from the machine - time, logs, durable files. Cores must not import it. */
export { BearerGate, type BearerVerdict } from "./bearer-gate.ts";
export { openPrivateKey, sealPrivateKey } from "./certificate-key.ts";
export { systemClock } from "./clock.ts";
export {
  BATCH_MAX,
  DatagramBatch,
  handleOf,
  SOCKADDR_STRIDE,
  sockaddrAddress,
  sockaddrAddressAt,
  sockaddrFamily,
  sockaddrOf,
  sockaddrPort,
} from "./datagram-batch.ts";
export { readCountries } from "./countries-file.ts";
export { makeDirectory, readFileIfThere, writeFileDurable } from "./files.ts";
export { http } from "./http.ts";
export { inSteps } from "./in-steps.ts";
export { labelMac } from "./label-mac.ts";
export type { LastKnownGoodDamage, LastKnownGoodOptions } from "./last-known-good.ts";
export { LastKnownGood } from "./last-known-good.ts";
export {
  formatListenAddress,
  LISTEN_ADDRESS_EXPECTED,
  type ListenAddress,
  listenError,
  listenErrorHint,
  parseListenAddress,
} from "./listen-address.ts";
export type { LogFields, LoggerIdentity, LoggerOptions, LogLevel } from "./logger.ts";
export { createLogger, LOG_LEVELS, Logger } from "./logger.ts";
export { collectGarbageMetrics, collectProcessMetrics } from "./process-metrics.ts";
export { seal, type SealPurpose, unseal } from "./sealing.ts";
export { readWorldText, resolveWorldPath } from "./world-text.ts";
export { stopSignal } from "./stop-signal.ts";
