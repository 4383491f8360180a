/** A name of a customer's zone with its RRsets. */
import { type DomainName, isSameArray } from "#kit";
import type { RecordData } from "../dns/message.ts";

/** An RRset as the writer of messages takes it. */
export interface HostedSet {
  readonly name: DomainName;
  readonly type: number;
  readonly ttlSeconds: number;
  readonly data: readonly RecordData[];
}

/** Without any set: an empty non-terminal (RFC 4592 section 2.2.2, RFC 8020 section 2). */
export interface HostedName {
  readonly name: DomainName;
  readonly sets: ReadonlyMap<number, HostedSet>;
}

/** Whether the same sets stand at both, with the same letters, TTLs and order of records. */
export function isSameName(a: HostedName, b: HostedName): boolean {
  if (a === b) return true;
  if (a.sets.size !== b.sets.size) return false;
  for (const set of a.sets.values()) {
    const other = b.sets.get(set.type);
    if (other === undefined || !isSameSet(set, other)) return false;
  }
  return true;
}

function isSameSet(a: HostedSet, b: HostedSet): boolean {
  return (
    a.ttlSeconds === b.ttlSeconds &&
    a.data.length === b.data.length &&
    isSameArray(a.name.wire, b.name.wire) &&
    a.data.every((data, n) => isSameData(data, b.data[n] as RecordData))
  );
}

/** Of SOA records always: they are told apart by their serials. */
function isSameData(a: RecordData, b: RecordData): boolean {
  if (a.kind === "address") return b.kind === "address" && isSameArray(a.address.words, b.address.words);
  if (a.kind === "name") return b.kind === "name" && isSameArray(a.name.wire, b.name.wire);
  if (a.kind === "opaque") return b.kind === "opaque" && isSameArray(a.bytes, b.bytes);
  if (a.kind === "soa") return b.kind === "soa";
  return (
    b.kind === "strings" &&
    a.strings.length === b.strings.length &&
    a.strings.every((string, n) => isSameArray(string, b.strings[n] as Uint8Array))
  );
}
