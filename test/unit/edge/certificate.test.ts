/** Certificates and keys: the laws of a pair, warnings, sealing, ticket keys by period. */
import { expect, test } from "vitest";
import { certificateWarning, parseCertificate, TICKET_PERIOD_MS, TicketKeys } from "#edge";
import type { EpochMs } from "#kit";
import { openPrivateKey, sealPrivateKey } from "#kit/io";
import { makeCertificate } from "../../tools/certificates.ts";

const authority = makeCertificate({ names: [], isAuthority: true });
const leaf = makeCertificate({ names: ["a.example", "*.b.example", "w*.c.example"], issuer: authority });

test("a chain with its key gives names, fingerprint and a context; what else stands in the file goes", () => {
  const found = parseCertificate(`${leaf.keyPem}${leaf.certPem}text\n${authority.certPem}`, leaf.keyPem, "x");
  expect(found.names).toEqual(["a.example", "*.b.example"]);
  expect(found.fingerprint).toBe(leaf.fingerprint);
  expect(found.chainPem).not.toContain("PRIVATE");
  expect(found.chainPem.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
});

test.each([
  ["nothing", "", leaf.keyPem, /there is no "-----BEGIN CERTIFICATE-----" block/],
  [
    "a certificate that is none",
    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
    leaf.keyPem,
    /certificate 1 cannot be parsed/,
  ],
  ["another's key", leaf.certPem, authority.keyPem, /does not belong to the first certificate/],
  ["no key", leaf.certPem, "", /the private key cannot be read/],
  [
    "a chain in the wrong order",
    `${authority.certPem}${leaf.certPem}`,
    authority.keyPem,
    /certificate 2 of the chain did not issue the one before it/,
  ],
  ["no name", authority.certPem, authority.keyPem, /names no host/],
  ["a chain without end", leaf.certPem + authority.certPem.repeat(10), leaf.keyPem, /more than 10/],
])("%s is refused in one line that holds no key", (_name, chain, key, expected) => {
  let message = "";
  try {
    parseCertificate(chain, key, "file.pem");
  } catch (error) {
    ({ message } = error as Error);
  }
  expect(message).toMatch(/^Cannot use certificate "file\.pem": /);
  expect(message).toMatch(expected);
  expect(message).not.toMatch(/\n|PRIVATE KEY-----[^"]/);
});

test("a certificate warns a week before it ends, at its end, and before it begins", () => {
  const at = (now: number) =>
    certificateWarning({ notBefore: 1_000 as EpochMs, notAfter: 1e9 as EpochMs }, now as EpochMs);
  expect(at(999)).toBe("not-yet-valid");
  expect(at(1_000)).toBeUndefined();
  expect(at(1e9 - 7 * 86_400_000 + 1)).toBe("expires-soon");
  expect(at(1e9)).toBe("expired");
});

test("a sealed key opens with the same peer key for the same certificate only", () => {
  const binding = { certificateId: "shop", fingerprint: leaf.fingerprint };
  const peerKey = Buffer.alloc(32, 1);
  const sealed = sealPrivateKey(leaf.keyPem, binding, peerKey);
  expect(sealed).not.toBe(sealPrivateKey(leaf.keyPem, binding, peerKey));
  expect(openPrivateKey(sealed, binding, peerKey)).toBe(leaf.keyPem);
  expect(() => openPrivateKey(sealed, binding, Buffer.alloc(32, 2))).toThrow(/sealed with another/);
  expect(() => openPrivateKey(sealed, { ...binding, certificateId: "b" }, peerKey)).toThrow(/sealed/);
  expect(() => openPrivateKey(`${sealed.slice(0, -2)}AA`, binding, peerKey)).toThrow(/sealed/);
  expect(() => openPrivateKey("v1.AAAA", binding, peerKey)).toThrow(/sealed/);
});

test("a ticket key holds for its period, is the same for all, and differs from the next", () => {
  const keys = new TicketKeys(Buffer.alloc(32, 3));
  const start = (100 * TICKET_PERIOD_MS) as EpochMs;
  const end = (start + TICKET_PERIOD_MS - 1) as EpochMs;
  expect(keys.at(start)).toHaveLength(48);
  expect(keys.at(end)).toEqual(new TicketKeys(Buffer.alloc(32, 3)).at(start));
  expect(keys.at((end + 1) as EpochMs)).not.toEqual(keys.at(end));
  expect(keys.leftMs(start)).toBe(TICKET_PERIOD_MS);
  expect(keys.leftMs(end)).toBe(1);
  expect(() => new TicketKeys(Buffer.alloc(31))).toThrow(RangeError);
});
