/** What a server says to `GET /livez` over a kept connection, read strictly: of HTTP/1.1 (RFC 9112) only what such an answer has. */

/** Head and content together; what is longer is no answer to this question. */
const ANSWER_BYTES_MAX = 8_192;

export interface LivezAnswer {
  /** Status 200, and all of the content is there. */
  readonly isOk: boolean;
  /** Whether the connection may be asked again: it stays open, and nothing is left over on it. */
  readonly mayStay: boolean;
}

const REFUSED: LivezAnswer = { isOk: false, mayStay: false };

/**
 * @param text all that has come for the question, an octet a character
 * @returns undefined: there is more to come. Never throws
 */
export function parseLivezAnswer(text: string): LivezAnswer | undefined {
  const headEnd = text.indexOf("\r\n\r\n");
  if (headEnd < 0) return text.length > ANSWER_BYTES_MAX ? REFUSED : undefined;
  const head = text.slice(0, headEnd + 2);
  const [, minor, status] = /^HTTP\/1\.([01]) ([2-5]\d\d)[ \r]/.exec(head) ?? [];
  if (status === undefined) return REFUSED;
  const isOk = status === "200";
  const contentLength = /\r\ncontent-length:[ \t]*(\d{1,4})[ \t]*\r\n/i.exec(head)?.[1];
  // Content whose end is told otherwise is not waited for: the status has said enough.
  if (contentLength === undefined || /\r\n(?:transfer-encoding:|connection:[^\r]*\bclose\b)/i.test(head))
    return { isOk, mayStay: false };
  const left = headEnd + 4 + Number(contentLength) - text.length;
  if (left > 0) return text.length > ANSWER_BYTES_MAX ? REFUSED : undefined;
  return { isOk, mayStay: left === 0 && minor === "1" };
}
