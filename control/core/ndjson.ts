/**
 * Cuts a byte stream into lines of JSON. Bounded: a line longer than `lineBytesMax` ends the reading with a RangeError
 * (a map of a large deployment is one line, so the bound is generous). A last line without line feed is not given out:
 * it is the piece of a message that was cut off. Throws SyntaxError on a line that is not JSON.
 *
 * The cluster map of a map is kept in the pieces that it comes in (`TextPieces`) and never becomes one text: joining and parsing 25 MB
 * stops a process for 50 ms.
 */
import { TextPieces } from "#kit";

/** What stands in front of a text that is kept in pieces; within a text of JSON its quotation marks would be escaped. */
const MARK = new TextEncoder().encode('"clusterMap":"');
const QUOTE = 0x22;
const LINE_FEED = 0x0a;
/** Shorter ones become a text as any other. */
const LONG_BYTES = 64 * 1024;

export interface NdjsonOptions {
  /** Line feeds are white space: all is one value, which `end` gives. */
  readonly isOneValue?: boolean;
  /** What makes a value of a text; JSON.parse by default. */
  readonly parse?: (text: string) => unknown;
  /** Keeps what a chunk holds of a character that the next one completes. By default wrong bytes become U+FFFD, which no schema of ours wants. */
  readonly decoder?: TextDecoder;
}

export class NdjsonReader {
  readonly #lineBytesMax: number;
  readonly #isOneValue: boolean;
  readonly #parse: (text: string) => unknown;
  readonly #decoder: TextDecoder;
  /** Pieces of the unfinished line: joined once, or a long line would cost its length squared. */
  #pieces: string[] = [];
  #pendingBytes = 0;
  /** The end of the last chunk, if the mark may have begun in it. */
  #held: Uint8Array | undefined;
  /** Pieces of the long text in which the reading stands. */
  #long: Uint8Array[] | undefined;
  /** Long texts of the unfinished line; in the line stand their numbers. */
  #longs: TextPieces[] = [];

  constructor(lineBytesMax: number, options: NdjsonOptions = {}) {
    this.#lineBytesMax = lineBytesMax;
    this.#isOneValue = options.isOneValue ?? false;
    this.#parse = options.parse ?? JSON.parse;
    this.#decoder = options.decoder ?? new TextDecoder();
  }

  /** Values of the lines that `chunk` completes. Blank lines are skipped. */
  read(chunk: Uint8Array): unknown[] {
    const values: unknown[] = [];
    let rest = this.#held === undefined ? chunk : joined(this.#held, chunk);
    this.#held = undefined;
    while (rest.length > 0) {
      if (this.#long !== undefined) {
        const end = rest.indexOf(QUOTE);
        this.#addLong(rest.subarray(0, end === -1 ? rest.length : end));
        if (end === -1) break;
        this.#longs.push(new TextPieces(this.#long));
        this.#long = undefined;
        rest = rest.subarray(end);
        continue;
      }
      const end = this.#isOneValue ? -1 : rest.indexOf(LINE_FEED);
      const line = end === -1 ? rest : rest.subarray(0, end);
      const { at, isWhole } = findMark(line);
      if (isWhole) {
        this.#add(line.subarray(0, at + MARK.length));
        this.#pieces.push(String(this.#longs.length));
        this.#long = [];
        rest = rest.subarray(at + MARK.length);
      } else if (end === -1) {
        this.#add(line.subarray(0, at));
        if (at < line.length) this.#held = line.slice(at);
        break;
      } else {
        this.#add(line);
        const value = this.#end();
        if (value !== undefined) values.push(value);
        rest = rest.subarray(end + 1);
      }
    }
    return values;
  }

  /** The value of the last line, if it has no line feed and is whole all the same: of an answer that is one value. */
  end(): unknown {
    if (this.#long !== undefined) throw new SyntaxError("the JSON ends within a text");
    if (this.#held !== undefined) this.#add(this.#held);
    this.#held = undefined;
    return this.#end();
  }

  #add(piece: Uint8Array): void {
    this.#count(piece);
    this.#pieces.push(this.#decoder.decode(piece, { stream: true }));
  }

  #addLong(piece: Uint8Array): void {
    this.#count(piece);
    // By place: an iterator takes ten times as long, for 25 million octets.
    for (let at = 0; at < piece.length; at++) {
      const code = piece[at] as number;
      if (code < 0x20 || code > 0x7e || code === 0x5c)
        throw new SyntaxError("a cluster map that is no base64");
    }
    if (piece.length > 0) this.#long?.push(piece);
  }

  #count(piece: Uint8Array): void {
    this.#pendingBytes += piece.length;
    if (this.#pendingBytes > this.#lineBytesMax)
      throw new RangeError(`a line of more than ${this.#lineBytesMax} bytes`);
  }

  #end(): unknown {
    const line = this.#pieces.join("") + this.#decoder.decode();
    const longs = this.#longs;
    this.#pieces = [];
    this.#longs = [];
    this.#pendingBytes = 0;
    if (line.trim() === "" && !this.#isOneValue) return undefined;
    return withLongs(this.#parse(line), longs);
  }
}

/** Where the mark stands, or the beginning of one that the end of the bytes cuts off; the end of the bytes: neither. */
function findMark(bytes: Uint8Array): { readonly at: number; readonly isWhole: boolean } {
  for (let at = bytes.indexOf(QUOTE); at !== -1; at = bytes.indexOf(QUOTE, at + 1)) {
    let same = 1;
    while (same < MARK.length && at + same < bytes.length && bytes[at + same] === MARK[same]) same++;
    if (same === MARK.length) return { at, isWhole: true };
    if (at + same === bytes.length) return { at, isWhole: false };
  }
  return { at: bytes.length, isWhole: false };
}

/** Puts the texts back where their numbers stand: in the document itself, or in the body of what is said of it. */
function withLongs(value: unknown, longs: readonly TextPieces[]): unknown {
  let found = 0;
  for (const one of [value, fieldsOf(value)["body"]]) {
    const fields = fieldsOf(one);
    const long = longs[found];
    if (long === undefined || fields["clusterMap"] !== String(found)) continue;
    fields["clusterMap"] = long.length < LONG_BYTES ? long.toJSON() : long;
    found++;
  }
  // A key twice, or in a place where no map of ours has it.
  if (found !== longs.length) throw new SyntaxError("a cluster map in a place where none stands");
  return value;
}

function fieldsOf(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
