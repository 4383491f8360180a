/** Traffic policies of customers: what is in force, and where a change of one stands on its way. */
/* oxlint-disable oxc/no-async-endpoint-handlers -- Fastify awaits its handlers */
import { haltWords } from "#control";
import { policyDocument } from "#kit";
import type { FastifyInstance } from "fastify";
import { maySee } from "../core/tenancy.ts";
import type { PolicySummary } from "../core/wire.ts";
import { type PortalContext, sessionOf } from "./context.ts";
import { faultOfControl } from "./property-desk.ts";
import { count, errors, flag, list, nullable, shape, text } from "./schemas.ts";

const policySummary = shape({
  policyId: text,
  customerId: text,
  names: list(text),
  targets: count,
  tests: count,
  version: count,
  isActive: flag,
  rollout: nullable(
    shape({
      version: count,
      state: { type: "string", enum: ["running", "done", "halted"] },
      stage: text,
      stageNumber: count,
      stages: count,
      servers: count,
      haltReason: nullable(text),
      haltServers: list(text),
    }),
  ),
});

export function policyRoutes(app: FastifyInstance, context: PortalContext): void {
  const { control } = context;
  /** By id, of the version that was in force when it was last asked for: versions never change, and pages ask every two seconds. */
  const known = new Map<string, Omit<PolicySummary, "rollout">>();

  async function summaryOf(id: string, version: number): Promise<Omit<PolicySummary, "rollout"> | undefined> {
    const last = known.get(id);
    if (last?.version === version) return last;
    const found = await control.document("policy", id, version);
    if (found === undefined) return undefined;
    const { policyId, customerId, names, targets, tests, isActive } = policyDocument.parse(found.body);
    const summary = {
      policyId,
      customerId,
      names,
      targets: targets.length,
      tests: tests.length,
      version,
      isActive,
    };
    known.set(id, summary);
    return summary;
  }

  app.get(
    "/api/v1/policies",
    {
      schema: {
        operationId: "policies",
        summary: "Traffic policies in force, each with the last roll-out of a change of it",
        tags: ["policies"],
        response: {
          200: { description: "The policies", ...shape({ policies: list(policySummary) }) },
          ...errors(401, 503),
        },
      },
    },
    async (request) => {
      const { viewer } = sessionOf(request);
      const ask = <T>(question: Promise<T>): Promise<T> =>
        question.catch((error: unknown) => faultOfControl(context, error));
      const rollouts = new Map(
        (await ask(control.rollouts()))
          .filter(({ kind }) => kind === "policy")
          .map((one) => [one.id as string, one]),
      );
      const policies: PolicySummary[] = [];
      for (const { id, activeVersion } of await ask(control.documents("policy"))) {
        const policy = activeVersion === null ? undefined : await ask(summaryOf(id, activeVersion));
        if (policy === undefined || !maySee(viewer, policy.customerId)) continue;
        const rollout = rollouts.get(id);
        const at = rollout?.stages[rollout.stageIndex];
        policies.push({
          ...policy,
          rollout:
            rollout === undefined || at === undefined
              ? null
              : {
                  version: rollout.version,
                  state: rollout.state,
                  stage: at.stage,
                  stageNumber: rollout.stageIndex + 1,
                  stages: rollout.stages.length,
                  servers: at.servers.length,
                  haltReason: rollout.halt && haltWords[rollout.halt.reason],
                  haltServers: rollout.halt?.servers ?? [],
                },
        });
      }
      return { policies };
    },
  );
}
