/** What the flat path for HTTP/1.1 does not read, and why it leaves a connection to node:http's parser: for counting alone. */

/** Fields that frame content, change the protocol, or want an interim answer: node:http's parser knows them. */
export const HANDED_OVER: ReadonlySet<string> = new Set([
  "content-length",
  "transfer-encoding",
  "expect",
  "upgrade",
  "trailer",
  "http2-settings",
]);

/** Those of them that frame content. */
const FRAMING: ReadonlySet<string> = new Set(["content-length", "transfer-encoding", "trailer"]);

/** Why the flat path leaves a connection to node:http's parser: by the first of these that the head is. */
export type HandOverReason = "method" | "target" | "size" | "content" | "protocol" | "grammar";

/** Why a head, or the beginning of one, is not read there. `head`: without its blank line; of one that is too long it may be the beginning. */
export function handOverReason(
  head: string,
  settings: { readonly headerBytesMax: number; readonly headerFieldsMax: number },
): HandOverReason {
  const [start = "", ...lines] = head.split("\r\n");
  if (!/^(?:GET|HEAD) /.test(start)) return "method";
  if (!/^[A-Z]+ \//.test(start)) return "target";
  if (head.length > settings.headerBytesMax || lines.length > settings.headerFieldsMax) return "size";
  const names = lines.map((line) => line.slice(0, line.indexOf(":")).toLowerCase());
  if (names.some((name) => FRAMING.has(name))) return "content";
  const isOfHop = lines.some((line) => /^connection:(?![ \t]*(?:keep-alive|close)[ \t]*$)/i.test(line));
  return isOfHop || names.some((name) => HANDED_OVER.has(name)) ? "protocol" : "grammar";
}
