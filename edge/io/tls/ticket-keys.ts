/**
 * Keys of session tickets (RFC 5077; RFC 8446, section 4.6.1) that servers with the same secret compute alike, so that a
 * client resumes at any of them: each period has its key, derived from the secret and the period's number. Nothing has to be
 * sent when the period changes: tickets of the period before, and of the next one (a server whose clock is ahead), are read as
 * well. Tickets of TLS 1.2 are as secret as the secret; TLS 1.3 agrees on new keys at each resumption.
 */
import { hkdfSync, randomBytes } from "node:crypto";
import type { Server } from "node:tls";
import type { EpochMs } from "#kit";

/** Node's: 16 bytes of name, 16 of the MAC, 16 of the cipher. */
const TICKET_KEY_BYTES = 48;
const PART_BYTES = 16;
/** Periods whose keys are kept: three are asked for at a time. */
const PARTS_MAX = 8;
/** How long one key makes tickets, ms. */
export const TICKET_PERIOD_MS = 12 * 3_600_000;
/** Shortest secret, bytes. */
const SECRET_BYTES_MIN = 32;

/** A key by its parts. */
interface TicketKey {
  readonly name: Buffer;
  readonly mac: Buffer;
  readonly cipher: Buffer;
}

export class TicketKeys {
  readonly #secret: Uint8Array;
  /** By period: those of late. */
  readonly #parts = new Map<number, TicketKey>();

  /** @param secret at least 32 random bytes; throws RangeError for fewer */
  constructor(secret: Uint8Array) {
    if (secret.byteLength < SECRET_BYTES_MIN)
      throw new RangeError(`A ticket secret needs ${SECRET_BYTES_MIN} bytes, got ${secret.byteLength}`);
    this.#secret = secret;
  }

  /** The 48-byte key of the period that `now` lies in. */
  at(now: EpochMs): Buffer {
    return this.#of(Math.floor(now / TICKET_PERIOD_MS));
  }

  /** What makes tickets now, and what they may have been made with. */
  around(now: EpochMs): { readonly current: TicketKey; readonly others: readonly TicketKey[] } {
    const period = Math.floor(now / TICKET_PERIOD_MS);
    return { current: this.#split(period), others: [this.#split(period - 1), this.#split(period + 1)] };
  }

  #of(period: number): Buffer {
    return Buffer.from(
      hkdfSync("sha256", this.#secret, "", `isochrone tls ticket ${period}`, TICKET_KEY_BYTES),
    );
  }

  #split(period: number): TicketKey {
    let key = this.#parts.get(period);
    if (key === undefined) {
      const whole = this.#of(period);
      key = {
        name: whole.subarray(0, PART_BYTES),
        mac: whole.subarray(PART_BYTES, 2 * PART_BYTES),
        cipher: whole.subarray(2 * PART_BYTES),
      };
      if (this.#parts.size > PARTS_MAX) this.#parts.clear();
      this.#parts.set(period, key);
    }
    return key;
  }

  /** Until the next period begins, ms; at least 1. */
  leftMs(now: EpochMs): number {
    return Math.max(1, TICKET_PERIOD_MS - (now % TICKET_PERIOD_MS));
  }
}

/** What OpenSSL is told of a ticket (SSL_CTX_set_tlsext_ticket_key_cb): not ours; good; good, and to be made anew. */
const UNKNOWN = 0;
const GOOD = 1;
const RENEW = 2;

/** Node's own, undocumented: its context asks JavaScript which key a ticket is made or read with. */
interface AskingContext {
  onticketkeycallback?: (name: Buffer, iv: Buffer, isMaking: boolean) => readonly [number, ...Buffer[]];
  enableTicketKeyCallback?: () => void;
}

/**
 * Has a server make tickets with the present key and read those of its neighbours too; a ticket that is read with another than the present
 * key is replaced. To be called again after `setSecureContext`. False where this Node cannot ask: then it knows the present key alone, a
 * ticket of the period before costs its client a full handshake, and the caller has to come back when the period ends.
 */
export function useTicketKeys(server: Server, keys: TicketKeys, now: () => EpochMs): boolean {
  const context = (server as { _sharedCreds?: { context?: AskingContext } })._sharedCreds?.context;
  if (typeof context?.enableTicketKeyCallback !== "function") {
    server.setTicketKeys(keys.at(now()));
    return false;
  }
  // It must not throw, and must give whole keys whatever it says: Node ends the process otherwise.
  context.onticketkeycallback = (name, _iv, isMaking) => {
    const { current, others } = keys.around(now());
    if (isMaking) return [GOOD, current.mac, current.cipher, current.name, randomBytes(PART_BYTES)];
    if (current.name.equals(name)) return [GOOD, current.mac, current.cipher];
    const other = others.find((one) => one.name.equals(name));
    return other === undefined ? [UNKNOWN, current.mac, current.cipher] : [RENEW, other.mac, other.cipher];
  };
  context.enableTicketKeyCallback();
  return true;
}
