/** Requests to the portal's own API; the page speaks to nobody else. */
import type { DraftFault, ErrorAnswer } from "../core/wire.ts";

/** An answer of 4xx or 5xx, or none at all (`status` 0). The message is fit to show. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly faults: readonly DraftFault[];
  readonly presentVersion: number | undefined;
  constructor(status: number, answer: ErrorAnswer["error"]) {
    super(answer.message);
    this.name = "ApiError";
    this.status = status;
    this.code = answer.code;
    this.faults = answer.faults ?? [];
    this.presentVersion = answer.presentVersion;
  }
}

/** Told of each 401: the session is over. */
let onLoggedOut = (): void => {};
export function whenLoggedOut(listener: () => void): void {
  onLoggedOut = listener;
}

async function send(method: string, path: string, body?: unknown): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(`/api/v1${path}`, {
      method,
      headers: {
        ...(method !== "GET" && { "isochrone-portal": "1" }),
        ...(body !== undefined && { "content-type": "application/json" }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
  } catch {
    throw new ApiError(0, {
      code: "portal-unreachable",
      message: "The portal cannot be reached; check the connection and try again",
    });
  }
  if (response.ok) return response;
  const answer = (await response.json().catch(() => undefined)) as ErrorAnswer | undefined;
  if (response.status === 401 && answer?.error.code === "not-logged-in") onLoggedOut();
  throw new ApiError(
    response.status,
    answer?.error ?? { code: "unknown", message: `The portal answered ${response.status} without a reason` },
  );
}

export async function read<T>(path: string): Promise<T> {
  return (await (await send("GET", path)).json()) as T;
}

export async function write<T>(method: "POST" | "DELETE", path: string, body?: unknown): Promise<T> {
  const response = await send(method, path, body);
  return (response.status === 204 ? undefined : await response.json()) as T;
}

/** Calls `onLine` with each JSON line of the answer, as it comes. */
export async function follow<T>(path: string, body: unknown, onLine: (line: T) => void): Promise<void> {
  const response = await send("POST", path, body);
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const chunk = await reader?.read();
    if (chunk === undefined || chunk.done) return;
    const lines = (rest + chunk.value).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) if (line !== "") onLine(JSON.parse(line) as T);
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
