/**
 * Reader and writer of DNS messages (RFC 1035 section 4, RFC 6891, RFC 3597). The reader takes any bytes and never throws;
 * its work is bounded by the number of records it is told to accept. The writer compresses names where RFC 3597 section 4
 * lets it.
 */
import { addressFromBytes, addressToBytes, expandRdata } from "#kit";
import { dnsClasses, dnsTypes, headerBytes, rcodes, tcpMessageBytesMax } from "./constants.ts";
import type {
  DnsHeader,
  DnsMessage,
  DnsQuestion,
  DnsRecord,
  Edns,
  EdnsOption,
  MessageFault,
  MessageRead,
  RecordData,
} from "./message.ts";
import { type DomainName, parentText, readName, rootName } from "./name.ts";

/** A pointer has 14 bits for its offset. */
const POINTER_OFFSET_MAX = 0x3fff;

interface Fault {
  readonly fault: MessageFault;
  readonly at: number;
}
interface RecordRead {
  readonly record: DnsRecord;
  /** TTL field as it is on the wire: flags and rcode bits in an OPT record. */
  readonly ttlField: number;
  readonly dataAt: number;
  readonly next: number;
}

function u16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}

function u32(bytes: Uint8Array, at: number): number {
  return u16(bytes, at) * 0x1_0000 + u16(bytes, at + 2);
}

/** The header; undefined when `bytes` are shorter than one. */
export function readHeader(bytes: Uint8Array): DnsHeader | undefined {
  if (bytes.length < headerBytes) return undefined;
  const flags = u16(bytes, 2);
  return {
    id: u16(bytes, 0),
    isResponse: (flags & 0x8000) !== 0,
    opcode: (flags >> 11) & 15,
    isAuthoritative: (flags & 0x0400) !== 0,
    isTruncated: (flags & 0x0200) !== 0,
    isRecursionDesired: (flags & 0x0100) !== 0,
    isRecursionAvailable: (flags & 0x0080) !== 0,
    isAuthenticData: (flags & 0x0020) !== 0,
    isCheckingDisabled: (flags & 0x0010) !== 0,
    rcode: flags & 15,
  };
}

/**
 * Reads a whole message; everything must be in its place and nothing may follow it. Never throws.
 *
 * @param recordsMax questions and records together that are looked at before `too-many-records`
 */
export function readMessage(bytes: Uint8Array, recordsMax = tcpMessageBytesMax): MessageRead {
  const bare = readHeader(bytes);
  if (bare === undefined)
    return { ok: false, fault: "header-truncated", at: bytes.length, partial: undefined };
  let header = bare;
  const questions: DnsQuestion[] = [];
  const sections: [DnsRecord[], DnsRecord[], DnsRecord[]] = [[], [], []];
  let edns: Edns | undefined;
  const questionCount = u16(bytes, 4);
  const counts = [u16(bytes, 6), u16(bytes, 8), u16(bytes, 10)];
  const fail = ({ fault, at }: Fault): MessageRead => ({
    ok: false,
    fault,
    at,
    partial: { header, questionCount, questions, edns },
  });
  const total = counts.reduce((sum, count) => sum + count, questionCount);
  let at = headerBytes;
  for (let index = 0; index < questionCount && index < recordsMax; index++) {
    const read = readQuestion(bytes, at);
    if ("fault" in read) return fail(read);
    questions.push(read.question);
    at = read.next;
  }
  if (total > recordsMax) return fail({ fault: "too-many-records", at });
  for (const [section, count] of counts.entries()) {
    for (let index = 0; index < count; index++) {
      const read = readRecord(bytes, at);
      if ("fault" in read) return fail(read);
      if (read.record.type === dnsTypes.OPT) {
        // RFC 6891 section 6.1.1 and 6.1.2: one OPT, in the additional section, owned by the root.
        if (section !== 2 || read.record.name.text !== "") return fail({ fault: "opt-misplaced", at });
        if (edns !== undefined) return fail({ fault: "opt-duplicate", at });
        const version = (read.ttlField >>> 16) & 0xff;
        // What another version keeps in there is not ours to judge; the answer is BADVERS (RFC 6891 section 6.1.3).
        const options = version === 0 ? readOptions(bytes, read.dataAt, read.next) : [];
        if (options === undefined) return fail({ fault: "opt-data", at: read.dataAt });
        edns = {
          udpPayloadBytes: read.record.class,
          version,
          isDnssecOk: (read.ttlField & 0x8000) !== 0,
          ...((read.ttlField & 0x4000) !== 0 && { isCompactAnswersOk: true }),
          options,
        };
        header = { ...header, rcode: bare.rcode | ((read.ttlField >>> 24) << 4) };
      } else sections[section as 0 | 1 | 2].push(read.record);
      at = read.next;
    }
  }
  if (at !== bytes.length) return fail({ fault: "trailing-bytes", at });
  const [answers, authorities, additionals] = sections;
  return { ok: true, message: { header, questions, answers, authorities, additionals, edns } };
}

function readQuestion(
  bytes: Uint8Array,
  at: number,
): Fault | { readonly question: DnsQuestion; readonly next: number } {
  const read = readName(bytes, at);
  if (!read.ok) return read;
  if (read.next + 4 > bytes.length) return { fault: "question-truncated", at: read.next };
  const question = { name: read.name, type: u16(bytes, read.next), class: u16(bytes, read.next + 2) };
  return { question, next: read.next + 4 };
}

function readRecord(bytes: Uint8Array, at: number): Fault | RecordRead {
  const read = readName(bytes, at);
  if (!read.ok) return read;
  const fixed = read.next;
  if (fixed + 10 > bytes.length) return { fault: "record-truncated", at: fixed };
  const type = u16(bytes, fixed);
  const ttlField = u32(bytes, fixed + 4);
  const dataAt = fixed + 10;
  const next = dataAt + u16(bytes, fixed + 8);
  if (next > bytes.length) return { fault: "record-truncated", at: dataAt };
  const data = readData(bytes, type, u16(bytes, fixed + 2), dataAt, next);
  if (data === undefined) return { fault: "record-data", at: dataAt };
  const ttlSeconds = ttlField > 0x7fff_ffff ? 0 : ttlField;
  const record = { name: read.name, type, class: u16(bytes, fixed + 2), ttlSeconds, data };
  return { record, ttlField, dataAt, next };
}

/** RDATA between `at` and `end`, which must be filled exactly; undefined when it is not. */
export function readData(
  bytes: Uint8Array,
  type: number,
  recordClass: number,
  at: number,
  end: number,
): RecordData | undefined {
  const opaque = (): RecordData => ({ kind: "opaque", bytes: bytes.slice(at, end) });
  // Only class IN gives A and AAAA their shape (RFC 1035 section 3.4.1); an OPT has its payload size there.
  if (recordClass !== dnsClasses.IN) return opaque();
  switch (type) {
    case dnsTypes.A:
      return end - at === 4
        ? { kind: "address", address: addressFromBytes(4, bytes.subarray(at, end)) }
        : undefined;
    case dnsTypes.AAAA:
      return end - at === 16
        ? { kind: "address", address: addressFromBytes(6, bytes.subarray(at, end)) }
        : undefined;
    case dnsTypes.NS:
    case dnsTypes.CNAME:
    case dnsTypes.PTR: {
      const read = readName(bytes, at);
      return read.ok && read.next === end ? { kind: "name", name: read.name } : undefined;
    }
    case dnsTypes.SOA:
      return readSoa(bytes, at, end);
    case dnsTypes.HINFO:
    case dnsTypes.TXT: {
      const strings: Uint8Array[] = [];
      while (at < end) {
        const next = at + 1 + (bytes[at] as number);
        if (next > end) return undefined;
        strings.push(bytes.slice(at + 1, next));
        at = next;
      }
      const isWhole = type === dnsTypes.TXT ? strings.length >= 1 : strings.length === 2;
      return isWhole ? { kind: "strings", strings } : undefined;
    }
    default: {
      const octets = expandRdata(type, bytes, at, end);
      return octets === undefined ? undefined : { kind: "opaque", bytes: octets };
    }
  }
}

function readSoa(bytes: Uint8Array, at: number, end: number): RecordData | undefined {
  const primary = readName(bytes, at);
  if (!primary.ok) return undefined;
  const hostmaster = readName(bytes, primary.next);
  if (!hostmaster.ok || hostmaster.next + 20 !== end) return undefined;
  const field = (index: number): number => u32(bytes, hostmaster.next + index * 4);
  return {
    kind: "soa",
    soa: {
      primaryName: primary.name,
      hostmasterName: hostmaster.name,
      serial: field(0),
      refreshSeconds: field(1),
      retrySeconds: field(2),
      expireSeconds: field(3),
      minimumSeconds: field(4),
    },
  };
}

/** RFC 6891 section 6.1.2; undefined when the options do not fill `at`..`end` exactly. */
function readOptions(bytes: Uint8Array, at: number, end: number): readonly EdnsOption[] | undefined {
  const options: EdnsOption[] = [];
  while (at < end) {
    if (at + 4 > end) return undefined;
    const next = at + 4 + u16(bytes, at + 2);
    if (next > end) return undefined;
    options.push({ code: u16(bytes, at), data: bytes.slice(at + 4, next) });
    at = next;
  }
  return options;
}

/**
 * The message in octets, names compressed, the OPT record last; undefined when it is over `bytesMax` octets (or a string in it
 * over 255). Takes what {@link readMessage} yields and gives back a message that reads as the same value.
 */
export function writeMessage(
  message: DnsMessage,
  bytesMax: number = tcpMessageBytesMax,
): Uint8Array | undefined {
  const writer = new Writer(bytesMax);
  const { header, edns } = message;
  const flags =
    (header.isResponse ? 0x8000 : 0) |
    ((header.opcode & 15) << 11) |
    (header.isAuthoritative ? 0x0400 : 0) |
    (header.isTruncated ? 0x0200 : 0) |
    (header.isRecursionDesired ? 0x0100 : 0) |
    (header.isRecursionAvailable ? 0x0080 : 0) |
    (header.isAuthenticData ? 0x0020 : 0) |
    (header.isCheckingDisabled ? 0x0010 : 0) |
    // Without an OPT the upper bits have no place: the nearest code that every client knows is FORMERR.
    (header.rcode > 15 && edns === undefined ? rcodes.FORMERR : header.rcode & 15);
  writer.u16(header.id);
  writer.u16(flags);
  writer.u16(message.questions.length);
  writer.u16(message.answers.length);
  writer.u16(message.authorities.length);
  writer.u16(message.additionals.length + (edns === undefined ? 0 : 1));
  for (const question of message.questions) {
    writer.name(question.name);
    writer.u16(question.type);
    writer.u16(question.class);
  }
  for (const section of [message.answers, message.authorities, message.additionals])
    for (const record of section) {
      // What has no room is not written to its end: a large set costs no more than a small one.
      if (writer.isOver) return undefined;
      writer.record(record);
    }
  if (edns !== undefined) {
    const options = edns.options.reduce((sum, option) => sum + 4 + option.data.length, 0);
    writer.octets(rootName.wire);
    writer.u16(dnsTypes.OPT);
    writer.u16(edns.udpPayloadBytes);
    writer.u16(((header.rcode >> 4) << 8) | edns.version);
    writer.u16((edns.isDnssecOk ? 0x8000 : 0) | (edns.isCompactAnswersOk === true ? 0x4000 : 0));
    writer.u16(options);
    for (const option of edns.options) {
      writer.u16(option.code);
      writer.u16(option.data.length);
      writer.octets(option.data);
    }
  }
  return writer.finish();
}

/** Whether a message with these records has more than `bytesMax` octets, however its names are compressed; looks at few of many. */
export function isSurelyOver(records: readonly DnsRecord[], bytesMax: number): boolean {
  let bytes = headerBytes;
  for (const { data } of records) {
    bytes += RECORD_BYTES_MIN + leastBytesOf(data);
    if (bytes > bytesMax) return true;
  }
  return false;
}

/** A pointer to the owner, type, class, TTL, length of the RDATA. */
const RECORD_BYTES_MIN = 12;

function leastBytesOf(data: RecordData): number {
  switch (data.kind) {
    case "address":
      return data.address.family === 4 ? 4 : 16;
    case "opaque":
      return data.bytes.length;
    case "strings":
      return data.strings.reduce((sum, string) => sum + 1 + string.length, 0);
    case "name":
    case "soa":
      return 1;
  }
}

/** Types of RFC 1035, whose RDATA may hold compressed names (RFC 3597 section 4). */
const compressibleTypes: ReadonlySet<number> = new Set([
  dnsTypes.NS,
  dnsTypes.CNAME,
  dnsTypes.PTR,
  dnsTypes.SOA,
]);

class Writer {
  #bytes = new Uint8Array(512);
  #length = 0;
  #isBroken = false;
  readonly #bytesMax: number;
  /** Text of a suffix -> offset where it stands. */
  readonly #suffixes = new Map<string, number>();

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get isOver(): boolean {
    return this.#length > this.#bytesMax;
  }

  u16(value: number): void {
    this.#room(2);
    this.#bytes[this.#length++] = value >> 8;
    this.#bytes[this.#length++] = value;
  }

  octets(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** A name, with a pointer to the longest suffix that stands already; case of letters does not matter for that. */
  name(name: DomainName, mayCompress = true): void {
    const { wire } = name;
    let at = 0;
    // The text walks along: its suffixes are the keys, and cost no look at the octets.
    for (let text = name.text; text !== ""; text = parentText(text) ?? "") {
      const known = mayCompress ? this.#suffixes.get(text) : undefined;
      if (known !== undefined) {
        this.u16(0xc000 | known);
        return;
      }
      if (this.#length <= POINTER_OFFSET_MAX && !this.#suffixes.has(text))
        this.#suffixes.set(text, this.#length);
      const next = at + 1 + (wire[at] as number);
      this.#room(next - at);
      while (at < next) this.#bytes[this.#length++] = wire[at++] as number;
    }
    this.#room(1);
    this.#bytes[this.#length++] = 0;
  }

  record(record: DnsRecord): void {
    this.name(record.name);
    this.u16(record.type);
    this.u16(record.class);
    this.#u32(record.ttlSeconds);
    const lengthAt = this.#length;
    this.u16(0);
    this.#data(record.data, compressibleTypes.has(record.type));
    const length = this.#length - lengthAt - 2;
    if (length > 0xffff) this.#isBroken = true;
    this.#bytes[lengthAt] = length >> 8;
    this.#bytes[lengthAt + 1] = length;
  }

  finish(): Uint8Array | undefined {
    return this.#isBroken || this.isOver ? undefined : this.#bytes.subarray(0, this.#length);
  }

  #data(data: RecordData, mayCompress: boolean): void {
    switch (data.kind) {
      case "address":
        this.octets(addressToBytes(data.address));
        break;
      case "name":
        this.name(data.name, mayCompress);
        break;
      case "soa":
        this.name(data.soa.primaryName, mayCompress);
        this.name(data.soa.hostmasterName, mayCompress);
        this.#u32(data.soa.serial);
        this.#u32(data.soa.refreshSeconds);
        this.#u32(data.soa.retrySeconds);
        this.#u32(data.soa.expireSeconds);
        this.#u32(data.soa.minimumSeconds);
        break;
      case "strings":
        for (const string of data.strings) {
          if (string.length > 255) this.#isBroken = true;
          this.octets(Uint8Array.of(string.length));
          this.octets(string);
        }
        break;
      case "opaque":
        this.octets(data.bytes);
        break;
    }
  }

  #u32(value: number): void {
    this.u16(value >>> 16);
    this.u16(value & 0xffff);
  }

  #room(count: number): void {
    if (this.#length + count <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(this.#bytes.length * 2, this.#length + count));
    grown.set(this.#bytes);
    this.#bytes = grown;
  }
}
