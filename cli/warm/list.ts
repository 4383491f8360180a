/** Lists of URLs to warm: one a line, or a sitemap (sitemaps.org, protocol 0.9), also gzipped. Bounded, and refused whole with the place. */
import { gunzipSync } from "node:zlib";
import { XmlReader } from "../../edge/core/prefetch/xml.ts";
import { messageOf, UsageError } from "../usage.ts";

/** A sitemap has 50 MiB at most; of lines that is about half a million. */
export const LIST_BYTES_MAX = 52_428_800;
export const URLS_MAX = 500_000;
const URL_CHARACTERS_MAX = 4_000;

/** The URLs of a list, in its order. Throws UsageError that names the place; `name`: what the list is called. */
export function readList(bytes: Uint8Array, name: string): readonly URL[] {
  const text = new TextDecoder().decode(unzipped(bytes, name));
  return /^\s*</.test(text) ? fromSitemap(text, name) : fromLines(text, name);
}

function unzipped(bytes: Uint8Array, name: string): Uint8Array {
  if (bytes.byteLength > LIST_BYTES_MAX) throw tooLong(name);
  // RFC 1952, section 2.3.1.
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  try {
    return gunzipSync(bytes, { maxOutputLength: LIST_BYTES_MAX });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE") throw tooLong(name);
    throw new UsageError(`${name}: no gzip that can be read: ${messageOf(error)}`);
  }
}

const tooLong = (name: string): UsageError =>
  new UsageError(`${name}: a list of more than ${LIST_BYTES_MAX} bytes; split it`);

function fromLines(text: string, name: string): readonly URL[] {
  const urls: URL[] = [];
  let from = 0;
  for (let line = 1; from < text.length; line++) {
    const end = text.indexOf("\n", from);
    const one = text.slice(from, end === -1 ? text.length : end).trim();
    from = end === -1 ? text.length : end + 1;
    if (one !== "" && !one.startsWith("#")) add(urls, one, `${name}:${line}`);
  }
  return urls;
}

function fromSitemap(text: string, name: string): readonly URL[] {
  const urls: URL[] = [];
  const open: string[] = [];
  let location = "";
  const reader = new XmlReader(
    {
      open: (element) => {
        if (open.length === 0 && element !== "urlset")
          throw new UsageError(
            element === "sitemapindex"
              ? `${name}: an index of sitemaps; give the sitemaps that it names`
              : `${name}: an XML document <${element}>, expected a sitemap <urlset>`,
          );
        open.push(element);
        location = "";
      },
      text: (piece) => {
        location += piece;
      },
      close: (element) => {
        // Of an image or a video (namespaced extensions) the path is another one.
        if (open.join(" ") === "urlset url loc")
          add(urls, location.trim(), `${name}: URL ${urls.length + 1}`);
        if (open.at(-1) === element) open.pop();
      },
    },
    LIST_BYTES_MAX,
  );
  reader.write(text.replace(/^\s+/, ""));
  if (reader.isRefused || open.length > 0)
    throw new UsageError(`${name}: no well-formed sitemap; the last URL read was number ${urls.length}`);
  return urls;
}

function add(urls: URL[], text: string, place: string): void {
  const url = text.length <= URL_CHARACTERS_MAX && URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== "" || url.password !== "")
    throw new UsageError(
      `${place}: got ${JSON.stringify(text.slice(0, 200))}, expected an http or https URL of at most ${URL_CHARACTERS_MAX} characters`,
    );
  if (urls.length >= URLS_MAX) throw new UsageError(`${place}: more than ${URLS_MAX} URLs; split the list`);
  url.hash = "";
  urls.push(url);
}
