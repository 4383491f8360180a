/** API tokens of accounts, for programs: known by their digest only, so that nobody reads one here. */
import { createHash } from "node:crypto";
import type { StatedAccount } from "../core/accounts.ts";
import type { Viewer } from "../core/wire.ts";

/** Longest token that is looked at, characters. */
const TOKEN_CHARACTERS_MAX = 200;

export class TokenBook {
  /** By SHA-256 of the token, hexadecimal: finding a digest tells nothing about how near another one was. */
  readonly #viewers = new Map<string, Viewer>();

  constructor(accounts: readonly StatedAccount[]) {
    for (const { name, customerId, tokenDigests = [] } of accounts)
      for (const digest of tokenDigests) this.#viewers.set(digest, { name, customerId });
  }

  /** Whose token it is; undefined: nobody's. */
  viewerOf(token: string): Viewer | undefined {
    if (token.length > TOKEN_CHARACTERS_MAX) return undefined;
    return this.#viewers.get(createHash("sha256").update(token).digest("hex"));
  }
}
