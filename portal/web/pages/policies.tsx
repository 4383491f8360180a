/** Traffic policies in force, and changes of them on their way through the stages. */
import type { PolicySummary } from "../../core/wire.ts";
import { usePolled } from "../polled.ts";
import { viewer } from "../session.ts";

const REFRESH_MS = 2_000;

export function Policies() {
  const { answer, fault } = usePolled<{ policies: PolicySummary[] }>("/policies", REFRESH_MS);
  const rows = answer?.policies;
  const isOperator = viewer.value?.customerId === null;
  return (
    <>
      <div class="title">
        <h1 tabIndex={-1}>Policies</h1>
        <span class="muted">names that are decided among targets</span>
      </div>
      {fault === "" ? null : (
        <p class="notice bad" role="alert">
          {fault}
        </p>
      )}
      {rows === undefined ? (
        <p class="muted">Loading…</p>
      ) : rows.length === 0 ? (
        <p class="panel">
          This account has no traffic policy. An operator adds one with <code>isochrone policy push</code>.
        </p>
      ) : (
        <section class="panel">
          <div class="scroll">
            <table>
              <thead>
                <tr>
                  <th>Policy</th>
                  {isOperator ? <th class="wide-only">Customer</th> : null}
                  <th class="wide-only">Names</th>
                  <th class="number">Targets</th>
                  <th class="number">Tests</th>
                  <th>In force</th>
                  <th>Last change</th>
                </tr>
              </thead>
              <tbody>
                {rows.map((row) => (
                  <tr key={row.policyId}>
                    <td>{row.policyId}</td>
                    {isOperator ? <td class="wide-only">{row.customerId}</td> : null}
                    <td class="wide-only">{row.names.join(", ")}</td>
                    <td class="number">{row.targets}</td>
                    <td class="number">{row.tests}</td>
                    <td>
                      <span class={row.isActive ? "badge good" : "badge warn"}>
                        {row.isActive ? `v${row.version}` : `v${row.version}, withdrawn`}
                      </span>
                    </td>
                    <td>{row.rollout === null ? null : <Change rollout={row.rollout} />}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </section>
      )}
    </>
  );
}

function Change({ rollout }: { rollout: NonNullable<PolicySummary["rollout"]> }) {
  const { version, state, stage, stageNumber, stages, servers, haltReason, haltServers } = rollout;
  if (state === "done") return <span class="muted">v{version} is everywhere</span>;
  if (state === "running")
    return (
      <>
        <span class="badge warn">
          v{version}, stage {stageNumber} of {stages}
        </span>
        <small class="muted">
          {" "}
          {stage}: {servers === 1 ? "1 server has" : `${servers} servers have`} it
        </small>
      </>
    );
  return (
    <>
      <span class="badge bad">v{version} halted</span>
      <small class="muted">
        {" "}
        {haltReason}
        {haltServers.length > 0 ? `: ${haltServers.join(", ")}` : ""}
      </small>
    </>
  );
}
