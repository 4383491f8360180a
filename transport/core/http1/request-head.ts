/** The head of a plain request in HTTP/1.1 (RFC 9112, sections 3 and 5): GET without content. */
import { TOKEN } from "./grammar.ts";

type Fields = readonly (readonly [name: string, value: string])[];

const PATH = /^\/[\x21-\x7e\x80-\xff]*$/;
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/** Fields that say something of content, or of the connection; and a second Host. */
const NOT_PLAIN: ReadonlySet<string> = new Set([
  "connection",
  "content-length",
  "expect",
  "host",
  "keep-alive",
  "transfer-encoding",
  "upgrade",
]);

/** Names that have been looked at, few and mostly the same. */
const plainNames = new Map<string, boolean>();
const NAMES_MAX = 1_024;

function isPlainName(name: string): boolean {
  let isPlain = plainNames.get(name);
  if (isPlain === undefined) {
    isPlain = TOKEN.test(name) && !NOT_PLAIN.has(name.toLowerCase());
    if (plainNames.size >= NAMES_MAX) plainNames.clear();
    plainNames.set(name, isPlain);
  }
  return isPlain;
}

/** Host stands first in `fields`, once. Undefined: the request is not plain, or cannot be sent at all. Never throws. */
export function plainRequestHead(method: string, path: string, fields: Fields): string | undefined {
  if (method !== "GET" || !PATH.test(path)) return undefined;
  const host = fields[0];
  if (host === undefined || host[0].toLowerCase() !== "host" || !VALUE.test(host[1])) return undefined;
  let text = `GET ${path} HTTP/1.1\r\nhost: ${host[1]}\r\nconnection: keep-alive\r\n`;
  for (let index = 1; index < fields.length; index++) {
    const [name, value] = fields[index] as readonly [string, string];
    if (!isPlainName(name) || !VALUE.test(value)) return undefined;
    text += `${name}: ${value}\r\n`;
  }
  return `${text}\r\n`;
}
