/** One question to the admin surface of a server, with the deployment's token. */
import { messageOf, UsageError } from "./usage.ts";

/** A longer answer is nobody's. */
const ANSWER_CHARACTERS_MAX = 4 * 1_048_576;

export interface ServerQuestion {
  /** Whom an error is to name: `the mapper at http://127.0.0.1:8080`. */
  readonly who: string;
  readonly url: URL | string;
  readonly token: string;
  readonly timeoutMs: number;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

export interface ServerAnswer {
  readonly status: number;
  readonly text: string;
  /** Undefined: it is no JSON, or longer than any of ours. */
  readonly body: unknown;
}

/** Throws {@link UsageError}, exit code 1, when the server cannot be reached or refuses the token; every other status is an answer. */
export async function askServer(question: ServerQuestion): Promise<ServerAnswer> {
  const { who, url, token, timeoutMs, headers, ...init } = question;
  let status: number;
  let text: string;
  try {
    const response = await fetch(url, {
      ...init,
      headers: { ...headers, authorization: `Bearer ${token}` },
      redirect: "error",
      signal: AbortSignal.timeout(timeoutMs),
    });
    status = response.status;
    text = await response.text();
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    throw new UsageError(`Cannot ask ${who}: ${messageOf(cause)}; does it run?`, 1);
  }
  if (status === 401)
    throw new UsageError(
      `${who.charAt(0).toUpperCase()}${who.slice(1)} refuses the token; set ISOCHRONE_CONTROL_TOKEN`,
      1,
    );
  try {
    return { status, text, body: text.length > ANSWER_CHARACTERS_MAX ? undefined : JSON.parse(text) };
  } catch {
    return { status, text, body: undefined };
  }
}
