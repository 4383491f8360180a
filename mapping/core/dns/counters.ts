/** What a name server has done, by closed lists only, so that no query can make the counters grow without bound. */
import { dnsTypeLabel, rcodeText } from "./constants.ts";
import type { DnsDecision, DnsTransport } from "./decision.ts";

/** Labels of one counter. `type`, `rcode` and `map` are "none" where they do not apply. */
export interface DnsCounterLabels {
  readonly transport: DnsTransport;
  readonly reason: string;
  readonly rcode: string;
  readonly type: string;
  /** Which rule of the map decided an address answer. */
  readonly map: string;
}

/** Counts of decisions; they only grow. */
export class DnsCounters {
  readonly #counts = new Map<string, { readonly labels: DnsCounterLabels; count: number }>();
  #queries = 0;
  #truncated = 0;
  #withEcs = 0;

  /** Queries in all, dropped ones included. */
  get queries(): number {
    return this.#queries;
  }
  /** Answers with TC set. */
  get truncated(): number {
    return this.#truncated;
  }
  /** Answers that echoed a client subnet. */
  get withEcs(): number {
    return this.#withEcs;
  }

  count(decision: DnsDecision, transport: DnsTransport): void {
    this.#queries++;
    const isReply = decision.action === "reply";
    if (isReply && decision.isTruncated) this.#truncated++;
    if (isReply && decision.scopePrefixLength !== undefined) this.#withEcs++;
    const rcode = isReply ? rcodeText(decision.rcode) : "none";
    const type = isReply && decision.question !== undefined ? dnsTypeLabel(decision.question.type) : "none";
    const map = (isReply ? decision.answerReason : undefined) ?? "none";
    const key = `${transport} ${decision.reason} ${rcode} ${type} ${map}`;
    const entry = this.#counts.get(key);
    if (entry === undefined) {
      this.#counts.set(key, { labels: { transport, reason: decision.reason, rcode, type, map }, count: 1 });
    } else entry.count++;
  }

  /** Every combination that has occurred, in the order of its first occurrence. */
  entries(): Iterable<{ readonly labels: DnsCounterLabels; readonly count: number }> {
    return this.#counts.values();
  }

  /** The sum over all combinations with this reason. */
  withReason(reason: string): number {
    let sum = 0;
    for (const { labels, count } of this.#counts.values()) if (labels.reason === reason) sum += count;
    return sum;
  }
}
