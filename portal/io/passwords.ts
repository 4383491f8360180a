/** Passwords: hashed at the start, compared in constant time, never kept. */
import * as crypto from "node:crypto";
import type { StatedAccount } from "../core/accounts.ts";
import type { Viewer } from "../core/wire.ts";

/** OWASP's first choice for argon2id: 19 MiB, two passes, one lane. */
const ARGON2 = { memory: 19_456, passes: 2, parallelism: 1, tagLength: 32 } as const;
/** RFC 7914 where the runtime has no argon2: 32 MiB. */
const SCRYPT = { N: 32_768, r: 8, p: 1, maxmem: 64 * 1024 * 1024 } as const;
const SALT_BYTES = 16;

export interface PasswordBookOptions {
  readonly hashesMax: number;
  readonly hashesWaitingMax: number;
}

/** Too many log-ins at once; the caller says "try again". */
export class PasswordBookBusyError extends Error {
  constructor(waiting: number) {
    super(`Cannot check the password now: ${waiting} log-ins wait already; try again in a few seconds`);
    this.name = "PasswordBookBusyError";
  }
}

interface Entry {
  readonly viewer: Viewer;
  readonly salt: Buffer;
  readonly digest: Buffer;
}

export class PasswordBook {
  readonly #options: PasswordBookOptions;
  readonly #entries = new Map<string, Entry>();
  /** Checked in place of an account that does not exist, so that the time taken does not tell. */
  readonly #nobody: Entry;
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  private constructor(options: PasswordBookOptions, nobody: Entry) {
    this.#options = options;
    this.#nobody = nobody;
  }

  /** Hashes every password; about 30 ms each. */
  static async of(accounts: readonly StatedAccount[], options: PasswordBookOptions): Promise<PasswordBook> {
    const nobody = await entryOf({ name: "", customerId: null }, crypto.randomBytes(16).toString("hex"));
    const book = new PasswordBook(options, nobody);
    for (const { name, password, customerId } of accounts) {
      book.#entries.set(name, await entryOf({ name, customerId }, password));
    }
    return book;
  }

  /** The account, or undefined when the name or the password is wrong; which of both is not told, not even by time. */
  async check(name: string, password: string): Promise<Viewer | undefined> {
    const { hashesMax, hashesWaitingMax } = this.#options;
    if (this.#running >= hashesMax) {
      if (this.#waiting.length >= hashesWaitingMax) throw new PasswordBookBusyError(this.#waiting.length);
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else {
      this.#running += 1;
    }
    try {
      const entry = this.#entries.get(name);
      const { salt, digest } = entry ?? this.#nobody;
      const isRight = crypto.timingSafeEqual(await hash(password, salt), digest);
      return isRight ? entry?.viewer : undefined;
    } finally {
      // The place is handed on, not freed, while somebody waits.
      const next = this.#waiting.shift();
      if (next === undefined) this.#running -= 1;
      else next();
    }
  }
}

async function entryOf(viewer: Viewer, password: string): Promise<Entry> {
  const salt = crypto.randomBytes(SALT_BYTES);
  return { viewer, salt, digest: await hash(password, salt) };
}

function hash(password: string, salt: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const done = (error: Error | null, digest: Buffer): void => {
      if (error === null) resolve(digest);
      else reject(error);
    };
    // A name may be typed in either normal form; so may a password.
    const message = Buffer.from(password.normalize("NFC"), "utf8");
    if (typeof crypto.argon2 === "function")
      crypto.argon2("argon2id", { ...ARGON2, message, nonce: salt }, done);
    else crypto.scrypt(message, salt, ARGON2.tagLength, SCRYPT, done);
  });
}
