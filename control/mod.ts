/**
 * Control, seen from the other rooms: a client that reads, watches and changes documents, and a keeper that has each
 * document in force on this node, from control or from its own disk. The store and the server are the process's own.
 */
export {
  type AppliedState,
  type ApplyDecision,
  type ApplyReason,
  applyReasons,
  decideApply,
} from "./core/apply.ts";
export {
  type ActivationEvent,
  type DocumentChange,
  type DocumentKind,
  type DocumentRecord,
  type DocumentSummary,
  documentKinds,
  type PurgeEvent,
  type PurgeProgress,
  type PurgeResult,
  type WatchEvent,
  type WatchKind,
  watchKinds,
} from "./core/words.ts";
export { enteringKey, mayRoll, type RollWait, signedAgain, withdrawn } from "./core/key-roll.ts";
export { haltWords, type Rollout, type RolloutMode, type RolloutSettings } from "./core/rollout.ts";
export type { ZoneRoll } from "./core/key-rolls.ts";
export { diffDocuments } from "./core/diff.ts";
export { compareFences, type Fence, fenceOf } from "./core/fence.ts";
export { type LeaseName, type LeaseOutcome, type LeaseRequest } from "./core/lease.ts";
export type { LeaseAnswer } from "./core/wire.ts";
export {
  type ActivateOptions,
  ControlClient,
  type ControlClientOptions,
  type ControlState,
  type PutOptions,
  type WatchOptions,
} from "./io/client.ts";
export { ControlError } from "./io/control-error.ts";
export { type Dial, type DialTarget } from "./io/connector.ts";
export { DocumentKeeper, type DocumentKeeperOptions, type DocumentSource } from "./io/keeper.ts";
export { NodeIdentity, type NodeIdentityOptions } from "./io/node-identity.ts";
export type { NodeEntry } from "./core/node-register.ts";
export type { ControlServer, ControlServerOptions, DocumentStore } from "./io/embedded.ts";

/**
 * The server and its stores, for tests and for a process that embeds control. Loaded only when asked for: every node imports
 * this face, and none of them should pay for SQLite.
 */
export function loadControlServer(): Promise<typeof import("./io/embedded.ts")> {
  return import("./io/embedded.ts");
}
