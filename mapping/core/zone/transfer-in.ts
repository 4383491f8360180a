/**
 * A zone as it comes from its primary: whole (AXFR, RFC 5936) or as what has changed (IXFR, RFC 1995). Read strictly and bounded; anything
 * that does not fit refuses the transfer as a whole, and nothing is believed before the last message is there and its signature holds.
 */
import {
  type DomainName,
  expandRdata,
  isSignatureType,
  rdataText,
  readName,
  recordTypes,
  typeText,
  type ZoneData,
  type ZoneRecord,
  compareSerials,
} from "#kit";
import { dnsClasses, dnsOpcodes, dnsTypes, headerBytes, rcodes } from "../dns/constants.ts";
import { queryMessage, type DnsRecord } from "../dns/message.ts";
import { readHeader, writeMessage } from "../dns/wire.ts";
import type { TsigVerifier } from "./tsig.ts";
import { isSignatureRdata } from "./zone-signatures.ts";

/** A question to a primary, unsigned. @param held the SOA that is here, for IXFR (RFC 1995 section 3) */
export function transferQuery(id: number, origin: DomainName, type: number, held?: DnsRecord): Uint8Array {
  const message = queryMessage({ id, name: origin, type, isRecursionDesired: false, edns: undefined });
  return writeMessage({ ...message, authorities: held === undefined ? [] : [held] }) as Uint8Array;
}

export interface TransferRequest {
  readonly id: number;
  readonly origin: DomainName;
  readonly type: typeof dnsTypes.SOA | typeof dnsTypes.AXFR | typeof dnsTypes.IXFR;
  /** Serial of the zone that is here; undefined for AXFR and where nothing is. */
  readonly heldSerial?: number;
  /** Of the answer; without one it must not be signed. */
  readonly verifier?: TsigVerifier | undefined;
  readonly recordsMax: number;
}

/** One step of changes: what goes, then what comes, the SOA record among neither. */
export interface ZoneChange {
  readonly removed: readonly ZoneRecord[];
  readonly added: readonly ZoneRecord[];
  /** The SOA after it. */
  readonly soa: ZoneRecord;
}

export type TransferRead =
  /** Another message has to come. */
  | { readonly kind: "more" }
  /** For SOA; and for IXFR where there is nothing newer. */
  | { readonly kind: "serial"; readonly serial: number }
  /** With one SOA. */
  | { readonly kind: "whole"; readonly records: readonly ZoneRecord[] }
  | { readonly kind: "changes"; readonly changes: readonly ZoneChange[] }
  /** `mayAskWhole`: the primary may know no IXFR. */
  | { readonly kind: "refused"; readonly why: string; readonly mayAskWhole: boolean };

interface Step {
  readonly removed: ZoneRecord[];
  readonly added: ZoneRecord[];
  soa: ZoneRecord | undefined;
}

/** Reads one answer; after anything but `more` it is done. */
export class TransferReader {
  readonly #request: TransferRequest;
  #first: ZoneRecord | undefined;
  readonly #whole: ZoneRecord[] = [];
  /** Undefined: the zone comes whole. */
  #steps: Step[] | undefined;
  #records = 0;
  #messages = 0;
  #isEnded = false;

  constructor(request: TransferRequest) {
    this.#request = request;
  }

  /** The next message. Never throws. */
  handleMessage(bytes: Uint8Array, nowSeconds: number): TransferRead {
    try {
      return this.#handle(bytes, nowSeconds);
    } catch (error) {
      if (error instanceof Refused) {
        const mayAskWhole = this.#request.type === dnsTypes.IXFR;
        return { kind: "refused", why: error.message, mayAskWhole };
      }
      throw error;
    }
  }

  #handle(bytes: Uint8Array, nowSeconds: number): TransferRead {
    const { id, type, verifier } = this.#request;
    const header = readHeader(bytes);
    if (header === undefined) throw new Refused(`a message of ${bytes.length} octets`);
    if (header.id !== id || !header.isResponse || header.opcode !== dnsOpcodes.QUERY)
      throw new Refused("a message that answers something else");
    // What is said against us is told as it is: who has no key in common cannot sign it.
    if (header.rcode !== rcodes.NOERROR) throw new Refused(`rcode ${rcodeText(header.rcode)}`);
    if (header.isTruncated) throw new Refused("a truncated message");
    const untrusted = verifier?.handle(bytes, nowSeconds);
    if (untrusted !== undefined) throw new Refused(untrusted);
    const { at, answers } = this.#skipQuestion(bytes);
    this.#messages++;
    if (type === dnsTypes.SOA) return this.#serialOf(bytes, at, answers, header.isAuthoritative);
    for (let n = 0, next = at; n < answers; n++) {
      const read = this.#readRecord(bytes, next);
      next = read.next;
      this.#take(read.record);
    }
    const first = this.#first;
    if (first === undefined) throw new Refused("no SOA record at its beginning");
    const serial = serialOf(first);
    const { heldSerial } = this.#request;
    // RFC 1995 section 4: one SOA alone, which is not newer than what is here.
    const isAlone = this.#messages === 1 && answers === 1;
    if (type === dnsTypes.IXFR && isAlone && heldSerial !== undefined) {
      const order = compareSerials(serial, heldSerial);
      if (order !== undefined && order <= 0) return this.#covered({ kind: "serial", serial });
    }
    if (!this.#isEnded) return { kind: "more" };
    if (this.#steps === undefined) return this.#covered({ kind: "whole", records: this.#whole });
    return this.#covered({ kind: "changes", changes: this.#steps as readonly ZoneChange[] });
  }

  #covered(read: TransferRead): TransferRead {
    const { verifier } = this.#request;
    if (verifier !== undefined && !verifier.isCovered) throw new Refused("no signature on its last message");
    return read;
  }

  #serialOf(bytes: Uint8Array, at: number, answers: number, isAuthoritative: boolean): TransferRead {
    if (!isAuthoritative) throw new Refused("an answer without authority: the zone is not in force there");
    if (answers !== 1) throw new Refused(`${answers} answers to a question for the SOA record`);
    const { record } = this.#readRecord(bytes, at);
    if (!this.#isSoa(record)) throw new Refused("another record than the SOA");
    return this.#covered({ kind: "serial", serial: serialOf(record) });
  }

  /** RFC 5936 section 2.2.1: the question stands in the first message, and may stand in others. */
  #skipQuestion(bytes: Uint8Array): { readonly at: number; readonly answers: number } {
    const { origin, type } = this.#request;
    const questions = u16(bytes, 4);
    const answers = u16(bytes, 6);
    if (questions > 1) throw new Refused(`${questions} questions`);
    if (questions === 0) {
      if (this.#messages === 0 && type === dnsTypes.SOA) throw new Refused("no question");
      return { at: headerBytes, answers };
    }
    const name = readName(bytes, headerBytes);
    if (!name.ok || name.next + 4 > bytes.length) throw new Refused("a question that cannot be read");
    const isOurs = name.name.text === origin.text && u16(bytes, name.next) === type;
    if (!isOurs || u16(bytes, name.next + 2) !== dnsClasses.IN) throw new Refused("another question");
    return { at: name.next + 4, answers };
  }

  #readRecord(bytes: Uint8Array, at: number): { readonly record: ZoneRecord; readonly next: number } {
    const { recordsMax } = this.#request;
    if (++this.#records > recordsMax) throw new Refused(`more than ${recordsMax} records`);
    const owner = readName(bytes, at);
    const fixed = owner.ok ? owner.next : 0;
    if (!owner.ok || fixed + 10 > bytes.length) throw new Refused("a record that cannot be read");
    const type = u16(bytes, fixed);
    const next = fixed + 10 + u16(bytes, fixed + 8);
    const rdata = next > bytes.length ? undefined : expandRdata(type, bytes, fixed + 10, next);
    const what = `${typeText(type)} of ${owner.name.text}`;
    const isRead = rdata !== undefined && rdataText(type, rdata) !== undefined;
    if (!isRead || (isSignatureType(type) && !isSignatureRdata(type, rdata)))
      throw new Refused(`RDATA that cannot be read (${what})`);
    if (u16(bytes, fixed + 2) !== dnsClasses.IN) throw new Refused(`a record of another class (${what})`);
    const ttl = u16(bytes, fixed + 4) * 65_536 + u16(bytes, fixed + 6);
    // RFC 2181 section 8.
    const ttlSeconds = ttl > 0x7fff_ffff ? 0 : ttl;
    return { record: { name: owner.name, type, ttlSeconds, rdata, line: 0 }, next };
  }

  #take(record: ZoneRecord): void {
    if (this.#isEnded) throw new Refused("records after its last SOA");
    const first = this.#first;
    const isSoa = this.#isSoa(record);
    if (first === undefined) {
      if (!isSoa) throw new Refused("no SOA record at its beginning");
      this.#first = record;
      this.#whole.push(record);
      return;
    }
    const { type, heldSerial } = this.#request;
    const isSecond = this.#steps === undefined && this.#whole.length === 1;
    if (isSecond && isSoa && type === dnsTypes.IXFR && serialOf(record) === heldSerial) {
      this.#steps = [{ removed: [], added: [], soa: undefined }];
      return;
    }
    if (this.#steps !== undefined) return this.#takeChange(this.#steps, record, isSoa, serialOf(first));
    if (!isSoa) {
      this.#whole.push(record);
      return;
    }
    if (serialOf(record) !== serialOf(first))
      throw new Refused(`serial ${serialOf(record)} at its end, ${serialOf(first)} at its beginning`);
    this.#isEnded = true;
  }

  #takeChange(steps: Step[], record: ZoneRecord, isSoa: boolean, lastSerial: number): void {
    const step = steps.at(-1) as Step;
    if (!isSoa) (step.soa === undefined ? step.removed : step.added).push(record);
    else if (step.soa === undefined) step.soa = record;
    else {
      const serial = serialOf(step.soa);
      if (serialOf(record) !== serial)
        throw new Refused(`changes from serial ${serialOf(record)} behind those to ${serial}`);
      if (serial === lastSerial) this.#isEnded = true;
      else steps.push({ removed: [], added: [], soa: undefined });
    }
  }

  #isSoa({ type, name }: ZoneRecord): boolean {
    return type === recordTypes.SOA && name.text === this.#request.origin.text;
  }
}

class Refused extends Error {}

/** Records with the changes made, in their order; or why they do not fit: what goes is not there, or what comes is. */
export function changedRecords(
  zone: ZoneData,
  changes: readonly ZoneChange[],
): { readonly records: readonly ZoneRecord[] } | { readonly why: string } {
  const records = new Map<string, ZoneRecord>();
  let last: ZoneRecord | undefined;
  for (const record of recordsOfZone(zone))
    if (record.type !== recordTypes.SOA) records.set(keyOf(record), record);
  for (const { removed, added, soa } of changes) {
    for (const record of removed)
      if (!records.delete(keyOf(record))) return { why: `what goes is not here: ${told(record)}` };
    for (const record of added) {
      const key = keyOf(record);
      if (records.has(key)) return { why: `what comes is here already: ${told(record)}` };
      records.set(key, record);
    }
    last = soa;
  }
  return { records: last === undefined ? [...records.values()] : [last, ...records.values()] };
}

function* recordsOfZone(zone: ZoneData): Generator<ZoneRecord> {
  for (const sets of zone.sets.values())
    for (const { name, type, ttlSeconds, rdata } of sets.values())
      for (const one of rdata) yield { name, type, ttlSeconds, rdata: one, line: 0 };
}

function told({ name, type }: ZoneRecord): string {
  return `${typeText(type)} of ${name.text}`;
}

/** TTLs do not tell records apart: those of a set were made equal here (RFC 2181 section 5.2). */
function keyOf({ name, type, rdata }: ZoneRecord): string {
  let octets = "";
  for (const octet of rdata) octets += String.fromCharCode(octet);
  return `${name.text} ${type} ${octets}`;
}

export interface SoaTimers {
  readonly serial: number;
  readonly refreshSeconds: number;
  readonly retrySeconds: number;
  readonly expireSeconds: number;
}

/** Of a zone that could be served: it has one SOA record. */
export function soaTimersOf(zone: ZoneData): SoaTimers {
  const rdata = zone.sets.get(zone.origin.text)?.get(recordTypes.SOA)?.rdata[0] ?? new Uint8Array(20);
  const view = new DataView(rdata.buffer, rdata.byteOffset + rdata.length - 20);
  return {
    serial: view.getUint32(0),
    refreshSeconds: view.getUint32(4),
    retrySeconds: view.getUint32(8),
    expireSeconds: view.getUint32(12),
  };
}

/** Of a SOA record whose RDATA was looked over. */
function serialOf({ rdata }: ZoneRecord): number {
  return new DataView(rdata.buffer, rdata.byteOffset + rdata.length - 20).getUint32(0);
}

function u16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}

function rcodeText(rcode: number): string {
  const name = { 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 9: "NOTAUTH" }[rcode];
  return name === undefined ? String(rcode) : name;
}
