import { IsochroneError } from "../errors.ts";
import { xxh64Hex, xxh64InSteps } from "../hash.ts";
import { jsonPieces } from "../json-pieces.ts";
import type { Steps } from "../steps.ts";
import { readFileIfThere, writeFileDurable } from "./files.ts";
import { inSteps } from "./in-steps.ts";

/** A file that was there but could not be used. */
export type LastKnownGoodDamage = {
  readonly path: string;
  readonly reason: string;
  readonly cause?: unknown;
};

export type LastKnownGoodOptions = {
  /** Told why a file was ignored by `load`. */
  readonly onDamaged?: (damage: LastKnownGoodDamage) => void;
  /** Largest file that is read or written, bytes. Default 1 GiB. */
  readonly bytesMax?: number;
};

const BYTES_MAX_DEFAULT = 2 ** 30;
const FORMAT = "isochrone-last-known-good 1";
const HEADER = /^isochrone-last-known-good 1 ([0-9a-f]{16}) ([0-9]{1,15})$/;
const LINE_FEED = 10;

/**
 * The newest document that a process has applied, kept on its disk, so that it can start and serve while whoever
 * publishes the document is away. The file is one header line (format, xxh64 of the rest, bytes of the rest) and
 * the value as JSON: a truncated, empty or altered file is found out and never taken for a document.
 */
export class LastKnownGood<T> {
  readonly #path: string;
  readonly #parse: (value: unknown) => T;
  readonly #onDamaged: (damage: LastKnownGoodDamage) => void;
  readonly #bytesMax: number;
  /** The save at work, and the one that waits for it with the newest value. */
  #running: Promise<void> | undefined;
  #waiting: { value: T; readonly saved: Promise<void> } | undefined;

  /** @param parse makes a T of the JSON value or throws; the file is as untrusted as any other input */
  constructor(path: string, parse: (value: unknown) => T, options: LastKnownGoodOptions = {}) {
    this.#path = path;
    this.#parse = parse;
    this.#onDamaged = options.onDamaged ?? (() => {});
    this.#bytesMax = options.bytesMax ?? BYTES_MAX_DEFAULT;
  }

  /** The document, or undefined if there is no file or it is damaged (then `onDamaged` was told why). Never throws. */
  load(): T | undefined {
    let reason = "cannot be read";
    try {
      const file = readFileIfThere(this.#path, this.#bytesMax);
      if (!file) return undefined;
      reason = "does not begin with a header line";
      const lineEnd = file.subarray(0, 256).indexOf(LINE_FEED);
      const header = HEADER.exec(file.subarray(0, Math.max(0, lineEnd)).toString("latin1"));
      if (!header) return this.#damaged(reason);
      const body = file.subarray(lineEnd + 1);
      if (body.length !== Number(header[2]))
        return this.#damaged(`has ${body.length} bytes after its header, which says ${header[2]}`);
      if (xxh64Hex(body) !== header[1]) return this.#damaged("does not match its checksum");
      reason = "is not JSON";
      const value: unknown = JSON.parse(body.toString("utf8"));
      reason = "does not hold a valid document";
      return this.#parse(value);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      return this.#damaged(`${reason}: ${why}`, cause);
    }
  }

  #damaged(reason: string, cause?: unknown): undefined {
    this.#onDamaged({ path: this.#path, reason, cause });
  }

  /**
   * Resolves when `value`, or a newer one that was given meanwhile, is durable on the disk; rejects with
   * IsochroneError. While one save is at work only the newest of those that come after it is written.
   */
  save(value: T): Promise<void> {
    // First the waiting one: between the end of a save and the start of the next there is a moment with none at work.
    if (this.#waiting) {
      this.#waiting.value = value;
      return this.#waiting.saved;
    }
    if (!this.#running) return this.#start(value);
    const startNewest = (): Promise<void> => {
      const newest = this.#waiting as { value: T };
      this.#waiting = undefined;
      return this.#start(newest.value);
    };
    // Whether the first one failed is told to its own caller.
    const saved = this.#running.then(startNewest, startNewest);
    this.#waiting = { value, saved };
    return saved;
  }

  #start(value: T): Promise<void> {
    const running = this.#write(value).finally(() => {
      if (this.#running === running) this.#running = undefined;
    });
    this.#running = running;
    return running;
  }

  async #write(value: T): Promise<void> {
    const made = await inSteps(jsonBytes(value));
    if (made === undefined) return;
    const { pieces, checksum } = made.value;
    const bytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
    const header = Buffer.from(`${FORMAT} ${checksum} ${bytes}\n`);
    if (header.length + bytes > this.#bytesMax)
      throw new IsochroneError(
        `Cannot save ${JSON.stringify(this.#path)}: ${bytes} bytes, at most ${this.#bytesMax} are allowed`,
        { code: "file-too-large", source: "internal", retry: "never" },
      );
    await writeFileDurable(this.#path, [header, ...pieces]);
  }
}

/** Characters that are gathered before they become bytes. */
const PIECE_CHARACTERS = 2 ** 18;

/** A value as JSON in bytes, and their checksum as sixteen hexadecimal digits. */
function* jsonBytes(value: unknown): Steps<{ readonly pieces: Uint8Array[]; readonly checksum: string }> {
  const pieces: Uint8Array[] = [];
  let text = "";
  for (const piece of jsonPieces(value)) {
    text += piece;
    if (piece === "") yield;
    if (text.length < PIECE_CHARACTERS) continue;
    pieces.push(Buffer.from(text));
    text = "";
    yield;
  }
  pieces.push(Buffer.from(text));
  const checksum = yield* xxh64InSteps(...pieces);
  return { pieces, checksum: checksum.toString(16).padStart(16, "0") };
}
