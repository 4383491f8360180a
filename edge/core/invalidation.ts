/** What an unsafe request invalidates (RFC 9111, section 4.4). */
import { canonicalHost, parseAbsoluteUri } from "./cache-key.ts";
import { fieldLines } from "./headers.ts";
import type { RequestHead, ResponseHead } from "./messages.ts";

/** Safe by RFC 9110, section 9.2.1. Methods that are not known are taken as unsafe. */
const SAFE_METHODS: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "TRACE"]);

/** Whether a request may change state at the origin. */
export function isUnsafe(method: string): boolean {
  return !SAFE_METHODS.has(method);
}

/**
 * Whether a response says that its content is the present representation of the request's own target: one Content-Location that
 * names it (RFC 9110, sections 8.7 and 9.3.3).
 */
export function isOwnRepresentation(request: RequestHead, response: ResponseHead): boolean {
  const lines = fieldLines(response.fields, "content-location");
  const resolved = lines.length === 1 ? resolve(lines[0] ?? "", request) : undefined;
  return (
    resolved?.scheme === request.scheme &&
    resolved.host === canonicalHost(request.host, request.scheme) &&
    resolved.target === request.target
  );
}

/** A reference resolved against the target as far as a key needs it: absolute, or an absolute path; else undefined. */
function resolve(
  reference: string,
  request: RequestHead,
): Omit<RequestHead, "method" | "fields"> | undefined {
  const text = reference.trim();
  if (/^[a-z][a-z0-9+.-]*:/i.test(text)) return parseAbsoluteUri(text);
  if (text.startsWith("//")) return parseAbsoluteUri(`${request.scheme}:${text}`);
  if (text.startsWith("/")) return parseAbsoluteUri(`${request.scheme}://${request.host}${text}`);
  if (text === "" || /[\s]/.test(text)) return undefined;
  const path = request.target.split("?", 1)[0] ?? "/";
  return text.startsWith("?")
    ? parseAbsoluteUri(`${request.scheme}://${request.host}${path}${text}`)
    : parseAbsoluteUri(
        `${request.scheme}://${request.host}${path.slice(0, path.lastIndexOf("/") + 1)}${text}`,
      );
}

/**
 * The targets to invalidate after the response to a request: its own when the method is unsafe and the status is no
 * error, and those of Location and Content-Location when they are of the same origin (section 4.4 forbids others: they
 * would let one site empty another's cache).
 */
export function invalidatedTargets(
  request: RequestHead,
  response: ResponseHead,
): readonly Pick<RequestHead, "scheme" | "host" | "target">[] {
  if (!isUnsafe(request.method) || response.status < 200 || response.status >= 400) return [];
  const own = { scheme: request.scheme, host: request.host, target: request.target };
  const targets = [own];
  for (const name of ["location", "content-location"]) {
    const reference = fieldLines(response.fields, name)[0];
    const resolved = reference === undefined ? undefined : resolve(reference, request);
    if (resolved === undefined || resolved.scheme !== request.scheme) continue;
    if (resolved.host !== canonicalHost(request.host, request.scheme) || resolved.target === own.target)
      continue;
    targets.push({ scheme: resolved.scheme, host: resolved.host, target: resolved.target });
  }
  return targets;
}
