/** Secondary zones on the disk, so that a restart serves at once: one file a zone; its time is when a primary last confirmed it. */
import { stat, unlink, utimes } from "node:fs/promises";
import { statSync } from "node:fs";
import { join } from "node:path";
import { ParseError, type ZoneDocument, zoneDocument } from "#kit";
import { type Logger, makeDirectory, readFileIfThere, writeFileDurable } from "#kit/io";

const FILE_BYTES_MAX = 256 * 1024 * 1024;

export interface KeptZone {
  /** With its records. */
  readonly document: ZoneDocument;
  readonly confirmedAtEpochMs: number;
}

export class ZoneDisk {
  readonly #directory: string;
  readonly #logger: Logger;
  /** One write of a zone after the other. */
  readonly #writes = new Map<string, Promise<void>>();

  /** Throws IsochroneError when there can be no such directory. */
  constructor(stateDirectory: string, logger: Logger) {
    this.#directory = join(stateDirectory, "secondary-zones");
    this.#logger = logger;
    makeDirectory(this.#directory);
  }

  /** Undefined: none is there, or none that can be used. Synchronous: for the start. */
  read(zoneId: string): KeptZone | undefined {
    const path = this.#pathOf(zoneId);
    try {
      const data = readFileIfThere(path, FILE_BYTES_MAX);
      if (data === undefined) return undefined;
      const document = zoneDocument.parse(JSON.parse(data.toString("utf8")));
      return { document, confirmedAtEpochMs: statSync(path).mtimeMs };
    } catch (error) {
      // It is fetched anew.
      const why = error instanceof ParseError || error instanceof SyntaxError ? "damaged" : "unreadable";
      this.#logger.error("secondary-zone-file", { zoneId, why, error });
      return undefined;
    }
  }

  write(document: ZoneDocument, confirmedAtEpochMs: number): void {
    this.#inTurn(document.zoneId, async (path) => {
      await writeFileDurable(path, JSON.stringify(document));
      await utimes(path, confirmedAtEpochMs / 1_000, confirmedAtEpochMs / 1_000);
    });
  }

  /** The zone is right as it is. */
  confirm(zoneId: string, confirmedAtEpochMs: number): void {
    this.#inTurn(zoneId, (path) => utimes(path, confirmedAtEpochMs / 1_000, confirmedAtEpochMs / 1_000));
  }

  delete(zoneId: string): void {
    this.#inTurn(zoneId, async (path) => {
      const isThere = await stat(path).then(
        () => true,
        () => false,
      );
      if (isThere) await unlink(path);
    });
  }

  /** Resolves when all is written. */
  async close(): Promise<void> {
    await Promise.all(this.#writes.values());
  }

  #inTurn(zoneId: string, work: (path: string) => Promise<void>): void {
    const before = this.#writes.get(zoneId) ?? Promise.resolve();
    const turn = before
      .then(() => work(this.#pathOf(zoneId)))
      // Served from memory all the same; after a restart it is fetched.
      .catch((error: unknown) =>
        this.#logger.error("secondary-zone-file", { zoneId, why: "not written", error }),
      )
      .then(() => {
        if (this.#writes.get(zoneId) === turn) this.#writes.delete(zoneId);
      });
    this.#writes.set(zoneId, turn);
  }

  /** An id is a file name by its grammar. */
  #pathOf(zoneId: string): string {
    return join(this.#directory, `${zoneId}.json`);
  }
}
