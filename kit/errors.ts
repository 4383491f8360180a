/**
 * Where a failure came from, seen from the process that reports it: `upstream` is towards the origin, `downstream`
 * towards the client, `internal` a fault of our own, `configuration` a document, option or machine to put right.
 */
export type ErrorSource = "upstream" | "downstream" | "internal" | "configuration";

/**
 * Whether the same operation may be tried again: `never` - it would fail again or could be done twice; `if-reused` -
 * only if it went over a reused connection that the peer had closed before reading it (RFC 9112, 9.3.1); `safe` -
 * nothing reached the peer, or the operation is idempotent.
 */
export type ErrorRetry = "never" | "if-reused" | "safe";

/** What an `IsochroneError` carries besides its message. */
export interface IsochroneErrorDetail {
  /** Stable, machine readable, kebab-case or a system code: "connect-timeout", "EADDRINUSE". */
  readonly code: string;
  readonly source: ErrorSource;
  readonly retry: ErrorRetry;
  /** The error underneath, if there was one. */
  readonly cause?: unknown;
}

/**
 * The one error class that leaves an `io/` directory. The message says what failed, for what, why, and what to do:
 * `Cannot fetch "https://..." from parent "fra-2": connect timeout after 800 ms`.
 */
export class IsochroneError extends Error {
  readonly code: string;
  readonly source: ErrorSource;
  readonly retry: ErrorRetry;

  constructor(message: string, detail: IsochroneErrorDetail) {
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.name = "IsochroneError";
    this.code = detail.code;
    this.source = detail.source;
    this.retry = detail.retry;
  }
}
