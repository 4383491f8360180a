/** A name of a customer's zone with its RRsets. */
import type { DomainName } from "#kit";
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
