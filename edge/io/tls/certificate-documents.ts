/** Certificates of a deployment: documents to and from what is served. */
import { type CertificateDocument, certificateDocument, type EpochMs, ParseError } from "#kit";
import { type Logger, openPrivateKey, sealPrivateKey } from "#kit/io";
import { type Certificate, certificateWarning, parseCertificate } from "./certificate.ts";
import type { CertificateStore } from "./certificate-store.ts";

/** A document to push, and what its author should hear. Throws IsochroneError when chain and key do not fit. */
export function makeCertificateDocument(
  certificateId: string,
  chainPem: string,
  keyPem: string,
  peerKey: Uint8Array,
  now: EpochMs,
): {
  readonly document: CertificateDocument;
  readonly warning: ReturnType<typeof certificateWarning>;
  readonly notAfter: EpochMs;
} {
  const certificate = parseCertificate(chainPem, keyPem, certificateId);
  const { fingerprint, names, notAfter } = certificate;
  const document = certificateDocument.parse({
    certificateId,
    hostnames: names,
    // Nothing but certificates leaves this machine, whatever else stands in the file.
    chainPem: certificate.chainPem,
    sealedKey: sealPrivateKey(keyPem, { certificateId, fingerprint }, peerKey),
    fingerprint,
  });
  return { document, warning: certificateWarning(certificate, now), notAfter };
}

/**
 * Puts a document in force. Throws when it cannot be (IsochroneError, ParseError): the keeper then leaves the last good one.
 */
export function applyCertificateDocument(
  document: CertificateDocument,
  store: CertificateStore,
  peerKey: Uint8Array,
  now: EpochMs,
  logger: Logger,
): void {
  const { certificateId } = document;
  if (!document.isActive) {
    store.delete(certificateId);
    return;
  }
  const certificate = openDocument(document, peerKey);
  const warning = certificateWarning(certificate, now);
  if (warning !== undefined)
    logger.warn("certificate-warning", {
      certificateId,
      warning,
      notAfter: new Date(certificate.notAfter).toISOString(),
    });
  store.set(certificateId, certificate);
}

function openDocument(document: CertificateDocument, peerKey: Uint8Array): Certificate {
  const { certificateId, chainPem, fingerprint, hostnames } = document;
  const keyPem = openPrivateKey(document.sealedKey, document, peerKey);
  const certificate = parseCertificate(chainPem, keyPem, certificateId);
  if (certificate.fingerprint !== fingerprint)
    throw new ParseError(["fingerprint"], fingerprint, `${certificate.fingerprint}, that of the chain`);
  for (const [index, name] of hostnames.entries())
    if (!certificate.names.includes(name))
      throw new ParseError(
        ["hostnames", index],
        name,
        `a name of the certificate: ${certificate.names.join(", ")}`,
      );
  return { ...certificate, names: hostnames };
}
