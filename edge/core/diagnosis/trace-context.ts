/**
 * W3C Trace Context: `traceparent` passes through all tiers as it came, because this CDN makes no spans of its own (a
 * parent-id of ours would name a span that nobody can find). The trace's id stands in the access record, so that logs and
 * traces meet.
 */

const FORM = /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:$|-)/;

/** The trace id, 32 hexadecimal digits, of a `traceparent` (section 3.2.2); undefined when it is not valid. */
export function traceIdOf(lines: readonly string[]): string | undefined {
  const [line = "", ...more] = lines;
  return more.length > 0 ? undefined : FORM.exec(line.slice(0, 64).trim())?.[1];
}
