/**
 * What HTTP/2 asks of the header list of a request beyond what HTTP asks (RFC 9113, sections 8.2 and 8.3): a list that does not keep
 * to it is malformed, and its stream is reset. Pure.
 */

const PSEUDO: ReadonlySet<string> = new Set([":method", ":scheme", ":authority", ":path"]);

/** Whether a request may look like that. @param raw names and values in turn */
export function isRequestForm(raw: readonly string[]): boolean {
  const seen = new Map<string, string>();
  let isPseudoOver = false;
  for (let index = 0; index + 1 < raw.length; index += 2) {
    const name = raw[index] as string;
    if (hasUpperCase(name)) return false;
    if (name.charCodeAt(0) !== 0x3a) {
      isPseudoOver = true;
      continue;
    }
    if (isPseudoOver || !PSEUDO.has(name) || seen.has(name)) return false;
    seen.set(name, raw[index + 1] as string);
  }
  const has = (name: string): boolean => (seen.get(name) ?? "") !== "";
  // Section 8.5: of a tunnel neither scheme nor path is told.
  if (seen.get(":method") === "CONNECT")
    return has(":authority") && !seen.has(":scheme") && !seen.has(":path");
  return has(":method") && has(":scheme") && has(":path");
}

/** Whether fields that follow content may look like that: no pseudo fields (section 8.1). */
export function isTrailerForm(raw: readonly string[]): boolean {
  for (let index = 0; index + 1 < raw.length; index += 2) {
    const name = raw[index] as string;
    if (name.charCodeAt(0) === 0x3a || hasUpperCase(name)) return false;
  }
  return true;
}

/** The length that a request states for its content; undefined: none that is a number, which others judge. */
export function contentLengthOf(raw: readonly string[]): number | undefined {
  for (let index = 0; index + 1 < raw.length; index += 2)
    if (raw[index] === "content-length" && /^[0-9]{1,15}$/.test(raw[index + 1] as string))
      return Number(raw[index + 1]);
  return undefined;
}

function hasUpperCase(name: string): boolean {
  for (let at = 0; at < name.length; at++) {
    const code = name.charCodeAt(at);
    if (code >= 0x41 && code <= 0x5a) return true;
  }
  return false;
}
