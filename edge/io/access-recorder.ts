/** Writes the access record of each request: whole records for most, and for hot entries a line made of kept text. */
import {
  type AccessLog,
  type CacheStatusWord,
  type Line,
  recordedPath,
  toAccessRecord,
  truncatedAddress,
  writeAscii,
} from "#analytics";
import type { ClusterId, ServerId } from "#kit";
import { traceIdOf } from "../core/diagnosis/trace-context.ts";
import { fieldLines } from "../core/headers.ts";
import type { ServedRequest } from "./dispatch.ts";
import type { Outcome } from "./exchange.ts";
import type { HotEntry } from "./hot-table.ts";

/** A hit that was answered from the hot table. */
export interface HotServed {
  readonly entry: HotEntry;
  readonly host: string;
  readonly target: string;
  readonly method: "GET" | "HEAD";
  readonly status: number;
  readonly bytesDown: number;
  readonly remoteAddress: string;
  readonly requestId: string;
  readonly traceId: string | undefined;
  readonly atEpochMs: number;
  readonly durationMs: number;
}

export interface AccessRecorderOptions {
  readonly log: AccessLog;
  readonly serverId: ServerId;
  readonly clusterId: () => ClusterId;
}

/** Addresses whose truncated form is remembered: connections of one client share it. */
const ADDRESSES_MAX = 4_096;

export class AccessRecorder {
  readonly #o: AccessRecorderOptions;
  /** JSON by address. */
  readonly #addresses = new Map<string, Uint8Array>();
  readonly #line = new HotLine();

  constructor(options: AccessRecorderOptions) {
    this.#o = options;
  }

  served({ inbound, answer, result, durationMs, ttfbMs }: ServedRequest): void {
    const { record } = answer;
    const traceId = traceIdOf(fieldLines(inbound.head.fields, "traceparent"));
    this.#o.log.write(
      toAccessRecord({
        atEpochMs: inbound.receivedAt,
        requestId: inbound.requestId,
        serverId: this.#o.serverId,
        clusterId: this.#o.clusterId(),
        propertyId: record.propertyId ?? null,
        method: inbound.head.method,
        host: inbound.head.host,
        target: inbound.head.target,
        status: result.end === "client-gone" && result.bytesDown === 0 ? 0 : answer.status,
        cacheStatus: wordOf(record.outcome),
        tier: inbound.peer === undefined ? 0 : (inbound.hop.tier ?? 0) + 1,
        via: record.via ?? null,
        bytesDown: result.bytesDown,
        bytesUp: inbound.bodyBytes ?? 0,
        durationMs,
        ttfbMs,
        clientNetworkId: null,
        peerAddress: inbound.peer === undefined ? inbound.remoteAddress : undefined,
        ...(traceId !== undefined && { traceId }),
        ...(record.upstreamProtocol !== undefined && { upstreamProtocol: record.upstreamProtocol }),
      }),
    );
  }

  /** The same record for a hot entry. What is the same for each of its plain hits is kept as bytes with the entry. */
  hot(hit: HotServed): void {
    const { entry } = hit;
    let record: Uint8Array;
    if (hit.method === "GET" && hit.status === entry.status) record = entry.record ??= this.#recordOf(hit);
    else if (hit.method === "GET" && hit.status === 304)
      record = entry.recordNotModified ??= this.#recordOf(hit);
    else record = this.#recordOf(hit);
    const line = this.#line;
    line.hit = hit;
    line.record = record;
    line.address = this.#addressOf(hit.remoteAddress);
    this.#o.log.writeLine(line, line.bytesMax);
  }

  #recordOf(hit: HotServed): Uint8Array {
    return Buffer.from(`",${this.#textOf(hit)},"durationMs":`, "latin1");
  }

  #textOf(hit: HotServed): string {
    return JSON.stringify({
      serverId: this.#o.serverId,
      clusterId: this.#o.clusterId(),
      propertyId: hit.entry.memo.record.propertyId ?? null,
      method: hit.method,
      host: hit.host.slice(0, 253),
      path: recordedPath(hit.target),
      status: hit.status,
      cacheStatus: "hit",
      tier: 0,
      via: null,
      bytesDown: hit.bytesDown,
      bytesUp: 0,
      clientNetworkId: null,
    }).slice(1, -1);
  }

  #addressOf(address: string): Uint8Array {
    let bytes = this.#addresses.get(address);
    if (bytes === undefined) {
      bytes = Buffer.from(`,"clientAddress":${JSON.stringify(truncatedAddress(address))}`, "latin1");
      if (this.#addresses.size >= ADDRESSES_MAX) this.#addresses.clear();
      this.#addresses.set(address, bytes);
    }
    return bytes;
  }
}

/** The line of a hot entry's record. Hosts and targets that were checked are ASCII, and so is all else. */
class HotLine implements Line {
  hit!: HotServed;
  record!: Uint8Array;
  address!: Uint8Array;
  /** The beginning, which is the same for all of a millisecond. */
  #atEpochMs = -1;
  #begin: Uint8Array = new Uint8Array(0);

  /** Numbers, names and braces have 120 characters at the most. */
  get bytesMax(): number {
    const { requestId, traceId = "" } = this.hit;
    return 160 + this.record.byteLength + this.address.byteLength + requestId.length + traceId.length;
  }

  write(bytes: Uint8Array, from: number): number {
    const { hit, record, address } = this;
    if (hit.atEpochMs !== this.#atEpochMs) {
      this.#atEpochMs = hit.atEpochMs;
      this.#begin = Buffer.from(`{"atEpochMs":${hit.atEpochMs},"requestId":"`, "latin1");
    }
    bytes.set(this.#begin, from);
    let at = from + this.#begin.byteLength;
    at += writeAscii(hit.requestId, bytes, at);
    bytes.set(record, at);
    at += record.byteLength;
    const duration = durationText(hit.durationMs);
    at += writeAscii(duration, bytes, at);
    bytes.set(TTFB, at);
    at += TTFB.byteLength;
    at += writeAscii(duration, bytes, at);
    bytes.set(address, at);
    at += address.byteLength;
    if (hit.traceId !== undefined) at += writeAscii(`,"traceId":"${hit.traceId}"`, bytes, at);
    bytes[at] = 0x7d;
    return at + 1;
  }
}

const TTFB = Buffer.from(',"ttfbMs":', "latin1");

/** The record's word for an outcome: an answer from the store is a hit, fresh or not. */
function wordOf(outcome: Outcome): CacheStatusWord {
  if (outcome === "hit-stale") return "hit";
  return outcome === "admin" ? "refused" : outcome;
}

/** Milliseconds to three places. Writing a fraction out costs as much as the rest of a line: the usual ones are kept. */
function durationText(ms: number): string {
  const us = Math.round(ms * 1_000);
  return us < DURATION_TEXTS_MAX ? (DURATION_TEXTS[us] ??= String(us / 1_000)) : String(us / 1_000);
}

const DURATION_TEXTS_MAX = 4_096;
const DURATION_TEXTS: (string | undefined)[] = Array.from({ length: DURATION_TEXTS_MAX });
