/** What can go wrong: one kind, one sentence, one target each. */

export const faultKinds = [
  "server-crash",
  "server-hang",
  "cluster-loss",
  "link-cut",
  "link-lossy",
  "client-cut",
  "control-loss",
  "control-partition",
  "mapper-crash",
  "mapper-hang",
  "origin-outage",
  "document-replay",
  "document-poison",
] as const;
export type FaultKind = (typeof faultKinds)[number];

/** What each kind does; `isochrone sim --help` prints it. */
export const faultSentences: Readonly<Record<FaultKind, string>> = {
  "server-crash": "a process ends: its port refuses, its memory is gone; it starts again from its disk",
  "server-hang": "a process stands still: connections open, nothing answers; then it goes on where it was",
  "cluster-loss": "every machine of a site is silent; memory is gone, disks are kept",
  "link-cut": "everything between two sites vanishes, both ways",
  "link-lossy": "a link between two sites loses a tenth to a third of its segments",
  "client-cut": "everything between a client network and the edge that it uses vanishes; probes see nothing",
  "control-loss": "the control process ends; its store is kept",
  "control-partition": "some sites reach everything but control and mapper",
  "mapper-crash": "a mapping process ends; it starts again from its last map",
  "mapper-hang": "a mapping process stands still; then it goes on where it was, as the publisher or not",
  "origin-outage": "an origin answers 503, or is silent",
  "document-replay": "a message of an old watch stream arrives after newer ones",
  "document-poison":
    "a document that every name server, or one and the stand-in, chokes on is pushed; in the end a good one is",
};

/** Nobody may notice these: they excuse no lost request. */
export const unnoticedKinds: ReadonlySet<FaultKind> = new Set([
  "control-loss",
  "control-partition",
  "mapper-crash",
  "mapper-hang",
  "document-replay",
]);

export function isFaultKind(text: string): text is FaultKind {
  return (faultKinds as readonly string[]).includes(text);
}

/** One fault of a plan. */
export interface Fault {
  readonly id: string;
  readonly kind: FaultKind;
  /** Virtual time, ms. */
  readonly at: number;
  readonly durationMs: number;
  /** A server id, a cluster id, `a|b` for a link, or a list of sites joined by commas. */
  readonly target: string;
  /** Additional loss of `link-lossy`; 0 silent, 1 answers 503 of `origin-outage`. */
  readonly degree: number;
}
