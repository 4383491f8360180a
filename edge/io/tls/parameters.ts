/** What is spoken on TLS connections; the same for every certificate, so that one can take over from another. */
import { constants } from "node:crypto";
import type { SecureContextOptions } from "node:tls";

/**
 * Forward-secret AEAD suites only: all of TLS 1.3, and of TLS 1.2 those of Mozilla's "intermediate" table without
 * finite-field Diffie-Hellman, which costs a server most and which no client of the last ten years needs.
 */
const CIPHERS = [
  "TLS_AES_128_GCM_SHA256",
  "TLS_AES_256_GCM_SHA384",
  "TLS_CHACHA20_POLY1305_SHA256",
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-RSA-AES128-GCM-SHA256",
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES256-GCM-SHA384",
  "ECDHE-ECDSA-CHACHA20-POLY1305",
  "ECDHE-RSA-CHACHA20-POLY1305",
].join(":");

/** Seconds that a session ticket may be used; RFC 8446, section 4.6.1, allows a week. As long as a ticket key lives at most. */
export const SESSION_TIMEOUT_SECONDS = 12 * 3_600;

export const SECURE_CONTEXT_OPTIONS: SecureContextOptions = {
  minVersion: "TLSv1.2",
  maxVersion: "TLSv1.3",
  ciphers: CIPHERS,
  honorCipherOrder: true,
  secureOptions:
    // A client without AES instructions puts ChaCha20 first, and then gets it.
    constants.SSL_OP_PRIORITIZE_CHACHA |
    // RFC 9113, section 9.2.1, forbids renegotiation for HTTP/2; for HTTP/1.1 it is an attack on the server's CPU.
    constants.SSL_OP_NO_RENEGOTIATION,
  // A fixed one: Node's own is made from the command line, which differs between workers, and then no ticket is shared.
  sessionIdContext: "isochrone",
  sessionTimeout: SESSION_TIMEOUT_SECONDS,
};

/** In order of preference. A client that offers others only gets the alert `no_application_protocol` (RFC 7301, 3.2). */
export const ALPN_PROTOCOLS = ["h2", "http/1.1"];
