/** What a run showed, for machines and for people. */
import { quantile } from "#kit";
import { type FaultKind, faultSentences } from "./faults.ts";
import type { Incidents } from "./incidents.ts";
import { type InvariantName, invariantSentences, type Judge } from "./invariants.ts";
import type { Statistics } from "./statistics.ts";

/** `vacuous`: nothing broke, but something that was asked for never happened, so nothing was shown. */
export type Verdict = "ok" | "broken" | "vacuous";

export interface FaultReport {
  readonly id: string;
  readonly kind: FaultKind;
  readonly target: string;
  /** Null: it never bit. */
  readonly startedAtMs: number | null;
  readonly endedAtMs: number | null;
  /** Observer -> ms from the start until it took the server for down. */
  readonly detectedMs: Readonly<Record<string, number>>;
  readonly failed: number;
  readonly slow: number;
  /** From the start to the end of the last request that it cost; null: it cost none. */
  readonly recoveredMs: number | null;
}

export interface SimReport {
  readonly world: string;
  readonly seed: string;
  readonly seconds: number;
  readonly verdict: Verdict;
  readonly digest: string;
  readonly broken: {
    readonly invariant: InvariantName;
    readonly sentence: string;
    readonly atMs: number;
    readonly detail: string;
    readonly lastEvents: readonly string[];
  } | null;
  /** Kinds that were asked for and never bit. */
  readonly neverFired: readonly FaultKind[];
  readonly fired: Readonly<Partial<Record<FaultKind, number>>>;
  readonly faults: readonly FaultReport[];
  readonly requests: {
    readonly total: number;
    readonly failed: number;
    readonly slow: number;
    readonly byReason: Readonly<Record<string, number>>;
    readonly p50Ms: number;
    readonly p99Ms: number;
  };
  /** From the end of the last fault until everything had converged, ms; null: it was not reached. */
  readonly convergedMs: number | null;
  /** How often each reason occurred, by what has reasons. */
  readonly reasons: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly checks: Readonly<Record<InvariantName, number>>;
  readonly events: number;
}

const reasonGroups = [
  "origin-choice",
  "origin-server",
  "dns",
  "stand-in",
  "policy-target",
  "liveness",
  "tier0",
  "tier1",
  "tier0-response",
  "tier1-response",
  "collapse",
  "served",
  "hop-owner",
  "hop-parent",
  "hop-origin",
  "path",
  "path-switch",
  "upstream-failure",
  "upstream-retry",
  "map",
  "map-refused",
  "publish",
  "election",
  "purge",
  "operator",
  "origin",
  "resolver",
  "asked-dead",
  "blamed",
] as const;

export interface ReportInput {
  readonly world: string;
  readonly seed: string;
  readonly seconds: number;
  readonly digest: string;
  readonly requestedKinds: readonly FaultKind[] | undefined;
  readonly incidents: Incidents;
  readonly judge: Judge;
  readonly statistics: Statistics;
  readonly lastEvents: readonly string[];
  readonly convergedMs: number | null;
  readonly events: number;
}

export function reportOf(input: ReportInput): SimReport {
  const { incidents, judge, statistics } = input;
  const byReason = statistics.group("request");
  const total = Object.values(byReason).reduce((sum, count) => sum + count, 0);
  const slow = byReason["slow"] ?? 0;
  const timesMs = statistics.timesMs;
  const fired: Partial<Record<FaultKind, number>> = {};
  for (const { fault, startedAt } of incidents.all)
    if (startedAt !== undefined) fired[fault.kind] = (fired[fault.kind] ?? 0) + 1;
  const neverFired = (input.requestedKinds ?? []).filter((kind) => fired[kind] === undefined);
  const { violation } = judge;
  const isVacuous = neverFired.length > 0 || total === 0 || Object.keys(fired).length === 0;
  return {
    world: input.world,
    seed: input.seed,
    seconds: input.seconds,
    verdict: violation !== undefined ? "broken" : isVacuous ? "vacuous" : "ok",
    digest: input.digest,
    broken:
      violation === undefined
        ? null
        : {
            invariant: violation.invariant,
            sentence: violation.sentence,
            atMs: violation.at,
            detail: violation.detail,
            lastEvents: input.lastEvents,
          },
    neverFired,
    fired,
    faults: incidents.all.map(({ fault, startedAt, endedAt, detectedMs, failed, slow, lastHitAt }) => ({
      id: fault.id,
      kind: fault.kind,
      target: fault.target,
      startedAtMs: startedAt ?? null,
      endedAtMs: endedAt ?? null,
      detectedMs: Object.fromEntries(
        [...detectedMs].sort(([a], [b]) => (a < b ? -1 : 1)).map(([id, ms]) => [id, Math.round(ms)]),
      ),
      failed,
      slow,
      recoveredMs:
        lastHitAt === undefined || startedAt === undefined ? null : Math.round(lastHitAt - startedAt),
    })),
    requests: {
      total,
      failed: total - slow - (byReason["ok"] ?? 0),
      slow,
      byReason,
      p50Ms: timesMs.length === 0 ? 0 : Math.round(quantile(timesMs, 0.5)),
      p99Ms: timesMs.length === 0 ? 0 : Math.round(quantile(timesMs, 0.99)),
    },
    convergedMs: input.convergedMs,
    reasons: Object.fromEntries(reasonGroups.map((group) => [group, statistics.group(group)])),
    checks: judge.checks,
    events: input.events,
  };
}

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;

/** The short report for people. */
export function formatReport(report: SimReport): string {
  const lines = [`world ${report.world}, seed ${report.seed}, ${report.seconds} s of virtual time`, ""];
  const rows = report.faults.map((fault) => {
    const detected = Object.values(fault.detectedMs);
    return [
      fault.kind,
      fault.target.length > 30 ? `${fault.target.slice(0, 27)}...` : fault.target,
      fault.startedAtMs === null ? "never" : seconds(fault.startedAtMs),
      fault.startedAtMs === null || fault.endedAtMs === null
        ? ""
        : seconds(fault.endedAtMs - fault.startedAtMs),
      detected.length === 0 ? "-" : `${seconds(Math.min(...detected))}..${seconds(Math.max(...detected))}`,
      fault.recoveredMs === null ? "-" : seconds(fault.recoveredMs),
      String(fault.failed),
      String(fault.slow),
    ];
  });
  const header = ["fault", "target", "at", "lasts", "detected after", "users well after", "lost", "slow"];
  const widths = header.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  for (const row of [header, ...rows])
    lines.push(
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    );
  const { requests } = report;
  const reasons = Object.entries(requests.byReason)
    .filter(([reason]) => reason !== "ok")
    .map(([reason, count]) => `${reason} ${count}`);
  lines.push(
    "",
    `requests: ${requests.total}, lost ${requests.failed}, slow ${requests.slow}${reasons.length > 0 ? ` (${reasons.join(", ")})` : ""}; p50 ${requests.p50Ms} ms, p99 ${requests.p99Ms} ms`,
    `served: ${counts(report.reasons["served"])}; answers: ${counts(report.reasons["dns"])}`,
    `paths: ${counts(report.reasons["path"])}; purges: ${counts(report.reasons["purge"])}`,
    report.convergedMs === null
      ? "converged: not reached"
      : `converged ${seconds(report.convergedMs)} after the last fault`,
    `digest ${report.digest} over ${report.events} events`,
  );
  const unasked = Object.entries(report.checks).filter(([, count]) => count === 0);
  if (unasked.length > 0) lines.push(`never asked in this run: ${unasked.map(([name]) => name).join(", ")}`);
  if (report.broken !== null) {
    const { invariant, sentence, atMs, detail, lastEvents } = report.broken;
    lines.push(
      "",
      `BROKEN ${invariant} at ${seconds(atMs)}, seed ${report.seed}: ${sentence}`,
      `  ${detail}`,
      "last events:",
    );
    lines.push(...lastEvents.map((line) => `  ${line}`));
  } else if (report.verdict === "vacuous") {
    const what =
      report.neverFired.length > 0 ? `${report.neverFired.join(", ")} never happened` : "no fault happened";
    lines.push("", `VACUOUS: ${what}, so this run has shown nothing about it`);
  } else
    lines.push(
      "",
      `OK: ${Object.keys(invariantSentences).length} invariants held over ${Object.values(report.checks).reduce((sum, count) => sum + count, 0)} checks`,
    );
  return lines.join("\n");
}

function counts(group: Readonly<Record<string, number>> | undefined): string {
  const entries = Object.entries(group ?? {});
  return entries.length === 0 ? "none" : entries.map(([reason, count]) => `${reason} ${count}`).join(", ");
}

/** One line a kind, for `--help`. */
export function faultHelp(): string {
  return Object.entries(faultSentences)
    .map(([kind, sentence]) => `  ${kind.padEnd(18)} ${sentence}`)
    .join("\n");
}
