/**
 * How servers of ours know each other: TLS 1.3, each end with its certificate by control's authority (`kit/node-certificate.ts`). A new
 * certificate is shown from the next handshake on; what is open stays.
 */
import type { X509Certificate } from "node:crypto";
import type { ConnectionOptions, Server, TLSSocket, TlsOptions } from "node:tls";
import {
  judgeNode,
  type NodeCredentials,
  type NodeExpectation,
  type NodeName,
  type NodeRefusal,
  type ServerId,
  type Role,
} from "#kit";
import { systemClock } from "#kit/io";

/** AES with 128 bits first: less work for each byte than with 256, and as much as a connection between servers needs. */
const CIPHERS = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";

type SharedOption = "key" | "cert" | "ca" | "ciphers" | "minVersion" | "ALPNProtocols" | "rejectUnauthorized";

/** Who is at the other end. */
export interface NodePeer {
  readonly name: NodeName;
  /** When its certificate ends: what was opened by it should not go on for long after. */
  readonly notAfterEpochMs: number;
}

/** Whoever opens or takes connections of these has no other business on them. */
const SERVERS: readonly Role[] = ["edge", "parent", "relay"];

/** First byte of a TLS record of a handshake (RFC 8446, section 5.1); no request of HTTP begins with it. */
const HANDSHAKE = 0x16;

/** Whether a connection that begins so may be one of a server of ours. */
export function beginsHandshake(bytes: Uint8Array): boolean {
  return bytes[0] === HANDSHAKE;
}

export class NodeTrust {
  #credentials: NodeCredentials | undefined;
  readonly #servers = new Map<Server, readonly string[]>();

  /** Shown, and believed, from the next handshake on. */
  set(credentials: NodeCredentials): void {
    this.#credentials = credentials;
    for (const [server, protocols] of this.#servers) server.setSecureContext(this.serverOptions(protocols));
  }

  /** Undefined: this server has none yet. */
  get credentials(): NodeCredentials | undefined {
    return this.#credentials;
  }

  /** For a connection to one server of ours; undefined: this one has nothing to show, or nothing that is good any more. */
  clientOptions(
    expected: { readonly serverId: ServerId; readonly roles: readonly Role[] },
    protocols: readonly string[],
  ): ConnectionOptions | undefined {
    const credentials = this.#credentials;
    // A client of TLS 1.3 hears that it was refused only after it has begun to send.
    if (credentials === undefined || credentials.notAfterEpochMs <= systemClock.epoch()) return undefined;
    return {
      ...this.#shown(protocols),
      // Asked when chain and dates hold. The name that counts is the server's, whatever address it has.
      checkServerIdentity: (_host, { subjectaltname }) => {
        const judged = judgeNode(subjectaltname, { topology: credentials.name.topology, ...expected });
        return "refusal" in judged
          ? new Error(`its certificate is for ${subjectaltname ?? "nobody"} (${judged.refusal})`)
          : undefined;
      },
    };
  }

  /** For a server that takes connections from servers of ours alone. */
  serverOptions(protocols: readonly string[]): TlsOptions {
    return { ...this.#shown(protocols), requestCert: true };
  }

  #shown(protocols: readonly string[]): Pick<ConnectionOptions & TlsOptions, SharedOption> {
    const credentials = this.#credentials;
    return {
      minVersion: "TLSv1.3",
      ciphers: CIPHERS,
      ALPNProtocols: [...protocols],
      rejectUnauthorized: true,
      ...(credentials && {
        key: credentials.keyPem,
        cert: credentials.certificatePem,
        ca: credentials.authorityPem,
      }),
    };
  }

  /** Has a server show what is set from now on. */
  bind(server: Server, protocols: readonly string[]): void {
    this.#servers.set(server, protocols);
    server.once("close", () => this.#servers.delete(server));
  }

  /** Who is at the other end of a connection that was taken, its handshake done. */
  peerOf(socket: TLSSocket, roles: readonly Role[] = SERVERS): NodePeer | NodeRefusal | "no-certificate" {
    const certificate = socket.getPeerX509Certificate();
    const topology = this.#credentials?.name.topology;
    // A resumed session was verified some time ago, and by what was believed then.
    if (certificate === undefined || topology === undefined || !socket.authorized || socket.isSessionReused())
      return "no-certificate";
    return peerOf(certificate, { topology, roles });
  }
}

function peerOf(certificate: X509Certificate, expected: NodeExpectation): NodePeer | NodeRefusal {
  const judged = judgeNode(certificate.subjectAltName, expected);
  if ("refusal" in judged) return judged.refusal;
  return { name: judged.name, notAfterEpochMs: certificate.validToDate.getTime() };
}
