/** What the workers of one server tell each other of prefetched objects: a use counts whichever of them sees it, and none asks for what another has asked for. */

/** Names as core/prefetch/sequence.ts gives them. */
export interface PrefetchNews {
  readonly issued: readonly string[];
  /** Objects of other workers' that a client asked for here. */
  readonly used: readonly string[];
}

/** Gathered for so long, ms: a client that reads a name asks a round trip later at the earliest. */
const GATHER_MS = 5;
/** Names of one message; what is beyond is dropped, and a use of it may go uncounted. */
const NAMES_MAX = 500;

export class PrefetchNewsLine {
  readonly #send: (news: PrefetchNews) => void;
  #issued: string[] = [];
  #used: string[] = [];
  #timer: NodeJS.Timeout | undefined;
  dropped = 0;

  constructor(send: (news: PrefetchNews) => void) {
    this.#send = send;
  }

  tell(what: keyof PrefetchNews, name: string): void {
    if (this.#issued.length + this.#used.length >= NAMES_MAX) {
      this.dropped++;
      return;
    }
    (what === "issued" ? this.#issued : this.#used).push(name);
    this.#timer ??= setTimeout(() => {
      const news = { issued: this.#issued, used: this.#used };
      this.close();
      this.#send(news);
    }, GATHER_MS).unref();
  }

  /** What was not sent is let go. */
  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#issued = [];
    this.#used = [];
  }
}
