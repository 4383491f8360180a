/**
 * A streaming reader of XML 1.0 as manifests use it: elements, attributes, text. It refuses a document type (section 2.8) and every
 * entity but the five predefined ones and numbers (section 4.6), so nothing can expand, and it looks at each character once.
 */

const DEPTH_MAX = 32;
const ATTRIBUTES_MAX = 64;
const NAME_CHARACTERS_MAX = 128;
const VALUE_CHARACTERS_MAX = 4_096;
const DOCUMENT_CHARACTERS_MAX = 1_048_576;

export interface XmlHandler {
  /** Names without their prefix. */
  readonly open: (name: string, attributes: ReadonlyMap<string, string>) => void;
  readonly text: (text: string) => void;
  readonly close: (name: string) => void;
}

type State = "text" | "markup" | "declaration" | "cdata" | "comment" | "instruction" | "tag";

export class XmlReader {
  readonly #handler: XmlHandler;
  readonly #charactersMax: number;
  readonly #open: string[] = [];
  #state: State = "text";
  #characters = 0;
  #text = "";
  #tag = "";
  #quote = "";
  /** The last two characters of what ends by three. */
  #tail = "";
  #isRefused = false;

  /** `charactersMax`: of the whole document; a longer one is refused. */
  constructor(handler: XmlHandler, charactersMax = DOCUMENT_CHARACTERS_MAX) {
    this.#handler = handler;
    this.#charactersMax = charactersMax;
  }

  /** Not well-formed as far as it was read, beyond a bound, or with a document type. */
  get isRefused(): boolean {
    return this.#isRefused;
  }

  write(text: string): void {
    let index = 0;
    while (index < text.length && !this.#isRefused) {
      const from = index;
      if (this.#state === "text") {
        const end = text.indexOf("<", from);
        index = end === -1 ? text.length : end;
      }
      // Text up to the next tag at once, all else by the character.
      const isText = index > from;
      if (!isText) index++;
      this.#characters += index - from;
      if (this.#characters > this.#charactersMax) this.#isRefused = true;
      else if (isText) this.#keepText(text.slice(from, index));
      else this.#character(text[from] ?? "");
    }
  }

  #character(char: string): void {
    switch (this.#state) {
      case "text":
        // A "<": what is before it was taken as text.
        this.#flush();
        this.#tag = "";
        this.#state = "markup";
        return;
      case "markup":
        if (char === "!") this.#state = "declaration";
        else if (char === "?") this.#begin("instruction");
        else {
          this.#state = "tag";
          this.#quote = "";
          this.#inTag(char);
        }
        return;
      case "declaration":
        this.#tag += char;
        if (this.#tag === "--") this.#begin("comment");
        else if (this.#tag === "[CDATA[") this.#begin("cdata");
        else if (!"--".startsWith(this.#tag) && !"[CDATA[".startsWith(this.#tag)) this.#isRefused = true;
        return;
      case "comment":
        this.#until("-->", char);
        return;
      case "cdata":
        if (this.#until("]]>", char)) this.#text = this.#text.slice(0, -2);
        else this.#keepText(char);
        return;
      case "instruction":
        this.#until("?>", char);
        return;
      case "tag":
        this.#inTag(char);
        return;
      default:
        this.#state satisfies never;
    }
  }

  #begin(state: State): void {
    this.#tail = "";
    this.#state = state;
  }

  #until(end: string, char: string): boolean {
    const tail = this.#tail + char;
    if (tail === end) {
      this.#state = "text";
      return true;
    }
    this.#tail = tail.length < end.length ? tail : tail.slice(1);
    return false;
  }

  #inTag(char: string): void {
    if (this.#quote !== "") {
      if (char === this.#quote) this.#quote = "";
    } else if (char === '"' || char === "'") this.#quote = char;
    else if (char === ">") {
      this.#endTag();
      return;
    } else if (char === "<") {
      this.#isRefused = true;
      return;
    }
    this.#tag += char;
    if (this.#tag.length > VALUE_CHARACTERS_MAX) this.#isRefused = true;
  }

  #endTag(): void {
    this.#state = "text";
    const tag = this.#tag;
    if (tag.startsWith("/")) {
      const name = localName(tag.slice(1).trim());
      if (this.#open.pop() !== name) this.#isRefused = true;
      else this.#handler.close(name);
      return;
    }
    const match = /^([A-Za-z_][\w.:-]*)/.exec(tag);
    const full = match?.[1] ?? "";
    if (full === "" || full.length > NAME_CHARACTERS_MAX) {
      this.#isRefused = true;
      return;
    }
    const isEmpty = tag.endsWith("/");
    const attributes = this.#attributes(tag.slice(full.length, isEmpty ? -1 : undefined));
    if (attributes === undefined || this.#open.length >= DEPTH_MAX) {
      this.#isRefused = true;
      return;
    }
    const name = localName(full);
    this.#handler.open(name, attributes);
    if (isEmpty) this.#handler.close(name);
    else this.#open.push(name);
  }

  #attributes(text: string): ReadonlyMap<string, string> | undefined {
    const attributes = new Map<string, string>();
    const pattern = /\s+([A-Za-z_][\w.:-]*)\s*=\s*(?:"([^"]*)"|'([^']*)')/y;
    let end = 0;
    for (let match = pattern.exec(text); match !== null; match = pattern.exec(text)) {
      end = pattern.lastIndex;
      const value = withoutEntities(match[2] ?? match[3] ?? "");
      if (value === undefined || attributes.size >= ATTRIBUTES_MAX) return undefined;
      attributes.set(localName(match[1] ?? ""), value);
    }
    return text.slice(end).trim() === "" ? attributes : undefined;
  }

  #flush(): void {
    const text = withoutEntities(this.#text);
    this.#text = "";
    if (text === undefined) this.#isRefused = true;
    else if (text.trim() !== "") this.#handler.text(text);
  }

  #keepText(piece: string): void {
    this.#text += piece.slice(0, VALUE_CHARACTERS_MAX - this.#text.length);
  }
}

function localName(name: string): string {
  return name.slice(name.indexOf(":") + 1);
}

const PREDEFINED: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", apos: "'", quot: '"' };

/** Undefined: an entity that is not predefined, or no entity at all. */
function withoutEntities(text: string): string | undefined {
  if (!text.includes("&")) return text;
  let isGood = true;
  const plain = text.replace(
    /&(#\d{1,7}|#x[0-9a-fA-F]{1,6}|[a-z]{2,4})?(;?)/g,
    (_whole, name = "", semicolon) => {
      const known = PREDEFINED[name];
      if (semicolon !== ";") isGood = false;
      else if (known !== undefined) return known;
      else if (name.startsWith("#")) {
        const code = name[1] === "x" ? Number.parseInt(name.slice(2), 16) : Number(name.slice(1));
        if (code > 0 && code < 0x80) return String.fromCharCode(code);
      }
      isGood = false;
      return "";
    },
  );
  return isGood ? plain : undefined;
}
