/** What a name server has done, by closed lists only, so that no query can make the counters grow without bound. */
import { dnsTypeLabel, type Rcode, rcodeText } from "./constants.ts";
import type { DnsDecision, DnsTransport, DropReason, ReplyReason } from "./decision.ts";
import type { AnswerReason } from "../answer.ts";

/** Labels of one counter. `type`, `rcode` and `map` are "none" where they do not apply. */
export interface DnsCounterLabels {
  readonly transport: DnsTransport;
  readonly reason: string;
  readonly rcode: string;
  readonly type: string;
  /** Which rule of the map decided an address answer. */
  readonly map: string;
}

/** One counter. */
export interface DnsTally {
  readonly labels: DnsCounterLabels;
  count: number;
}

/** What of a decision is counted. */
export interface Counted {
  readonly reason: ReplyReason | DropReason;
  readonly rcode: Rcode | undefined;
  readonly type: number | undefined;
  readonly answerReason: AnswerReason | undefined;
}

/** All counts, as they are told to another process. */
export interface DnsFigures {
  readonly truncated: number;
  readonly withEcs: number;
  readonly tallies: readonly Readonly<DnsTally>[];
}

/** Counts of decisions; they only grow. */
export class DnsCounters {
  readonly #counts = new Map<string, DnsTally>();
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
    if (decision.action === "drop") {
      const { reason } = decision;
      this.add(
        this.tallyOf({ reason, rcode: undefined, type: undefined, answerReason: undefined }, transport),
        false,
      );
      return;
    }
    if (decision.isTruncated) this.#truncated++;
    const tally = this.tallyOf({ ...decision, type: decision.question?.type }, transport);
    this.add(tally, decision.scopePrefixLength !== undefined);
  }

  /** The counter of such decisions, to be kept by who makes many of them. */
  tallyOf({ reason, rcode, type, answerReason }: Counted, transport: DnsTransport): DnsTally {
    const labels: DnsCounterLabels = {
      transport,
      reason,
      rcode: rcode === undefined ? "none" : rcodeText(rcode),
      type: type === undefined ? "none" : dnsTypeLabel(type),
      map: answerReason ?? "none",
    };
    return this.#tally(keyOf(labels), labels);
  }

  /** One decision more of a counter that {@link tallyOf} gave. */
  add(tally: DnsTally, hasEcs: boolean): void {
    this.#queries++;
    if (hasEcs) this.#withEcs++;
    tally.count++;
  }

  figures(): DnsFigures {
    return {
      truncated: this.#truncated,
      withEcs: this.#withEcs,
      tallies: [...this.entries()].map((one) => ({ ...one })),
    };
  }

  /** Adds what another one has counted between two of its {@link figures}; `before` undefined: since its start. */
  absorb(now: DnsFigures, before: DnsFigures | undefined): void {
    this.#truncated += now.truncated - (before?.truncated ?? 0);
    this.#withEcs += now.withEcs - (before?.withEcs ?? 0);
    const known = new Map(before?.tallies.map(({ labels, count }) => [keyOf(labels), count]));
    for (const { labels, count } of now.tallies) {
      const key = keyOf(labels);
      const more = count - (known.get(key) ?? 0);
      this.#tally(key, labels).count += more;
      this.#queries += more;
    }
  }

  #tally(key: string, labels: DnsCounterLabels): DnsTally {
    let tally = this.#counts.get(key);
    if (tally === undefined) {
      tally = { labels, count: 0 };
      this.#counts.set(key, tally);
    }
    return tally;
  }

  /** Every combination that has occurred, in the order of its first occurrence. */
  *entries(): IterableIterator<Readonly<DnsTally>> {
    for (const tally of this.#counts.values()) if (tally.count > 0) yield tally;
  }

  /** The sum over all combinations with this reason. */
  withReason(reason: string): number {
    let sum = 0;
    for (const { labels, count } of this.#counts.values()) if (labels.reason === reason) sum += count;
    return sum;
  }
}

function keyOf({ transport, reason, rcode, type, map }: DnsCounterLabels): string {
  return `${transport} ${reason} ${rcode} ${type} ${map}`;
}
