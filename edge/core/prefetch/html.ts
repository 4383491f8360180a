/**
 * What an HTML page names that a browser will ask for next. A tokenizer (WHATWG HTML, section 13.2.5, the part that finding
 * references needs) that looks at each character once, wherever the pieces are cut; it never builds a tree and keeps one tag at most. Wrong
 * towards naming less, but for one rare form: a script that holds "<!--", "<script" and "</script" in this order.
 */
import { CssReader } from "./css.ts";
import {
  type Reference,
  REFERENCE_CHARACTERS_MAX,
  ReferenceList,
  type ReferenceReader,
  type ReferenceRole,
  type ReferenceScope,
} from "./reference.ts";
import { chosenCandidate, type Screen } from "./srcset.ts";

/** Page text that is looked at: what matters stands in the head and at the top. */
const PAGE_CHARACTERS_MAX = 1_048_576;
const NAME_CHARACTERS_MAX = 32;

/** Elements whose content is text: no tag within them counts until their own end tag. */
const RAW_TEXT: ReadonlySet<string> = new Set([
  "script",
  "style",
  "textarea",
  "title",
  "noscript",
  "iframe",
  "xmp",
  "noembed",
  "noframes",
]);

const READ_ELEMENTS: ReadonlySet<string> = new Set([
  "base",
  "link",
  "script",
  "img",
  "picture",
  "source",
  "video",
]);
const READ_ATTRIBUTES: ReadonlySet<string> = new Set([
  "href",
  "rel",
  "as",
  "media",
  "type",
  "disabled",
  "src",
  "srcset",
  "sizes",
  "loading",
  "poster",
  "nomodule",
  "crossorigin",
  "imagesrcset",
  "imagesizes",
]);

/** RFC 9239 and what WHATWG MIME Sniffing, section 4.6 calls a JavaScript type, as pages state it. */
const SCRIPT_TYPES: ReadonlySet<string> = new Set([
  "",
  "module",
  "text/javascript",
  "application/javascript",
  "application/x-javascript",
  "text/ecmascript",
]);

/** What every current browser shows. */
const IMAGE_TYPES: ReadonlySet<string> = new Set([
  "",
  "image/avif",
  "image/webp",
  "image/png",
  "image/jpeg",
  "image/gif",
  "image/svg+xml",
]);

const PRELOAD_ROLES: ReadonlyMap<string, ReferenceRole> = new Map([
  ["style", "style"],
  ["script", "script"],
  ["font", "font"],
  ["image", "image"],
  ["fetch", "fetch"],
]);

type State =
  | "text"
  | "open"
  | "name"
  | "before-attribute"
  | "attribute"
  | "after-attribute"
  | "before-value"
  | "double"
  | "single"
  | "unquoted"
  | "declaration"
  | "bogus"
  | "comment"
  | "raw"
  | "raw-open"
  | "raw-end"
  | "plain";

export class HtmlReader implements ReferenceReader {
  readonly #list: ReferenceList;
  readonly #screen: Screen;
  #state: State = "text";
  #characters = 0;
  #isEndTag = false;
  #name = "";
  #attribute = "";
  #value = "";
  #attributes = new Map<string, string>();
  /** Of a comment: how many "-" stand before what comes next; -1 at its beginning, where ">" ends it as well. */
  #dashes = 0;
  #isCommentStart = false;
  #raw = "";
  #style: CssReader | undefined;
  /** Templates are content that is not there yet. */
  #templates = 0;
  /** Of the picture that is open: what was chosen; null: it depends on the screen. */
  #picture: { chosen: string | null | undefined } | undefined;

  constructor(scope: ReferenceScope, screen: Screen = { pixelRatio: 1, viewportWidth: undefined }) {
    this.#list = new ReferenceList(scope);
    this.#screen = screen;
  }

  get isDone(): boolean {
    return this.#list.isFull || this.#characters >= PAGE_CHARACTERS_MAX || this.#state === "plain";
  }

  /** Characters that were looked at, each once: the work that was done. */
  get charactersRead(): number {
    return this.#characters;
  }

  write(text: string): readonly Reference[] {
    const end = Math.min(text.length, PAGE_CHARACTERS_MAX - this.#characters);
    for (let index = 0; index < end && !this.isDone; index++) {
      this.#characters++;
      this.#character(text[index] ?? "");
    }
    return this.#list.take();
  }

  #character(char: string): void {
    switch (this.#state) {
      case "text":
        if (char === "<") this.#state = "open";
        return;
      case "open":
        this.#open(char);
        return;
      case "name":
        if (isSpace(char) || char === "/") this.#state = "before-attribute";
        else if (char === ">") this.#endTag();
        else if (this.#name.length < NAME_CHARACTERS_MAX) this.#name += char;
        return;
      case "before-attribute":
      case "after-attribute":
        this.#beforeAttribute(char);
        return;
      case "attribute":
        if (isSpace(char)) this.#state = "after-attribute";
        else if (char === "/") this.#nextAttribute();
        else if (char === "=") this.#state = "before-value";
        else if (char === ">") this.#endTag();
        else if (this.#attribute.length < NAME_CHARACTERS_MAX) this.#attribute += char;
        return;
      case "before-value":
        if (isSpace(char)) return;
        if (char === '"') this.#state = "double";
        else if (char === "'") this.#state = "single";
        else if (char === ">") this.#endTag();
        else {
          this.#state = "unquoted";
          this.#keep(char);
        }
        return;
      case "double":
        if (char === '"') this.#nextAttribute();
        else this.#keep(char);
        return;
      case "single":
        if (char === "'") this.#nextAttribute();
        else this.#keep(char);
        return;
      case "unquoted":
        if (isSpace(char)) this.#nextAttribute();
        else if (char === ">") this.#endTag();
        else this.#keep(char);
        return;
      case "declaration":
        this.#declaration(char);
        return;
      case "bogus":
        if (char === ">") this.#state = "text";
        return;
      case "comment":
        this.#comment(char);
        return;
      case "raw":
      case "raw-open":
      case "raw-end":
        this.#inRaw(char);
        return;
      case "plain":
        return;
      default:
        this.#state satisfies never;
    }
  }

  #open(char: string): void {
    if (char === "/" && !this.#isEndTag) {
      this.#isEndTag = true;
      return;
    }
    if (/[a-zA-Z]/.test(char)) {
      this.#name = char;
      this.#attributes = new Map();
      this.#attribute = "";
      this.#value = "";
      this.#state = "name";
      return;
    }
    const wasEndTag = this.#isEndTag;
    this.#isEndTag = false;
    if (char === "!" && !wasEndTag) {
      this.#dashes = 0;
      this.#state = "declaration";
    } else if (char === "?" || (wasEndTag && char !== ">" && char !== "<")) this.#state = "bogus";
    else this.#state = char === "<" && !wasEndTag ? "open" : "text";
  }

  #beforeAttribute(char: string): void {
    if (isSpace(char)) return;
    if (char === ">") return this.#endTag();
    if (char === "/") return this.#nextAttribute();
    if (char === "=" && this.#state === "after-attribute") {
      this.#state = "before-value";
      return;
    }
    this.#nextAttribute();
    this.#attribute = char;
    this.#state = "attribute";
  }

  /** Takes the attribute that was read; the first of equal names counts (WHATWG HTML, section 13.2.5.33). */
  #nextAttribute(): void {
    const name = this.#attribute.toLowerCase();
    if (READ_ATTRIBUTES.has(name) && !this.#attributes.has(name))
      this.#attributes.set(name, withoutEntities(this.#value));
    this.#attribute = "";
    this.#value = "";
    this.#state = "before-attribute";
  }

  #keep(char: string): void {
    // One beyond the bound, so that what is too long is refused and not cut.
    if (this.#value.length <= REFERENCE_CHARACTERS_MAX) this.#value += char;
  }

  #declaration(char: string): void {
    if (char === "-" && this.#dashes === 0) this.#dashes = 1;
    else if (char === "-") {
      this.#state = "comment";
      this.#dashes = 0;
      this.#isCommentStart = true;
    } else this.#state = char === ">" ? "text" : "bogus";
  }

  /** Ends at "-->" and "--!>", and at once at "<!-->" and "<!--->" (WHATWG HTML, section 13.2.5.43 and what follows). */
  #comment(char: string): void {
    const isStart = this.#isCommentStart;
    if (char === "-") {
      this.#dashes++;
      if (this.#dashes >= 2) this.#isCommentStart = false;
      return;
    }
    if (char === ">" && (this.#dashes >= 2 || isStart)) {
      this.#state = "text";
      return;
    }
    // "--!" is kept as it is: only ">" may follow.
    if (char === "!" && this.#dashes >= 2) {
      this.#dashes = 2;
      this.#isCommentStart = false;
      return;
    }
    this.#isCommentStart = false;
    this.#dashes = 0;
  }

  /** Within an element whose content is text, until "</name" and what may follow a name. */
  #inRaw(char: string): void {
    if (this.#state === "raw-end") {
      if (/[a-zA-Z]/.test(char)) {
        if (this.#name.length < NAME_CHARACTERS_MAX) this.#name += char;
        return;
      }
      if (this.#name.toLowerCase() === this.#raw && (isSpace(char) || char === "/" || char === ">")) {
        this.#raw = "";
        this.#style = undefined;
        this.#isEndTag = true;
        this.#attribute = "";
        this.#value = "";
        this.#attributes = new Map();
        if (char === ">") this.#endTag();
        else this.#state = "before-attribute";
        return;
      }
      this.#style?.write(`</${this.#name}`);
      this.#state = "raw";
    } else if (this.#state === "raw-open") {
      if (char === "/") {
        this.#name = "";
        this.#state = "raw-end";
        return;
      }
      this.#style?.write("<");
      this.#state = "raw";
    }
    if (char === "<") this.#state = "raw-open";
    else this.#style?.write(char);
  }

  #endTag(): void {
    this.#nextAttribute();
    this.#state = "text";
    const name = this.#name.toLowerCase();
    const isEndTag = this.#isEndTag;
    this.#isEndTag = false;
    if (name === "template") {
      this.#templates = Math.max(0, this.#templates + (isEndTag ? -1 : 1));
      return;
    }
    if (isEndTag) {
      if (name === "picture") this.#picture = undefined;
      return;
    }
    if (name === "plaintext") {
      this.#state = "plain";
      return;
    }
    if (this.#templates === 0 && READ_ELEMENTS.has(name)) this.#element(name, this.#attributes);
    if (RAW_TEXT.has(name)) {
      this.#raw = name;
      this.#state = "raw";
      if (name === "style" && this.#templates === 0) this.#style = new CssReader(this.#list);
    }
  }

  #element(name: string, attributes: ReadonlyMap<string, string>): void {
    const list = this.#list;
    switch (name) {
      case "base": {
        const href = attributes.get("href");
        if (href !== undefined) list.setBase(href.trim());
        return;
      }
      case "link":
        this.#link(attributes);
        return;
      case "script":
        if (attributes.has("nomodule") || !SCRIPT_TYPES.has(lower(attributes.get("type")))) return;
        list.add(
          attributes.get("src"),
          lower(attributes.get("type")) === "module" ? "module" : "script",
          isAnonymous(attributes),
        );
        return;
      case "video":
        list.add(attributes.get("poster"), "image");
        return;
      case "picture":
        this.#picture = { chosen: undefined };
        return;
      case "source":
        this.#source(attributes);
        return;
      case "img":
        this.#image(attributes);
        return;
    }
  }

  #link(attributes: ReadonlyMap<string, string>): void {
    const relations = lower(attributes.get("rel")).split(/\s+/);
    const media = lower(attributes.get("media"));
    if (attributes.has("disabled") || relations.includes("alternate")) return;
    if (media !== "" && media !== "all" && media !== "screen") return;
    const href = attributes.get("href");
    if (relations.includes("stylesheet")) this.#list.add(href, "style", isAnonymous(attributes));
    else if (relations.includes("modulepreload")) this.#list.add(href, "module", isAnonymous(attributes));
    else if (relations.includes("preload")) {
      const role = PRELOAD_ROLES.get(lower(attributes.get("as")));
      const srcset = attributes.get("imagesrcset");
      if (role === undefined) return;
      const chosen =
        srcset === undefined || role !== "image"
          ? href
          : chosenCandidate(srcset, attributes.get("imagesizes"), href, this.#screen);
      this.#list.add(chosen, role, isAnonymous(attributes));
    }
  }

  /** Within a picture the first source that fits is taken; which one that is may depend on the screen. */
  #source(attributes: ReadonlyMap<string, string>): void {
    const picture = this.#picture;
    if (picture === undefined || picture.chosen !== undefined) return;
    if (!IMAGE_TYPES.has(lower(attributes.get("type")))) return;
    const srcset = attributes.get("srcset");
    if (srcset === undefined) return;
    picture.chosen = attributes.has("media")
      ? null
      : (chosenCandidate(srcset, attributes.get("sizes"), undefined, this.#screen) ?? null);
  }

  #image(attributes: ReadonlyMap<string, string>): void {
    if (lower(attributes.get("loading")) === "lazy") return;
    const chosen = this.#picture?.chosen;
    if (chosen === null) return;
    const src = attributes.get("src");
    const srcset = attributes.get("srcset");
    this.#list.add(
      chosen ??
        (srcset === undefined ? src : chosenCandidate(srcset, attributes.get("sizes"), src, this.#screen)),
      "image",
    );
  }
}

const lower = (text: string | undefined): string => (text ?? "").trim().toLowerCase();

const isAnonymous = (attributes: ReadonlyMap<string, string>): boolean =>
  attributes.has("crossorigin") && lower(attributes.get("crossorigin")) !== "use-credentials";

const isSpace = (char: string): boolean =>
  char === " " || char === "\n" || char === "\t" || char === "\r" || char === "\f";

const NAMED: Readonly<Record<string, string>> = { amp: "&", quot: '"', apos: "'", lt: "<", gt: ">" };

/** Character references that URLs in pages need: numbers within latin1, and the five that every writer escapes. */
function withoutEntities(text: string): string {
  if (!text.includes("&")) return text;
  return text.replace(
    /&(?:#(\d{1,3})|#[xX]([0-9a-fA-F]{1,2})|(amp|quot|apos|lt|gt));/g,
    (whole, decimal: string | undefined, hex: string | undefined, name: string | undefined) => {
      if (name !== undefined) return NAMED[name] ?? whole;
      const code = decimal === undefined ? Number.parseInt(hex ?? "", 16) : Number(decimal);
      return code < 0x80 ? String.fromCharCode(code) : whole;
    },
  );
}
