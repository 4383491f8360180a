/** Queries that ended a worker, kept for the operator: one line of JSON each, synchronised at once, since the next one may end us too. */
import { closeSync, fstatSync, fsyncSync, openSync, writeSync } from "node:fs";
import type { Logger } from "#kit/io";
import { systemClock } from "#kit/io";
import type { QueryInWork } from "./black-box.ts";

/** Past this nothing more is written: who finds a way to end workers must not fill the disk as well. */
const FILE_BYTES_MAX = 4 * 1024 * 1024;

export class CrashRecord {
  readonly #path: string | undefined;
  readonly #logger: Logger;

  /** @param path undefined: only the log is told */
  constructor(path: string | undefined, logger: Logger) {
    this.#path = path;
    this.#logger = logger;
  }

  /** Never throws: a full disk must not keep the query from being dropped by the others. */
  write(query: QueryInWork, how: { readonly pid: number | undefined; readonly why: string }): void {
    const line = {
      atEpochMs: Math.floor(systemClock.epoch()),
      ...how,
      client: query.client,
      port: query.port,
      packetHex: query.bytes.toString("hex"),
    };
    this.#logger.error("dns-query-ended-worker", line);
    if (this.#path === undefined) return;
    try {
      const fd = openSync(this.#path, "a", 0o600);
      try {
        if (fstatSync(fd).size < FILE_BYTES_MAX) {
          writeSync(fd, `${JSON.stringify(line)}\n`);
          fsyncSync(fd);
        }
      } finally {
        closeSync(fd);
      }
    } catch (error) {
      this.#logger.error("dns-crash-record", { path: this.#path, error });
    }
  }
}
