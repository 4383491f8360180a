/** One property: edit, see what would change, save, activate, roll back. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import type { PropertyDetail, ValidateAnswer, VersionSummary } from "../../core/wire.ts";
import { ApiError, messageOf, read, write } from "../api.ts";
import { plural } from "../format.ts";
import { withValue } from "../../core/draft-value.ts";
import { Fields } from "../parts/fields.tsx";
import { Graphs } from "../parts/graph.tsx";
import { Versions } from "../parts/versions.tsx";
import { Changes } from "../parts/words.tsx";
import { guardLeaving } from "../router.ts";

type Format = "json" | "yaml";
const VALIDATE_AFTER_MS = 250;
const REFRESH_MS = 2_000;
const HOSTNAMES_SHOWN = 4;

interface Message {
  readonly kind: "good" | "bad";
  readonly text: string;
}

export function Property({ propertyId }: { propertyId: string }) {
  const path = `/properties/${encodeURIComponent(propertyId)}`;
  const [detail, setDetail] = useState<PropertyDetail | undefined>(undefined);
  const [versions, setVersions] = useState<readonly VersionSummary[]>([]);
  const [missing, setMissing] = useState("");
  const [format, setFormat] = useState<Format>("json");
  const [text, setText] = useState("");
  /** The version that the draft was made from: what a save must still find as the newest. */
  const [base, setBase] = useState(0);
  const [isDirty, setDirty] = useState(false);
  const [verdict, setVerdict] = useState<ValidateAnswer | undefined>(undefined);
  const [note, setNote] = useState("");
  const [isBusy, setBusy] = useState(false);
  const [message, setMessage] = useState<Message | undefined>(undefined);
  const [conflict, setConflict] = useState<number | undefined>(undefined);
  const dirtyRef = useRef(isDirty);
  const formatRef = useRef(format);
  useEffect(() => {
    dirtyRef.current = isDirty;
    formatRef.current = format;
  }, [isDirty, format]);
  const areaRef = useRef<HTMLTextAreaElement>(null);
  /** Answers may overtake each other: only the newest question's counts. */
  const askedRef = useRef(0);

  const refresh = useCallback(async (): Promise<PropertyDetail> => {
    const [newest, list] = await Promise.all([
      read<PropertyDetail>(path),
      read<{ versions: VersionSummary[] }>(`${path}/versions`).catch((error: unknown) => {
        if (error instanceof ApiError && error.code === "control-unreachable") return undefined;
        throw error;
      }),
    ]);
    setMissing("");
    // Without control the version in force is all that is known: newer ones that were seen before stay on the page.
    setDetail((before) =>
      newest.isLastKnown && before !== undefined ? { ...before, isLastKnown: true } : newest,
    );
    if (list !== undefined) setVersions(list.versions);
    return newest;
  }, [path]);

  const validate = useCallback(
    async (
      draft: { text: string; format: Format } | { document: unknown },
    ): Promise<ValidateAnswer | undefined> => {
      const question = ++askedRef.current;
      try {
        const answer = await write<ValidateAnswer>("POST", `${path}/validate`, draft);
        if (question !== askedRef.current) return undefined;
        setVerdict(answer);
        return answer;
      } catch (error) {
        if (question === askedRef.current) setMessage({ kind: "bad", text: messageOf(error) });
        return undefined;
      }
    },
    [path],
  );

  /** Puts a stored version into the editor. */
  const load = useCallback(
    (stored: PropertyDetail, into: Format, onTop: number): void => {
      setText(into === "json" ? stored.json : stored.yaml);
      setBase(onTop);
      setDirty(stored.version !== stored.latestVersion);
      setConflict(undefined);
      void validate({ text: into === "json" ? stored.json : stored.yaml, format: into });
    },
    [validate],
  );

  useEffect(() => {
    let isGone = false;
    let hasLoaded = false;
    let isWhole = false;
    const round = (): void => {
      refresh().then(
        (newest) => {
          if (isGone) return;
          // What was loaded without control may be old: loaded anew once control says, unless somebody has typed.
          if (!hasLoaded || (!isWhole && !newest.isLastKnown && !dirtyRef.current))
            load(newest, formatRef.current, newest.latestVersion);
          hasLoaded = true;
          isWhole ||= !newest.isLastKnown;
        },
        (error: unknown) => {
          if (!isGone && !hasLoaded) setMissing(messageOf(error));
        },
      );
    };
    round();
    const timer = setInterval(round, REFRESH_MS);
    return () => {
      isGone = true;
      clearInterval(timer);
    };
  }, [refresh, load]);

  useEffect(() => {
    if (!isDirty) return;
    const unload = (event: BeforeUnloadEvent): void => event.preventDefault();
    addEventListener("beforeunload", unload);
    const stop = guardLeaving(() => confirm("Leave without saving the changes?"));
    return () => {
      removeEventListener("beforeunload", unload);
      stop();
    };
  }, [isDirty]);

  // Typing is checked when it pauses.
  const pendingRef = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const edit = (next: string): void => {
    setText(next);
    setDirty(true);
    setMessage(undefined);
    clearTimeout(pendingRef.current);
    pendingRef.current = setTimeout(() => void validate({ text: next, format }), VALIDATE_AFTER_MS);
  };

  const draft = readDraft(text, format, verdict);
  const change = (at: readonly string[], value: unknown): void => {
    const next = withValue(draft, at, value);
    setDirty(true);
    setMessage(undefined);
    clearTimeout(pendingRef.current);
    if (format === "json") {
      const nextText = `${JSON.stringify(next, null, 2)}\n`;
      setText(nextText);
      void validate({ text: nextText, format });
    } else {
      void validate({ document: next }).then((answer) => {
        if (answer?.yaml !== undefined && answer.yaml !== null) setText(answer.yaml);
      });
    }
  };

  const switchFormat = (next: Format): void => {
    const other = next === "json" ? verdict?.json : verdict?.yaml;
    if (next === format || other === undefined || other === null) return;
    setFormat(next);
    setText(other);
    void validate({ text: other, format: next });
  };

  const attempt = async (action: () => Promise<string>): Promise<void> => {
    setBusy(true);
    setMessage(undefined);
    try {
      const done = await action();
      setMessage({ kind: "good", text: done });
    } catch (error) {
      if (error instanceof ApiError && error.code === "version-conflict") {
        const newest = await refresh().catch(() => undefined);
        setConflict(newest?.latestVersion ?? error.presentVersion);
      }
      setMessage({ kind: "bad", text: messageOf(error) });
    } finally {
      setBusy(false);
    }
  };

  const save = (activate: boolean): Promise<void> =>
    attempt(async () => {
      const saved = await write<VersionSummary>("POST", `${path}/versions`, {
        text,
        format,
        expectedVersion: base,
        note,
        activate,
      });
      setBase(saved.version);
      setDirty(false);
      setNote("");
      const newest = await refresh();
      load(newest, format, newest.latestVersion);
      return activate
        ? `Version ${saved.version} is in force`
        : `Version ${saved.version} is saved; it is not in force yet`;
    });

  const activate = (version: number): Promise<void> =>
    attempt(async () => {
      await write("POST", `${path}/activate`, {
        version,
        expectedActiveVersion: detail?.activeVersion ?? null,
      });
      await refresh();
      // What the draft would change is measured against the version in force.
      void validate({ text, format });
      return `Version ${version} is in force`;
    });

  const open = (version: number): Promise<void> =>
    attempt(async () => {
      if (isDirty && !confirm("Replace the draft in the editor?")) return "The draft is as it was";
      load(
        await read<PropertyDetail>(`${path}?version=${version}`),
        format,
        detail?.latestVersion ?? version,
      );
      areaRef.current?.focus();
      return `Version ${version} is in the editor`;
    });

  if (missing !== "") {
    return (
      <>
        <h1 tabIndex={-1}>{propertyId}</h1>
        <p class="notice bad" role="alert">
          {missing}
        </p>
        <p>
          <a href="/properties">All properties</a>
        </p>
      </>
    );
  }
  if (detail === undefined || verdict === undefined) return <p class="muted">Loading…</p>;
  const hostnames = hostnamesOf(detail.document);
  const faults = verdict.faults;
  const shownHostnames = hostnames.slice(0, HOSTNAMES_SHOWN).join(", ");
  const canSave = verdict.isValid && isDirty && !isBusy;
  return (
    <>
      <div class="title">
        <h1 tabIndex={-1}>{propertyId}</h1>
        <span class="muted hostnames" title={hostnames.join("\n")}>
          {shownHostnames}
          {hostnames.length > HOSTNAMES_SHOWN ? ` and ${hostnames.length - HOSTNAMES_SHOWN} more` : ""}
        </span>
        <span class="grow" />
        {detail.activeVersion === null ? (
          <span class="badge warn">never activated</span>
        ) : (
          <span class="badge good">v{detail.activeVersion} in force</span>
        )}
        <output class="muted">
          on {detail.rollout.applied} of {plural(detail.rollout.live, "server")}
        </output>
        <a class="button" href={`/purge?property=${encodeURIComponent(propertyId)}`}>
          Purge…
        </a>
      </div>
      {detail.isLastKnown ? (
        <output class="notice warn">
          Control cannot be reached. This is the property as it was last known; you can go on typing, but a
          save has to wait until control is back.
        </output>
      ) : null}
      {message === undefined || conflict !== undefined ? null : (
        <p class={`notice ${message.kind}`} role={message.kind === "bad" ? "alert" : "status"}>
          {message.text}
        </p>
      )}
      {conflict === undefined ? null : (
        <div class="notice warn actions" role="alert">
          <span>
            Somebody else saved version {conflict} while version {base} was edited here.
          </span>
          <button
            type="button"
            onClick={() => void refresh().then((newest) => load(newest, format, newest.latestVersion))}
          >
            Take version {conflict}, drop my draft
          </button>
          <button
            type="button"
            onClick={() => {
              setBase(conflict);
              setConflict(undefined);
              setMessage(undefined);
            }}
          >
            Keep my draft, save it after {conflict}
          </button>
        </div>
      )}
      <div class="columns edit">
        <section class="panel editor" aria-label="Editor">
          <div class="panel-head">
            <h2>Configuration</h2>
            {isDirty ? <span class="badge warn">changed</span> : null}
            <span class="grow" />
            <fieldset class="choice" aria-label="Format of the text">
              {(["json", "yaml"] as const).map((one) => (
                <button
                  key={one}
                  type="button"
                  aria-pressed={format === one}
                  disabled={format !== one && verdict.json === null}
                  onClick={() => switchFormat(one)}
                >
                  {one.toUpperCase()}
                </button>
              ))}
            </fieldset>
          </div>
          <Fields draft={draft} faults={faults} isDisabled={draft === undefined || isBusy} change={change} />
          <details class="source" open>
            <summary>Whole document</summary>
            <label class="visually-hidden" htmlFor="source">
              Document as {format.toUpperCase()}
            </label>
            <textarea
              id="source"
              ref={areaRef}
              rows={22}
              spellcheck={false}
              autocapitalize="none"
              value={text}
              aria-invalid={faults.length > 0}
              aria-describedby="source-faults"
              onInput={(event) => edit(event.currentTarget.value)}
            />
          </details>
          <ul id="source-faults" class="faults" aria-live="polite">
            {faults.map((fault) => (
              <li key={fault.path}>
                {fault.line === null ? null : (
                  <button
                    type="button"
                    class="line"
                    onClick={() => selectLine(areaRef.current, fault.line ?? 1)}
                  >
                    line {fault.line}
                  </button>
                )}
                <code>{fault.path}</code> got <b>{fault.value}</b>, expected {fault.expected}
              </li>
            ))}
          </ul>
        </section>
        <div class="stack">
          <section class="panel review">
            <h2>Review</h2>
            {verdict.isValid ? (
              <>
                <p class="muted">
                  {detail.activeVersion === null
                    ? "Nothing is in force yet."
                    : `What this draft changes against version ${detail.activeVersion}, which is in force:`}
                </p>
                <Changes changes={verdict.changes} empty="Nothing." />
              </>
            ) : (
              <p class="fault">{plural(faults.length, "fault")} to mend first.</p>
            )}
            <label htmlFor="note">Note for the list of versions</label>
            <input
              id="note"
              value={note}
              maxLength={500}
              placeholder="why"
              onInput={(event) => setNote(event.currentTarget.value)}
            />
            <div class="actions">
              <button type="button" class="main" disabled={!canSave} onClick={() => void save(true)}>
                Save and activate
              </button>
              <button type="button" disabled={!canSave} onClick={() => void save(false)}>
                Save as version {base + 1}
              </button>
              {isDirty ? (
                <button
                  type="button"
                  class="quiet"
                  disabled={isBusy}
                  onClick={() =>
                    load({ ...detail, version: detail.latestVersion }, format, detail.latestVersion)
                  }
                >
                  Discard
                </button>
              ) : null}
            </div>
          </section>
          <Versions
            path={path}
            versions={versions}
            activeVersion={detail.activeVersion}
            isBusy={isBusy}
            activate={activate}
            open={open}
          />
          <Graphs propertyId={propertyId} />
        </div>
      </div>
    </>
  );
}

/** The draft as a value: read here where the text is JSON, by the portal where it is YAML. Undefined while it cannot be read. */
function readDraft(text: string, format: Format, verdict: ValidateAnswer | undefined): unknown {
  if (format === "yaml") return verdict?.draft ?? undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function hostnamesOf(document: unknown): readonly string[] {
  const { hostnames } = (document ?? {}) as { hostnames?: readonly string[] };
  return hostnames ?? [];
}

function selectLine(area: HTMLTextAreaElement | null, line: number): void {
  if (area === null) return;
  const lines = area.value.split("\n");
  const start = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
  area.focus();
  area.setSelectionRange(start, start + (lines[line - 1]?.length ?? 0));
  area.scrollTop = (area.scrollHeight / lines.length) * Math.max(0, line - 6);
}
