/** Writes the access record of each request: whole records for most, and for hot entries a line made of kept text. */
import {
  type AccessLog,
  type CacheStatusWord,
  recordedPath,
  toAccessRecord,
  truncatedAddress,
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
  /** JSON text by address. */
  readonly #addresses = new Map<string, string>();

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
      }),
    );
  }

  /** The same record for a hot entry. What is the same for each of its plain hits is kept as text with the entry. */
  hot(hit: HotServed): void {
    const { entry } = hit;
    let text: string;
    if (hit.method === "GET" && hit.status === entry.status) text = entry.recordText ??= this.#textOf(hit);
    else if (hit.method === "GET" && hit.status === 304)
      text = entry.recordTextNotModified ??= this.#textOf(hit);
    else text = this.#textOf(hit);
    const duration = durationText(hit.durationMs);
    const trace = hit.traceId === undefined ? "" : `,"traceId":"${hit.traceId}"`;
    // Hosts and targets that were checked are ASCII, and so is all else.
    this.#o.log.writeText(
      `{"atEpochMs":${hit.atEpochMs},"requestId":"${hit.requestId}",${text},"durationMs":${duration},"ttfbMs":${duration},"clientAddress":${this.#addressText(hit.remoteAddress)}${trace}}`,
    );
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

  #addressText(address: string): string {
    let text = this.#addresses.get(address);
    if (text === undefined) {
      text = JSON.stringify(truncatedAddress(address));
      if (this.#addresses.size >= ADDRESSES_MAX) this.#addresses.clear();
      this.#addresses.set(address, text);
    }
    return text;
  }
}

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
