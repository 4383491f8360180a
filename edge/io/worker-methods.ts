/** What the primary and its workers may ask of each other. Plain data: it crosses IPC as JSON. */
import type { PurgeEntry, ServerReport } from "#kit";
import type { CacheKey } from "../core/cache-key.ts";
import type { ChangedKeys } from "../core/missed-keys.ts";
import type { KnownFault } from "./diagnosis.ts";
import type { SocketKind } from "./listening.ts";
import type { KnownState, NodeDocument, NodeFigures } from "./node-control.ts";
import type { PrefetchNews } from "./prefetch-news.ts";

/** Environment of a worker: its {@link WorkerPlace} as JSON. */
export const WORKER_VARIABLE = "ISOCHRONE_EDGE_WORKER";

export interface WorkerPlace {
  readonly number: number;
  readonly workers: number;
  /** That the server is bound to. */
  readonly port: number;
  /** Unix socket on which the other workers ask it. */
  readonly path: string;
  /** False while the server's predecessor still holds the disk store. */
  readonly mayOpenDisk: boolean;
  /** Of TLS session tickets, hexadecimal: a session begun at one worker is resumed at any. */
  readonly ticketSecret: string;
}

/** A listening socket of the server: what is spoken on it, and a number among its kind, as in "main 0". */
export type SocketName = `${SocketKind} ${number}`;

/** Which workers live, and where each is asked. */
export interface WorkerView {
  /** Ascending. */
  readonly living: readonly number[];
  readonly paths: Readonly<Record<number, string>>;
}

export type WorkerMethods = {
  /** Accept from a socket, which comes with the message. */
  listen: { argument: SocketName; result: undefined };
  /** Stop accepting from it. */
  release: { argument: SocketName; result: undefined };
  view: { argument: WorkerView; result: undefined };
  /** prom-client's metrics as JSON. */
  metrics: { argument: undefined; result: unknown };
  /** An unsafe request changed these (RFC 9111, section 4.4). */
  invalidate: { argument: ChangedKeys; result: undefined };
  prefetched: { argument: PrefetchNews; result: undefined };
  openDisk: { argument: undefined; result: undefined };
  closeDisk: { argument: undefined; result: undefined };
  /** Take leave of clients; answered when none is left. The other workers may still ask. */
  drain: { argument: number; result: undefined };
  end: { argument: undefined; result: undefined };
  // Of a node's worker.
  /** Everything that control has said so far; what is known already changes nothing. */
  catchUp: { argument: KnownState; result: undefined };
  document: { argument: NodeDocument; result: undefined };
  /** Answered with the number of stored responses that were removed. */
  purge: { argument: PurgeEntry; result: number };
  lose: { argument: number; result: undefined };
  forget: { argument: undefined; result: undefined };
  /** All purges that control knew of have been told. */
  trust: { argument: undefined; result: undefined };
  figures: { argument: undefined; result: NodeFigures };
  faultOf: { argument: string; result: KnownFault | null };
};

export type PrimaryMethods = {
  /** The worker can serve and wants sockets. */
  up: { argument: undefined; result: undefined };
  /** Resolves when every other process of the server has applied it. */
  invalidate: { argument: readonly CacheKey[]; result: undefined };
  /** Passes on to every other worker what is no loss when it does not arrive. */
  prefetched: { argument: PrefetchNews; result: undefined };
  // Of a node's primary.
  known: { argument: undefined; result: KnownState };
  report: { argument: undefined; result: ServerReport | undefined };
  serverMetrics: { argument: undefined; result: string };
  faultOf: { argument: string; result: KnownFault | null };
};
