/** Signs and verifies peer proofs with HMAC-SHA-256 (RFC 2104) under the key that all servers of a deployment share. */
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { type Clock, IsochroneError, type ServerId } from "#kit";
import {
  formatPeerProof,
  NonceCache,
  type PeerProofRefusal,
  type PeerProofRequest,
  type PeerProofText,
  parsePeerProof,
  peerProofAge,
  peerProofMessage,
} from "../core/peer-proof.ts";

/** Shortest key, bytes: as long as half the hash, what RFC 2104 section 3 strongly advises against going far below. */
const KEY_BYTES_MIN = 16;

/**
 * The key of env ISOCHRONE_PEER_KEY (hexadecimal, at least 16 bytes). Throws IsochroneError of source "configuration"
 * when it is missing or no key; the value is never part of the message.
 */
export function peerKeyFromEnvironment(environment: NodeJS.ProcessEnv = process.env): Buffer {
  const text = environment["ISOCHRONE_PEER_KEY"];
  if (text === undefined || text === "")
    throw new IsochroneError(
      'Cannot prove this server to its peers: the environment variable ISOCHRONE_PEER_KEY is not set; give all servers the same key of "openssl rand -hex 32"',
      { code: "peer-key-missing", source: "configuration", retry: "never" },
    );
  if (!/^(?:[0-9a-fA-F]{2})+$/.test(text) || text.length < 2 * KEY_BYTES_MIN)
    throw new IsochroneError(
      `Cannot use ISOCHRONE_PEER_KEY: expected an even number of hexadecimal digits, at least ${2 * KEY_BYTES_MIN}, got ${text.length} characters; make one with "openssl rand -hex 32"`,
      { code: "peer-key-malformed", source: "configuration", retry: "never" },
    );
  return Buffer.from(text, "hex");
}

/** The value of the `Isochrone-Peer` header for one request. */
export function signPeer(
  request: PeerProofRequest,
  signer: { readonly serverId: ServerId; readonly key: Uint8Array; readonly clock: Clock },
): string {
  const unsigned = {
    serverId: signer.serverId,
    epochSeconds: Math.floor(signer.clock.epoch() / 1000),
    nonce: randomBytes(12).toString("base64url"),
  };
  return formatPeerProof({ ...unsigned, mac: macOf(unsigned, request, signer.key).toString("base64url") });
}

export type PeerVerdict =
  | { readonly isProven: true; readonly serverId: ServerId }
  | { readonly isProven: false; readonly reason: PeerProofRefusal };

/** Verifies proofs at one server; remembers nonces, so a proof is good once here. */
export class PeerVerifier {
  readonly #key: Uint8Array;
  readonly #clock: Clock;
  readonly #nonces: NonceCache;

  constructor(options: { readonly key: Uint8Array; readonly clock: Clock; readonly noncesMax?: number }) {
    this.#key = options.key;
    this.#clock = options.clock;
    this.#nonces = new NonceCache(options.noncesMax);
  }

  /** `header` as received; undefined when there was none or more than one. Never throws. */
  verify(header: string | undefined, request: PeerProofRequest): PeerVerdict {
    if (header === undefined) return { isProven: false, reason: "missing" };
    const proof = parsePeerProof(header);
    if (proof === undefined) return { isProven: false, reason: "malformed" };
    const now = this.#clock.epoch();
    const age = peerProofAge(proof, now);
    if (age !== "in-time") return { isProven: false, reason: age };
    const given = Buffer.from(proof.mac, "base64url");
    const wanted = macOf(proof, request, this.#key);
    if (given.length !== wanted.length || !timingSafeEqual(given, wanted))
      return { isProven: false, reason: "wrong-mac" };
    // Only a proof that holds may take a place in the cache.
    if (!this.#nonces.add(proof.serverId, proof.nonce, now)) return { isProven: false, reason: "replayed" };
    return { isProven: true, serverId: proof.serverId };
  }
}

function macOf(
  proof: Pick<PeerProofText, "serverId" | "epochSeconds" | "nonce">,
  request: PeerProofRequest,
  key: Uint8Array,
): Buffer {
  return createHmac("sha256", key).update(peerProofMessage(proof, request)).digest();
}
