/** What a policy answers, for people. */
import type { PolicyReport } from "../../mapping/core/policy/explain.ts";
import { formatTable } from "../table.ts";

const stateWords: Readonly<Record<PolicyReport["targets"][number]["state"], string>> = {
  up: "up",
  down: "down",
  spared: "down, but spared",
  untested: "not tested",
};

export function formatPolicy(report: PolicyReport): string {
  const { name, client, policyId, customerId, country, reason, ttlSeconds, scopePrefixLength, answer } =
    report;
  const facts: readonly (readonly [string, string])[] = [
    ["policy", `${policyId} of ${customerId}`],
    ["country", country ?? "not known: the name servers have no --countries"],
    ["answer", answer.length === 0 ? `no address of its own: ${reason}` : `${answer.join(", ")}: ${reason}`],
    ["valid", `${ttlSeconds} s, for everyone in the same /${scopePrefixLength}`],
  ];
  const steps = report.steps.map(({ depth, method, targets }) => [
    `${"  ".repeat(depth)}${method}`,
    targets.length === 0 ? "nobody" : targets.join(", "),
  ]);
  const targets = report.targets.map((target) => [
    target.targetId,
    target.propertyId === null ? target.addresses.join(" ") : `edges of ${target.propertyId}`,
    target.isEnabled ? stateWords[target.state] : "taken out",
    target.downSinceEpochMs === null ? "-" : new Date(target.downSinceEpochMs).toISOString(),
    `${Math.round(target.accepted * 100)} %`,
    target.score === null ? "-" : target.score.toFixed(1),
    `${(target.shareRatio * 100).toFixed(1)} %`,
  ]);
  return [
    `${name} for ${client}`,
    ...facts.map(([title, text]) => `  ${title.padEnd(8)}${text}`),
    "",
    formatTable(["rule", "chose"], steps),
    "",
    formatTable(["target", "addresses", "state", "down since", "takes", "score", "comes first"], targets),
  ].join("\n");
}
