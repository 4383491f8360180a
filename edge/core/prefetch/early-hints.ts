/** What a page needed the last time that it was served, for 103 Early Hints (RFC 8297). Bounded; the page used longest ago goes first. */
import type { PageAddress, Reference } from "./reference.ts";

const PAGES_MAX = 2_000;
/** A browser begins with these at once; more would compete with the page. */
const LINKS_MAX = 8;
const LINK_CHARACTERS_MAX = 512;

export class EarlyHints {
  readonly #pages = new Map<string, readonly string[]>();

  get size(): number {
    return this.#pages.size;
  }

  /** Replaces what was known of a page; a page that needs nothing is forgotten. */
  learn(page: PageAddress, references: readonly Reference[]): void {
    const name = nameOf(page);
    this.#pages.delete(name);
    const links = references.flatMap((one) => linkOf(one, page) ?? []).slice(0, LINKS_MAX);
    if (links.length === 0) return;
    if (this.#pages.size >= PAGES_MAX)
      for (const oldest of this.#pages.keys()) {
        this.#pages.delete(oldest);
        break;
      }
    this.#pages.set(name, links);
  }

  /** Link field values, in the order of the page. */
  linksOf(page: PageAddress): readonly string[] | undefined {
    const name = nameOf(page);
    const links = this.#pages.get(name);
    if (links === undefined) return undefined;
    this.#pages.delete(name);
    this.#pages.set(name, links);
    return links;
  }
}

const nameOf = (page: PageAddress): string => `${page.scheme}://${page.host}${page.target}`;

/** Of what a page cannot be shown without; images and media come with the page itself. */
function linkOf(reference: Reference, page: PageAddress): string | undefined {
  const { role, scheme, host, target } = reference;
  if (role !== "style" && role !== "script" && role !== "module" && role !== "font") return undefined;
  const url = host === page.host ? target : `${scheme}://${host}${target}`;
  const isAnonymous = role === "font" || reference.isAnonymous === true;
  const link = `<${url}>; rel=${role === "module" ? "modulepreload" : `preload; as=${role}`}${isAnonymous ? "; crossorigin" : ""}`;
  return link.length <= LINK_CHARACTERS_MAX ? link : undefined;
}
