/** HTTPS records (RFC 9460): protocols, port and address hints of a property, so that a browser needs one look-up and no upgrade. */
import { addressToBytes, type IpAddress, type PropertyDocument } from "#kit";
import { dnsClasses, dnsTypes } from "./constants.ts";
import type { DnsRecord } from "./message.ts";
import type { DomainName } from "./name.ts";

/** RFC 9460 section 14.3.2; in an RDATA they stand in ascending order (section 2.2). */
const keys = { alpn: 1, port: 3, ipv4hint: 4, ipv6hint: 6 } as const;
/** ServiceMode, and the only one of its owner (section 2.4.1). */
const PRIORITY = 1;
const HTTPS_PORT = 443;

/** The record of `owner`; its target is the owner itself, so that the hints are what A and AAAA say (section 7.3). */
export function httpsRecordOf(
  owner: DomainName,
  property: PropertyDocument,
  addresses: readonly IpAddress[],
): DnsRecord | undefined {
  const { httpsRecord } = property;
  if (httpsRecord === undefined) return undefined;
  const bytes: number[] = [PRIORITY >> 8, PRIORITY, 0]; // The target "." (section 2.5.2).
  const parameter = (key: number, value: readonly number[]): void => {
    if (value.length > 0) bytes.push(key >> 8, key & 0xff, value.length >> 8, value.length & 0xff, ...value);
  };
  const hints = (family: 4 | 6): number[] =>
    addresses
      .filter((address) => address.family === family)
      .flatMap((address) => [...addressToBytes(address)]);
  parameter(
    keys.alpn,
    httpsRecord.alpn.flatMap((name) => [name.length, ...Array.from(name, (one) => one.charCodeAt(0))]),
  );
  const { port } = httpsRecord;
  parameter(keys.port, port === HTTPS_PORT ? [] : [port >> 8, port & 0xff]);
  parameter(keys.ipv4hint, hints(4));
  parameter(keys.ipv6hint, hints(6));
  return {
    name: owner,
    type: dnsTypes.HTTPS,
    class: dnsClasses.IN,
    ttlSeconds: property.dnsTtlSeconds,
    data: { kind: "opaque", bytes: Uint8Array.from(bytes) },
  };
}
