/**
 * Content in chunks (RFC 9112, section 7.1) in its plain form: no extensions, no trailers, sizes of at most eight digits. At anything else
 * the reader stops, and says from where on the rest is to be read by somebody else.
 */

const CR = 0x0d;
const LF = 0x0a;
/** Digits of a size: chunks of more than 4 GiB are not plain. */
const DIGITS_MAX = 8;

/**
 * `size`: a line with a size is read. `content`: bytes of a chunk. `between`: the line end behind them. `last`: the blank line at the end.
 */
type Place = "size" | "size-end" | "content" | "between" | "between-end" | "last" | "last-end";

/** `more`: all was read. `ended`: so was the content. `other`: what comes is not plain. `broken`: the bytes of a chunk are not followed by a line end. */
export type ChunksState = "more" | "ended" | "other" | "broken";

export class ChunkReader {
  #place: Place = "size";
  #digits = 0;
  #size = 0;
  #left = 0;
  /** Where reading stopped, in the bytes of the last call. */
  at = 0;

  /** Reads bytes from `from` on. `content` is told of each run of content in them; it must not throw. */
  read(bytes: Uint8Array, from: number, content: (from: number, to: number) => void): ChunksState {
    let at = from;
    const end = bytes.byteLength;
    while (at < end) {
      if (this.#place === "content") {
        const to = Math.min(end, at + this.#left);
        content(at, to);
        this.#left -= to - at;
        at = to;
        if (this.#left === 0) this.#place = "between";
        continue;
      }
      const state = this.#octet(bytes[at] as number);
      if (state !== "more") {
        this.at = state === "ended" ? at + 1 : at;
        return state;
      }
      at++;
    }
    this.at = at;
    return "more";
  }

  #octet(octet: number): ChunksState {
    switch (this.#place) {
      case "size": {
        const digit = digitOf(octet);
        if (digit >= 0) {
          if (this.#digits === DIGITS_MAX) return "other";
          this.#digits++;
          this.#size = this.#size * 16 + digit;
          return "more";
        }
        if (octet !== CR || this.#digits === 0) return "other";
        this.#place = "size-end";
        return "more";
      }
      case "size-end":
        if (octet !== LF) return "other";
        this.#left = this.#size;
        this.#place = this.#size === 0 ? "last" : "content";
        if (this.#size > 0) {
          this.#size = 0;
          this.#digits = 0;
        }
        return "more";
      case "between":
        if (octet !== CR) return "broken";
        this.#place = "between-end";
        return "more";
      case "between-end":
        if (octet !== LF) return "broken";
        this.#place = "size";
        return "more";
      case "last":
        if (octet !== CR) return "other";
        this.#place = "last-end";
        return "more";
      case "last-end":
        return octet === LF ? "ended" : "other";
      case "content":
        return "more";
      default:
        return this.#place satisfies never;
    }
  }

  /**
   * After `other`: what was read since the last content, as it came but for leading zeros and letters of the size. Who reads on begins with it.
   */
  get unread(): string {
    const digits = this.#digits === 0 ? "" : this.#size.toString(16).padStart(this.#digits, "0");
    if (this.#place === "size-end") return `${digits}\r`;
    if (this.#place === "last") return `${digits}\r\n`;
    return this.#place === "last-end" ? `${digits}\r\n\r` : digits;
  }
}

/** The value of a hexadecimal digit; -1: it is none. */
function digitOf(octet: number): number {
  if (octet >= 0x30 && octet <= 0x39) return octet - 0x30;
  const lower = octet | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}
