/** The admin surface: life, readiness, metrics, and - with the bearer token - counts, faults and versions. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { integer, object, ParseError } from "#kit";
import type { BearerGate } from "#kit/io";
import { type FaultSwitch, faultSchema } from "../core/faults.ts";
import type { OriginMetrics } from "./metrics.ts";
import type { RequestLog } from "./request-log.ts";

export interface AdminState {
  readonly log: RequestLog;
  readonly faults: FaultSwitch;
  readonly metrics: OriginMetrics;
  /** Who may read counts and change behaviour. */
  readonly gate: BearerGate;
  readonly isReady: () => boolean;
  readonly bodyBytesMax: number;
  contentVersion: number;
}

const versionSchema = object({ version: integer({ max: 1_000_000 }) });

/** Whether a path belongs to the admin surface when Host is the server's own address. */
export function isAdminPath(path: string): boolean {
  return path === "/livez" || path === "/readyz" || path === "/metrics" || path.startsWith("/.isochrone/");
}

export async function answerAdmin(
  state: AdminState,
  request: IncomingMessage,
  response: ServerResponse,
  path: string,
  query: string,
): Promise<void> {
  const method = request.method ?? "GET";
  if (path === "/livez") return text(response, 200, "ok\n");
  if (path === "/readyz")
    return state.isReady() ? text(response, 200, "ready\n") : text(response, 503, "draining\n");
  if (path === "/metrics") {
    const body = await state.metrics.registry.metrics();
    response.writeHead(200, {
      "content-type": state.metrics.registry.contentType,
      "cache-control": "no-store",
    });
    response.end(body);
    return;
  }
  if (!state.gate.opensFor(request.headers.authorization)) {
    response.setHeader("www-authenticate", "Bearer");
    return json(response, 401, {
      error:
        "Not allowed: send Authorization: Bearer with the ISOCHRONE_CONTROL_TOKEN that the origin was started with; without one nobody may",
    });
  }
  switch (`${method} ${path}`) {
    case "GET /.isochrone/requests":
      return json(response, 200, state.log.counts(new URLSearchParams(query).get("path") ?? undefined));
    case "DELETE /.isochrone/requests":
      state.log.clear();
      return json(response, 200, state.log.counts());
    case "GET /.isochrone/faults":
      return json(response, 200, state.faults.current);
    case "GET /.isochrone/content":
      return json(response, 200, { version: state.contentVersion });
    case "POST /.isochrone/faults":
    case "POST /.isochrone/content":
      return change(state, request, response, path);
    default:
      return json(response, 404, {
        error: `No ${method} ${path}; there is GET, DELETE requests, GET, POST faults and GET, POST content`,
      });
  }
}

async function change(
  state: AdminState,
  request: IncomingMessage,
  response: ServerResponse,
  path: string,
): Promise<void> {
  let value: unknown;
  try {
    value = JSON.parse(await bodyText(request, state.bodyBytesMax));
  } catch (error) {
    return json(response, 422, {
      error: `(document): got a body that is not JSON (${error instanceof Error ? error.message : "unknown"}), expected a JSON object`,
    });
  }
  try {
    if (path === "/.isochrone/faults") {
      state.faults.set(faultSchema.parse(value));
      return json(response, 200, state.faults.current);
    }
    state.contentVersion = versionSchema.parse(value).version;
    return json(response, 200, { version: state.contentVersion });
  } catch (error) {
    if (!(error instanceof ParseError)) throw error;
    return json(response, 422, { error: error.message });
  }
}

async function bodyText(request: IncomingMessage, bytesMax: number): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > bytesMax) throw new RangeError(`more than ${bytesMax} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function text(response: ServerResponse, status: number, body: string): void {
  response.writeHead(status, {
    "content-type": "text/plain; charset=utf-8",
    "cache-control": "no-store",
    "content-length": Buffer.byteLength(body),
  });
  response.end(body);
}

function json(response: ServerResponse, status: number, value: unknown): void {
  const body = `${JSON.stringify(value)}\n`;
  response.writeHead(status, {
    "content-type": "application/json",
    "cache-control": "no-store",
    "content-length": Buffer.byteLength(body),
  });
  response.end(body);
}
