/** Certificates from pairs of files, read again when they change: what renews them need not know of this process. */
import { readFileSync, statSync } from "node:fs";
import { type Clock, IsochroneError } from "#kit";
import type { Logger } from "#kit/io";
import { type Certificate, certificateWarning, parseCertificate } from "./certificate.ts";
import type { CertificateStore } from "./certificate-store.ts";

export interface CertificatePair {
  readonly certificateFile: string;
  readonly keyFile: string;
}

export interface CertificateFilesOptions {
  /** The first pair is the default. */
  readonly pairs: readonly CertificatePair[];
  readonly store: CertificateStore;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** How often files are looked at, ms. Asking costs two system calls a pair and works on every file system, unlike watching. */
const CHECK_MS = 5_000;

export class CertificateFiles {
  readonly #o: CertificateFilesOptions;
  /** What the files of a pair looked like when they were read last, good or bad. */
  readonly #seen = new Map<CertificatePair, string>();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: CertificateFilesOptions) {
    this.#o = options;
  }

  /** Reads every pair and goes on looking. Throws IsochroneError when one cannot be used: at the start nothing better is there. */
  start(): void {
    for (const pair of this.#o.pairs) this.#read(pair);
    this.#timer = setInterval(() => this.check(), CHECK_MS);
    this.#timer.unref();
  }

  /** Reads what has changed. A pair that cannot be used is told once, and what was in force stays. Never throws. */
  check(): void {
    for (const pair of this.#o.pairs) {
      if (stamp(pair) === this.#seen.get(pair)) continue;
      try {
        this.#read(pair);
        this.#o.logger.info("certificate-loaded", { file: pair.certificateFile });
      } catch (error) {
        this.#o.logger.error("certificate-refused", {
          file: pair.certificateFile,
          error: error instanceof Error ? error.message : String(error),
        });
      }
    }
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #read(pair: CertificatePair): void {
    // Taken before the content: what changes meanwhile is seen at the next look.
    this.#seen.set(pair, stamp(pair));
    const certificate = parseCertificate(
      readText(pair.certificateFile),
      readText(pair.keyFile),
      pair.certificateFile,
    );
    this.#warn(pair, certificate);
    this.#o.store.set(pair.certificateFile, certificate);
  }

  #warn(pair: CertificatePair, certificate: Certificate): void {
    const warning = certificateWarning(certificate, this.#o.clock.epoch());
    if (warning !== undefined)
      this.#o.logger.warn("certificate-warning", {
        file: pair.certificateFile,
        warning,
        notAfter: new Date(certificate.notAfter).toISOString(),
      });
  }
}

function stamp({ certificateFile, keyFile }: CertificatePair): string {
  return [certificateFile, keyFile]
    .map((path) => {
      try {
        const found = statSync(path);
        return `${found.ino} ${found.size} ${found.mtimeMs}`;
      } catch {
        return "unreadable";
      }
    })
    .join(" ");
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new IsochroneError(`Cannot read ${JSON.stringify(path)}: ${(cause as Error).message}`, {
      code: "certificate-unreadable",
      source: "configuration",
      retry: "never",
      cause,
    });
  }
}
