/**
 * What a style sheet names: `@import` and the fonts of `@font-face` (CSS Syntax Level 3, the part that finding references
 * needs). Each character is looked at once; nothing but one string and one word is kept.
 */
import { REFERENCE_CHARACTERS_MAX, type ReferenceList } from "./reference.ts";

const WORD_CHARACTERS_MAX = 32;
/** Text behind an import's URL, or of a face's unicode-range, that is looked at. */
const TAIL_CHARACTERS_MAX = 256;

type State = "normal" | "comment" | "string" | "url" | "url-string" | "url-end";

/** One style sheet, or the content of one style element. */
export class CssReader {
  readonly #list: ReferenceList;
  #state: State = "normal";
  /** The word that is being read; an at-keyword with its "@". */
  #word = "";
  #text = "";
  #quote = "";
  #isEscaped = false;
  #wasStar = false;
  #wasSlash = false;
  #depth = 0;
  /** Behind "@import", before its URL. */
  #isImport = false;
  /** The URL of an import whose conditions are being read. */
  #imported: string | undefined;
  #tail = "";
  /** "named": behind "@font-face"; a number: the depth of its block. */
  #face: "named" | number | undefined;
  #faceUrl: string | undefined;
  #isRange = false;

  constructor(list: ReferenceList) {
    this.#list = list;
  }

  write(text: string): void {
    for (let index = 0; index < text.length; index++) this.#character(text[index] ?? "");
  }

  #character(char: string): void {
    switch (this.#state) {
      case "comment":
        if (this.#wasStar && char === "/") this.#state = "normal";
        this.#wasStar = char === "*";
        return;
      case "string":
      case "url-string":
        this.#inString(char);
        return;
      case "url":
        if (char === ")") this.#endUrl();
        else if ((char === '"' || char === "'") && this.#text.trim() === "") {
          this.#text = "";
          this.#quote = char;
          this.#state = "url-string";
        } else this.#keep(char);
        return;
      case "url-end":
        if (char === ")") this.#endUrl();
        return;
      case "normal":
        this.#normal(char);
        return;
      default:
        this.#state satisfies never;
    }
  }

  #inString(char: string): void {
    // An escape inside a URL makes it one that is not understood here: "\" is no character of a reference.
    if (this.#isEscaped) this.#isEscaped = false;
    else if (char === "\\") this.#isEscaped = true;
    else if (char === this.#quote) {
      if (this.#state === "url-string") this.#state = "url-end";
      else {
        this.#state = "normal";
        if (this.#isImport) this.#import(this.#text);
        this.#text = "";
      }
      return;
    } else if (char === "\n") {
      // A newline ends a bad string.
      this.#state = "normal";
      this.#text = "";
      return;
    }
    this.#keep(char);
  }

  #normal(char: string): void {
    if (this.#wasSlash) {
      this.#wasSlash = false;
      if (char === "*") {
        this.#state = "comment";
        this.#wasStar = false;
        return;
      }
    }
    if (/[a-zA-Z0-9_@+?-]/.test(char)) {
      if (this.#word.length < WORD_CHARACTERS_MAX) this.#word += char;
      if (this.#imported !== undefined || this.#isRange) this.#keepTail(char);
      return;
    }
    const word = this.#word.toLowerCase();
    this.#word = "";
    if (word !== "") this.#endWord(word, char);
    if (char === "/") this.#wasSlash = true;
    else if (char === "(" && word === "url") {
      this.#state = "url";
      this.#text = "";
    } else if (char === '"' || char === "'") {
      this.#state = "string";
      this.#quote = char;
      this.#text = "";
    } else if (char === "{") this.#open();
    else if (char === "}") this.#close();
    else if (char === ";") {
      this.#endImport();
      this.#isImport = false;
      this.#isRange = false;
    } else if (this.#imported !== undefined || this.#isRange) this.#keepTail(char);
  }

  #endWord(word: string, next: string): void {
    if (this.#depth === 0 && word === "@import") {
      this.#isImport = true;
      this.#imported = undefined;
    } else if (word === "@font-face") this.#face = "named";
    else if (word === "unicode-range" && next === ":" && typeof this.#face === "number") {
      this.#isRange = true;
      this.#tail = "";
    }
  }

  #open(): void {
    this.#depth++;
    this.#isImport = false;
    this.#imported = undefined;
    if (this.#face === "named") {
      this.#face = this.#depth;
      this.#faceUrl = undefined;
      this.#tail = "";
    }
  }

  #close(): void {
    if (this.#face === this.#depth) {
      // A face for other letters is asked for only where a text has one of them.
      if (hasBasicLetters(this.#tail)) this.#list.add(this.#faceUrl, "font");
      this.#face = undefined;
      this.#faceUrl = undefined;
      this.#tail = "";
    }
    this.#isRange = false;
    if (this.#depth > 0) this.#depth--;
  }

  #endUrl(): void {
    this.#state = "normal";
    const url = this.#text.trim();
    this.#text = "";
    if (this.#isImport) this.#import(url);
    // Browsers take the first source that they can read; which is the first that is stated on every current one.
    else if (typeof this.#face === "number") this.#faceUrl ??= url;
  }

  #import(url: string): void {
    this.#isImport = false;
    this.#imported = url;
    this.#tail = "";
  }

  #endImport(): void {
    if (this.#imported !== undefined && !/\bprint\b|supports/i.test(this.#tail))
      this.#list.add(this.#imported, "style");
    this.#imported = undefined;
  }

  #keep(char: string): void {
    // One beyond the bound, so that the reference is refused and not cut.
    if (this.#text.length <= REFERENCE_CHARACTERS_MAX) this.#text += char;
  }

  #keepTail(char: string): void {
    if (this.#tail.length < TAIL_CHARACTERS_MAX) this.#tail += char;
  }
}

/** Whether a unicode-range holds the letters that nearly every page has; an absent one holds all. */
function hasBasicLetters(range: string): boolean {
  if (range === "") return true;
  return [...range.matchAll(/u\+([0-9a-f?]{1,6})/gi)].some(
    ([, from = ""]) => Number.parseInt(from.replaceAll("?", "0"), 16) <= 0x61,
  );
}
