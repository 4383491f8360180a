/** Numbers of the DNS protocol (IANA "Domain Name System (DNS) Parameters") by the names that the standards give them. */

/** RR and query types that this server tells apart. */
export const dnsTypes = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  HINFO: 13,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  OPT: 41,
  DS: 43,
  RRSIG: 46,
  NSEC: 47,
  DNSKEY: 48,
  CDS: 59,
  CDNSKEY: 60,
  SVCB: 64,
  HTTPS: 65,
  /** In type bit maps only: the name does not exist (RFC 9824 section 3.1). */
  NXNAME: 128,
  TKEY: 249,
  TSIG: 250,
  IXFR: 251,
  AXFR: 252,
  MAILB: 253,
  MAILA: 254,
  ANY: 255,
  CAA: 257,
} as const;

const typeNames = new Map<number, string>(Object.entries(dnsTypes).map(([name, type]) => [type, name]));

/** Name of a type as a metric label: one of a closed set, so that hostile queries cannot grow the metrics. */
export function dnsTypeLabel(type: number): string {
  return typeNames.get(type) ?? "other";
}

export const dnsClasses = { IN: 1, CH: 3, HS: 4, NONE: 254, ANY: 255 } as const;

/** RFC 1035 section 4.1.1; only QUERY is served. */
export const dnsOpcodes = { QUERY: 0, IQUERY: 1, STATUS: 2, NOTIFY: 4, UPDATE: 5, DSO: 6 } as const;

/** RFC 1035 section 4.1.1; codes above 15 are split between header and OPT (RFC 6891 section 6.1.3). */
export const rcodes = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
  /** RFC 6672 section 2.2: what a DNAME makes of the name is too long. */
  YXDOMAIN: 6,
  NOTAUTH: 9,
  BADVERS: 16,
} as const;
export type Rcode = (typeof rcodes)[keyof typeof rcodes];

const rcodeNames = new Map<number, string>(Object.entries(rcodes).map(([name, rcode]) => [rcode, name]));

/** Name of a response code, for logs and metric labels. */
export function rcodeText(rcode: number): string {
  return rcodeNames.get(rcode) ?? `RCODE${rcode}`;
}

/** EDNS option codes. */
export const ednsOptionCodes = { NSID: 3, ECS: 8, COOKIE: 10, EDE: 15 } as const;

/** RFC 1035 section 4.1.1. */
export const headerBytes = 12;
/** RFC 1035 section 4.2.1: what every UDP client takes; also the floor for a stated EDNS size (RFC 6891 section 6.2.3). */
export const udpPayloadBytesMin = 512;
/** What we send and say at most over UDP: 1280 (the least IPv6 MTU) less 48 of headers, so that nothing is fragmented. */
export const udpPayloadBytesMax = 1232;
/** RFC 1035 section 4.2.2: the two-octet length of TCP. */
export const tcpMessageBytesMax = 65_535;
