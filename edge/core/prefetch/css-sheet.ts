/** A style sheet that is an answer of its own. */
import { CssReader } from "./css.ts";
import { type Reference, ReferenceList, type ReferenceReader, type ReferenceScope } from "./reference.ts";

const SHEET_CHARACTERS_MAX = 1_048_576;

export class CssSheetReader implements ReferenceReader {
  readonly #list: ReferenceList;
  readonly #reader: CssReader;
  #characters = 0;

  constructor(scope: ReferenceScope) {
    this.#list = new ReferenceList(scope);
    this.#reader = new CssReader(this.#list);
  }

  get isDone(): boolean {
    return this.#list.isFull || this.#characters >= SHEET_CHARACTERS_MAX;
  }

  write(text: string): readonly Reference[] {
    if (this.isDone) return [];
    const piece = text.slice(0, SHEET_CHARACTERS_MAX - this.#characters);
    this.#characters += piece.length;
    this.#reader.write(piece);
    return this.#list.take();
  }
}
