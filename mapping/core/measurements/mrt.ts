/**
 * MRT files of BGP collectors (RFC 6396): TABLE_DUMP, TABLE_DUMP_V2 with add-path (RFC 8050), and the updates of BGP4MP.
 * A record that cannot be read is skipped whole and counted; the next one begins where its length says.
 */
import { addressFromBytes, type EpochMs, epochMs, formatAddress, type IpFamily } from "#kit";
import {
  BgpRecordError,
  type BgpRoute,
  type BgpSink,
  type BgpSkipReason,
  type BgpWithdrawal,
} from "./bgp.ts";
import { ByteCursor, familyOf, readAttributes, readPrefix, readUpdate } from "./bgp-message.ts";
import { ReadTally } from "./tally.ts";

const HEADER_BYTES = 12;
/** A RIB record has an entry of at most 64 KiB for each peer; those of the largest collectors stay below 1 MiB. */
const RECORD_BYTES_MAX = 4_194_304;

const TYPE = { tableDump: 12, tableDumpV2: 13, bgp4mp: 16, bgp4mpEt: 17 } as const;
const V2 = { peerIndexTable: 1, ipv4: 2, ipv6: 4, ipv4AddPath: 8, ipv6AddPath: 10 } as const;
/** Message subtypes of BGP4MP; those of RFC 8050 carry path identifiers. */
const MESSAGES: Readonly<Record<number, { readonly asBytes: 2 | 4; readonly hasPathId: boolean }>> = {
  1: { asBytes: 2, hasPathId: false },
  4: { asBytes: 4, hasPathId: false },
  6: { asBytes: 2, hasPathId: false },
  7: { asBytes: 4, hasPathId: false },
  8: { asBytes: 2, hasPathId: true },
  9: { asBytes: 4, hasPathId: true },
  10: { asBytes: 2, hasPathId: true },
  11: { asBytes: 4, hasPathId: true },
};

interface Peer {
  readonly peerAs: number;
  readonly peerAddress: string;
}

/** Bounded memory: one record and one table of peers at a time. */
export class MrtReader {
  /** Counts records, not routes: a record of a table has the routes of all peers to one prefix. */
  readonly tally = new ReadTally<BgpSkipReason>();
  readonly #sink: BgpSink;
  readonly #header = new Uint8Array(HEADER_BYTES);
  #headerLength = 0;
  /** The record that has begun: undefined between records, and while one is skipped for its length. */
  #body: Uint8Array | undefined;
  #bodyLength = 0;
  #skipBytes = 0;
  /** Where the record begins in the input, for people. */
  #recordAt = 0;
  #readBytes = 0;
  /** The newest PEER_INDEX_TABLE. */
  #peers: readonly Peer[] | undefined;

  constructor(sink: BgpSink) {
    this.#sink = sink;
  }

  read(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length) {
      const left = chunk.length - at;
      let taken: number;
      if (this.#skipBytes > 0) {
        taken = Math.min(left, this.#skipBytes);
        this.#skipBytes -= taken;
      } else if (this.#headerLength < HEADER_BYTES) {
        if (this.#headerLength === 0) this.#recordAt = this.#readBytes;
        taken = Math.min(left, HEADER_BYTES - this.#headerLength);
        this.#header.set(chunk.subarray(at, at + taken), this.#headerLength);
        this.#headerLength += taken;
        if (this.#headerLength === HEADER_BYTES) this.#begin();
      } else {
        const body = this.#body as Uint8Array;
        taken = Math.min(left, body.length - this.#bodyLength);
        body.set(chunk.subarray(at, at + taken), this.#bodyLength);
        this.#bodyLength += taken;
        if (this.#bodyLength === body.length) this.#finish(body);
      }
      at += taken;
      this.#readBytes += taken;
    }
  }

  end(): void {
    if (this.#headerLength > 0 || this.#skipBytes > 0)
      this.tally.skip(
        "cut-off",
        this.#where(),
        `the input ends within the record, after ${this.#readBytes} bytes`,
      );
    this.#headerLength = 0;
    this.#skipBytes = 0;
    this.#body = undefined;
  }

  #where(): string {
    return `byte ${this.#recordAt}`;
  }

  #begin(): void {
    const length = new DataView(this.#header.buffer).getUint32(8);
    if (length > RECORD_BYTES_MAX) {
      this.tally.skip(
        "too-long",
        this.#where(),
        `a record of ${length} bytes, expected at most ${RECORD_BYTES_MAX}`,
      );
      this.#skipBytes = length;
      this.#headerLength = 0;
      return;
    }
    this.#body = new Uint8Array(length);
    this.#bodyLength = 0;
    if (length === 0) this.#finish(this.#body);
  }

  #finish(body: Uint8Array): void {
    const header = new DataView(this.#header.buffer);
    this.#headerLength = 0;
    this.#body = undefined;
    try {
      const { routes, withdrawals } = this.#record(
        header.getUint16(4),
        header.getUint16(6),
        new ByteCursor(body),
        epochMs(header.getUint32(0) * 1_000),
      );
      this.tally.take();
      for (const withdrawal of withdrawals) this.#sink.withdrawal?.(withdrawal);
      for (const route of routes) this.#sink.route(route);
    } catch (error) {
      if (!(error instanceof BgpRecordError)) throw error;
      this.tally.skip(error.reason, this.#where(), error.message);
    }
  }

  #record(type: number, subtype: number, cursor: ByteCursor, at: EpochMs): Found {
    if (type === TYPE.tableDump) return tableDump(subtype, cursor, at);
    if (type === TYPE.bgp4mp || type === TYPE.bgp4mpEt) {
      const message = MESSAGES[subtype];
      if (message !== undefined) {
        // RFC 6396 section 3: the microseconds stand before the message.
        if (type === TYPE.bgp4mpEt) cursor.uint32("the microseconds");
        return update(cursor, message, at);
      }
    }
    if (type === TYPE.tableDumpV2)
      switch (subtype) {
        case V2.peerIndexTable:
          // A table that cannot be read must not leave the peers of another one behind.
          this.#peers = undefined;
          this.#peers = peerIndexTable(cursor);
          return NOTHING;
        case V2.ipv4:
          return rib(cursor, 4, false, this.#peers, at);
        case V2.ipv6:
          return rib(cursor, 6, false, this.#peers, at);
        case V2.ipv4AddPath:
          return rib(cursor, 4, true, this.#peers, at);
        case V2.ipv6AddPath:
          return rib(cursor, 6, true, this.#peers, at);
      }
    throw new BgpRecordError("other-type", `a record of type ${type}, subtype ${subtype}`);
  }
}

interface Found {
  readonly routes: readonly BgpRoute[];
  readonly withdrawals: readonly BgpWithdrawal[];
}
const NOTHING: Found = { routes: [], withdrawals: [] };

/** RFC 6396 section 4.2; the subtype is the address family. */
function tableDump(subtype: number, cursor: ByteCursor, at: EpochMs): Found {
  const family = familyOf(subtype);
  if (family === undefined) throw new BgpRecordError("other-type", `TABLE_DUMP of address family ${subtype}`);
  cursor.uint16("the view");
  cursor.uint16("the sequence number");
  const bytes = cursor.bytes(family === 4 ? 4 : 16, "the prefix");
  const prefix = readPrefix(
    new ByteCursor(Uint8Array.of(cursor.uint8("the prefix length"), ...bytes)),
    family,
  );
  cursor.uint8("the status");
  cursor.uint32("the time of origination");
  const peerAddress = addressText(cursor, family);
  const peerAs = cursor.uint16("the peer's AS");
  const attributes = cursor.bytes(cursor.uint16("the attributes' length"), "the attributes");
  const path = pathOf(attributes, 2);
  return { routes: [{ prefix, ...path, peerAs, peerAddress, pathId: null, at }], withdrawals: [] };
}

/** RFC 6396 section 4.3.1. */
function peerIndexTable(cursor: ByteCursor): Peer[] {
  cursor.uint32("the collector's id");
  cursor.bytes(cursor.uint16("the view name's length"), "the view name");
  const count = cursor.uint16("the count of peers");
  const peers: Peer[] = [];
  for (let n = 0; n < count; n++) {
    const type = cursor.uint8("the peer's type");
    cursor.uint32("the peer's id");
    const peerAddress = addressText(cursor, (type & 1) === 0 ? 4 : 6);
    const peerAs = (type & 2) === 0 ? cursor.uint16("the peer's AS") : cursor.uint32("the peer's AS");
    peers.push({ peerAs, peerAddress });
  }
  return peers;
}

/** RFC 6396 section 4.3.2; with path identifiers RFC 8050. */
function rib(
  cursor: ByteCursor,
  family: IpFamily,
  hasPathId: boolean,
  peers: readonly Peer[] | undefined,
  at: EpochMs,
): Found {
  cursor.uint32("the sequence number");
  const prefix = readPrefix(cursor, family);
  const count = cursor.uint16("the count of entries");
  const routes: BgpRoute[] = [];
  for (let n = 0; n < count; n++) {
    const index = cursor.uint16("the peer's index");
    const peer = peers?.[index];
    if (peer === undefined)
      throw new BgpRecordError(
        "no-peer",
        peers === undefined
          ? "no readable table of peers came before it"
          : `names peer ${index} of ${peers.length}`,
      );
    cursor.uint32("the time of origination");
    const pathId = hasPathId ? cursor.uint32("the path identifier") : null;
    const attributes = cursor.bytes(cursor.uint16("the attributes' length"), "the attributes");
    routes.push({ prefix, ...pathOf(attributes, 4), ...peer, pathId, at });
  }
  return { routes, withdrawals: [] };
}

/** RFC 6396 section 4.4.2 and 4.4.3. */
function update(
  cursor: ByteCursor,
  { asBytes, hasPathId }: { readonly asBytes: 2 | 4; readonly hasPathId: boolean },
  at: EpochMs,
): Found {
  const as = (what: string): number => (asBytes === 2 ? cursor.uint16(what) : cursor.uint32(what));
  const peerAs = as("the peer's AS");
  as("the local AS");
  cursor.uint16("the interface");
  const afi = cursor.uint16("the address family");
  const family = familyOf(afi);
  if (family === undefined) throw new BgpRecordError("malformed", `a peer of address family ${afi}`);
  const peerAddress = addressText(cursor, family);
  cursor.bytes(family === 4 ? 4 : 16, "the local address");
  const { path, announced, withdrawn } = readUpdate(cursor, asBytes, hasPathId);
  if (announced.length > 0 && path === undefined)
    throw new BgpRecordError("malformed", "prefixes are announced without an AS path");
  return {
    routes: announced.map(({ prefix, pathId }) => ({
      prefix,
      asPath: path?.asPath ?? [],
      originAs: path?.originAs ?? [],
      peerAs,
      peerAddress,
      pathId,
      at,
    })),
    withdrawals: withdrawn.map(({ prefix }) => ({ prefix, peerAs, peerAddress, at })),
  };
}

/** What the collector's own router originates has no attributes at all in the tables of BIRD. */
function pathOf(attributes: Uint8Array, asBytes: 2 | 4): Pick<BgpRoute, "asPath" | "originAs"> {
  if (attributes.length === 0) return { asPath: [], originAs: [] };
  const { path } = readAttributes(attributes, { asBytes, isTable: true, hasPathId: false });
  if (path === undefined) throw new BgpRecordError("malformed", "a route without an AS path");
  return path;
}

function addressText(cursor: ByteCursor, family: IpFamily): string {
  return formatAddress(addressFromBytes(family, cursor.bytes(family === 4 ? 4 : 16, "an address")));
}
