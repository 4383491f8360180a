/** Certificates for tests, made with node:crypto alone: a small DER writer (ITU-T X.690) for RFC 5280's structures. */
import {
  createHash,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  X509Certificate,
} from "node:crypto";

export interface TestCertificate {
  readonly certPem: string;
  readonly keyPem: string;
  readonly key: KeyObject;
  readonly subject: string;
  /** Base64 of SHA-256 over the public key: what Chromium's --ignore-certificate-errors-spki-list takes. */
  readonly spkiHash: string;
  readonly fingerprint: string;
}

const der = (tag: number, ...parts: readonly Uint8Array[]): Buffer => {
  const body = Buffer.concat(parts);
  const length =
    body.length < 128
      ? [body.length]
      : body.length < 256
        ? [0x81, body.length]
        : [0x82, body.length >> 8, body.length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), body]);
};
const sequence = (...parts: readonly Uint8Array[]): Buffer => der(0x30, ...parts);
const set = (...parts: readonly Uint8Array[]): Buffer => der(0x31, ...parts);
const oid = (hex: string): Buffer => der(0x06, Buffer.from(hex, "hex"));
const octets = (body: Uint8Array): Buffer => der(0x04, body);
const bits = (body: Uint8Array): Buffer => der(0x03, Buffer.from([0]), body);
const time = (epochMs: number): Buffer =>
  der(0x18, Buffer.from(new Date(epochMs).toISOString().replaceAll(/[-:T]|\.\d+/g, "")));

const ECDSA_WITH_SHA256 = "2a8648ce3d040302";
const COMMON_NAME = "550403";
const SUBJECT_ALT_NAME = "551d11";
const BASIC_CONSTRAINTS = "551d13";
const DAY_MS = 86_400_000;

const nameOf = (common: string): Buffer =>
  sequence(set(sequence(oid(COMMON_NAME), der(0x0c, Buffer.from(common)))));

/** A P-256 certificate, signed by itself or by `issuer`. */
export function makeCertificate(options: {
  readonly names: readonly string[];
  readonly issuer?: TestCertificate;
  readonly isAuthority?: boolean;
  readonly notBeforeMs?: number;
  readonly notAfterMs?: number;
}): TestCertificate {
  const now = Date.now();
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const subject = options.names[0] ?? "authority";
  const extensions = [
    ...(options.names.length === 0
      ? []
      : [
          sequence(
            oid(SUBJECT_ALT_NAME),
            octets(sequence(...options.names.map((name) => der(0x82, Buffer.from(name))))),
          ),
        ]),
    ...(options.isAuthority === true
      ? [
          sequence(
            oid(BASIC_CONSTRAINTS),
            der(0x01, Buffer.from([0xff])),
            octets(sequence(der(0x01, Buffer.from([0xff])))),
          ),
        ]
      : []),
  ];
  const spki = publicKey.export({ type: "spki", format: "der" });
  const algorithm = sequence(oid(ECDSA_WITH_SHA256));
  const toBeSigned = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, Buffer.concat([Buffer.from([1]), randomBytes(8)])),
    algorithm,
    nameOf(options.issuer?.subject ?? subject),
    sequence(time(options.notBeforeMs ?? now - DAY_MS), time(options.notAfterMs ?? now + 90 * DAY_MS)),
    nameOf(subject),
    spki,
    der(0xa3, sequence(...extensions)),
  );
  const signature = sign("sha256", toBeSigned, options.issuer?.key ?? privateKey);
  const base64 = sequence(toBeSigned, algorithm, bits(signature)).toString("base64");
  const certPem = `-----BEGIN CERTIFICATE-----\n${(base64.match(/.{1,64}/g) ?? []).join("\n")}\n-----END CERTIFICATE-----\n`;
  return {
    certPem,
    keyPem: privateKey.export({ type: "pkcs8", format: "pem" }) as string,
    key: privateKey,
    subject,
    spkiHash: createHash("sha256").update(spki).digest("base64"),
    fingerprint: new X509Certificate(certPem).fingerprint256,
  };
}
