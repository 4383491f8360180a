/** Answers to who fetches a version of a map and says what it has: kept ready, since every receiver of a new map asks the same. */
import { BYTES_RATIO_MAX, differenceChain } from "../core/difference-chain.ts";
import type { DocumentKind } from "../core/words.ts";
import type { DocumentStore, StoredDocument } from "./store.ts";

/** Of answers that are kept, bytes; the newest one is kept however large it is. */
const BYTES_MAX = 64 * 1024 * 1024;

type Form = "whole" | "differences";

export class MapDeliveries {
  readonly #store: DocumentStore;
  /** By what was asked; forgotten when another version comes into force. */
  readonly #ready = new Map<string, { readonly form: Form; readonly bytes: Uint8Array }>();
  /** Maps that were fetched by reference, whole and as differences, and their bytes. */
  readonly counters = { whole: 0, wholeBytes: 0, differences: 0, differencesBytes: 0 };

  constructor(store: DocumentStore) {
    this.#store = store;
  }

  /**
   * The whole record, or the record with differences instead of the body; bytes of JSON.
   *
   * @param have the name of the map that the receiver has; undefined: it wants the whole
   * @param find throws when there is no such version
   */
  delivery(
    kind: DocumentKind,
    id: string,
    version: number,
    have: string | undefined,
    find: () => StoredDocument,
  ): Uint8Array {
    const key = `${kind}/${id}@${version} ${have ?? ""}`;
    const ready = this.#ready.get(key);
    if (ready !== undefined) return this.#counted(ready.form, ready.bytes);
    const { summary, bodyText } = find();
    const chain =
      have === undefined
        ? undefined
        : differenceChain(
            this.#store.differences(kind, id),
            version,
            have,
            bodyText.length * BYTES_RATIO_MAX,
          );
    const texts = chain?.map((one) => this.#store.differenceText(kind, id, one));
    const rest = texts === undefined ? `"body":${bodyText}` : `"differences":[${texts.join(",")}]`;
    const form = texts === undefined ? "whole" : "differences";
    const bytes = Buffer.from(`${JSON.stringify(summary).slice(0, -1)},${rest}}`);
    let total = bytes.length;
    for (const kept of this.#ready.values()) total += kept.bytes.length;
    if (total > BYTES_MAX) this.#ready.clear();
    this.#ready.set(key, { form, bytes });
    return this.#counted(form, bytes);
  }

  forget(): void {
    this.#ready.clear();
  }

  #counted(form: Form, bytes: Uint8Array): Uint8Array {
    this.counters[form]++;
    this.counters[`${form}Bytes`] += bytes.length;
    return bytes;
  }
}
