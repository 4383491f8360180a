/** From the loudest to the quietest setting; `silent` writes nothing. */
export const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Values to log, by name with the unit last. Nested objects, arrays, errors, bigints and bytes are all right. */
export type LogFields = Readonly<Record<string, unknown>>;

/** Who is writing: the role ("edge", "dns") and the id of the process ("fra-1-a"). */
export type LoggerIdentity = { readonly role: string; readonly id: string };

/** For tests and special outputs. */
export type LoggerOptions = {
  /** Default: env ISOCHRONE_LOG, or "info" if that is not set or no level. */
  readonly level?: LogLevel;
  /** Takes one line with its line feed. Default: standard error. */
  readonly write?: (line: string) => void;
};

/** Values under such names are never written. */
const SECRET_NAME = /secret|token|password|authorization|cookie|key$/i;
const REDACTED = "[redacted]";
/** A line is bounded: longer texts are cut, deeper or wider values are left out, each with a mark that says so. */
const TEXT_CHARS_MAX = 4096;
const DEPTH_MAX = 5;
const ITEMS_MAX = 100;
const OWN_NAMES: ReadonlySet<string> = new Set(["time", "level", "role", "id", "event"]);

/**
 * Structured log: one JSON object a line. Every line has time (RFC 3339, UTC), level, role, id and event (a short
 * fixed name, kebab-case; what varies belongs in the fields). A field with one of these names is written with
 * "field." before it. Logging never throws.
 */
export class Logger {
  readonly #identity: LoggerIdentity;
  readonly #threshold: number;
  readonly #write: (line: string) => void;

  constructor(identity: LoggerIdentity, options: LoggerOptions = {}) {
    this.#identity = { role: identity.role, id: identity.id };
    this.#threshold = LOG_LEVELS.indexOf(options.level ?? levelOf(process.env["ISOCHRONE_LOG"]));
    this.#write = options.write ?? writeStandardError;
  }

  debug(event: string, fields?: LogFields): void {
    this.#log("debug", event, fields);
  }

  info(event: string, fields?: LogFields): void {
    this.#log("info", event, fields);
  }

  warn(event: string, fields?: LogFields): void {
    this.#log("warn", event, fields);
  }

  error(event: string, fields?: LogFields): void {
    this.#log("error", event, fields);
  }

  #log(level: LogLevel, event: string, fields: LogFields | undefined): void {
    if (LOG_LEVELS.indexOf(level) < this.#threshold) return;
    let line: string;
    try {
      const record: Record<string, unknown> = {
        time: new Date().toISOString(),
        level,
        ...this.#identity,
        event,
      };
      for (const [name, value] of Object.entries(fields ?? {}))
        record[OWN_NAMES.has(name) ? `field.${name}` : name] = printable(name, value, 0);
      line = JSON.stringify(record);
    } catch (error) {
      // A getter or a proxy among the fields threw: the event itself must not be lost.
      const logError = error instanceof Error ? error.message : String(error);
      line = JSON.stringify({ time: new Date().toISOString(), level, ...this.#identity, event, logError });
    }
    this.#write(`${line}\n`);
  }
}

/** A logger for the process or part with this role and id. */
export function createLogger(identity: LoggerIdentity, options?: LoggerOptions): Logger {
  return new Logger(identity, options);
}

function levelOf(text: string | undefined): LogLevel {
  return LOG_LEVELS.find((level) => level === text) ?? "info";
}

let isGuarded = false;

function writeStandardError(line: string): void {
  if (!isGuarded) {
    // Whoever read our standard error may go away; that must not end a server.
    process.stderr.on("error", () => {});
    isGuarded = true;
  }
  process.stderr.write(line);
}

function printable(name: string, value: unknown, depth: number): unknown {
  if (SECRET_NAME.test(name)) return REDACTED;
  switch (typeof value) {
    case "string":
      if (value.length <= TEXT_CHARS_MAX) return value;
      return `${value.slice(0, TEXT_CHARS_MAX)}...[${value.length - TEXT_CHARS_MAX} more]`;
    case "number":
      return Number.isFinite(value) ? value : String(value);
    case "bigint":
    case "symbol":
      return String(value);
    case "function":
      return "[function]";
    case "boolean":
    case "undefined":
      return value;
    case "object":
      break;
  }
  if (value === null) return null;
  if (depth >= DEPTH_MAX) return "[too deep]";
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? "Invalid Date" : value.toISOString();
  if (value instanceof Error) {
    const known: Record<string, unknown> = { name: value.name, message: printable("", value.message, depth) };
    for (const part of ["code", "source", "retry", "cause"] as const) {
      const detail: unknown = (value as unknown as Record<string, unknown>)[part];
      if (detail !== undefined) known[part] = printable(part, detail, depth + 1);
    }
    return known;
  }
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if (value instanceof Map) return printable("", Object.fromEntries(value), depth);
  const items: [string, unknown][] = [];
  const source = value instanceof Set ? [...value] : value;
  const entries = Object.entries(source);
  for (const [itemName, item] of entries.slice(0, ITEMS_MAX))
    items.push([itemName, printable(Array.isArray(source) ? "" : itemName, item, depth + 1)]);
  if (entries.length > ITEMS_MAX) items.push(["...", `[${entries.length - ITEMS_MAX} more]`]);
  return Array.isArray(source) ? items.map(([, item]) => item) : Object.fromEntries(items);
}
