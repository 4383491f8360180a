/**
 * The HTTP/1.1 server: listens, gives each connection to the flat path (http1/connection.ts), which hands what it does not
 * read to node:http's parser (http1/node-front.ts), or to the links of servers of ours (link/link-front.ts), watches over time limits,
 * and drains.
 */
import type { Socket } from "node:net";
import { beginsHandshake } from "#transport";
import type { HotServed } from "./access-recorder.ts";
import { Dispatcher, type DispatcherOptions } from "./dispatch.ts";
import type { HotTable } from "./hot-table.ts";
import { Http1Connection, type Http1Context } from "./http1/connection.ts";
import { NodeFront } from "./http1/node-front.ts";
import { LinkFront, type LinkFrontOptions } from "./link/link-front.ts";
import { type ListenHandle, Listeners } from "./listening.ts";
import type { SocketReads } from "./socket-reads.ts";
import { sharedRing } from "./uring/shared-ring.ts";

export interface EdgeServerOptions extends DispatcherOptions {
  /** Host of HTTP/1.0 requests that state none; undefined: they are refused. */
  readonly hostWhenAbsent?: string | undefined;
  /** Hits remembered as bytes; undefined: each request is decided. */
  readonly hot?: (() => HotTable | undefined) | undefined;
  /** A hit from the hot table was answered: what `onServed` is for the others. */
  readonly onServedHot?: ((hit: HotServed) => void) | undefined;
  /** Who servers of ours prove to be by link; undefined: none is spoken here. */
  readonly link?: Pick<LinkFrontOptions, "trust" | "mayCome"> | undefined;
  /** Every connection goes to node:http's parser: for tests that compare the two ways. */
  readonly isFlatPathOff?: boolean | undefined;
}

/** From one look at time limits to the next, ms. */
const SWEEP_MS = 500;
/** How long a drain waits for the rest of a connection's head, ms. */
const DRAIN_HEAD_MS = 1_000;

export class EdgeServer {
  readonly #options: EdgeServerOptions;
  readonly #listeners: Listeners;
  readonly #dispatcher: Dispatcher;
  readonly #nodeFront: NodeFront;
  readonly #linkFront: LinkFront | undefined;
  readonly #connections = new Set<Http1Connection>();
  readonly #context: Http1Context;
  readonly #sweeper: NodeJS.Timeout;
  #isDraining = false;
  #isClosingIdle = false;
  #onEmpty: (() => void) | undefined;

  constructor(options: EdgeServerOptions) {
    this.#options = options;
    this.#dispatcher = new Dispatcher(options);
    const { settings, clock, metrics, logger } = options;
    this.#listeners = new Listeners(
      (socket, reads) => this.#accepted(socket, reads),
      false,
      // Only hits leave through the ring: one for admin addresses would be memory for nothing.
      settings.ioUring !== "off" && options.hot !== undefined && options.isFlatPathOff !== true
        ? () => sharedRing(metrics, logger)
        : undefined,
    );
    const dispatcher = this.#dispatcher;
    const isDraining = (): boolean => this.#isDraining;
    this.#nodeFront = new NodeFront({
      dispatcher,
      settings,
      clock,
      metrics,
      logger,
      hostWhenAbsent: options.hostWhenAbsent,
      isDraining,
      isClosingIdle: () => this.#isClosingIdle,
    });
    this.#linkFront =
      options.link &&
      new LinkFront({
        ...options.link,
        dispatcher,
        settings,
        clock,
        metrics,
        logger,
        onGone: () => this.#checkEmpty(),
      });
    this.#context = {
      dispatcher,
      settings,
      clock,
      metrics,
      logger,
      hot: options.hot ?? none,
      onServedHot: options.onServedHot,
      isDraining,
      isOther: (rest) => this.#linkFront !== undefined && beginsHandshake(rest),
      handOver: (socket, rest) => this.#handOver(socket, rest),
      onGone: (connection) => {
        this.#connections.delete(connection);
        this.#checkEmpty();
      },
    };
    this.#sweeper = setInterval(() => {
      const now = clock.monotonic();
      for (const connection of this.#connections) connection.sweep(now);
      this.#nodeFront.sweep(now);
    }, SWEEP_MS);
    this.#sweeper.unref();
  }

  /** What other protocols answer through, so that all requests count as one. */
  get dispatcher(): Dispatcher {
    return this.#dispatcher;
  }
  get hot(): () => HotTable | undefined {
    return this.#context.hot;
  }
  get onServedHot(): ((hit: HotServed) => void) | undefined {
    return this.#options.onServedHot;
  }
  /** Requests that are being answered. */
  get active(): number {
    return this.#dispatcher.active;
  }
  /** Open connections. */
  get connections(): number {
    return this.#connections.size + this.#nodeFront.connections + (this.#linkFront?.connections ?? 0);
  }
  get isDraining(): boolean {
    return this.#isDraining;
  }

  /** Ends the links of servers that may not come any more. */
  recheckLinks(): void {
    this.#linkFront?.recheck();
  }

  /** Offers links by UDP too, beside the TCP port that they come to. Never rejects. */
  async openLinkUdp(host: string, tcpPort: number): Promise<void> {
    await this.#linkFront?.openUdp(host, tcpPort);
  }

  /** Takes a connection: one that was accepted, or one whose handshake (TLS) is done. It must allow to be half open. */
  accept(socket: Socket, reads?: SocketReads): void {
    if (this.#options.isFlatPathOff === true) this.#handOver(socket, Buffer.alloc(0));
    else this.#connections.add(new Http1Connection(this.#context, socket, reads));
  }

  /** Listens and resolves with the port. Rejects with IsochroneError that says what to do. */
  async listen(host: string, port: number): Promise<number> {
    return await this.#listeners.open(host, port);
  }

  /** The sockets that it accepts from. */
  get sockets(): readonly ListenHandle[] {
    return this.#listeners.handles;
  }

  /** Accepts from a socket that was bound elsewhere, beside those that it listens on already. */
  async listenOn(handle: ListenHandle): Promise<void> {
    await this.#listeners.add(handle);
  }

  /** Stops accepting from a socket and lets go of it. */
  stopListening(handle: ListenHandle): void {
    this.#listeners.remove(handle);
  }

  #accepted(socket: Socket, reads: SocketReads | undefined): void {
    const { settings, metrics } = this.#options;
    if (this.connections >= settings.connectionsMax) {
      metrics.refused("connections");
      socket.destroy();
    } else this.accept(socket, reads);
  }

  /**
   * Stops taking connections and lets requests in flight finish; each answer says Connection: close. Connections that
   * idle may send one more request for `idleMs`: 0 when no other process takes their clients, so that they are closed at
   * once; a long time when a successor does, since a client that never retries loses what it sends into a closing
   * connection. Resolves when nothing is left or `drainTimeoutMs` is over; what is left then is cut. Returns how many
   * requests were cut.
   */
  async drain(idleMs = 0): Promise<number> {
    this.#isDraining = true;
    const { drainNoticeMs, drainTimeoutMs } = this.#options.settings;
    if (drainNoticeMs > 0 && idleMs === 0) await delay(drainNoticeMs);
    this.#listeners.close();
    // Its clients take nothing that was not begun with for lost: they need no time.
    this.#linkFront?.drain();
    const timers: NodeJS.Timeout[] = [];
    const empty = new Promise<void>((resolve) => {
      this.#onEmpty = resolve;
    });
    const closeIdle = (): void => {
      this.#isClosingIdle = true;
      for (const connection of this.#connections) connection.closeIfIdle();
      this.#nodeFront.closeIdle();
      // Half a head gets a moment.
      timers.push(
        setTimeout(() => {
          for (const connection of this.#connections) connection.destroyIfUnbegun();
          this.#nodeFront.destroyUnbegun();
        }, DRAIN_HEAD_MS),
      );
    };
    if (idleMs === 0) closeIdle();
    else timers.push(setTimeout(closeIdle, idleMs));
    this.#checkEmpty();
    await Promise.race([
      Promise.all([empty, this.#dispatcher.idle()]),
      new Promise<void>((resolve) => {
        timers.push(setTimeout(resolve, Math.max(drainTimeoutMs, idleMs)));
      }),
    ]);
    for (const timer of timers) clearTimeout(timer);
    clearInterval(this.#sweeper);
    const cut = this.active;
    for (const connection of this.#connections) connection.destroy();
    this.#linkFront?.destroy();
    this.#nodeFront.destroyAll();
    this.#nodeFront.close();
    return cut;
  }

  #handOver(socket: Socket, rest: Buffer): void {
    socket.on("error", () => {});
    if (this.#linkFront !== undefined && beginsHandshake(rest)) {
      this.#linkFront.accept(socket, rest);
      return;
    }
    this.#nodeFront.accept(socket, rest);
    socket.once("close", () => this.#checkEmpty());
  }

  #checkEmpty(): void {
    if (this.connections === 0) this.#onEmpty?.();
  }
}

const none = (): undefined => undefined;

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
