/**
 * Whether the name server that takes its documents late has to answer: it asks the others as mapping/io/dns-stand-in.ts does, and decides by
 * mapping's core.
 */
import type { IpAddress, LivenessProbe } from "#kit";
import { canariesOf, type StandIn } from "../../mapping/core/dns/stand-in.ts";
import { exchange, type Host } from "./host.ts";

interface Answer {
  readonly serverIds: readonly string[];
}

/** One that it stands in for. */
export interface OtherNameServer {
  readonly host: Host;
  /** For the judge. */
  readonly givesAddresses: boolean;
  readonly harmedForMs: number;
  query(hostname: string, clientAddress: IpAddress, respond: (answer: Answer) => void): void;
}

/** Who asks is no client: an address that no client network has. */
const OWN_ADDRESS: IpAddress = { family: 4, words: [0x7f00_0001] };

export class StandInDuty {
  readonly #host: Host;
  readonly #others: () => readonly OtherNameServer[];
  readonly #hostnames: () => readonly string[];
  readonly #delayMs: number;
  readonly #onChange: (isStandingBy: boolean, mayTake: boolean) => void;
  #standIn: StandIn;
  #isStandingBy = true;
  #mayTake = true;
  #turns = 0;
  #timerAt = Number.POSITIVE_INFINITY;

  /** @param hostnames that this server has an address for */
  constructor(
    host: Host,
    others: () => readonly OtherNameServer[],
    hostnames: () => readonly string[],
    delayMs: number,
    onChange: (isStandingBy: boolean, mayTake: boolean) => void,
  ) {
    this.#host = host;
    this.#others = others;
    this.#hostnames = hostnames;
    this.#delayMs = delayMs;
    this.#onChange = onChange;
    this.#standIn = host.env.cores.standIn(delayMs);
  }

  get isStandingBy(): boolean {
    return this.#isStandingBy;
  }
  get others(): readonly OtherNameServer[] {
    return this.#others();
  }

  start(): void {
    this.#standIn = this.#host.env.cores.standIn(this.#delayMs);
    this.#isStandingBy = true;
    this.#mayTake = true;
    this.#timerAt = Number.POSITIVE_INFINITY;
    this.#standIn.setOthers(
      this.#others().map(({ host }) => host.id),
      this.#host.now,
    );
    this.#turn();
  }

  #turn(): void {
    const standIn = this.#standIn;
    const { now } = this.#host;
    standIn.handleTimeout(now);
    for (let probe = standIn.pollTransmit(now); probe; probe = standIn.pollTransmit(now)) this.#probe(probe);
    const { isStandingBy } = standIn;
    const mayTake = standIn.mayTake(now);
    if (isStandingBy !== this.#isStandingBy || mayTake !== this.#mayTake) {
      this.#isStandingBy = isStandingBy;
      this.#mayTake = mayTake;
      this.#onChange(isStandingBy, mayTake);
    }
    const next = standIn.pollTimeout(now);
    if (next === undefined || next >= this.#timerAt) return;
    this.#timerAt = next;
    this.#host.after(next - now, "stand-in", () => {
      if (this.#timerAt !== next) return;
      this.#timerAt = Number.POSITIVE_INFINITY;
      this.#turn();
    });
  }

  #probe({ id, probeId, timeoutMs }: LivenessProbe): void {
    const standIn = this.#standIn;
    const names = canariesOf(this.#hostnames(), this.#turns++);
    let waiting = names.length;
    let answered = 0;
    const done = (): void => {
      standIn.handleAnswers(probeId, names.length, answered, this.#host.now);
      if (standIn === this.#standIn) this.#turn();
    };
    const other = this.#others().find(({ host }) => host.id === id);
    if (other === undefined || waiting === 0) return done();
    for (const name of names)
      exchange<Answer>({
        from: this.#host,
        to: other.host,
        label: "canary",
        isDatagram: true,
        timeoutMs,
        serve: (respond) => other.query(name, OWN_ADDRESS, respond),
        done: (outcome) => {
          if (outcome.kind === "answer" && outcome.value.serverIds.length > 0) answered++;
          if (--waiting === 0) done();
        },
      });
  }
}
