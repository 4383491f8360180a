/** What must always hold: one name and one sentence each, and the judge that stops a run at the first break. */
import type { MonotonicMs } from "#kit";

export const invariantSentences = {
  "dns-answer-empty": "No address answer is empty, and none says that all are down while a server lives.",
  "dns-names-dead":
    "Once a server has been dead for longer than a name server needs to notice, it is in no answer of it.",
  "dns-drops-live": "A name server holds no server for down that has long been alive and reachable.",
  "client-asks-dead": "After detection and TTL no client asks a dead server.",
  "document-went-back": "A node never applies what was activated, or published, before what it has in force.",
  "node-forgot": "A node that has once had its documents serves with them, whether control is there or not.",
  "policy-keeps-dead":
    "Once a target of a policy has been dead for longer than its tests need, every name server holds it for down.",
  "policy-drops-live":
    "No name server holds a target of a policy for down that most agents have long been able to reach.",
  "stand-in-absent": "Once no other name server gives addresses, who stands in for them does.",
  "stand-in-poisoned":
    "What another name server was seen to choke on does not come into force at the one that stands in.",
  "stand-in-beside": "Nobody stands in while another name server gives addresses.",
  "quota-exceeded": "The map suspends no more capacity than the quota allows.",
  "stale-beyond-policy": "Nothing is served longer after its lifetime than the policy allows.",
  "purged-served": "After a purge is acknowledged by every server, nobody is given what it purged.",
  "path-stuck": "Traffic leaves a cut path within the detection bound when another one is whole.",
  "loss-unexplained": "Every lost request is explained by a fault that could not have been noticed yet.",
  "not-converged": "After the faults are over everything converges in time.",
} as const;
export type InvariantName = keyof typeof invariantSentences;

export interface Violation {
  readonly invariant: InvariantName;
  readonly sentence: string;
  readonly at: MonotonicMs;
  /** Who and what, with the figures. */
  readonly detail: string;
}

export class Judge {
  #violation: Violation | undefined;
  readonly #checks = new Map<InvariantName, number>();
  readonly #onBreak: (violation: Violation) => void;

  constructor(onBreak: (violation: Violation) => void) {
    this.#onBreak = onBreak;
  }

  /** The first break; the run stops there. */
  get violation(): Violation | undefined {
    return this.#violation;
  }
  /** How often each was asked: one that never was has shown nothing. */
  get checks(): Readonly<Record<InvariantName, number>> {
    const names = Object.keys(invariantSentences) as InvariantName[];
    return Object.fromEntries(names.map((name) => [name, this.#checks.get(name) ?? 0])) as Record<
      InvariantName,
      number
    >;
  }

  /** Checks one thing; `detail` is made only when it does not hold. */
  check(invariant: InvariantName, at: MonotonicMs, holds: boolean, detail: () => string): void {
    this.#checks.set(invariant, (this.#checks.get(invariant) ?? 0) + 1);
    if (holds || this.#violation !== undefined) return;
    this.#violation = { invariant, sentence: invariantSentences[invariant], at, detail: detail() };
    this.#onBreak(this.#violation);
  }
}
