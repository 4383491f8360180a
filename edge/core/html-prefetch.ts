/**
 * What an HTML page names that a browser will ask for next. A streaming tokenizer that knows tags, attributes, comments and
 * raw text elements (WHATWG HTML, section 13.2.5, the part that finding references needs); it never builds a tree, keeps
 * at most one tag in memory, and is wrong only towards naming less.
 */
import { parseAbsoluteUri } from "./cache-key.ts";

/** Longest tag that is looked at, in UTF-16 units; a longer one is skipped. */
const TAG_CHARACTERS_MAX = 8_192;

/** Page text that is looked at: what matters stands in the head and at the top. */
const PAGE_CHARACTERS_MAX = 1_048_576;

/** Elements whose content is text: no tag within them counts until their own end tag. */
const RAW_TEXT = new Set(["script", "style", "textarea", "title", "noscript", "template", "iframe", "xmp"]);

export interface PageAddress {
  readonly scheme: "http" | "https";
  readonly host: string;
  readonly target: string;
}

/** Reads a page as it passes. `write` text in order; references come out in order of appearance, each once. */
export class HtmlReferences {
  readonly #page: PageAddress;
  readonly #isOwnHost: (host: string) => boolean;
  readonly #referencesMax: number;
  readonly #seen = new Set<string>();
  #base: string | undefined;
  #pending = "";
  #rawTextEnd: string | undefined;
  #characters = 0;
  #isDone = false;

  /** `isOwnHost`: whether a host belongs to the same property; others are never asked. */
  constructor(page: PageAddress, isOwnHost: (host: string) => boolean, referencesMax: number) {
    this.#page = page;
    this.#isOwnHost = isOwnHost;
    this.#referencesMax = referencesMax;
  }

  /** True when nothing more will come: the bound of text or of references is reached. */
  get isDone(): boolean {
    return this.#isDone;
  }

  /** Takes the next piece of the page and returns the references that it completed. */
  write(text: string): readonly PageAddress[] {
    if (this.#isDone) return [];
    this.#characters += text.length;
    const found: PageAddress[] = [];
    const input = this.#pending + text;
    let at = 0;
    for (;;) {
      if (this.#isDone) return found;
      if (this.#rawTextEnd !== undefined) {
        const end = indexOfIgnoringCase(input, this.#rawTextEnd, at);
        if (end === -1) {
          this.#pending = input.slice(Math.max(at, input.length - this.#rawTextEnd.length));
          break;
        }
        at = end;
        this.#rawTextEnd = undefined;
      }
      const open = input.indexOf("<", at);
      if (open === -1) {
        this.#pending = "";
        break;
      }
      const isComment = input.startsWith("<!--", open);
      const close = isComment ? input.indexOf("-->", open + 4) : endOfTag(input, open + 1);
      if (close === -1) {
        this.#pending = input.slice(open);
        // "<!-" may still become a comment; a comment's or a tag's unread text is bounded.
        if (this.#pending.length > TAG_CHARACTERS_MAX) {
          this.#pending = isComment ? "<!--" : "";
        }
        break;
      }
      if (!isComment && close - open <= TAG_CHARACTERS_MAX) this.#tag(input.slice(open + 1, close), found);
      at = close + (isComment ? 3 : 1);
    }
    if (this.#characters >= PAGE_CHARACTERS_MAX) this.#isDone = true;
    return found;
  }

  #tag(text: string, found: PageAddress[]): void {
    const name = /^[a-zA-Z][^\s/>]*/.exec(text)?.[0]?.toLowerCase();
    if (name === undefined) return;
    if (RAW_TEXT.has(name) && !text.endsWith("/")) this.#rawTextEnd = `</${name}`;
    if (name !== "link" && name !== "script" && name !== "img" && name !== "base") return;
    const attributes = attributesOf(text.slice(name.length));
    if (name === "base") {
      this.#base ??= attributes.get("href");
      return;
    }
    if (name === "link") {
      const relations = (attributes.get("rel") ?? "").toLowerCase().split(/\s+/);
      const isWanted =
        relations.includes("stylesheet") ||
        relations.includes("preload") ||
        relations.includes("modulepreload");
      if (isWanted && !relations.includes("alternate")) this.#add(attributes.get("href"), found);
      return;
    }
    if (name === "img" && attributes.get("loading")?.toLowerCase() === "lazy") return;
    this.#add(attributes.get("src"), found);
    if (name !== "img") return;
    // Only the first candidate of a srcset: which one a browser picks depends on its screen.
    if (attributes.get("src") === undefined)
      this.#add(
        attributes
          .get("srcset")
          ?.trim()
          .split(/[\s,]+/, 1)[0],
        found,
      );
  }

  #add(reference: string | undefined, found: PageAddress[]): void {
    const resolved = reference === undefined ? undefined : this.#resolve(reference.trim());
    if (resolved === undefined || !this.#isOwnHost(resolved.host)) return;
    const key = `${resolved.scheme}://${resolved.host}${resolved.target}`;
    if (this.#seen.has(key)) return;
    this.#seen.add(key);
    found.push(resolved);
    if (this.#seen.size >= this.#referencesMax) this.#isDone = true;
  }

  #resolve(reference: string): PageAddress | undefined {
    const page =
      this.#base === undefined ? this.#page : (resolveReference(this.#base.trim(), this.#page) ?? this.#page);
    const resolved = resolveReference(reference, page);
    // The scheme of the page: an edge asks for what it serves.
    return resolved && resolved.scheme === this.#page.scheme ? resolved : undefined;
  }
}

/** Resolves the references that pages use; dot segments are removed (RFC 3986, section 5.2.4). */
function resolveReference(reference: string, page: PageAddress): PageAddress | undefined {
  if (reference === "" || reference.startsWith("#") || /[\s<>"\\]/.test(reference)) return undefined;
  if (/^[a-z][a-z0-9+.-]*:/i.test(reference)) return normalise(parseAbsoluteUri(reference));
  if (reference.startsWith("//")) return normalise(parseAbsoluteUri(`${page.scheme}:${reference}`));
  const root = `${page.scheme}://${page.host}`;
  const path = page.target.split("?", 1)[0] ?? "/";
  if (reference.startsWith("/")) return normalise(parseAbsoluteUri(root + reference));
  if (reference.startsWith("?")) return normalise(parseAbsoluteUri(root + path + reference));
  return normalise(parseAbsoluteUri(root + path.slice(0, path.lastIndexOf("/") + 1) + reference));
}

function normalise(address: PageAddress | undefined): PageAddress | undefined {
  if (address === undefined) return undefined;
  const mark = address.target.indexOf("?");
  const path = mark === -1 ? address.target : address.target.slice(0, mark);
  const query = mark === -1 ? "" : address.target.slice(mark);
  const segments: string[] = [];
  for (const segment of path.split("/").slice(1)) {
    if (segment === "..") segments.pop();
    else if (segment !== ".") segments.push(segment);
  }
  if (path.endsWith("/..") || path.endsWith("/.")) segments.push("");
  return { ...address, target: `/${segments.join("/")}${query}` };
}

/** Index of the ">" that ends the tag that starts before `from`, quotes respected; -1 when it is not there yet. */
function endOfTag(input: string, from: number): number {
  let quote = "";
  for (let index = from; index < input.length; index++) {
    const char = input[index] ?? "";
    if (quote !== "") {
      if (char === quote) quote = "";
    } else if (char === ">") return index;
    else if ((char === '"' || char === "'") && input[index - 1] === "=") quote = char;
    if (index - from > TAG_CHARACTERS_MAX) return input.indexOf(">", index);
  }
  return -1;
}

/** Attributes by lower-case name, the first of equal names (WHATWG HTML, section 13.2.5.33). */
function attributesOf(text: string): ReadonlyMap<string, string> {
  const attributes = new Map<string, string>();
  const pattern = /([^\s"'<>/=]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'=<>`]+)))?/g;
  for (const match of text.matchAll(pattern)) {
    const name = (match[1] ?? "").toLowerCase();
    if (!attributes.has(name)) attributes.set(name, unescape(match[2] ?? match[3] ?? match[4] ?? ""));
  }
  return attributes;
}

/** The one character reference that URLs in pages need. */
function unescape(text: string): string {
  return text.replaceAll("&amp;", "&").replaceAll("&#38;", "&");
}

function indexOfIgnoringCase(text: string, lowerNeedle: string, from: number): number {
  for (let at = text.indexOf("</", from); at !== -1; at = text.indexOf("</", at + 2)) {
    if (text.slice(at, at + lowerNeedle.length).toLowerCase() === lowerNeedle) return at;
  }
  return -1;
}
