/** Cuts text that comes in chunks of bytes into records, within bounds: lines, or the elements of a JSON document. */

/** Told of each record in turn. */
export interface RecordSink {
  /** @param number 1-based: of the line, or of the element of a JSON array */
  record(text: string, number: number): void;
  /** A record that cannot be cut out; it is left out, and reading goes on where the next one begins. */
  unreadable(reason: "too-long" | "cut-off", number: number): void;
}

/** Lines that end with LF or CRLF; the last one may lack its end. Blank lines are numbered and not given out. */
export class LineRecords {
  readonly #charactersMax: number;
  readonly #sink: RecordSink;
  readonly #isIndented: boolean;
  readonly #decoder = new TextDecoder();
  #rest = "";
  #number = 0;
  #isTooLong = false;

  /**
   * @param charactersMax of a line, in UTF-16 units
   * @param isIndented the blanks that a line begins with mean something, and stay
   */
  constructor(charactersMax: number, sink: RecordSink, isIndented = false) {
    this.#charactersMax = charactersMax;
    this.#sink = sink;
    this.#isIndented = isIndented;
  }

  read(chunk: Uint8Array): void {
    this.readText(this.#decoder.decode(chunk, { stream: true }));
  }

  readText(text: string): void {
    let from = 0;
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n", from)) {
      this.#line(this.#rest + text.slice(from, end));
      this.#rest = "";
      from = end + 1;
    }
    if (this.#isTooLong) return;
    this.#rest += text.slice(from);
    if (this.#rest.length <= this.#charactersMax) return;
    this.#isTooLong = true;
    this.#rest = "";
  }

  end(): void {
    this.readText(this.#decoder.decode());
    if (this.#rest !== "" || this.#isTooLong) this.#line(this.#rest);
    this.#rest = "";
  }

  #line(line: string): void {
    this.#number++;
    if (this.#isTooLong || line.length > this.#charactersMax) {
      this.#isTooLong = false;
      this.#sink.unreadable("too-long", this.#number);
      return;
    }
    const text = this.#isIndented ? line.trimEnd() : line.trim();
    if (text !== "") this.#sink.record(text, this.#number);
  }
}

/**
 * JSON documents one a line, or one JSON array of them, told apart by the first character. An element of an array is cut
 * out by its brackets and quotes alone: what it holds is for `JSON.parse` to judge.
 */
export class JsonRecords {
  readonly #charactersMax: number;
  readonly #sink: RecordSink;
  readonly #lines: LineRecords;
  readonly #decoder = new TextDecoder();
  #form: "unknown" | "lines" | "array" | "ended" = "unknown";
  /** Of the element of the array that has begun. */
  #rest = "";
  #isTooLong = false;
  /** Open brackets inside of it. */
  #depth = 0;
  #isInString = false;
  #isEscaped = false;
  #number = 0;

  /** @param charactersMax of a record, in UTF-16 units */
  constructor(charactersMax: number, sink: RecordSink) {
    this.#charactersMax = charactersMax;
    this.#sink = sink;
    this.#lines = new LineRecords(charactersMax, sink);
  }

  read(chunk: Uint8Array): void {
    this.#text(this.#decoder.decode(chunk, { stream: true }));
  }

  end(): void {
    this.#text(this.#decoder.decode());
    this.#lines.end();
    // An array that ends without its bracket: what is left is a piece of an element, or nothing.
    if (this.#form === "array") this.#sink.unreadable("cut-off", this.#number + 1);
    this.#form = "ended";
  }

  #text(text: string): void {
    let from = 0;
    if (this.#form === "unknown") {
      from = text.search(/\S/);
      if (from < 0) return;
      this.#form = text[from] === "[" ? "array" : "lines";
      if (this.#form === "array") from++;
    }
    // What follows the array goes to the reader of lines, which will not like it.
    const lineFrom = this.#form === "array" ? this.#elements(text, from) : from;
    if (lineFrom < text.length) this.#lines.readText(text.slice(lineFrom));
  }

  /** Returns where the array ends in `text`. */
  #elements(text: string, start: number): number {
    let from = start;
    for (let at = start; at < text.length; at++) {
      const character = text.charCodeAt(at);
      if (this.#isInString) {
        if (this.#isEscaped) this.#isEscaped = false;
        else if (character === BACKSLASH) this.#isEscaped = true;
        else if (character === QUOTE) this.#isInString = false;
        continue;
      }
      if (character === QUOTE) this.#isInString = true;
      else if (character === OPEN_BRACE || character === OPEN_BRACKET) this.#depth++;
      else if ((character === CLOSE_BRACE || character === CLOSE_BRACKET) && this.#depth > 0) this.#depth--;
      else if (character === COMMA && this.#depth === 0) {
        this.#element(text.slice(from, at));
        from = at + 1;
      } else if (character === CLOSE_BRACKET) {
        this.#element(text.slice(from, at));
        this.#form = "lines";
        return at + 1;
      }
    }
    this.#keep(text.slice(from));
    return text.length;
  }

  #keep(piece: string): void {
    if (this.#isTooLong) return;
    this.#rest += piece;
    if (this.#rest.length <= this.#charactersMax) return;
    this.#isTooLong = true;
    this.#rest = "";
  }

  #element(piece: string): void {
    this.#keep(piece);
    const text = this.#rest.trim();
    const isTooLong = this.#isTooLong;
    this.#rest = "";
    this.#isTooLong = false;
    if (text === "" && !isTooLong) return;
    this.#number++;
    if (isTooLong) this.#sink.unreadable("too-long", this.#number);
    else this.#sink.record(text, this.#number);
  }
}

const QUOTE = 0x22;
const COMMA = 0x2c;
const OPEN_BRACKET = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
