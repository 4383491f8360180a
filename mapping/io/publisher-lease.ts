/** Carries the election's requests to control and its timer: the driver of core/publisher-election.ts. */
import type { ControlClient } from "#control";
import type { Clock } from "#kit";
import type { Logger } from "#kit/io";
import { type ElectionEvent, type ElectionRequest, PublisherElection } from "../core/publisher-election.ts";

export interface PublisherLeaseOptions {
  readonly client: Pick<ControlClient, "lease">;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly holderId: string;
  readonly onEvent: (event: ElectionEvent) => void;
}

export class PublisherLease {
  readonly election: PublisherElection;
  readonly #options: PublisherLeaseOptions;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: PublisherLeaseOptions) {
    this.#options = options;
    this.election = new PublisherElection(options.holderId);
  }

  /** There is a map to publish. */
  handleReady(): void {
    this.election.handleReady(this.#now);
    this.#turn();
  }

  handleSeenTerm(term: number): void {
    this.election.handleSeenTerm(term, this.#now);
    this.#turn();
  }

  handleFenced(term: number): void {
    this.election.handleFenced(term, this.#now);
    this.#turn();
  }

  /** Gives the place back. Resolves when control has answered, or has been given up on. */
  async drain(timeoutMs: number): Promise<void> {
    this.election.handleDrain(this.#now);
    this.#report();
    const request = this.election.pollTransmit(this.#now);
    this.#isClosed = true;
    clearTimeout(this.#timer);
    if (request === undefined) return;
    const given = Promise.withResolvers<void>();
    const timer = setTimeout(given.resolve, timeoutMs);
    await Promise.race([this.#send(request), given.promise]);
    clearTimeout(timer);
  }

  get #now() {
    return this.#options.clock.monotonic();
  }

  #turn(): void {
    if (this.#isClosed) return;
    const { election } = this;
    election.handleTimeout(this.#now);
    this.#report();
    for (
      let one = election.pollTransmit(this.#now);
      one !== undefined;
      one = election.pollTransmit(this.#now)
    )
      void this.#send(one);
    clearTimeout(this.#timer);
    const dueAt = election.pollTimeout();
    if (dueAt === undefined) return;
    this.#timer = setTimeout(() => this.#turn(), Math.max(1, Math.ceil(dueAt - this.#now)));
  }

  #report(): void {
    for (let event = this.election.pollEvent(); event !== undefined; event = this.election.pollEvent()) {
      this.#options.logger.info(`publisher-${event.type}`, { ...event });
      this.#options.onEvent(event);
    }
  }

  /** Never rejects. */
  async #send({ number, ...request }: ElectionRequest): Promise<void> {
    const { client, logger } = this.#options;
    try {
      const answer = await client.lease("map", { ...request, preempts: false, note: "" });
      this.election.handleAnswer(number, answer, this.#now);
    } catch (error) {
      logger.debug("lease-not-answered", { action: request.action, term: request.term, error });
      this.election.handleUnanswered(number, this.#now);
    }
    this.#turn();
  }
}
