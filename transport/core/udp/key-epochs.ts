/**
 * Under which key a packet is sealed: RFC 9001, section 6. Keys have a number, their epoch; a packet shows its lowest bit. A side goes on to the next epoch
 * when it has sealed much under the present one, and the other has used that; whoever reads a packet of the next epoch follows.
 */
import { SEALED_PACKETS_MAX } from "./words.ts";

export class KeyEpochs {
  readonly #sealedMax: number;
  #epoch = 0;
  /** The lowest packet number that came under it. Infinity: none did. */
  #firstNumber = 0;
  #sealed = 0;

  /** `sealedMax`: packets under one key, after half of which the next one is begun. */
  constructor(sealedMax: number = SEALED_PACKETS_MAX) {
    this.#sealedMax = sealedMax;
  }

  get epoch(): number {
    return this.#epoch;
  }

  /** The epoch that a packet is read under; it is believed when the packet is authentic. */
  epochOf(number: number, epochBit: number): number {
    if (epochBit === this.#epoch % 2) return this.#epoch;
    return this.#epoch > 0 && number < this.#firstNumber ? this.#epoch - 1 : this.#epoch + 1;
  }

  handleOpened(number: number, epoch: number): void {
    if (epoch > this.#epoch) {
      this.#epoch = epoch;
      this.#firstNumber = number;
      this.#sealed = 0;
    } else if (epoch === this.#epoch) this.#firstNumber = Math.min(this.#firstNumber, number);
  }

  /** The epoch of the next packet to be sealed. Undefined: the key is used up, and the other side does not follow. */
  seal(): number | undefined {
    const isUsed = this.#firstNumber !== Number.POSITIVE_INFINITY;
    if (this.#sealed >= this.#sealedMax / 2 && isUsed) {
      this.#epoch++;
      this.#firstNumber = Number.POSITIVE_INFINITY;
      this.#sealed = 0;
    }
    if (this.#sealed >= this.#sealedMax) return undefined;
    this.#sealed++;
    return this.#epoch;
  }
}
