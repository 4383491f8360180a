/** The answering end of a UDP carrier: a session of the link protocol on each channel that the client begins with. */
import type { LinkLimits } from "../../core/link/words.ts";
import type { CloseReason } from "../../core/udp/words.ts";
import type { NodePeer } from "../node-trust.ts";
import type { UdpEndpoint, UdpLink } from "../udp/endpoint.ts";
import { type AgreedCarrier, type LinkRequest, LinkServerSession } from "./server-session.ts";
import { UdpChannels } from "./udp-channels.ts";

export interface ServedUdpOptions {
  readonly endpoint: UdpEndpoint;
  readonly secret: Uint8Array;
  readonly node: NodePeer;
  /** From where the client's TLS comes: its datagrams are expected from there, from whatever port. */
  readonly remoteAddress: string;
  readonly limits: LinkLimits;
  readonly handle: (request: LinkRequest) => void;
  readonly onGone: (reason: CloseReason) => void;
}

/** A port that is never sent to: the client's is known by its first packet. */
const PORT_UNKNOWN = 0;

export class ServedUdp implements AgreedCarrier {
  readonly node: NodePeer;
  readonly #link: UdpLink;
  /** By channel. */
  readonly #sessions = new Map<number, LinkServerSession>();
  /** It ends with the last of its sessions. */
  #isLeaving = false;

  private constructor(link: UdpLink, node: NodePeer) {
    this.#link = link;
    this.node = node;
  }

  /** Undefined: there are as many connections as there may be. */
  static open(options: ServedUdpOptions): ServedUdp | undefined {
    const { endpoint, secret, node, remoteAddress, limits, handle, onGone } = options;
    const channels = new UdpChannels({
      onStream: (stream, channel) => {
        const session: LinkServerSession = new LinkServerSession(stream, { node, remoteAddress }, limits, {
          handle,
          onGone: () => served.#handleGone(channel),
        });
        served.#sessions.set(channel, session);
        if (served.#isLeaving) session.announceEnd();
      },
      onClosed: onGone,
    });
    const link = endpoint.open({
      secret,
      role: "server",
      address: remoteAddress,
      port: PORT_UNKNOWN,
      isRemoteValidated: false,
      onEvent: channels.handleEvent,
    });
    if (link === undefined) return undefined;
    channels.link = link;
    const served = new ServedUdp(link, node);
    return served;
  }

  /** Requests that are being answered. */
  get streams(): number {
    let count = 0;
    for (const { connection } of this.#sessions.values()) count += connection.session.streams;
    return count;
  }

  release(channel: number, stream: number): LinkRequest | undefined {
    return this.#sessions.get(channel)?.release(stream);
  }

  /** Nothing new is begun; it ends when all that was begun is answered. */
  announceEnd(): void {
    this.#isLeaving = true;
    for (const session of this.#sessions.values()) session.announceEnd();
    this.#endIfLeft();
  }

  /** The session that it was agreed on is gone. */
  handleTlsGone(): void {
    if (!this.#isLeaving) this.close();
  }

  close(): void {
    this.#link.close();
  }

  #handleGone(channel: number): void {
    this.#sessions.delete(channel);
    this.#endIfLeft();
  }

  #endIfLeft(): void {
    if (this.#isLeaving && this.#sessions.size === 0) this.close();
  }
}
