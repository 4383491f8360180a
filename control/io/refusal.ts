import { formatPath, ParseError, quoteValue } from "#kit";
import type { ErrorBody } from "../core/wire.ts";

/** A request that is answered with an error status. */
export class Refusal extends Error {
  readonly status: number;
  readonly body: ErrorBody;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, body: ErrorBody, headers: Readonly<Record<string, string>> = {}) {
    super(body.error);
    this.name = "Refusal";
    this.status = status;
    this.body = body;
    this.headers = headers;
  }
}

/** 409: `presentVersion` is what the sender would have had to expect. */
export function conflict(what: string, expected: number | null, presentVersion: number | null): Refusal {
  const present = presentVersion === null ? "none" : String(presentVersion);
  return new Refusal(409, {
    error: `${what} is ${present}, not ${expected === null ? "none" : expected}; read it and decide again`,
    code: "conflict",
    presentVersion,
  });
}

/** 412: a publication of another term, or one that is not newer than what is there. Repeating it does not help. */
export function fenced(error: string, code: "fenced" | "not-newer"): Refusal {
  return new Refusal(412, { error, code });
}

export function notFound(what: string): Refusal {
  return new Refusal(404, { error: `There is no ${what}`, code: "not-found" });
}

/** 422 for a document, 400 for the request around it. */
export function refusalOf(error: ParseError, status: 400 | 422 = 422): Refusal {
  return new Refusal(status, {
    error: error.message,
    code: status === 422 ? "refused" : "bad-request",
    path: formatPath(error.path),
    value: error.value === undefined ? "nothing" : quoteValue(error.value),
    expected: error.expected,
  });
}
