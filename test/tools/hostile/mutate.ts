/** Mutated inputs from a corpus, by a seed: the same seed gives the same inputs. */

/** xorshift32 (Marsaglia, 2003): state never 0. */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0 || 0x9e3779b9;
  }

  /** 0 <= n < below. */
  roll(below: number): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return this.#state % below;
  }
}

/** What mutations put in: the bytes at which readers of HTTP differ. */
const TOKENS: readonly Buffer[] = [
  "\r\n",
  "\n",
  "\r",
  "\r\n\r\n",
  " ",
  "\t",
  ":",
  ": ",
  "\0",
  "\x0b",
  "\x7f",
  "\x80",
  "\xff",
  ",",
  ";",
  '"',
  "/",
  "%",
  "%0d%0a",
  "#",
  "?",
  "//",
  "*",
  " HTTP/1.1\r\n",
  " HTTP/1.0\r\n",
  "GET /",
  "HEAD /",
  "POST /",
  "http://b/",
  "Host: b\r\n",
  "Host:\r\n",
  "Connection: close\r\n",
  "Connection: Host\r\n",
  "Content-Length: 5\r\n",
  "Content-Length: 0\r\n",
  "Transfer-Encoding: chunked\r\n",
  "Expect: 100-continue\r\n",
  "Upgrade: h2c\r\n",
  "Cookie: a=b\r\n",
  "Range: bytes=0-1\r\n",
  'If-None-Match: "a"\r\n',
  "Cache-Control: no-cache\r\n",
  "0\r\n\r\n",
  "5\r\nhello\r\n",
  "X: y\r\n z\r\n",
  "GET /b HTTP/1.1\r\nHost: b\r\n\r\n",
  "A".repeat(300),
  "a: b\r\n".repeat(40),
].map((token) => Buffer.from(token, "latin1"));

const INPUT_BYTES_MAX = 8_192;

/** One of the corpus with one to four changes. The result is only valid until the next call. */
export class Mutator {
  readonly #corpus: readonly Buffer[];
  readonly #dice: Dice;
  #one = Buffer.alloc(INPUT_BYTES_MAX);
  #other = Buffer.alloc(INPUT_BYTES_MAX);

  constructor(corpus: readonly string[], dice: Dice) {
    this.#corpus = corpus.map((text) => Buffer.from(text, "latin1").subarray(0, INPUT_BYTES_MAX));
    this.#dice = dice;
  }

  next(): Buffer {
    const dice = this.#dice;
    let length = this.#pick().copy(this.#one);
    for (let left = 1 + dice.roll(4); left > 0; left -= 1) length = this.#change(length);
    return this.#one.subarray(0, length);
  }

  #pick(): Buffer {
    return this.#corpus[this.#dice.roll(this.#corpus.length)] ?? Buffer.alloc(0);
  }

  /** Changes the first `length` bytes of the current buffer and returns the new length. */
  #change(length: number): number {
    const dice = this.#dice;
    const one = this.#one;
    const at = dice.roll(length + 1);
    switch (dice.roll(8)) {
      case 0:
        if (at < length) one[at] = (one[at] ?? 0) ^ (1 << dice.roll(8));
        return length;
      case 1:
        if (at < length) one[at] = dice.roll(256);
        return length;
      case 2:
        return this.#splice(length, at, at, TOKENS[dice.roll(TOKENS.length)] ?? one.subarray(0, 0));
      case 3:
        // Over what stands there.
        return this.#splice(
          length,
          at,
          Math.min(length, at + dice.roll(8)),
          TOKENS[dice.roll(TOKENS.length)] ?? one.subarray(0, 0),
        );
      case 4:
        return this.#splice(length, at, Math.min(length, at + 1 + dice.roll(16)), one.subarray(0, 0));
      case 5: {
        const from = dice.roll(length + 1);
        return this.#splice(length, at, at, one.subarray(from, Math.min(length, from + dice.roll(64))));
      }
      case 6: {
        const other = this.#pick();
        const from = dice.roll(other.byteLength + 1);
        return this.#splice(length, at, dice.roll(2) === 0 ? at : length, other.subarray(from));
      }
      default:
        return dice.roll(4) === 0 ? at : length;
    }
  }

  /** Puts `piece` in the place of [from, to). */
  #splice(length: number, from: number, to: number, piece: Buffer): number {
    const one = this.#one;
    const other = this.#other;
    let end = one.copy(other, 0, 0, from);
    end += piece.copy(other, end);
    end += one.copy(other, end, to, length);
    this.#one = other;
    this.#other = one;
    return Math.min(end, INPUT_BYTES_MAX);
  }
}
