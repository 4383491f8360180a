/**
 * A path of datagrams that feels the distance: a socket of its own before a server, which hands on both ways after half a round trip, within the link's
 * bandwidth, with its losses and cuts. In order: what is emulated is one queue.
 */
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { isIPv6 } from "node:net";
import type { WanView } from "../wan.ts";

/** What waits for its turn in one direction is at most so long ago, ms: a router's queue, beyond which datagrams are dropped. */
const QUEUE_MS_MAX = 250;

/** One direction: what is on its way, in order. */
class Direction {
  readonly #view: WanView;
  readonly #underWay: { readonly atMs: number; readonly arrive: () => void }[] = [];
  /** When it has sent what was given to it so far. */
  #freeAtMs = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(view: WanView) {
    this.#view = view;
  }

  pass(bytes: number, arrive: () => void): void {
    const { link, isCut } = this.#view.link();
    const nowMs = performance.now();
    const queuedMs = Math.max(0, this.#freeAtMs - nowMs);
    if (isCut || queuedMs > QUEUE_MS_MAX || this.#view.random() < link.lossRatio) return;
    this.#freeAtMs = nowMs + queuedMs + (8 * bytes) / (1_000 * link.bandwidthMbps);
    this.#underWay.push({ atMs: this.#freeAtMs + link.rttMs / 2, arrive });
    this.#wait(nowMs);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#underWay.length = 0;
  }

  #wait(nowMs: number): void {
    const [first] = this.#underWay;
    if (first === undefined) return;
    this.#timer ??= setTimeout(() => this.#arrive(), Math.ceil(Math.max(0, first.atMs - nowMs))).unref();
  }

  #arrive(): void {
    this.#timer = undefined;
    const nowMs = performance.now();
    for (
      let first = this.#underWay[0];
      first !== undefined && first.atMs <= nowMs;
      first = this.#underWay[0]
    ) {
      this.#underWay.shift();
      // What was on its way when the link was cut is lost.
      if (!this.#view.link().isCut) first.arrive();
    }
    this.#wait(nowMs);
  }
}

export class ShapedPath {
  /** The side of the client, and that of the server. */
  readonly #near: Socket;
  readonly #far: Socket;
  readonly #to: { readonly address: string; readonly port: number };
  readonly #up: Direction;
  readonly #down: Direction;
  #client: { readonly address: string; readonly port: number } | undefined;
  #isClosed = false;

  private constructor(view: WanView, near: Socket, far: Socket, to: { address: string; port: number }) {
    this.#up = new Direction(view);
    this.#down = new Direction(view);
    this.#near = near;
    this.#far = far;
    this.#to = to;
    near.on("message", (datagram, client) => {
      this.#client = client;
      this.#up.pass(datagram.byteLength, () => far.send(datagram, this.#to.port, this.#to.address, ignore));
    });
    far.on("message", (datagram) => {
      this.#down.pass(datagram.byteLength, () => {
        if (this.#client !== undefined) near.send(datagram, this.#client.port, this.#client.address, ignore);
      });
    });
    for (const socket of [near, far]) socket.on("error", ignore).unref();
  }

  static async open(view: WanView, address: string, port: number): Promise<ShapedPath> {
    const isV6 = isIPv6(address);
    const [near, far] = await Promise.all([
      bound(isV6, isV6 ? "::1" : "127.0.0.1"),
      bound(isV6, isV6 ? "::" : "0.0.0.0"),
    ]);
    return new ShapedPath(view, near, far, { address, port });
  }

  /** What a client sends to in place of the server. */
  get near(): { readonly address: string; readonly port: number } {
    const { address, port } = this.#near.address();
    return { address, port };
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#up.stop();
    this.#down.stop();
    this.#near.close();
    this.#far.close();
  }
}

const ignore = (): void => {};

async function bound(isV6: boolean, address: string): Promise<Socket> {
  const socket = createSocket(isV6 ? "udp6" : "udp4");
  const listening = once(socket, "listening");
  socket.bind(0, address);
  await listening;
  return socket;
}
