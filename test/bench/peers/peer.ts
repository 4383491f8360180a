/** What every server under measurement looks like to a benchmark. */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

/** A certificate with its key, in PEM files. */
export interface Certificate {
  readonly certificateFile: string;
  readonly keyFile: string;
}

/** What a benchmark asks of a server when it starts it. */
export interface Setting {
  readonly originPort: number;
  /** `cache`: stores what it may. `proxy`: passes on without a cache, where the server can do that. */
  readonly role: "cache" | "proxy";
  readonly workers: number;
  /** With a certificate there is a TLS port too, with HTTP/2 and HTTP/1.1 by ALPN. */
  readonly certificate?: Certificate;
  /** Bytes that its cache may hold, by its own way of counting them; without it each form has its own. */
  readonly cacheBytes?: number;
}

export interface RunningServer {
  readonly port: number;
  readonly tlsPort: number | undefined;
  /** Roots of the process trees whose CPU time and memory are the server's. */
  readonly pids: readonly number[];
  /**
   * Has it let go of what is beyond its `cacheBytes`, where it does that late by itself; no request may be in flight, and
   * connections are to be opened anew. Absent: it never holds more.
   */
  shrink?(): Promise<void>;
  stop(): Promise<void>;
}

/** The head of an answer that a check looks at; names in lower case. */
export type AnswerHeaders = Readonly<Record<string, string | readonly string[] | undefined>>;

/** One server in one form. */
export interface Server {
  /** `isochrone`, `nginx` ... */
  readonly name: string;
  /** `default` as the packager ships it, `tuned` by its own documentation, or a variation of one. */
  readonly form: string;
  /** What the form is, in one line for the report. */
  readonly note: string;
  /** Its program on PATH, or undefined where that is missing. */
  readonly program: string | undefined;
  version(): Promise<string>;
  start(setting: Setting): Promise<RunningServer>;
  /** The only protocol that it speaks; absent: all of them. */
  readonly protocol?: "h2";
  /** Whether the head says that the answer came out of the cache. */
  isHit(headers: AnswerHeaders): boolean;
  /** Whether a compressed answer is the one that this server sends from now on; absent: each is. */
  isSettled?(headers: AnswerHeaders): boolean;
}

export function header(headers: AnswerHeaders, name: string): string {
  return String(headers[name] ?? "");
}

/** Writes a configuration file, its directories made. */
export function writeConfiguration(path: string, lines: readonly (string | false)[]): string {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `${lines.filter((line) => line !== false).join("\n")}\n`);
  return path;
}
