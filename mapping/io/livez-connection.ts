/**
 * One kept connection over which a server is asked for /livez, time after time. No client of HTTP at large: one fixed request, and of the
 * answer what `parseLivezAnswer` reads. Name servers and mappers ask every edge server twice a second; undici took 0.5 ms of CPU
 * time for each (`npm run bench -- dns`).
 */
import type { Duplex } from "node:stream";
import type { ServerEntry } from "#kit";
import { parseLivezAnswer } from "../core/livez-answer.ts";

/** Opens a connection; `dial` of #transport, so that the probes feel the links of an emulated world. */
export type ProbeDial = (target: {
  readonly host: string;
  readonly port: number;
  readonly timeoutMs: number;
}) => Promise<Duplex>;

export class LivezConnection {
  readonly server: Pick<ServerEntry, "address" | "port">;
  readonly #dial: ProbeDial;
  readonly #request: string;
  #stream: Duplex | undefined;
  /** Who waits for an answer. */
  #told: ((isOk: boolean) => void) | undefined;
  #received = "";

  constructor(server: Pick<ServerEntry, "address" | "port">, dial: ProbeDial) {
    this.server = server;
    this.#dial = dial;
    const host = server.address.includes(":") ? `[${server.address}]` : server.address;
    this.#request = `GET /livez HTTP/1.1\r\nHost: ${host}:${server.port}\r\n\r\n`;
  }

  /**
   * Asks; whoever asked before and has no answer yet is told nothing more.
   *
   * @param timeoutMs for a connection where one has to be opened; how long an answer may take decides who asks, by asking again
   */
  ask(timeoutMs: number, told: (isOk: boolean) => void): void {
    if (this.#told !== undefined) this.close();
    this.#told = told;
    if (this.#stream === undefined) void this.#open(timeoutMs, told);
    else this.#stream.write(this.#request, "latin1");
  }

  /** Whoever waits is told nothing more. The next question opens another connection. */
  close(): void {
    this.#stream?.destroy();
    this.#stream = undefined;
    this.#told = undefined;
    this.#received = "";
  }

  async #open(timeoutMs: number, told: (isOk: boolean) => void): Promise<void> {
    const { address, port } = this.server;
    let stream: Duplex;
    try {
      stream = await this.#dial({ host: address, port, timeoutMs });
    } catch {
      if (this.#told === told) this.#settle(false, false);
      return;
    }
    // "close" follows.
    stream.on("error", () => {});
    if (this.#told !== told) {
      stream.destroy();
      return;
    }
    this.#stream = stream;
    const handleEnd = (): void => {
      if (this.#stream === stream) this.#settle(false, false);
    };
    stream.on("end", handleEnd);
    stream.on("close", handleEnd);
    stream.on("data", (piece: Buffer) => {
      if (this.#stream === stream) this.#read(piece);
    });
    stream.write(this.#request, "latin1");
  }

  #read(piece: Buffer): void {
    this.#received += piece.toString("latin1");
    const answer = parseLivezAnswer(this.#received);
    // What comes unasked leaves nothing to go by.
    if (answer !== undefined) this.#settle(answer.isOk, answer.mayStay && this.#told !== undefined);
  }

  /** Whoever is told may ask again at once. */
  #settle(isOk: boolean, mayStay: boolean): void {
    const told = this.#told;
    this.#told = undefined;
    this.#received = "";
    if (!mayStay) this.close();
    told?.(isOk);
  }
}
