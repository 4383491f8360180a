/** What is under way on a path, and how fast more may leave: loss detection, delivery rate, congestion control and pace, told together of what leaves, comes and is lost. */
import type { MonotonicMs } from "#kit";
import { Bbr } from "./bbr.ts";
import { type CongestionControl, INITIAL_PACKETS } from "./congestion.ts";
import { Cubic } from "./cubic.ts";
import { DeliveryRate } from "./delivery-rate.ts";
import { type AckResult, LossDetection, type SentPacket } from "./loss-detection.ts";
import type { Ack } from "./packet.ts";
import { Pacer } from "./pacer.ts";
import { DATAGRAM_BYTES_MIN } from "./words.ts";

/** What an acknowledgement brought. */
export interface FlowAck extends AckResult {
  /** Under way before it. */
  readonly priorInFlightBytes: number;
  /** Of what it acknowledged, lost by the path all the same. */
  readonly restoredBytes: number;
}

export class Flow {
  readonly #control: "bbr" | "cubic";
  readonly #loss = new LossDetection();
  readonly #rate: DeliveryRate;
  #congestion: CongestionControl;
  #pacer: Pacer;

  constructor(control: "bbr" | "cubic", now: MonotonicMs) {
    this.#control = control;
    this.#rate = new DeliveryRate(now);
    this.#congestion = newCongestion(control);
    this.#pacer = newPacer(now);
  }

  get nextNumber(): number {
    return this.#loss.nextNumber;
  }
  /** Packets whose fate is not known. */
  get packetsInFlight(): number {
    return this.#loss.packetsInFlight;
  }
  get srttMs(): number {
    return this.#loss.srttMs;
  }
  get hasRtt(): boolean {
    return this.#loss.hasRtt;
  }
  /** RFC 9002, section 6.2.1, ms. */
  get probeTimeoutMs(): number {
    return this.#loss.probeTimeoutMs;
  }
  /** Probe timeouts in a row without an acknowledgement. */
  get probes(): number {
    return this.#loss.probes;
  }
  /** What is lost now found no room in a queue of our own. */
  get isQueueing(): boolean {
    return this.#congestion.isQueueing;
  }
  /** What the pace lets through in so many round trips, bytes. */
  pacedBytes(roundTrips: number): number {
    return roundTrips * this.#congestion.pacingRate * this.#loss.srttMs;
  }

  /** Whether the window lets so many bytes through. */
  hasRoom(bytes: number): boolean {
    return this.#loss.bytesInFlight + bytes <= this.#congestion.windowBytes;
  }

  /** When the pace lets the next packet through. */
  paceAt(now: MonotonicMs): MonotonicMs {
    return this.#pacer.readyAt(this.#congestion.pacingRate, this.#loss.srttMs, now);
  }

  /** A packet could leave now. `hasContent`: there is something; `hasRoom`: the window would let it. */
  handleTurn(hasContent: boolean, hasRoom: boolean): void {
    if (!hasContent) this.#pacer.handleIdle();
    // An end that comes late sends less than the path takes, as one does that has nothing more.
    if (this.#pacer.takeLate() || (!hasContent && hasRoom))
      this.#rate.handleAppLimited(this.#loss.bytesInFlight);
  }

  /** Packet {@link nextNumber} leaves. */
  handleSent(
    packet: Pick<SentPacket, "bytes" | "isEliciting" | "pieces" | "group" | "mtuProbeBytes">,
    now: MonotonicMs,
  ): void {
    const { nextNumber: number, bytesInFlight } = this.#loss;
    this.#loss.handleSent({ ...packet, number, sentAt: now, ...this.#rate.stamp(bytesInFlight, now) });
    if (packet.isEliciting) this.#pacer.handleSent(packet.bytes);
  }

  /** Undefined: it acknowledges what never left. Then {@link takeLost} and {@link handleDelivered} are to be called. `datagramBytes`: of one packet, about. */
  handleAck(ack: Ack, datagramBytes: number, now: MonotonicMs): FlowAck | undefined {
    const priorInFlightBytes = this.#loss.bytesInFlight;
    const result = this.#loss.handleAck(ack, now);
    if (result === undefined) return undefined;
    const restoredBytes = result.restored * datagramBytes;
    if (restoredBytes > 0)
      this.#congestion.handleLoss(restoredBytes, result.acked.at(-1)?.sentAt ?? now, now);
    return { ...result, priorInFlightBytes, restoredBytes };
  }

  handleDelivered({ acked, rttMs, priorInFlightBytes, restoredBytes }: FlowAck, now: MonotonicMs): void {
    const newest = acked.at(-1);
    if (newest === undefined) return;
    const deliveryRate = this.#rate.handleAcked(acked, restoredBytes, rttMs, now);
    this.#congestion.handleAck(
      {
        ackedBytes: acked.reduce((sum, { bytes }) => sum + bytes, 0),
        priorInFlightBytes,
        inFlightBytes: this.#loss.bytesInFlight,
        rttMs,
        srttMs: this.#loss.srttMs,
        deliveredBytes: this.#rate.deliveredBytes,
        priorDeliveredBytes: newest.deliveredBytes,
        deliveryRate,
        isAppLimited: newest.isAppLimited && !this.#rate.isPathLimited,
      },
      now,
    );
  }

  /** Packets that are to be held for lost now. `isQueueing` says of them what it said before. */
  takeLost(now: MonotonicMs): readonly SentPacket[] {
    const lost = this.#loss.takeLost(now);
    let bytes = 0;
    // A datagram that was too large tells of the path's MTU alone.
    for (const packet of lost) if (packet.mtuProbeBytes === 0) bytes += packet.bytes;
    if (bytes > 0) this.#congestion.handleLoss(bytes, (lost.at(-1) as SentPacket).sentAt, now);
    if (this.#loss.takePersistentCongestion(lost)) this.#congestion.handlePersistentCongestion(now);
    return lost;
  }

  isProbeDue(now: MonotonicMs): boolean {
    return this.#loss.isProbeDue(now);
  }

  /** The packets that `count` probes are to carry again. */
  handleProbeTimeout(count: number): readonly SentPacket[] {
    return this.#loss.handleProbeTimeout(count);
  }

  /** When {@link takeLost} or a probe is due. */
  pollTimeout(): MonotonicMs | undefined {
    return this.#loss.pollTimeout();
  }

  /** Another path: nothing is known of it. */
  handlePathChanged(now: MonotonicMs): void {
    this.#loss.handlePathChanged();
    this.#congestion = newCongestion(this.#control);
    this.#pacer = newPacer(now);
  }
}

const newCongestion = (control: "bbr" | "cubic"): CongestionControl =>
  control === "cubic" ? new Cubic(DATAGRAM_BYTES_MIN) : new Bbr(DATAGRAM_BYTES_MIN);

const newPacer = (now: MonotonicMs): Pacer => new Pacer(INITIAL_PACKETS * DATAGRAM_BYTES_MIN, now);
