/**
 * Cuts a byte stream into lines of JSON. Bounded: a line longer than `lineBytesMax` ends the reading with a RangeError
 * (a map of a large deployment is one line, so the bound is generous). A last line without line feed is not given out:
 * it is the piece of a message that was cut off. Throws SyntaxError on a line that is not JSON.
 */
export class NdjsonReader {
  readonly #lineBytesMax: number;
  /** Keeps what a chunk holds of a character that the next one completes. Wrong bytes become U+FFFD, which no schema of ours wants. */
  readonly #decoder = new TextDecoder();
  /** Pieces of the unfinished line: joined once, or a long line would cost its length squared. */
  #pieces: string[] = [];
  #pendingBytes = 0;

  constructor(lineBytesMax: number) {
    this.#lineBytesMax = lineBytesMax;
  }

  /** Values of the lines that `chunk` completes. Blank lines are skipped. */
  read(chunk: Uint8Array): unknown[] {
    const values: unknown[] = [];
    let from = 0;
    for (;;) {
      const end = chunk.indexOf(0x0a, from);
      const piece = chunk.subarray(from, end === -1 ? chunk.length : end);
      this.#pendingBytes += piece.length;
      if (this.#pendingBytes > this.#lineBytesMax) {
        throw new RangeError(`a line of more than ${this.#lineBytesMax} bytes`);
      }
      this.#pieces.push(this.#decoder.decode(piece, { stream: true }));
      if (end === -1) return values;
      const line = this.#pieces.join("") + this.#decoder.decode();
      this.#pieces = [];
      this.#pendingBytes = 0;
      from = end + 1;
      if (line.trim() !== "") values.push(JSON.parse(line));
    }
  }
}
