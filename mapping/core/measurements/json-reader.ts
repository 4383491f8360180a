/** Reads records in JSON, each by a strict parser; what does not fit is skipped and counted. */
import { ParseError } from "#kit";
import { ReadTally } from "./tally.ts";
import { JsonRecords } from "./text-records.ts";

/** `other-type`: a record of another kind, which is not wrong and not for this reader. */
export type JsonSkipReason = "too-long" | "cut-off" | "not-json" | "other-type" | "refused";

/** One record a line, or one JSON array. Bounded memory: one record at a time. */
export class JsonReader<T> {
  readonly tally = new ReadTally<JsonSkipReason>();
  readonly #records: JsonRecords;
  readonly #parse: (value: unknown) => T;
  readonly #isOtherType: (error: ParseError) => boolean;

  /**
   * @param parse throws ParseError
   * @param charactersMax of a record
   * @param isOtherType whether what `parse` threw says that the record is of another kind
   */
  constructor(
    parse: (value: unknown) => T,
    charactersMax: number,
    onRecord: (record: T) => void,
    isOtherType: (error: ParseError) => boolean = () => false,
  ) {
    this.#parse = parse;
    this.#isOtherType = isOtherType;
    this.#records = new JsonRecords(charactersMax, {
      record: (text, number) => {
        const record = this.#take(text, `record ${number}`);
        if (record !== undefined) onRecord(record.value);
      },
      unreadable: (reason, number) =>
        this.tally.skip(
          reason,
          `record ${number}`,
          reason === "too-long" ? `more than ${charactersMax} characters` : "the input ends within it",
        ),
    });
  }

  read(chunk: Uint8Array): void {
    this.#records.read(chunk);
  }

  end(): void {
    this.#records.end();
  }

  #take(text: string, where: string): { readonly value: T } | undefined {
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch (error) {
      this.tally.skip("not-json", where, error instanceof Error ? error.message : String(error));
      return undefined;
    }
    try {
      const value = this.#parse(json);
      this.tally.take();
      return { value };
    } catch (error) {
      if (!(error instanceof ParseError)) throw error;
      this.tally.skip(this.#isOtherType(error) ? "other-type" : "refused", where, error.message);
      return undefined;
    }
  }
}
