/** Our answer beside a peer's: equal, different for a known reason, or different. */
import { isAtOrBelow, nameToText } from "#kit";
import type { DnsMessage, DnsRecord } from "../../../mapping/core/dns/message.ts";
import { linesOf, recordLine } from "./records.ts";

/** Where peers do otherwise on purpose. */
const knownReasons = [
  /** BIND and Knot end an alias that leads into another zone there; we go on, as RFC 1034 section 4.3.2 has it (step 3a). */
  "peer-stays-in-one-zone",
  /** A loop of aliases: BIND says SERVFAIL beside it, Knot and we NOERROR; each stops elsewhere. */
  "alias-loop",
] as const;
type KnownReason = (typeof knownReasons)[number];

export interface Comparison {
  readonly verdict: "equal" | KnownReason | "different";
  readonly ours: readonly string[];
  readonly theirs: readonly string[];
}

export function compareAnswers(ours: DnsMessage, theirs: DnsMessage): Comparison {
  const [a, b] = [view(ours), view(theirs)];
  const lines = { ours: flat(a), theirs: flat(b) };
  if (lines.ours.join("\n") === lines.theirs.join("\n")) return { verdict: "equal", ...lines };
  return { verdict: reasonOf(ours, theirs) ?? "different", ...lines };
}

interface View {
  readonly head: string;
  readonly answer: readonly string[];
  readonly authority: readonly string[];
  readonly glue: readonly string[];
}

function view({ header, answers, authorities, additionals }: DnsMessage): View {
  const cuts = authorities.filter(({ type }) => type === 2).map(({ name }) => name.text);
  const isReferral = answers.length === 0 && cuts.length > 0;
  const glue = isReferral
    ? additionals.filter(({ name }) => cuts.some((cut) => isAtOrBelow(name.text, cut)))
    : [];
  return {
    head: `rcode ${header.rcode} aa ${header.isAuthoritative} tc ${header.isTruncated}`,
    answer: [...new Set(linesOf(answers))],
    authority: linesOf(authorities),
    glue: linesOf(glue),
  };
}

function flat({ head, answer, authority, glue }: View): readonly string[] {
  return [
    head,
    ...answer.map((line) => `answer ${line}`),
    ...authority.map((line) => `authority ${line}`),
    ...glue.map((line) => `glue ${line}`),
  ];
}

function reasonOf(ours: DnsMessage, theirs: DnsMessage): KnownReason | undefined {
  const [mine, other] = [ours.answers.map(recordLine), theirs.answers.map(recordLine)];
  const isPrefix = other.every((line, n) => line === mine[n]);
  const last = theirs.answers.at(-1);
  if (isPrefix && last !== undefined && leadsOut(last, theirs.answers)) return "peer-stays-in-one-zone";
  const isLoop =
    mine.length > 0 &&
    (isRepeated(theirs.answers) || isRepeated(ours.answers) || Math.min(mine.length, other.length) >= 16);
  if (isLoop && mine.slice(0, 8).every((line, n) => other[n] === undefined || line === other[n]))
    return "alias-loop";
  return undefined;
}

function leadsOut(last: DnsRecord, answers: readonly DnsRecord[]): boolean {
  if (last.type !== 5 || last.data.kind !== "name") return false;
  const zoneOf = (text: string): string => text.split(".").slice(-3).join(".");
  return (
    zoneOf(nameToText(last.data.name).slice(0, -1).toLowerCase()) !==
      zoneOf((answers[0] as DnsRecord).name.text) || zoneOf(last.data.name.text) !== zoneOf(last.name.text)
  );
}

function isRepeated(answers: readonly DnsRecord[]): boolean {
  const owners = answers.filter(({ type }) => type === 5).map(({ name }) => name.text);
  const targets = answers.flatMap(({ type, data }) =>
    type === 5 && data.kind === "name" ? [data.name.text] : [],
  );
  return (
    new Set(owners).size < owners.length ||
    targets.some((target, n) => owners.slice(0, n + 1).includes(target))
  );
}
