/**
 * One end of a connection over UDP: datagrams in and out, channels of bytes above. It has no socket, no clock, no keys and no chance of its own; README.md
 * has packets, states and reasons. `now` never goes back.
 */
import { type MonotonicMs, plusMs } from "#kit";
import { ByteReader } from "../link/bytes.ts";
import type { UdpConnectionOptions, UdpCounters } from "./connection-options.ts";
import { ReceiveChannels, SendChannels } from "./channels.ts";
import { Flow } from "./flow.ts";
import { KeyEpochs } from "./key-epochs.ts";
import type { Group, SentPacket } from "./loss-detection.ts";
import { MtuSearch } from "./mtu-search.ts";
import {
  type Ack,
  DATA_HEAD_BYTES,
  type FrameSink,
  readFrames,
  readHead,
  writeAck,
  writeHead,
  writeRepair,
} from "./packet.ts";
import { PathValidation } from "./path-validation.ts";
import { ReceivedPackets } from "./received-packets.ts";
import { AdaptiveRedundancy, type Redundancy } from "./redundancy.ts";
import { RepairReceiver, type Restored } from "./repair-receiver.ts";
import { GROUP_ROOM_BYTES, GROUP_SOURCES_MAX, GROUP_SOURCES_MIN, RepairSender } from "./repair-sender.ts";
import {
  ACK_RANGES_MAX,
  CHALLENGE_BYTES,
  type CloseReason,
  closeReasons,
  type DropReason,
  FRAME,
  HEADER_BYTES,
  IDLE_MS_MAX,
  SILENCE_MS_MAX,
  TAG_BYTES,
  type UdpEvent,
} from "./words.ts";

/** Ranges of an acknowledgement without content; and what such a packet has at most, with all that control may say, bytes. */
const CONTROL_RANGES_MAX = 4;
const CONTROL_BYTES = 128;
/** Of a transfer this gets repairs: what leaves in so many round trips, or so many bytes. */
const LONG_ROUND_TRIPS = 8;
const LONG_BYTES_MIN = 1 << 20;
/** Packets that a probe timeout sends (RFC 9002, section 6.2.4). */
const PROBE_PACKETS = 2;

export class UdpConnection implements FrameSink {
  readonly #options: UdpConnectionOptions;
  readonly #keys: KeyEpochs;
  readonly #path: PathValidation;
  readonly #received: ReceivedPackets;
  readonly #flow: Flow;
  readonly #mtu = new MtuSearch();
  readonly #redundancy: Redundancy;
  readonly #repairs = new RepairSender();
  readonly #repairReceiver = new RepairReceiver();
  readonly #sending = new SendChannels((channel) => this.#events.push({ kind: "writable", channel }));
  readonly #receiving = new ReceiveChannels();
  #response: Uint8Array | undefined;
  /** Packets that leave whatever window and pace say. */
  #probesDue = 0;
  /** Below this number no group is begun: none would pay. */
  #groupsFrom = 0;
  /** The last one that changed the path. */
  #lastRemote: string;
  #failedGroup: Group | undefined;
  #events: UdpEvent[] = [];
  #eventsAt = 0;
  #ended: CloseReason | undefined;
  #isCloseDue = false;
  #now: MonotonicMs;
  /** When something authentic came last; when the first packet after it left. */
  #heardAt: MonotonicMs;
  #askedAt: MonotonicMs | undefined;
  readonly counters: UdpCounters = {
    sentPackets: 0,
    sentBytes: 0,
    receivedPackets: 0,
    expectedPackets: 0,
    lostPackets: 0,
    restoredPackets: 0,
    repairPackets: 0,
    probeTimeouts: 0,
    droppedDatagrams: 0,
  };

  constructor(options: UdpConnectionOptions, now: MonotonicMs) {
    this.#options = options;
    this.#lastRemote = options.remote;
    this.#keys = new KeyEpochs(options.sealedMax);
    this.#path = new PathValidation(options.remote, options.isRemoteValidated, options.unpredictable, now);
    this.#received = new ReceivedPackets(now);
    this.#flow = new Flow(options.congestion ?? "bbr", now);
    this.#redundancy = options.redundancy ?? new AdaptiveRedundancy();
    this.#now = now;
    this.#heardAt = now;
  }

  /** Where the next datagram is to go. */
  get remote(): string {
    return this.#path.remote;
  }
  get isRemoteValidated(): boolean {
    return this.#path.isValidated;
  }
  /** Why it ended. */
  get ended(): CloseReason | undefined {
    return this.#ended;
  }
  get srttMs(): number | undefined {
    return this.#flow.hasRtt ? this.#flow.srttMs : undefined;
  }
  /** Since when nothing has come though something asks for an answer; undefined: nothing does, or something came. */
  get askingSince(): MonotonicMs | undefined {
    return this.#askedAt;
  }
  /** RFC 9002, section 6.2.1, ms. */
  get probeTimeoutMs(): number {
    return this.#flow.probeTimeoutMs;
  }
  get datagramBytes(): number {
    return this.#mtu.bytes;
  }
  get epoch(): number {
    return this.#keys.epoch;
  }
  /** Packets whose fate is not known, and bytes that came out of order: what the other side makes this one keep. */
  get keptPackets(): number {
    return this.#flow.packetsInFlight;
  }
  get heldBytes(): number {
    return this.#receiving.heldBytes;
  }

  /** Whether a channel may be given more. */
  isWritable(channel: number): boolean {
    return this.#sending.isWritable(channel);
  }

  /** Whether all that was given to a channel has come. */
  isDelivered(channel: number): boolean {
    return this.#sending.isDelivered(channel);
  }

  /** Queues bytes, which are the connection's from now on. */
  send(channel: number, bytes: Uint8Array): void {
    if (this.#ended !== undefined || bytes.length === 0) return;
    this.#sending.send(channel, bytes);
  }

  /** Ends it; the other side is told. Given a `reason`, the other side has said so. */
  close(reason?: CloseReason): void {
    if (this.#ended !== undefined) return;
    this.#fail(reason ?? "done");
    if (reason !== undefined) this.#isCloseDue = false;
  }

  pollEvent(): UdpEvent | undefined {
    if (this.#eventsAt === this.#events.length) {
      this.#events.length = 0;
      this.#eventsAt = 0;
      return undefined;
    }
    return this.#events[this.#eventsAt++];
  }

  /** A datagram from `from`; opened in place. Why it was not taken, if it was not. */
  handleDatagram(datagram: Uint8Array, from: string, now: MonotonicMs): DropReason | undefined {
    const dropped = this.#handleDatagram(datagram, from, now);
    if (dropped !== undefined) this.counters.droppedDatagrams++;
    return dropped;
  }

  #handleDatagram(datagram: Uint8Array, from: string, now: MonotonicMs): DropReason | undefined {
    if (this.#ended !== undefined) return "ended";
    const head = readHead(datagram, this.#options.localName);
    if (typeof head === "string") return head;
    const { number, isInGroup } = head;
    if (this.#received.has(number)) return "duplicate";
    const epoch = this.#keys.epochOf(number, head.epochBit);
    if (!this.#options.protection.open(datagram, HEADER_BYTES, datagram.length, number, epoch))
      return "unopened";
    this.#now = now;
    this.#heardAt = now;
    this.#askedAt = undefined;
    this.counters.receivedPackets++;
    this.#keys.handleOpened(number, epoch);
    if (this.#path.handleReceived(from, datagram.length, number > this.#received.largest, now))
      this.#moved(now);
    const payload = datagram.subarray(HEADER_BYTES, datagram.length - TAG_BYTES);
    const isEliciting = readFrames(new ByteReader(payload, 0, payload.length), this);
    if (typeof isEliciting === "string") {
      this.#fail(isEliciting);
      return undefined;
    }
    this.#received.handleReceived(number, isEliciting, now);
    this.counters.expectedPackets = this.#received.largest + 1;
    const fault = isInGroup
      ? this.#takeRestored(this.#repairReceiver.handleSource(number, payload))
      : undefined;
    if (fault !== undefined) this.#fail(fault);
    return undefined;
  }

  handleTimeout(now: MonotonicMs): void {
    if (this.#ended !== undefined) return;
    this.#now = now;
    if (now >= this.#endAt()) {
      this.#fail(this.#askedAt === undefined ? "idle" : "silent");
      return;
    }
    this.#detectLost();
    if (this.#flow.isProbeDue(now)) this.#probe();
    if (this.#path.handleTimeout(now)) this.#moved(now);
  }

  /** When {@link handleTimeout}, or {@link pollTransmit}, is due. Undefined: never. */
  pollTimeout(now: MonotonicMs): MonotonicMs | undefined {
    if (this.#ended !== undefined) return this.#isCloseDue ? now : undefined;
    let dueAt = this.#endAt();
    const earlier = (at: MonotonicMs | undefined): void => {
      if (at !== undefined && at < dueAt) dueAt = at;
    };
    if (this.#path.maySend(CONTROL_BYTES)) {
      earlier(this.#flow.pollTimeout());
      earlier(this.#path.pollTimeout());
      earlier(this.#received.pollTimeout(now));
      if (this.#probesDue > 0 || this.#response !== undefined) earlier(now);
      if (this.#hasContent && this.#hasRoom) earlier(this.#flow.paceAt(now));
    }
    return dueAt;
  }

  /** Writes the next datagram, of `into` at most; its length. 0: none is due. It goes to {@link remote}. */
  pollTransmit(into: Uint8Array, now: MonotonicMs): number {
    this.#now = now;
    if (this.#ended !== undefined) return this.#isCloseDue ? this.#transmitClose(into) : 0;
    if (!this.#path.maySend(CONTROL_BYTES)) return 0;
    const mayElicit =
      (this.#probesDue > 0 && this.#path.maySend(this.#mtu.bytes)) ||
      (this.#hasRoom && this.#flow.paceAt(now) <= now);
    this.#flow.handleTurn(this.#hasContent, this.#hasRoom);
    if (mayElicit && this.#repairs.hasRepair) return this.#transmitRepair(into);
    if (mayElicit && this.#mayTryMtu()) return this.#transmitMtuProbe(into);
    return this.#transmitFrames(into, mayElicit);
  }

  #transmitFrames(into: Uint8Array, mayElicit: boolean): number {
    const now = this.#now;
    const mayHaveContent = mayElicit && this.#sending.hasSome;
    if (mayHaveContent) this.#beginGroup();
    // Whatever leaves while a group is open is one of its packets: their numbers have no gap.
    const group = this.#repairs.open;
    const limit = this.#mtu.bytes - TAG_BYTES - (group === undefined ? 0 : GROUP_ROOM_BYTES);
    let at = HEADER_BYTES;
    const challenge = this.#path.takeChallenge(this.#flow.probeTimeoutMs, now);
    if (challenge !== undefined) at = writeBytes(into, at, FRAME.challenge, challenge);
    if (this.#response !== undefined) at = writeBytes(into, at, FRAME.response, this.#response);
    this.#response = undefined;
    const isElicitingYet = at > HEADER_BYTES;
    const isProbe = this.#probesDue > 0;
    if (
      this.#received.isAckDue(now) ||
      (this.#received.hasNews && (mayHaveContent || isElicitingYet || isProbe))
    )
      at = writeAck(into, at, this.#received.takeAck(now, mayElicit ? ACK_RANGES_MAX : CONTROL_RANGES_MAX));
    const ackEnd = at;
    const pieces: number[] = [];
    if (mayHaveContent) at = this.#sending.fill(into, at, limit, pieces);
    if (isProbe && at === ackEnd && !isElicitingYet) into[at++] = FRAME.ping;
    if (at === HEADER_BYTES) return 0;
    if (isProbe) this.#probesDue--;
    if (group !== undefined) this.#addToGroup(into.subarray(HEADER_BYTES, at));
    return this.#seal(into, at, isElicitingYet || at > ackEnd, {
      pieces,
      group,
      isInGroup: group !== undefined,
    });
  }

  #beginGroup(): void {
    const number = this.#flow.nextNumber;
    if (this.#repairs.open !== undefined || number < this.#groupsFrom) return;
    const readyBytes = this.#repairableBytes;
    if (readyBytes === 0) return;
    const room = this.#mtu.bytes - HEADER_BYTES - TAG_BYTES - GROUP_ROOM_BYTES - DATA_HEAD_BYTES;
    // What leaves in half a round trip: a repair that comes later saves nothing.
    const most = this.#flow.pacedBytes(1 / 2) / this.#mtu.bytes;
    const sources = Math.min(
      Math.ceil(readyBytes / room),
      GROUP_SOURCES_MAX,
      Math.max(GROUP_SOURCES_MIN, Math.floor(most)),
    );
    const repairs = this.#redundancy.repairsFor(sources, this.#now);
    if (repairs > 0) this.#repairs.begin(number, sources, repairs, this.#now);
    else this.#groupsFrom = number + sources;
  }

  /** What waits of transfers that are not so long that a round trip more at their end is little: for those repairs cost more than they save. */
  get #repairableBytes(): number {
    return this.#sending.readyBytes(Math.max(LONG_BYTES_MIN, this.#flow.pacedBytes(LONG_ROUND_TRIPS)));
  }

  #addToGroup(payload: Uint8Array): void {
    const isLast = this.#repairs.add(payload, this.#now);
    // The tail of a transfer ends its group: its repairs leave at once.
    if (isLast || this.#repairableBytes === 0)
      this.#repairs.close(this.#redundancy.repairsFor(this.#repairs.sources, this.#now));
  }

  #transmitRepair(into: Uint8Array): number {
    const { group, sources, index, symbol } = this.#repairs.take(this.#flow.nextNumber, this.#now);
    const at = writeRepair(into, HEADER_BYTES, group.first, sources, index, symbol);
    this.counters.repairPackets++;
    return this.#seal(into, at, true, { pieces: NO_PIECES, group, isInGroup: false });
  }

  #mayTryMtu(): boolean {
    return (
      this.#flow.hasRtt &&
      this.#path.isValidated &&
      this.#repairs.open === undefined &&
      this.#mtu.probe(this.#now) > 0
    );
  }

  #transmitMtuProbe(into: Uint8Array): number {
    const bytes = this.#mtu.probe(this.#now);
    into.fill(FRAME.padding, HEADER_BYTES, bytes - TAG_BYTES);
    into[HEADER_BYTES] = FRAME.ping;
    this.#mtu.handleSent();
    return this.#seal(into, bytes - TAG_BYTES, true, {
      pieces: NO_PIECES,
      group: undefined,
      isInGroup: false,
      mtuProbeBytes: bytes,
    });
  }

  #transmitClose(into: Uint8Array): number {
    this.#isCloseDue = false;
    into[HEADER_BYTES] = FRAME.close;
    into[HEADER_BYTES + 1] = closeReasons.indexOf(this.#ended as CloseReason);
    return this.#path.maySend(CONTROL_BYTES)
      ? this.#seal(into, HEADER_BYTES + 2, false, { pieces: NO_PIECES, group: undefined, isInGroup: false })
      : 0;
  }

  /** Heads, seals and remembers the packet whose payload ends at `end`; its length. */
  #seal(
    into: Uint8Array,
    end: number,
    isEliciting: boolean,
    content: {
      readonly pieces: readonly number[];
      readonly group: Group | undefined;
      readonly isInGroup: boolean;
      readonly mtuProbeBytes?: number;
    },
  ): number {
    const now = this.#now;
    const number = this.#flow.nextNumber;
    const epoch = this.#keys.seal();
    if (epoch === undefined) {
      // Without a key there is nothing to say goodbye with.
      this.#fail("key-update");
      this.#isCloseDue = false;
      return 0;
    }
    writeHead(into, this.#options.remoteName, { number, isInGroup: content.isInGroup, epochBit: epoch % 2 });
    this.#options.protection.seal(into, HEADER_BYTES, end, number, epoch);
    const bytes = end + TAG_BYTES;
    const { pieces, group, mtuProbeBytes = 0 } = content;
    this.#flow.handleSent({ bytes, isEliciting, pieces, group, mtuProbeBytes }, now);
    if (isEliciting) this.#askedAt ??= now;
    this.#path.handleSent(bytes);
    this.counters.sentPackets++;
    this.counters.sentBytes += bytes;
    return bytes;
  }

  /** @internal */
  ack(ack: Ack): CloseReason | undefined {
    const now = this.#now;
    const result = this.#flow.handleAck(ack, this.#mtu.bytes, now);
    if (result === undefined) return "ack-unsent";
    const { acked, restored } = result;
    this.#probesDue = 0;
    if (restored > 0) {
      this.counters.restoredPackets += restored;
      this.#redundancy.handleGroup(true, now);
    }
    for (const packet of acked) {
      if (packet.mtuProbeBytes > 0) this.#mtu.handleAcked(packet.mtuProbeBytes);
      this.#sending.handleAcked(packet.pieces);
    }
    this.#redundancy.handlePackets(
      Math.max(0, acked.length - restored),
      this.#flow.isQueueing ? 0 : restored,
    );
    this.#detectLost();
    this.#flow.handleDelivered(result, now);
    return undefined;
  }

  /** @internal */
  data(channel: number, offset: number, bytes: Uint8Array): CloseReason | undefined {
    return this.#receiving.receive(channel, offset, bytes, (next) =>
      this.#events.push({ kind: "data", channel, bytes: next }),
    );
  }

  /** @internal */
  repair(first: number, sources: number, index: number, symbol: Uint8Array): CloseReason | undefined {
    const restored = this.#repairReceiver.handleRepair(first, sources, index, symbol, (number) =>
      this.#received.has(number),
    );
    return this.#takeRestored(restored);
  }

  /** @internal */
  challenge(bytes: Uint8Array): void {
    this.#response = bytes.slice();
  }

  /** @internal */
  response(bytes: Uint8Array): void {
    this.#path.handleResponse(bytes);
  }

  #takeRestored(restored: readonly Restored[]): CloseReason | undefined {
    for (const { number, payload } of restored) {
      if (this.#received.has(number)) continue;
      this.#received.handleRestored(number);
      const fault = readFrames(new ByteReader(payload, 0, payload.length), this.#contentOnly);
      if (typeof fault === "string") return fault;
    }
    return undefined;
  }

  /** Of a restored packet only its content counts: what else it said is old. */
  readonly #contentOnly: FrameSink = {
    ack: () => undefined,
    data: (channel, offset, bytes) => this.data(channel, offset, bytes),
    repair: () => undefined,
    challenge: () => undefined,
    response: () => undefined,
    close: () => undefined,
  };

  #detectLost(): void {
    const now = this.#now;
    for (const packet of this.#flow.takeLost(now)) {
      if (packet.mtuProbeBytes > 0) {
        this.#mtu.handleLost(now);
        continue;
      }
      this.counters.lostPackets++;
      if (!this.#flow.isQueueing) this.#redundancy.handlePackets(0, 1);
      this.#sending.handleLost(packet.pieces);
      this.#judgeGroup(packet);
    }
  }

  /** Content was lost in spite of its group's repairs. */
  #judgeGroup({ group, pieces }: SentPacket): void {
    if (group === undefined || group === this.#failedGroup || pieces.length === 0) return;
    this.#failedGroup = group;
    this.#redundancy.handleGroup(false, this.#now);
  }

  #probe(): void {
    this.counters.probeTimeouts++;
    this.#probesDue = PROBE_PACKETS;
    for (const packet of this.#flow.handleProbeTimeout(PROBE_PACKETS))
      this.#sending.handleLost(packet.pieces);
    this.#mtu.handleProbeTimeout(this.#flow.probes, this.#now);
  }

  /** RFC 9000, section 9.4: another port of the same address is most likely the same path behind another NAT binding. */
  #moved(now: MonotonicMs): void {
    const { remote } = this.#path;
    this.#events.push({ kind: "moved", remote });
    if (hostOf(remote) === hostOf(this.#lastRemote)) return;
    this.#lastRemote = remote;
    this.#flow.handlePathChanged(now);
    this.#mtu.handlePathChanged();
  }

  get #hasContent(): boolean {
    return this.#sending.hasSome || this.#repairs.hasRepair;
  }

  /** Whether window and address let a full packet through. */
  get #hasRoom(): boolean {
    return this.#path.maySend(this.#mtu.bytes) && this.#flow.hasRoom(this.#mtu.bytes);
  }

  #endAt(): MonotonicMs {
    return this.#askedAt === undefined
      ? plusMs(this.#heardAt, IDLE_MS_MAX)
      : plusMs(this.#askedAt, SILENCE_MS_MAX);
  }

  #fail(reason: CloseReason): void {
    this.#ended = reason;
    this.#isCloseDue = true;
    this.#sending.clear();
    this.#receiving.clear();
    this.#events.push({ kind: "closed", reason });
  }
}

const NO_PIECES: readonly number[] = [];

const hostOf = (remote: string): string => remote.slice(0, remote.lastIndexOf(":"));

function writeBytes(into: Uint8Array, at: number, type: number, bytes: Uint8Array): number {
  into[at] = type;
  into.set(bytes.subarray(0, CHALLENGE_BYTES), at + 1);
  return at + 1 + CHALLENGE_BYTES;
}
