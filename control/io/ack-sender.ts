/**
 * Carries acknowledgements of purges to control. While some are on their way, those that come meanwhile wait and go together:
 * a burst of purges costs a few requests, and an acknowledgement waits for one round trip at most.
 */
import type { PurgeAck } from "#kit";
import type { Logger } from "#kit/io";
import { ControlError } from "./control-error.ts";
import type { AckOutcome } from "../core/words.ts";

export interface AckSenderOptions {
  /** Sends a batch; resolves with an outcome for each, rejects with ControlError. */
  readonly send: (acks: readonly PurgeAck[]) => Promise<readonly AckOutcome[]>;
  /** How long to wait before the next try, after so many failed ones, ms. */
  readonly delayMs: (failures: number) => number;
  readonly logger: Logger;
}

/** Requests on their way at once. */
const IN_FLIGHT_MAX = 16;
/** Acknowledgements in one request. */
export const ACKS_MAX = 1_000;
/** Acknowledgements that wait; more are lost, which makes purges look unfinished, and is logged. */
const WAITING_MAX = 100_000;
/** One that is lost makes a purge look unfinished, so it is tried again while the purge may still wait. */
const TRIES_MAX = 4;

interface Waiting {
  readonly ack: PurgeAck;
  readonly settle: (isTaken: boolean) => void;
}

export class AckSender {
  readonly #o: AckSenderOptions;
  #waiting: Waiting[] = [];
  #inFlight = 0;
  #isClosed = false;

  constructor(options: AckSenderOptions) {
    this.#o = options;
  }

  /** False when control has not taken it; never rejects. */
  async send(ack: PurgeAck): Promise<boolean> {
    if (this.#isClosed || this.#waiting.length >= WAITING_MAX) {
      if (!this.#isClosed)
        this.#o.logger.warn("purge-ack-lost", { purgeSeq: ack.purgeSeq, waiting: WAITING_MAX });
      return false;
    }
    return await new Promise<boolean>((resolve) => {
      this.#waiting.push({ ack, settle: resolve });
      this.#next();
    });
  }

  close(): void {
    this.#isClosed = true;
    for (const { settle } of this.#waiting) settle(false);
    this.#waiting = [];
  }

  #next(): void {
    if (this.#inFlight >= IN_FLIGHT_MAX || this.#waiting.length === 0) return;
    const batch = this.#waiting.slice(0, ACKS_MAX);
    this.#waiting = this.#waiting.slice(ACKS_MAX);
    this.#inFlight++;
    void this.#carry(batch).finally(() => {
      this.#inFlight--;
      this.#next();
    });
  }

  async #carry(batch: readonly Waiting[]): Promise<void> {
    const acks = batch.map(({ ack }) => ack);
    const purgeSeqs = `${acks[0]?.purgeSeq} to ${acks.at(-1)?.purgeSeq}`;
    for (let tried = 0; tried < TRIES_MAX && !this.#isClosed; tried++) {
      try {
        const outcomes = await this.#o.send(acks);
        for (const [index, { ack, settle }] of batch.entries()) {
          const isTaken = outcomes[index] !== undefined && outcomes[index] !== "unknown";
          if (!isTaken) this.#o.logger.warn("purge-ack-refused", { purgeSeq: ack.purgeSeq });
          settle(isTaken);
        }
        return;
      } catch (error) {
        if (!(error instanceof ControlError) || error.retry !== "safe") {
          this.#o.logger.warn("purge-ack-refused", { purgeSeqs, error });
          for (const { settle } of batch) settle(false);
          return;
        }
        await new Promise((resolve) => setTimeout(resolve, this.#o.delayMs(tried)));
      }
    }
    if (!this.#isClosed) this.#o.logger.warn("purge-ack-lost", { purgeSeqs, tries: TRIES_MAX });
    for (const { settle } of batch) settle(false);
  }
}
