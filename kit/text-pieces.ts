/** Bytes to characters, one each. */
const decoder = new TextDecoder("latin1");

/**
 * A long text in the pieces that it came in: a map of half a million client networks is a text of 25 MB, and joining it stops a process for
 * tens of milliseconds. ASCII without quotation marks, backslashes and control characters, so that it stands in JSON as it is.
 */
export class TextPieces {
  readonly pieces: readonly Uint8Array[];
  readonly length: number;

  constructor(pieces: readonly Uint8Array[]) {
    this.pieces = pieces;
    this.length = pieces.reduce((sum, piece) => sum + piece.length, 0);
  }

  /** The first characters, at most `length` of them. */
  head(length: number): string {
    let text = "";
    for (const piece of this.pieces) {
      text += decoder.decode(piece.subarray(0, length - text.length));
      if (text.length >= length) break;
    }
    return text;
  }

  /** What JSON.stringify would make of the text; for `jsonPieces` of json-pieces.ts. */
  *jsonPieces(): Generator<string, undefined> {
    yield '"';
    for (const piece of this.pieces) yield decoder.decode(piece);
    yield '"';
  }

  toJSON(): string {
    return this.pieces.map((piece) => decoder.decode(piece)).join("");
  }
}
