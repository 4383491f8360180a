/** Asks the other name servers of the deployment what they answer, for the one that stands in for them. */
import { createSocket, type Socket } from "node:dgram";
import { randomInt } from "node:crypto";
import { isIPv6 } from "node:net";
import { type Clock, type LivenessProbe, nameFromText } from "#kit";
import type { Logger } from "#kit/io";
import { dnsTypes, rcodes } from "../core/dns/constants.ts";
import { queryMessage } from "../core/dns/message.ts";
import { canariesOf, StandIn } from "../core/dns/stand-in.ts";
import { readMessage, writeMessage } from "../core/dns/wire.ts";

export interface OtherNameServer {
  readonly serverId: string;
  readonly address: string;
  readonly dnsPort: number;
}

export class StandInProber {
  readonly #standIn: StandIn;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #onChange: (isStandingBy: boolean, mayTake: boolean) => void;
  readonly #names: () => readonly string[];
  #others = new Map<string, OtherNameServer>();
  #timer: NodeJS.Timeout | undefined;
  #turn = 0;
  #isStandingBy = false;
  #mayTake = true;
  #isClosed = false;

  /**
   * @param options.names host names that this server has an address for
   * @param options.onChange told whether it has to keep silent, and whether what waits may come into force
   */
  constructor(options: {
    readonly clock: Clock;
    readonly logger: Logger;
    readonly names: () => readonly string[];
    readonly delayMs: number;
    readonly onChange: (isStandingBy: boolean, mayTake: boolean) => void;
  }) {
    this.#standIn = new StandIn(options.delayMs);
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#names = options.names;
    this.#onChange = options.onChange;
  }

  setOthers(others: readonly OtherNameServer[]): void {
    this.#others = new Map(others.map((one) => [one.serverId, one]));
    this.#standIn.setOthers([...this.#others.keys()], this.#clock.monotonic());
    this.#next();
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  #next(): void {
    if (this.#isClosed) return;
    const now = this.#clock.monotonic();
    for (let probe = this.#standIn.pollTransmit(now); probe; probe = this.#standIn.pollTransmit(now))
      void this.#probe(probe);
    const { isStandingBy } = this.#standIn;
    const mayTake = this.#standIn.mayTake(now);
    const others = [...this.#others.keys()];
    if (isStandingBy !== this.#isStandingBy)
      this.#logger.warn(isStandingBy ? "dns-stands-by" : "dns-stands-in", { others });
    if (mayTake !== this.#mayTake)
      this.#logger.warn(mayTake ? "dns-takes-documents" : "dns-takes-no-documents", { others });
    if (isStandingBy !== this.#isStandingBy || mayTake !== this.#mayTake) {
      this.#isStandingBy = isStandingBy;
      this.#mayTake = mayTake;
      this.#onChange(isStandingBy, mayTake);
    }
    clearTimeout(this.#timer);
    const dueAt = this.#standIn.pollTimeout(now);
    if (dueAt === undefined) return;
    this.#timer = setTimeout(
      () => {
        this.#standIn.handleTimeout(this.#clock.monotonic());
        this.#next();
      },
      Math.max(1, Math.ceil(dueAt - now)),
    );
  }

  async #probe({ id, probeId, timeoutMs }: LivenessProbe): Promise<void> {
    const other = this.#others.get(id);
    const names = canariesOf(this.#names(), this.#turn++);
    const answered = other === undefined ? 0 : await askFor(names, other, timeoutMs);
    this.#standIn.handleAnswers(probeId, names.length, answered, this.#clock.monotonic());
    this.#next();
  }
}

/** How many of the names got an address. Never rejects. */
async function askFor(names: readonly string[], other: OtherNameServer, timeoutMs: number): Promise<number> {
  const socket = createSocket(isIPv6(other.address) ? "udp6" : "udp4");
  const good = new Set<number>();
  const firstId = randomInt(0x8000);
  const done = Promise.withResolvers<void>();
  const timer = setTimeout(done.resolve, timeoutMs);
  let heard = 0;
  socket.on("error", () => done.resolve());
  socket.on("message", (bytes, from) => {
    const read = readMessage(bytes);
    if (!read.ok || from.port !== other.dnsPort || !read.message.header.isResponse) return;
    const { header, answers } = read.message;
    if (header.rcode === rcodes.NOERROR && answers.some(({ data }) => data.kind === "address"))
      good.add(header.id - firstId);
    if (++heard >= names.length) done.resolve();
  });
  for (const [n, name] of names.entries()) send(socket, firstId + n, name, other);
  await done.promise;
  clearTimeout(timer);
  socket.close();
  return [...good].filter((n) => n >= 0 && n < names.length).length;
}

function send(socket: Socket, id: number, text: string, { address, dnsPort }: OtherNameServer): void {
  const name = nameFromText(text);
  const bytes =
    name &&
    writeMessage(queryMessage({ id, name, type: dnsTypes.A, isRecursionDesired: false, edns: undefined }));
  if (bytes !== undefined) socket.send(bytes, dnsPort, address, () => {});
}
