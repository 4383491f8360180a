import { errorBody, type ErrorBody } from "../core/wire.ts";
import { ControlError } from "./control-error.ts";

/** An error answer is a line or two; a page of some other server is cut here. */
const ERROR_BYTES_MAX = 256 * 1024;

/** Of answers that are not control's own. */
const CODES: Readonly<Record<number, string>> = {
  401: "unauthorised",
  403: "unauthorised",
  404: "not-found",
  409: "conflict",
  412: "fenced",
  413: "too-large",
  422: "refused",
  429: "overloaded",
  503: "overloaded",
};

/** The error that a refusing answer stands for. Reads the body; never throws. */
export async function errorOfAnswer(
  origin: string,
  what: string,
  status: number,
  body: AsyncIterable<unknown>,
): Promise<ControlError> {
  const said = await readErrorBody(body);
  const hint =
    status === 401 ? "; set ISOCHRONE_CONTROL_TOKEN to the token that control was started with" : "";
  const why = said?.error ?? `status ${status} without a reason`;
  return new ControlError(`Control ${origin} refused ${what}: ${why}${hint}`, {
    code: said?.code ?? CODES[status] ?? (status >= 500 ? "control-failed" : "bad-request"),
    source: status >= 500 ? "upstream" : "configuration",
    retry: status === 429 || status === 503 ? "safe" : "never",
    status,
    ...(said?.path !== undefined && { path: said.path }),
    ...(said?.value !== undefined && { value: said.value }),
    ...(said?.expected !== undefined && { expected: said.expected }),
    ...(said?.presentVersion !== undefined && { presentVersion: said.presentVersion }),
  });
}

async function readErrorBody(body: AsyncIterable<unknown>): Promise<ErrorBody | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of body) {
      bytes += (chunk as Buffer).length;
      if (bytes > ERROR_BYTES_MAX) return undefined;
      chunks.push(chunk as Buffer);
    }
    return errorBody.parse(JSON.parse(Buffer.concat(chunks).toString("utf8")));
  } catch {
    // Not control's own answer: the status alone tells.
    return undefined;
  }
}

/** No answer, or one that broke off. Whether control acted on it is unknown, but every request of ours may be repeated. */
export function unreachable(origin: string, what: string, cause: unknown): ControlError {
  const isLate = cause instanceof Error && cause.name === "TimeoutError";
  const why = isLate
    ? "no answer in time"
    : cause instanceof Error
      ? cause.message || cause.name
      : String(cause);
  return new ControlError(`Cannot reach control ${origin} for ${what}: ${why}; check that it runs there`, {
    code: "control-unreachable",
    source: "upstream",
    retry: "safe",
    cause,
  });
}
