/** Words that stand on several pages. */
import type { Change, ServerState } from "../../core/wire.ts";

export const roleNames: Readonly<Record<string, string>> = {
  edge: "Edge",
  parent: "Parent",
  relay: "Relay",
  origin: "Origin",
  nameserver: "Name server",
  service: "Service",
};

const stateNames: Readonly<Record<ServerState, string>> = {
  ready: "ready",
  starting: "starting",
  draining: "draining",
  down: "down",
  unknown: "not known",
  unwatched: "not watched",
};

export function StateWord({ state }: { state: ServerState }) {
  return (
    <span class={`state ${state}`}>
      <i class={`dot ${state}`} aria-hidden="true" />
      {stateNames[state]}
    </span>
  );
}

/** A list of changes, as a table: the place, what stood there, what stands there then. */
export function Changes({ changes, empty }: { changes: readonly Change[]; empty: string }) {
  if (changes.length === 0) return <p class="muted">{empty}</p>;
  return (
    <div class="scroll">
      <table class="changes">
        <thead>
          <tr>
            <th>Field</th>
            <th>Before</th>
            <th>After</th>
          </tr>
        </thead>
        <tbody>
          {changes.map((change) => (
            <tr key={change.path}>
              <td>
                <code>{change.path}</code>
              </td>
              <td>{change.from === null ? <span class="muted">–</span> : <del>{change.from}</del>}</td>
              <td>{change.to === null ? <span class="muted">removed</span> : <ins>{change.to}</ins>}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
