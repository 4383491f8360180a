/** Writes the access record of each request: whole records for most, and for hot entries a line made of kept text. */
import {
  type AccessLog,
  type CacheStatusWord,
  recordedPath,
  toAccessRecord,
  truncatedAddress,
} from "#analytics";
import type { ClusterId, ServerId } from "#kit";
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
      }),
    );
  }

  /** The same record for a hot entry. What is the same for each of its hits is kept as text with the entry. */
  hot(hit: HotServed): void {
    const { entry } = hit;
    entry.recordText ??= JSON.stringify({
      serverId: this.#o.serverId,
      clusterId: this.#o.clusterId(),
      propertyId: entry.memo.record.propertyId ?? null,
      host: hit.host.slice(0, 253),
      path: recordedPath(hit.target),
      cacheStatus: "hit",
      tier: 0,
      via: null,
      bytesUp: 0,
      clientNetworkId: null,
    }).slice(1, -1);
    // Hosts and targets that were checked are ASCII, and so is all else.
    const ms = Math.round(hit.durationMs * 1_000) / 1_000;
    this.#o.log.writeText(
      `{"atEpochMs":${hit.atEpochMs},"requestId":"${hit.requestId}",${entry.recordText},"method":"${hit.method}","status":${hit.status},"bytesDown":${hit.bytesDown},"durationMs":${ms},"ttfbMs":${ms},"clientAddress":${this.#addressText(hit.remoteAddress)}}`,
    );
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
