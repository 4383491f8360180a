/**
 * How the two ends of a link know each other: by a key that both derive from the one that all servers of a deployment share, used as an
 * external pre-shared key of TLS 1.3 (RFC 8446, section 2.2) with an ephemeral Diffie-Hellman exchange, so that who learns the key later
 * reads nothing of what was said before. Who does not hold it gets no further than the handshake, on either side.
 */
import { hkdfSync } from "node:crypto";
import type { TLSSocket, TlsOptions } from "node:tls";
import { id, ParseError, type ServerId } from "#kit";
import { LINK_ALPN } from "../../core/link/words.ts";

/** An external key goes with one hash function (RFC 8446, section 4.2.11); OpenSSL takes them for this suite. */
export const LINK_CIPHERS = "TLS_AES_128_GCM_SHA256";
const KEY_BYTES = 32;

/** What a client shows in the handshake. */
export interface LinkIdentity {
  readonly name: string;
  readonly key: Uint8Array;
}

export class SharedKeyTrust {
  readonly #key: Buffer;
  readonly #peers = new WeakMap<TLSSocket, ServerId>();

  /** @param peerKey see `peerKeyFromEnvironment` */
  constructor(peerKey: Uint8Array) {
    this.#key = Buffer.from(hkdfSync("sha256", peerKey, "", "isochrone link v1", KEY_BYTES));
  }

  identityOf(self: ServerId): LinkIdentity {
    return { name: self, key: this.#key };
  }

  /** For a server that takes links and nothing else. It has no certificate: without the key no handshake comes to its end. */
  serverOptions(): TlsOptions {
    return {
      minVersion: "TLSv1.3",
      ciphers: LINK_CIPHERS,
      ALPNProtocols: [...LINK_ALPN],
      pskCallback: (socket, name) => {
        const peer = serverIdOf(name);
        if (peer === undefined) return null;
        this.#peers.set(socket, peer);
        return this.#key;
      },
    };
  }

  /** Who is at the other end of a connection whose handshake is done; undefined: it has resumed a session, which names nobody. */
  peerOf(socket: TLSSocket): ServerId | undefined {
    return this.#peers.get(socket);
  }
}

function serverIdOf(name: string): ServerId | undefined {
  try {
    return id<ServerId>().parse(name);
  } catch (error) {
    if (error instanceof ParseError) return undefined;
    throw error;
  }
}
