/** The common fields of a property as a form over the same draft as the text. */
import type { DraftFault } from "../../core/wire.ts";
import { formatSeconds } from "../format.ts";
import { valueAt } from "../../core/draft-value.ts";

type Field = {
  readonly path: readonly string[];
  readonly label: string;
  readonly help: string;
} & (
  | {
      readonly kind: "number";
      readonly unit: "s" | "requests";
      readonly min: 0 | 1;
      /** What an empty field states: null, or nothing, so that the default counts. */
      readonly empty: "none" | "default";
      readonly fallback: number | null;
    }
  | { readonly kind: "choice"; readonly choices: readonly (readonly [string, string])[] }
  | { readonly kind: "switch"; readonly fallback: boolean }
);

const groups: readonly { readonly title: string; readonly fields: readonly Field[] }[] = [
  {
    title: "Caching",
    fields: [
      {
        kind: "number",
        unit: "s",
        min: 0,
        empty: "none",
        fallback: null,
        path: ["caching", "defaultTtlSeconds"],
        label: "Default TTL",
        help: "When the origin states none. Empty: not stored as fresh",
      },
      {
        kind: "number",
        unit: "s",
        min: 0,
        empty: "none",
        fallback: null,
        path: ["caching", "overrideTtlSeconds"],
        label: "Override TTL",
        help: "In place of what the origin states. Empty: the origin decides",
      },
      {
        kind: "number",
        unit: "s",
        min: 0,
        empty: "default",
        fallback: 0,
        path: ["caching", "staleWhileRevalidateSeconds"],
        label: "Stale while revalidating",
        help: "May be served stale while it is fetched anew",
      },
      {
        kind: "number",
        unit: "s",
        min: 0,
        empty: "default",
        fallback: 86_400,
        path: ["caching", "staleIfErrorSeconds"],
        label: "Stale if error",
        help: "May be served stale while the origin fails",
      },
      {
        kind: "number",
        unit: "s",
        min: 0,
        empty: "default",
        fallback: 0,
        path: ["caching", "negativeTtlSeconds"],
        label: "Errors TTL",
        help: "Freshness of 404, 410 and 5xx that state none",
      },
    ],
  },
  {
    title: "Delivery",
    fields: [
      {
        kind: "number",
        unit: "s",
        min: 1,
        empty: "default",
        fallback: 20,
        path: ["dnsTtlSeconds"],
        label: "DNS TTL",
        help: "How long resolvers keep an answer",
      },
      {
        kind: "number",
        unit: "requests",
        min: 1,
        empty: "none",
        fallback: null,
        path: ["forwardsMax"],
        label: "Requests under way",
        help: "To your origins, from each server at once. Empty: the server's own bound",
      },
      {
        kind: "choice",
        choices: [
          ["interactive", "Latency first"],
          ["bulk", "Throughput first"],
          ["live", "Live streams"],
        ],
        path: ["trafficClass"],
        label: "Traffic class",
        help: "How servers are chosen for users",
      },
      {
        kind: "choice",
        choices: [
          ["parent", "Via a parent"],
          ["direct", "To the origin"],
        ],
        path: ["tiering"],
        label: "Misses go",
        help: "A parent spares the origin",
      },
      {
        kind: "switch",
        fallback: false,
        path: ["prefetch", "isEnabled"],
        label: "Prefetch",
        help: "Fetch what a page names before the browser asks",
      },
      {
        kind: "switch",
        fallback: true,
        path: ["isActive"],
        label: "Serve this property",
        help: "Off: edges answer 421 for its host names",
      },
    ],
  },
];

export interface FieldsProps {
  readonly draft: unknown;
  readonly faults: readonly DraftFault[];
  /** The text cannot be read, so there is nothing that a form could change. */
  readonly isDisabled: boolean;
  readonly change: (path: readonly string[], value: unknown) => void;
}

export function Fields({ draft, faults, isDisabled, change }: FieldsProps) {
  return (
    <fieldset class="fields" disabled={isDisabled}>
      <legend class="visually-hidden">Common fields</legend>
      {groups.map((group) => (
        <div key={group.title} class="field-group">
          <h3>{group.title}</h3>
          {group.fields.map((field) => (
            <OneField
              key={field.path.join(".")}
              field={field}
              draft={draft}
              faults={faults}
              change={change}
            />
          ))}
        </div>
      ))}
    </fieldset>
  );
}

function OneField({
  field,
  draft,
  faults,
  change,
}: {
  field: Field;
  draft: unknown;
  faults: readonly DraftFault[];
  change: FieldsProps["change"];
}) {
  const dotted = field.path.join(".");
  const id = `field-${field.path.join("-")}`;
  const value = valueAt(draft, field.path);
  const fault = faults.find((one) => one.path === dotted);
  const described = { "aria-describedby": `${id}-help`, "aria-invalid": fault !== undefined };
  const set = (next: unknown): void => change(field.path, next);
  return (
    <div class={fault === undefined ? "field" : "field wrong"}>
      <label htmlFor={id}>
        {field.label}
        {field.kind === "number" && field.unit === "s" && typeof value === "number" && value >= 60 ? (
          <small> {formatSeconds(value)}</small>
        ) : null}
      </label>
      {field.kind === "number" ? (
        <span class="with-unit">
          <input
            id={id}
            type="number"
            inputMode="numeric"
            min={field.min}
            step={1}
            {...described}
            value={typeof value === "number" ? value : ""}
            placeholder={field.fallback === null ? "none" : String(field.fallback)}
            onInput={(event) => {
              const { value: text } = event.currentTarget;
              set(text === "" ? (field.empty === "none" ? null : undefined) : Number(text));
            }}
          />
          <span class="unit">{field.unit}</span>
        </span>
      ) : field.kind === "choice" ? (
        <select
          id={id}
          {...described}
          value={typeof value === "string" ? value : (field.choices[0]?.[0] ?? "")}
          onChange={(event) => set(event.currentTarget.value)}
        >
          {field.choices.map(([choice, name]) => (
            <option key={choice} value={choice}>
              {name}
            </option>
          ))}
        </select>
      ) : (
        <input
          id={id}
          type="checkbox"
          role="switch"
          {...described}
          checked={typeof value === "boolean" ? value : field.fallback}
          aria-checked={typeof value === "boolean" ? value : field.fallback}
          onChange={(event) => set(event.currentTarget.checked)}
        />
      )}
      <small id={`${id}-help`} class={fault === undefined ? "muted" : "fault"}>
        {fault === undefined ? field.help : `got ${fault.value}, expected ${fault.expected}`}
      </small>
    </div>
  );
}
