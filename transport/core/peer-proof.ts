/**
 * The text of a peer proof, by which a server of ours shows another that it holds the shared key:
 * `Isochrone-Peer: <serverId>;<epochSeconds>;<nonce>;<base64url HMAC-SHA-256>`. The proof binds method, host and path, so
 * it cannot be carried over to another request, and is good for a minute and, at one server, for one use. The keyed hash
 * itself is in `io/peer-proof.ts`.
 */
import { type EpochMs, id, ParseError, type ServerId } from "#kit";

export const peerProofHeader = "Isochrone-Peer";
/** How far the clocks of two servers may differ, plus the time on the way. */
export const PEER_PROOF_VALID_SECONDS = 60;
/** Longest header value that is looked at. */
const HEADER_CHARS_MAX = 256;

/** The request that a proof is for. `host` is the Host header (CONNECT: the authority), `path` the request target. */
export type PeerProofRequest = { readonly method: string; readonly host: string; readonly path: string };

export type PeerProofText = {
  readonly serverId: ServerId;
  readonly epochSeconds: number;
  /** 8 to 32 characters of base64url. */
  readonly nonce: string;
  /** 43 characters of base64url: 32 bytes. */
  readonly mac: string;
};

/** Why a proof was not accepted; log word and metric label. */
export const peerProofRefusals = [
  "missing",
  "malformed",
  "too-old",
  "from-the-future",
  "wrong-mac",
  "replayed",
] as const;
export type PeerProofRefusal = (typeof peerProofRefusals)[number];

const pattern = /^([a-z][a-z0-9-]{0,62});([0-9]{1,12});([A-Za-z0-9_-]{8,32});([A-Za-z0-9_-]{43})$/;

/** Reads the header; undefined for anything that is not exactly of the form. Never throws. */
export function parsePeerProof(header: string): PeerProofText | undefined {
  if (header.length > HEADER_CHARS_MAX) return undefined;
  const parts = pattern.exec(header);
  if (!parts) return undefined;
  const [, name = "", seconds = "", nonce = "", mac = ""] = parts;
  try {
    return { serverId: id<ServerId>().parse(name), epochSeconds: Number(seconds), nonce, mac };
  } catch (error) {
    if (error instanceof ParseError) return undefined;
    throw error;
  }
}

export function formatPeerProof(proof: PeerProofText): string {
  return `${proof.serverId};${proof.epochSeconds};${proof.nonce};${proof.mac}`;
}

/** What the keyed hash is made of. No part can hold the separator but the last, so two requests never share a text. */
export function peerProofMessage(
  proof: Pick<PeerProofText, "serverId" | "epochSeconds" | "nonce">,
  request: PeerProofRequest,
): string {
  const { method, host, path } = request;
  return `${proof.serverId}|${proof.epochSeconds}|${proof.nonce}|${method.toUpperCase()}|${host.toLowerCase()}|${path}`;
}

/** Whether the time in a proof is acceptable at `now`. */
export function peerProofAge(
  proof: Pick<PeerProofText, "epochSeconds">,
  now: EpochMs,
): "in-time" | "too-old" | "from-the-future" {
  const ageSeconds = now / 1000 - proof.epochSeconds;
  if (ageSeconds > PEER_PROOF_VALID_SECONDS) return "too-old";
  if (ageSeconds < -PEER_PROOF_VALID_SECONDS) return "from-the-future";
  return "in-time";
}

/**
 * Nonces that were seen, for as long as a proof with them could still be in time. Bounded: beyond `max` the oldest is
 * forgotten and counted, so that a flood cannot fill memory; only holders of the key can add to it.
 */
export class NonceCache {
  readonly #max: number;
  /** Insertion order is arrival order. */
  readonly #seen = new Map<string, EpochMs>();
  #forgottenEarly = 0;

  constructor(max = 100_000) {
    this.#max = max;
  }

  /** False: seen before. */
  add(serverId: ServerId, nonce: string, now: EpochMs): boolean {
    this.#expire(now);
    const key = `${serverId};${nonce}`;
    if (this.#seen.has(key)) return false;
    if (this.#seen.size >= this.#max) {
      const oldest = this.#seen.keys().next();
      if (!oldest.done) this.#seen.delete(oldest.value);
      this.#forgottenEarly++;
    }
    this.#seen.set(key, now);
    return true;
  }

  get size(): number {
    return this.#seen.size;
  }
  /** Nonces dropped before their time. */
  get forgottenEarly(): number {
    return this.#forgottenEarly;
  }

  #expire(now: EpochMs): void {
    // A proof may be up to a window early and then lives a window past its own time.
    const horizon = now - 2 * PEER_PROOF_VALID_SECONDS * 1000;
    for (const [key, at] of this.#seen) {
      if (at > horizon) return;
      this.#seen.delete(key);
    }
  }
}
