/** Purge: forget objects at every server, and see each one say so. */
import { useEffect, useState } from "preact/hooks";
import type { PropertySummary, PurgeProgress } from "../../core/wire.ts";
import { follow, messageOf, read } from "../api.ts";
import { formatMs, plural } from "../format.ts";

interface Run {
  readonly servers: readonly string[];
  readonly missing: readonly string[];
  readonly acks: ReadonlyMap<string, { readonly removed: number; readonly elapsedMs: number }>;
  readonly done:
    | { readonly acked: number; readonly expected: number; readonly elapsedMs: number }
    | undefined;
  readonly failure: string;
}

const NO_RUN: Run = { servers: [], missing: [], acks: new Map(), done: undefined, failure: "" };

function lines(text: string): string[] {
  return text
    .split(/\s+/)
    .map((line) => line.trim())
    .filter((line) => line !== "");
}

export function Purge({ chosen }: { chosen: string | undefined }) {
  const [properties, setProperties] = useState<readonly PropertySummary[]>([]);
  const [propertyId, setPropertyId] = useState(chosen ?? "");
  const [urls, setUrls] = useState("");
  const [tags, setTags] = useState("");
  const [isWholeProperty, setWholeProperty] = useState(false);
  const [mode, setMode] = useState<"hard" | "soft">("hard");
  const [run, setRun] = useState<Run | undefined>(undefined);
  const [isRunning, setRunning] = useState(false);
  const [fault, setFault] = useState("");
  useEffect(() => {
    read<{ properties: PropertySummary[] }>("/properties").then(
      (answer) => {
        setProperties(answer.properties);
        setPropertyId((present) => present || (answer.properties[0]?.propertyId ?? ""));
      },
      (error: unknown) => setFault(messageOf(error)),
    );
  }, []);

  const property = properties.find((one) => one.propertyId === propertyId);
  // What ends in /* is everything below.
  const named = lines(urls);
  const prefixes = named.filter((line) => line.endsWith("*")).map((line) => line.slice(0, -1));
  const wish = isWholeProperty
    ? { isWholeProperty }
    : { urls: named.filter((line) => !line.endsWith("*")), tags: lines(tags), prefixes };
  const count = isWholeProperty ? 1 : named.length + lines(tags).length;

  const take = (line: PurgeProgress): void => {
    setRun((before = NO_RUN) => {
      switch (line.type) {
        case "accepted":
          return { ...NO_RUN, servers: line.servers, missing: line.missing };
        case "ack":
          return {
            ...before,
            acks: new Map(before.acks).set(line.serverId, {
              removed: line.removed,
              elapsedMs: line.elapsedMs,
            }),
          };
        case "done":
          return {
            ...before,
            done: { acked: line.acked, expected: line.expected, elapsedMs: line.elapsedMs },
          };
        case "failed":
          return { ...before, failure: line.message };
      }
    });
  };

  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    setRunning(true);
    setFault("");
    setRun(undefined);
    try {
      await follow<PurgeProgress>("/purges", { propertyId, ...wish, mode }, take);
    } catch (error) {
      setFault(messageOf(error));
    } finally {
      setRunning(false);
    }
  };

  return (
    <>
      <div class="title">
        <h1 tabIndex={-1}>Purge</h1>
        <span class="muted">forget objects at every server, before their time</span>
      </div>
      <div class="columns">
        <form class="panel form" onSubmit={(event) => void submit(event)}>
          <label htmlFor="property">Property</label>
          <select
            id="property"
            value={propertyId}
            onChange={(event) => setPropertyId(event.currentTarget.value)}
          >
            {properties.map((one) => (
              <option key={one.propertyId} value={one.propertyId}>
                {one.propertyId} · {one.hostnames[0]}
              </option>
            ))}
          </select>
          <label htmlFor="urls">URLs, one a line; ending in /* for all below</label>
          <textarea
            id="urls"
            disabled={isWholeProperty}
            rows={6}
            spellcheck={false}
            value={urls}
            placeholder={property === undefined ? "" : `https://${property.hostnames[0] ?? ""}/index.html`}
            onInput={(event) => setUrls(event.currentTarget.value)}
          />
          <label htmlFor="tags">Tags (Surrogate-Key, Cache-Tag)</label>
          <input
            id="tags"
            disabled={isWholeProperty}
            value={tags}
            spellcheck={false}
            placeholder="product-42 spring-sale"
            onInput={(event) => setTags(event.currentTarget.value)}
          />
          <fieldset class="radios">
            <legend>Or</legend>
            <label>
              <input
                type="checkbox"
                checked={isWholeProperty}
                onChange={(event) => setWholeProperty(event.currentTarget.checked)}
              />
              <span>
                Everything <small class="muted">all that is stored of it</small>
              </span>
            </label>
          </fieldset>
          <fieldset class="radios">
            <legend>How</legend>
            <label>
              <input type="radio" name="mode" checked={mode === "hard"} onChange={() => setMode("hard")} />
              <span>
                Remove <small class="muted">the next request goes to the origin</small>
              </span>
            </label>
            <label>
              <input type="radio" name="mode" checked={mode === "soft"} onChange={() => setMode("soft")} />
              <span>
                Make stale <small class="muted">may be served while it is validated</small>
              </span>
            </label>
          </fieldset>
          <p class="fault" role="alert">
            {fault}
          </p>
          <button type="submit" class="main" disabled={isRunning || count === 0 || propertyId === ""}>
            {isRunning
              ? "Purging…"
              : isWholeProperty
                ? "Purge everything"
                : count === 0
                  ? "Purge"
                  : `Purge ${plural(count, "entry", "entries")}`}
          </button>
        </form>
        <section class="panel progress-panel" aria-label="Progress">
          <h2>Progress</h2>
          {run === undefined ? (
            <p class="muted">Nothing purged from this page yet.</p>
          ) : (
            <Progress run={run} />
          )}
        </section>
      </div>
    </>
  );
}

function Progress({ run }: { run: Run }) {
  const expected = run.done?.expected ?? run.servers.length;
  const acked = run.done?.acked ?? run.acks.size;
  const removed = [...run.acks.values()].reduce((sum, ack) => sum + ack.removed, 0);
  return (
    <>
      <output class="purge-sum">
        <strong>
          {acked}/{expected}
        </strong>{" "}
        servers{run.done === undefined ? "" : ` in ${formatMs(run.done.elapsedMs)}`}
        {run.done === undefined ? null : (
          <small class="muted"> · {plural(removed, "object")} forgotten</small>
        )}
      </output>
      <progress max={Math.max(1, expected)} value={acked} aria-label="Servers that have acknowledged" />
      {run.failure === "" ? null : <p class="fault">{run.failure}</p>}
      {run.done !== undefined && run.done.acked < run.done.expected ? (
        <p class="notice warn">
          {plural(run.done.expected - run.done.acked, "server")} did not answer in time. They apply the purge
          before they serve again.
        </p>
      ) : null}
      <ul class="chips">
        {run.servers.map((serverId) => {
          const ack = run.acks.get(serverId);
          const state = ack !== undefined ? "done" : run.missing.includes(serverId) ? "missing" : "waiting";
          return (
            <li key={serverId} class={state}>
              {serverId}
              <small>
                {ack !== undefined ? formatMs(ack.elapsedMs) : state === "missing" ? "not reporting" : "…"}
              </small>
            </li>
          );
        })}
      </ul>
    </>
  );
}
