/**
 * Keys of session tickets (RFC 5077; RFC 8446, section 4.6.1) that servers with the same secret compute alike, so that a
 * client resumes at any of them: each period has its key, derived from the secret and the period's number. Nothing has to be
 * sent when the period changes. Node holds one key at a time: a ticket of the last period costs its client one full
 * handshake. Tickets of TLS 1.2 are as secret as the secret; TLS 1.3 agrees on new keys at each resumption.
 */
import { hkdfSync } from "node:crypto";
import type { EpochMs } from "#kit";

/** Node's: 16 bytes of name, 16 of the MAC, 16 of the cipher. */
const TICKET_KEY_BYTES = 48;
/** How long one key makes tickets, ms. */
export const TICKET_PERIOD_MS = 12 * 3_600_000;
/** Shortest secret, bytes. */
const SECRET_BYTES_MIN = 32;

export class TicketKeys {
  readonly #secret: Uint8Array;

  /** @param secret at least 32 random bytes; throws RangeError for fewer */
  constructor(secret: Uint8Array) {
    if (secret.byteLength < SECRET_BYTES_MIN)
      throw new RangeError(`A ticket secret needs ${SECRET_BYTES_MIN} bytes, got ${secret.byteLength}`);
    this.#secret = secret;
  }

  /** The 48-byte key of the period that `now` lies in. */
  at(now: EpochMs): Buffer {
    const period = Math.floor(now / TICKET_PERIOD_MS);
    return Buffer.from(
      hkdfSync("sha256", this.#secret, "", `isochrone tls ticket ${period}`, TICKET_KEY_BYTES),
    );
  }

  /** Until the next period begins, ms; at least 1. */
  leftMs(now: EpochMs): number {
    return Math.max(1, TICKET_PERIOD_MS - (now % TICKET_PERIOD_MS));
  }
}
