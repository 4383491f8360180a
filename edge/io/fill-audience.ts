/**
 * Who waits for a fill. A fill that was sent belongs to nobody and goes on when they leave, and the limiter hears of it; one that still
 * waits for its place at the next hop is given up when all of them have left: it would be asked for nobody, ahead of those who are there.
 */
import { Stop, type StopSignal } from "#transport";

export class FillAudience {
  readonly #left = new Stop();
  #waiting = 0;
  #isServed = false;

  /** Fires when the last one has left unserved. */
  get signal(): StopSignal {
    return this.#left;
  }

  /** `client` fires when the client has gone. */
  add(client: StopSignal): void {
    this.#waiting++;
    client.addEventListener(
      "abort",
      () => {
        if (--this.#waiting === 0 && !this.#isServed) this.#left.abort(undefined);
      },
      { once: true },
    );
  }

  /** They have an outcome: what is stored, it may be, and the fill goes on to renew it. */
  handleServed(): void {
    this.#isServed = true;
  }
}
