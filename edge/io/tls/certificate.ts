/** A certificate chain with its private key, checked before anything is served with it. */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { createSecureContext, type SecureContext } from "node:tls";
import { type EpochMs, IsochroneError } from "#kit";
import { canonicalServerName, isServerNamePattern } from "../../core/server-names.ts";
import { SECURE_CONTEXT_OPTIONS } from "./parameters.ts";

/** What is wrong with a certificate that is in force all the same. */
export type CertificateWarning = "expired" | "not-yet-valid" | "expires-soon";

export interface Certificate {
  /** Names of the leaf's subjectAltName that can be looked up, lower case; wildcards as they are. */
  readonly names: readonly string[];
  readonly chainPem: string;
  readonly keyPem: string;
  /** Built once: parsing keys is what a handshake must not pay for. */
  readonly context: SecureContext;
  /** SHA-256 of the leaf, hexadecimal in pairs: what `openssl x509 -fingerprint -sha256` prints. */
  readonly fingerprint: string;
  readonly notBefore: EpochMs;
  readonly notAfter: EpochMs;
}

/** Certificates in one chain: leaf, intermediates, at most a root that does no good. */
const CHAIN_MAX = 10;
/** The warning comes so long before a certificate ends, ms: an automatic renewal has failed twice by then. */
const EXPIRES_SOON_MS = 7 * 24 * 3_600_000;

const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";
const ANY_USAGE = "2.5.29.37.0";

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/**
 * Parses and checks a chain and its key. The laws: every certificate parses; each one is signed by the one behind it; the
 * leaf names at least one host; the key is the leaf's. Being expired is no refusal (see {@link certificateWarning}): clients
 * say it better than an edge that does not start.
 *
 * @param subject what the error calls it: a file's name or a document's id. Never the key's content
 * Throws IsochroneError (`certificate-bad`, source configuration).
 */
export function parseCertificate(chainPem: string, keyPem: string, subject: string): Certificate {
  const { leaf, context, ...pair } = checkedPair(chainPem, keyPem, subject);
  const names = namesOf(leaf);
  if (names.length === 0)
    throw bad(subject, "the first certificate names no host in its subjectAltName (RFC 9525, section 6.3)");
  return {
    ...pair,
    names,
    context,
    notBefore: leaf.validFromDate.getTime() as EpochMs,
    notAfter: leaf.validToDate.getTime() as EpochMs,
  };
}

/** The same for what is shown to servers: it needs no name (RFC 5280 has none for clients). */
export function parsePair(
  chainPem: string,
  keyPem: string,
  subject: string,
): Pick<Certificate, "chainPem" | "keyPem" | "fingerprint" | "notBefore" | "notAfter"> & {
  readonly subject: string;
  readonly issuer: string;
  /** Extended key usages allow it (RFC 5280, section 4.2.1.12), or there are none. */
  readonly isForClients: boolean;
} {
  const { leaf, chainPem: chain, fingerprint } = checkedPair(chainPem, keyPem, subject);
  // Typed as a string's list that is always there; without the extension it is undefined.
  const usages = leaf.keyUsage as readonly string[] | undefined;
  return {
    chainPem: chain,
    keyPem,
    fingerprint,
    subject: leaf.subject.replaceAll("\n", ", "),
    issuer: leaf.issuer.replaceAll("\n", ", "),
    isForClients: usages === undefined || usages.includes(CLIENT_AUTH) || usages.includes(ANY_USAGE),
    notBefore: leaf.validFromDate.getTime() as EpochMs,
    notAfter: leaf.validToDate.getTime() as EpochMs,
  };
}

function checkedPair(
  chainPem: string,
  keyPem: string,
  subject: string,
): Pick<Certificate, "chainPem" | "keyPem" | "context" | "fingerprint"> & { readonly leaf: X509Certificate } {
  const blocks = chainPem.match(PEM_CERTIFICATE) ?? [];
  const chain = parseChain(blocks, subject);
  // Whatever else stands in a file, such as its key: it goes nowhere as a part of the chain.
  const chainOnly = `${blocks.join("\n")}\n`;
  const leaf = chain[0];
  if (leaf === undefined) throw bad(subject, 'there is no "-----BEGIN CERTIFICATE-----" block in it');
  for (const [index, one] of chain.entries()) {
    const issuer = chain[index + 1];
    if (issuer !== undefined && !one.checkIssued(issuer))
      throw bad(
        subject,
        `certificate ${index + 2} of the chain did not issue the one before it; expected the server's own first, then each issuer`,
      );
  }
  const key = parseKey(keyPem, subject);
  if (!leaf.checkPrivateKey(key))
    throw bad(subject, "the private key does not belong to the first certificate");
  let context: SecureContext;
  try {
    context = createSecureContext({ ...SECURE_CONTEXT_OPTIONS, cert: chainOnly, key: keyPem });
  } catch (cause) {
    // Such as a key too short for the security level.
    throw bad(subject, messageOf(cause), cause);
  }
  return { leaf, chainPem: chainOnly, keyPem, context, fingerprint: leaf.fingerprint256 };
}

/** What an operator should hear about a certificate at `now`; undefined: nothing. */
export function certificateWarning(
  { notBefore, notAfter }: Pick<Certificate, "notBefore" | "notAfter">,
  now: EpochMs,
): CertificateWarning | undefined {
  if (now >= notAfter) return "expired";
  if (now < notBefore) return "not-yet-valid";
  return notAfter - now < EXPIRES_SOON_MS ? "expires-soon" : undefined;
}

function parseChain(blocks: readonly string[], subject: string): readonly X509Certificate[] {
  if (blocks.length > CHAIN_MAX) throw bad(subject, `more than ${CHAIN_MAX} certificates in one chain`);
  return blocks.map((block, index) => {
    try {
      return new X509Certificate(block);
    } catch (cause) {
      throw bad(subject, `certificate ${index + 1} cannot be parsed: ${messageOf(cause)}`, cause);
    }
  });
}

function parseKey(pem: string, subject: string): KeyObject {
  if (!/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(pem))
    throw bad(
      subject,
      'the private key cannot be read: there is no "-----BEGIN PRIVATE KEY-----" block in its file',
    );
  try {
    return createPrivateKey(pem);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    const why =
      code === "ERR_MISSING_PASSPHRASE" || code === "ERR_OSSL_CRYPTO_INTERRUPTED_OR_CANCELLED"
        ? "it is encrypted; expected one without a passphrase, in a file that only this user can read"
        : messageOf(cause);
    throw bad(subject, `the private key cannot be read: ${why}`, cause);
  }
}

/** DNS names of subjectAltName; X509Certificate gives them as "DNS:a, DNS:b", quoted where they hold odd characters. */
function namesOf(leaf: X509Certificate): readonly string[] {
  const names = (leaf.subjectAltName ?? "").split(", ").flatMap((entry) => {
    const name = entry.startsWith("DNS:") ? canonicalServerName(entry.slice(4)) : undefined;
    return name !== undefined && isServerNamePattern(name) ? [name] : [];
  });
  return [...new Set(names)];
}

function messageOf(cause: unknown): string {
  return (cause instanceof Error ? cause.message : String(cause)).replaceAll(/\s+/g, " ");
}

function bad(subject: string, why: string, cause?: unknown): IsochroneError {
  return new IsochroneError(`Cannot use certificate ${JSON.stringify(subject)}: ${why}`, {
    code: "certificate-bad",
    source: "configuration",
    retry: "never",
    ...(cause !== undefined && { cause }),
  });
}
