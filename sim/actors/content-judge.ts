/** Invariants about content: how old may it be, and may it be given at all after a purge. Reckoned from the catalog's truth. */
import type { PropertyDocument } from "#kit";
import { policyFor } from "../../edge/core/rules/policy-for.ts";
import type { CatalogObject } from "./catalog.ts";
import type { Host } from "./host.ts";
import type { HttpAnswer } from "./messages.ts";
import type { Stage } from "./stage.ts";

/** Whole seconds in Age at two tiers, and the way to the user, ms. */
const SLACK_MS = 3_000;

export function judgeContent(
  stage: Stage,
  host: Host,
  property: PropertyDocument,
  object: CatalogObject,
  startedAt: number,
  answer: HttpAnswer,
): void {
  const { content } = answer;
  if (content === undefined) return;
  const { judge, statistics } = stage;
  const { now } = host;
  statistics.count("served", answer.staleness === "none" ? "fresh" : `stale-${answer.staleness}`);

  const { purged } = object;
  if (purged !== undefined && startedAt > purged.at)
    judge.check(
      "purged-served",
      now,
      content.version >= purged.version,
      () =>
        `${host.id} was given version ${content.version} of ${object.host}${object.target}, ${Math.round(startedAt - purged.at)} ms after every server had acknowledged the purge for version ${purged.version}`,
    );

  const policy = policyFor(property, object.target);
  const stated = policy.overrideTtlSeconds ?? object.maxAgeSeconds ?? policy.defaultTtlSeconds ?? 0;
  const whileRevalidate = object.staleSeconds > 0 ? object.staleSeconds : policy.staleWhileRevalidateSeconds;
  const windows = {
    none: 0,
    "while-revalidate": whileRevalidate,
    "if-error": Math.max(whileRevalidate, policy.staleIfErrorSeconds),
  };
  const limitMs = (stated + windows[answer.staleness]) * 1_000 + SLACK_MS;
  const ageMs = startedAt - content.vouchedAt;
  judge.check(
    "stale-beyond-policy",
    now,
    ageMs <= limitMs,
    () =>
      `${host.id} was given ${object.host}${object.target} (${answer.staleness}) ${Math.round(ageMs)} ms after its origin vouched for it; its lifetime allows ${limitMs} ms`,
  );
}
