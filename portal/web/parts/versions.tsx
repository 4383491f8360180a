/** The versions of a property; each can be looked at, and put in force after its changes were seen. */
import { useEffect, useRef, useState } from "preact/hooks";
import type { Change, VersionSummary } from "../../core/wire.ts";
import { messageOf, read } from "../api.ts";
import { formatTime, timeZone } from "../format.ts";
import { Changes } from "./words.tsx";

export interface VersionsProps {
  readonly path: string;
  readonly versions: readonly VersionSummary[];
  readonly activeVersion: number | null;
  readonly isBusy: boolean;
  readonly activate: (version: number) => Promise<void>;
  readonly open: (version: number) => Promise<void>;
}

const SHOWN_AT_FIRST = 8;

export function Versions({ path, versions, activeVersion, isBusy, activate, open }: VersionsProps) {
  const [asked, setAsked] = useState<number | undefined>(undefined);
  const [isAll, setAll] = useState(false);
  const shown = isAll ? versions : versions.slice(0, SHOWN_AT_FIRST);
  return (
    <section class="panel">
      <h2>
        Versions <small class="muted">times in {timeZone}</small>
      </h2>
      <ol class="versions">
        {shown.map((one) => (
          <li key={one.version} class={one.isActive ? "active" : ""}>
            <span class="number">v{one.version}</span>
            <span class="what">
              <span>{one.note === "" ? <span class="muted">no note</span> : one.note}</span>
              <small class="muted">
                {one.author} · {formatTime(one.createdAtEpochMs)}
              </small>
            </span>
            <span class="actions">
              {one.isActive ? (
                <span class="badge good">in force</span>
              ) : (
                <button type="button" disabled={isBusy} onClick={() => setAsked(one.version)}>
                  {verbOf(one.version, activeVersion)}…
                </button>
              )}
              <button
                type="button"
                class="quiet"
                disabled={isBusy}
                aria-label={`Open version ${one.version} in the editor`}
                onClick={() => void open(one.version)}
              >
                Open
              </button>
            </span>
          </li>
        ))}
      </ol>
      {versions.length > shown.length ? (
        <button type="button" class="quiet" onClick={() => setAll(true)}>
          All {versions.length} versions
        </button>
      ) : null}
      {asked === undefined ? null : (
        <Confirm
          path={path}
          version={asked}
          activeVersion={activeVersion}
          close={() => setAsked(undefined)}
          confirm={() => {
            setAsked(undefined);
            void activate(asked);
          }}
        />
      )}
    </section>
  );
}

function verbOf(version: number, activeVersion: number | null): string {
  return activeVersion !== null && version < activeVersion ? "Roll back" : "Activate";
}

function Confirm(props: {
  path: string;
  version: number;
  activeVersion: number | null;
  close: () => void;
  confirm: () => void;
}) {
  const { path, version, activeVersion, close, confirm } = props;
  const dialogRef = useRef<HTMLDialogElement>(null);
  const [changes, setChanges] = useState<readonly Change[] | undefined>(undefined);
  const [fault, setFault] = useState("");
  useEffect(() => {
    dialogRef.current?.showModal();
    if (activeVersion === null) {
      setChanges([]);
      return;
    }
    read<{ changes: Change[] }>(`${path}/diff?from=${activeVersion}&to=${version}`).then(
      (answer) => setChanges(answer.changes),
      (error: unknown) => setFault(messageOf(error)),
    );
  }, [path, version, activeVersion]);
  const verb = verbOf(version, activeVersion);
  return (
    <dialog ref={dialogRef} aria-labelledby="confirm-title" onClose={close}>
      <h2 id="confirm-title">
        {verb === "Roll back" ? `Roll back to version ${version}?` : `Activate version ${version}?`}
      </h2>
      {fault !== "" ? (
        <p class="fault">{fault}</p>
      ) : changes === undefined ? (
        <p class="muted">Comparing…</p>
      ) : (
        <Changes
          changes={changes}
          empty={
            activeVersion === null ? "Nothing is in force yet." : "It says the same as the version in force."
          }
        />
      )}
      <div class="actions">
        <button type="button" class="main" disabled={changes === undefined} onClick={confirm}>
          {verb === "Roll back" ? `Roll back to v${version}` : `Activate v${version}`}
        </button>
        <button type="button" onClick={close}>
          Cancel
        </button>
      </div>
    </dialog>
  );
}
