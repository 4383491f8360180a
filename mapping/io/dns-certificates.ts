/** Certificates that control has, and which one DNS over TLS shows: the first by id that is good for the name server's name. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { type CertificateDocument, IsochroneError } from "#kit";
import { openPrivateKey } from "#kit/io";
import type { TlsIdentity } from "./dns-tcp.ts";

export class DnsCertificates {
  readonly #peerKey: Uint8Array | undefined;
  readonly #documents = new Map<string, CertificateDocument>();
  /** Only those that are wanted are ever opened. */
  readonly #opened = new WeakMap<CertificateDocument, TlsIdentity | IsochroneError>();

  constructor(peerKey: Uint8Array | undefined) {
    this.#peerKey = peerKey;
  }

  set(document: CertificateDocument): void {
    this.#documents.set(document.certificateId, document);
  }

  documents(): IterableIterator<CertificateDocument> {
    return this.#documents.values();
  }

  /**
   * @param names of the name server, lower case
   * @returns the same object while nothing changes; undefined: none is good for any of them. Problems: why others that are cannot be used
   */
  identityFor(names: readonly string[]): {
    readonly identity: TlsIdentity | undefined;
    readonly problems: readonly string[];
  } {
    const problems: string[] = [];
    const ids = [...this.#documents.keys()].sort();
    for (const id of ids) {
      const document = this.#documents.get(id) as CertificateDocument;
      const isWanted = document.hostnames.some((pattern) => names.some((name) => covers(pattern, name)));
      if (!document.isActive || !isWanted) continue;
      const opened = this.#opened.get(document) ?? this.#open(document);
      this.#opened.set(document, opened);
      if (!(opened instanceof IsochroneError)) return { identity: opened, problems };
      problems.push(opened.message);
    }
    return { identity: undefined, problems };
  }

  #open(document: CertificateDocument): TlsIdentity | IsochroneError {
    const refused = (why: string, cause?: unknown): IsochroneError =>
      new IsochroneError(
        `Cannot use certificate "${document.certificateId}" for DNS over TLS: ${why}; push it again`,
        { code: "certificate", source: "configuration", retry: "never", cause },
      );
    if (this.#peerKey === undefined) return refused("ISOCHRONE_PEER_KEY is not set");
    try {
      const { chainPem: certificate } = document;
      const key = openPrivateKey(document.sealedKey, document, this.#peerKey);
      if (new X509Certificate(certificate).checkPrivateKey(createPrivateKey(key)))
        return { certificate, key };
      return refused("the key is not that of the first certificate");
    } catch (cause) {
      return refused(cause instanceof Error ? cause.message : String(cause), cause);
    }
  }
}

/** RFC 9525 section 6.3: "*" stands for the one leftmost label. */
function covers(pattern: string, name: string): boolean {
  if (!pattern.startsWith("*.")) return pattern === name;
  const dot = name.indexOf(".");
  return dot > 0 && name.slice(dot) === pattern.slice(1);
}
