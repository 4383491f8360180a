/** Addresses that content names: resolved against the page that names them, the property's own alone, each once, bounded. */
import { parseAbsoluteUri } from "../cache-key.ts";

export interface PageAddress {
  readonly scheme: "http" | "https";
  readonly host: string;
  readonly target: string;
}

/** What an address is to the content that names it; the words of `as` in a preload where there is one. */
export type ReferenceRole =
  | "style"
  | "script"
  | "module"
  | "font"
  | "image"
  | "fetch"
  | "media"
  | "playlist"
  | "document";

export interface Reference extends PageAddress {
  readonly role: ReferenceRole;
  /** Asked for by CORS without credentials (WHATWG HTML, section 2.5.4): fonts always are. */
  readonly isAnonymous?: boolean;
  /** First and last byte; undefined: the whole. */
  readonly bytes?: { readonly from: number; readonly to: number } | undefined;
}

/** What reads content as it passes. Text is one character a byte (latin1), in pieces of any length. */
export interface ReferenceReader {
  /** Nothing more will come: a bound is reached. */
  readonly isDone: boolean;
  /** The references that this piece completed, in order of appearance, each once. */
  write(text: string): readonly Reference[];
}

export interface ReferenceScope {
  readonly page: PageAddress;
  /** Whether a host belongs to the same property; others are never asked. */
  readonly isOwnHost: (host: string) => boolean;
  readonly referencesMax: number;
}

/** Longest reference that is looked at, characters. */
export const REFERENCE_CHARACTERS_MAX = 4_096;

/** The references of one page. */
export class ReferenceList {
  readonly #scope: ReferenceScope;
  readonly #seen = new Set<string>();
  #found: Reference[] = [];
  #base: PageAddress;
  #hasBase = false;

  constructor(scope: ReferenceScope) {
    this.#scope = scope;
    this.#base = scope.page;
  }

  get isFull(): boolean {
    return this.#seen.size >= this.#scope.referencesMax;
  }

  /** What was found since the last call. */
  take(): readonly Reference[] {
    if (this.#found.length === 0) return NONE;
    const found = this.#found;
    this.#found = [];
    return found;
  }

  /** WHATWG HTML, section 4.2.3: the first base that has an href counts. */
  setBase(reference: string): void {
    if (this.#hasBase) return;
    this.#hasBase = true;
    this.#base = resolveReference(reference, this.#scope.page) ?? this.#base;
  }

  /** Left out unless it is http(s) of the page's scheme, at a host of the property, and new. */
  add(reference: string | undefined, role: ReferenceRole, isAnonymous = false): void {
    if (reference === undefined || this.isFull) return;
    const resolved = resolveReference(reference.trim(), this.#base);
    if (resolved?.scheme !== this.#scope.page.scheme || !this.#scope.isOwnHost(resolved.host)) return;
    const name = `${resolved.host}${resolved.target}`;
    if (this.#seen.has(name)) return;
    this.#seen.add(name);
    this.#found.push({ ...resolved, role, ...(isAnonymous && { isAnonymous }) });
  }
}
const NONE: readonly Reference[] = [];

/** Resolves a reference (RFC 3986, section 5.2) as far as content uses them; undefined when it names nothing over http(s). */
export function resolveReference(text: string, page: PageAddress): PageAddress | undefined {
  if (text === "" || text.length > REFERENCE_CHARACTERS_MAX || text.startsWith("#")) return undefined;
  if (hasForbidden(text)) return undefined;
  const reference = encoded(text);
  if (/^[a-z][a-z0-9+.-]*:/i.test(reference)) return normalised(parseAbsoluteUri(reference));
  if (reference.startsWith("//")) return normalised(parseAbsoluteUri(`${page.scheme}:${reference}`));
  const root = `${page.scheme}://${page.host}`;
  const path = page.target.split("?", 1)[0] ?? "/";
  if (reference.startsWith("/")) return normalised(parseAbsoluteUri(root + reference));
  if (reference.startsWith("?")) return normalised(parseAbsoluteUri(root + path + reference));
  return normalised(parseAbsoluteUri(root + path.slice(0, path.lastIndexOf("/") + 1) + reference));
}

/** Space, controls, and characters that readers of URLs take in different ways. */
function hasForbidden(text: string): boolean {
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code <= 0x20 || code === 0x7f || code === 0x3c || code === 0x3e || code === 0x22 || code === 0x5c)
      return true;
  }
  return false;
}

/** Bytes beyond ASCII as a browser sends them: of UTF-8 pages, percent-encoded one by one. */
function encoded(text: string): string {
  return text.replace(/[\x80-\xff]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}

/** Without dot segments (RFC 3986, section 5.2.4). */
function normalised(address: PageAddress | undefined): PageAddress | undefined {
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
