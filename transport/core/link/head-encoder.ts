/**
 * Heads into bytes: first the structure (numbers of known names and pairs, lengths), then all text in one piece, so that a reader makes
 * one string of it and cuts it. No state between heads: none waits for another, and none can be read wrongly because of another.
 */
import { ByteWriter, numberBytes } from "./bytes.ts";
import {
  AUTHORITY,
  CLASS_OF,
  isBlank,
  isForbidden,
  isMethod,
  isStatus,
  isWholePath,
  NAME,
  PATH,
  TOKEN,
  VALUE,
} from "./field-rules.ts";
import { KNOWN_METHODS, knownNames } from "./static-table.ts";
import {
  type FlatFields,
  FIELDS_MAX,
  HEAD_BYTES_MAX,
  type LinkRequestHead,
  type LinkResponseHead,
  type StreamReason,
  urgencies,
} from "./words.ts";

/** First bytes of a field. */
export const PAIR = 0x80;
export const KNOWN_NAME = 0x40;
/** Longest name whose length stands in the first byte. */
export const SHORT_NAME_MAX = 0x3f;

const methodCodes: ReadonlyMap<string, number> = new Map(
  KNOWN_METHODS.map((method, code): [string, number] => [method, code]).slice(1),
);

export class HeadEncoder {
  readonly #structure = new ByteWriter();
  readonly #text = new ByteWriter();

  /** Why it cannot be sent; undefined: {@link payloadBytes} and {@link writeTo} have it. */
  request({ method, authority, path, urgency, fields }: LinkRequestHead): StreamReason | undefined {
    this.#begin();
    const code = methodCodes.get(method) ?? 0;
    const structure = this.#structure;
    structure.byte((urgencies.indexOf(urgency) << 4) | code);
    if (code === 0) {
      if (method === "" || !isMethod(method) || !this.#write(method, TOKEN)) return "method";
    }
    if (!this.#write(authority, AUTHORITY)) return "authority";
    if (!isWholePath(method, path) || !this.#write(path, PATH)) return "path";
    return this.#fields(fields);
  }

  response({ status, fields }: LinkResponseHead): StreamReason | undefined {
    this.#begin();
    if (!isStatus(status)) return "status";
    this.#structure.byte(status >>> 8);
    this.#structure.byte(status & 0xff);
    return this.#fields(fields);
  }

  trailers(fields: FlatFields): StreamReason | undefined {
    this.#begin();
    return this.#fields(fields);
  }

  get payloadBytes(): number {
    const structureBytes = this.#structure.length;
    return numberBytes(structureBytes) + structureBytes + this.#text.length;
  }

  writeTo(out: ByteWriter): void {
    out.number(this.#structure.length);
    out.append(this.#structure.view());
    out.append(this.#text.view());
  }

  #begin(): void {
    this.#structure.length = 0;
    this.#text.length = 0;
  }

  /** Length and text, of characters that have the bit. */
  #write(text: string, bit: number): boolean {
    this.#structure.number(text.length);
    return this.#text.characters(text, CLASS_OF, bit);
  }

  #fields(fields: FlatFields): StreamReason | undefined {
    if (fields.length > 2 * FIELDS_MAX || fields.length % 2 !== 0) return "field-count";
    const structure = this.#structure;
    const text = this.#text;
    for (let index = 0; index < fields.length; index += 2) {
      const given = fields[index] as string;
      const value = fields[index + 1] as string;
      let name = given;
      let known = knownNames.get(name);
      if (known === undefined) {
        name = given.toLowerCase();
        known = knownNames.get(name);
      }
      if (known !== undefined) {
        const pair = known.pairs?.get(value);
        if (pair !== undefined) {
          structure.byte(PAIR | pair);
          continue;
        }
        structure.byte(KNOWN_NAME | known.index);
      } else {
        if (name === "" || isForbidden(name) || !text.characters(name, CLASS_OF, NAME)) return "field-name";
        if (name.length <= SHORT_NAME_MAX) structure.byte(name.length);
        else {
          structure.byte(0);
          structure.number(name.length);
        }
      }
      if (isBlank(value.charCodeAt(0)) || isBlank(value.charCodeAt(value.length - 1))) return "field-value";
      if (!this.#write(value, VALUE)) return "field-value";
      if (text.length > HEAD_BYTES_MAX) return "head-form";
    }
    return this.payloadBytes > HEAD_BYTES_MAX ? "head-form" : undefined;
  }
}
