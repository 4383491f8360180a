/** The list of properties. */
import type { PropertySummary } from "../../core/wire.ts";
import { formatRate, formatRatio } from "../format.ts";
import { usePolled } from "../polled.ts";
import { viewer } from "../session.ts";

const REFRESH_MS = 3_000;

export function Properties() {
  const { answer, fault } = usePolled<{ properties: PropertySummary[] }>("/properties", REFRESH_MS);
  const rows = answer?.properties;
  const isOperator = viewer.value?.customerId === null;
  return (
    <>
      <div class="title">
        <h1 tabIndex={-1}>Properties</h1>
        <span class="muted">host names with their rules</span>
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
          This account has no property yet. An operator adds one with <code>isochrone config push</code>.
        </p>
      ) : (
        <section class="panel">
          <div class="scroll">
            <table>
              <thead>
                <tr>
                  <th>Property</th>
                  {isOperator ? <th class="wide-only">Customer</th> : null}
                  <th class="wide-only">Host names</th>
                  <th class="wide-only">Class</th>
                  <th>In force</th>
                  <th>Servers</th>
                  <th class="number">Req/s</th>
                  <th class="number">Hit ratio</th>
                </tr>
              </thead>
              <tbody>
                {rows.map((row) => (
                  <tr key={row.propertyId}>
                    <td>
                      <a href={`/properties/${row.propertyId}`}>{row.propertyId}</a>
                      <small class="muted narrow-only">{row.hostnames[0]}</small>
                    </td>
                    {isOperator ? <td class="wide-only">{row.customerId}</td> : null}
                    <td class="wide-only">
                      {row.hostnames.slice(0, 2).join(", ")}
                      {row.hostnames.length > 2 ? (
                        <span class="muted"> and {row.hostnames.length - 2} more</span>
                      ) : null}
                    </td>
                    <td class="wide-only">{row.trafficClass}</td>
                    <td>
                      <VersionInForce row={row} />
                    </td>
                    <td>
                      {row.rollout.applied}/{row.rollout.live}
                    </td>
                    <td class="number">{formatRate(row.requestsPerSecond)}</td>
                    <td class="number">{formatRatio(row.hitRatio)}</td>
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

function VersionInForce({ row }: { row: PropertySummary }) {
  if (row.activeVersion === null) return <span class="badge warn">never activated</span>;
  return (
    <>
      <span class={row.isActive ? "badge good" : "badge warn"}>
        {row.isActive ? `v${row.activeVersion}` : `v${row.activeVersion}, withdrawn`}
      </span>
      {row.latestVersion > row.activeVersion ? (
        <small class="muted"> newest v{row.latestVersion}</small>
      ) : null}
    </>
  );
}
