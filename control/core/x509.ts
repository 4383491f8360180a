/** Certificates of servers, and of the authority that signs them: what is signed, in DER (ITU-T X.690), with RFC 5280's structures. */

export interface CertificateParts {
  /** 1 to 20 octets, the first below 0x80 and not all zero (RFC 5280, section 4.1.2.2). */
  readonly serial: Uint8Array;
  readonly issuer: string;
  readonly subject: string;
  /** `YYYYMMDDHHMMSSZ`. */
  readonly notBefore: string;
  readonly notAfter: string;
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array;
  /** Of the subject's key and of the issuer's, as the extensions have them. */
  readonly keyId: Uint8Array;
  readonly authorityKeyId: Uint8Array;
  /** Undefined: this is the authority. */
  readonly uri: string | undefined;
}

const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bits: 0x03,
  octets: 0x04,
  oid: 0x06,
  utf8: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

const ECDSA_WITH_SHA256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const COMMON_NAME = [0x55, 0x04, 0x03];
const SUBJECT_KEY_ID = [0x55, 0x1d, 0x0e];
const KEY_USAGE = [0x55, 0x1d, 0x0f];
const SUBJECT_ALT_NAME = [0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS = [0x55, 0x1d, 0x13];
const AUTHORITY_KEY_ID = [0x55, 0x1d, 0x23];
const EXTENDED_KEY_USAGE = [0x55, 0x1d, 0x25];
const SERVER_AUTH = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const CLIENT_AUTH = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
/** BIT STRING contents: unused bits, then digitalSignature; keyCertSign. */
const DIGITAL_SIGNATURE = [7, 0x80];
const KEY_CERT_SIGN = [2, 0x04];

const encoder = new TextEncoder();

function der(tag: number, ...parts: readonly (Uint8Array | readonly number[])[]): Uint8Array {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const head =
    length < 128
      ? [tag, length]
      : length < 256
        ? [tag, 0x81, length]
        : [tag, 0x82, length >> 8, length & 0xff];
  const bytes = new Uint8Array(head.length + length);
  bytes.set(head);
  let at = head.length;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** UTCTime through 2049, GeneralizedTime after it (RFC 5280, section 4.1.2.5). */
function time(text: string): Uint8Array {
  return text < "2050"
    ? der(TAG.utcTime, encoder.encode(text.slice(2)))
    : der(TAG.generalizedTime, encoder.encode(text));
}

function nameOf(common: string): Uint8Array {
  const attribute = der(TAG.sequence, der(TAG.oid, COMMON_NAME), der(TAG.utf8, encoder.encode(common)));
  return der(TAG.sequence, der(TAG.set, attribute));
}

function extension(oid: readonly number[], isCritical: boolean, value: Uint8Array): Uint8Array {
  const critical = isCritical ? [der(TAG.boolean, [0xff])] : [];
  return der(TAG.sequence, der(TAG.oid, oid), ...critical, der(TAG.octets, value));
}

const algorithm = der(TAG.sequence, der(TAG.oid, ECDSA_WITH_SHA256));

/** TBSCertificate: the bytes that the issuer signs, by ECDSA with SHA-256. */
export function toBeSigned(parts: CertificateParts): Uint8Array {
  const { uri } = parts;
  const isAuthority = uri === undefined;
  const extensions = [
    extension(
      BASIC_CONSTRAINTS,
      true,
      // cA, and a path length of 0: what it signs signs nothing.
      isAuthority ? der(TAG.sequence, der(TAG.boolean, [0xff]), der(TAG.integer, [0])) : der(TAG.sequence),
    ),
    extension(KEY_USAGE, true, der(TAG.bits, isAuthority ? KEY_CERT_SIGN : DIGITAL_SIGNATURE)),
    extension(SUBJECT_KEY_ID, false, der(TAG.octets, parts.keyId)),
    extension(AUTHORITY_KEY_ID, false, der(TAG.sequence, der(0x80, parts.authorityKeyId))),
    ...(isAuthority
      ? []
      : [
          extension(
            EXTENDED_KEY_USAGE,
            false,
            der(TAG.sequence, der(TAG.oid, SERVER_AUTH), der(TAG.oid, CLIENT_AUTH)),
          ),
          extension(SUBJECT_ALT_NAME, false, der(TAG.sequence, der(0x86, encoder.encode(uri)))),
        ]),
  ];
  return der(
    TAG.sequence,
    // Version 3.
    der(0xa0, der(TAG.integer, [2])),
    der(TAG.integer, parts.serial),
    algorithm,
    nameOf(parts.issuer),
    der(TAG.sequence, time(parts.notBefore), time(parts.notAfter)),
    nameOf(parts.subject),
    parts.publicKey,
    der(0xa3, der(TAG.sequence, ...extensions)),
  );
}

/** The certificate, DER. @param signature ECDSA-Sig-Value, DER (RFC 5480) */
export function certificateOf(signed: Uint8Array, signature: Uint8Array): Uint8Array {
  return der(TAG.sequence, signed, algorithm, der(TAG.bits, [0], signature));
}
