import { createHash, timingSafeEqual } from "node:crypto";

/** Longest Authorization field that is looked at, characters; a token of ours has at most 100. */
const AUTHORIZATION_CHARACTERS_MAX = 1_100;

/** What a request's Authorization field is worth. */
export type BearerVerdict = "granted" | "absent" | "wrong";

/**
 * Who may ask more than health and metrics: those who send the operator's token as `Authorization: Bearer TOKEN`
 * (RFC 6750, 2.1; the scheme's name in any case, RFC 9110, 11.1).
 */
export class BearerGate {
  readonly #digest: Buffer | undefined;

  /** @param token undefined or empty: no token opens the gate */
  constructor(token: string | undefined) {
    this.#digest = token === undefined || token === "" ? undefined : digest(token);
  }

  /**
   * Judges the value of an Authorization field. Never throws.
   * @returns `absent`: no bearer token at all; `wrong`: another one, or none opens this gate
   */
  judge(authorization: string | undefined): BearerVerdict {
    if (authorization === undefined || authorization.length > AUTHORIZATION_CHARACTERS_MAX) return "absent";
    const token = /^Bearer +([!-~]+) *$/i.exec(authorization)?.[1];
    if (token === undefined) return "absent";
    // Digests have one length, so that neither content nor length of the token shows in the time that this takes.
    return this.#digest !== undefined && timingSafeEqual(digest(token), this.#digest) ? "granted" : "wrong";
  }

  /** Whether the field carries the token. */
  opensFor(authorization: string | undefined): boolean {
    return this.judge(authorization) === "granted";
  }
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
