/** The channels of a UDP connection as streams, so that a session of the link protocol goes over one as it goes over TLS. */
import { Duplex } from "node:stream";
import type { CloseReason, UdpEvent } from "../../core/udp/words.ts";
import type { UdpLink } from "../udp/endpoint.ts";

/** How often a stream that ends looks whether all of it has come, ms. */
const DELIVERY_LOOK_MS = 10;

type Written = (error?: Error | null) => void;

/** Nobody may hold its reader up for long: the stream layer above has windows, and reads at once. */
export class ChannelStream extends Duplex {
  readonly #link: UdpLink;
  readonly #channel: number;
  #onWritable: Written | undefined;
  #look: NodeJS.Timeout | undefined;

  constructor(link: UdpLink, channel: number) {
    super({ writableHighWaterMark: 65_536 });
    this.#link = link;
    this.#channel = channel;
  }

  override _read(): void {}

  override _write(bytes: Buffer, _encoding: string, done: Written): void {
    this.#link.send(this.#channel, bytes);
    if (this.#link.isWritable(this.#channel)) done();
    else this.#onWritable = done;
  }

  /** What has not come is not out of our hands yet: who ends after this may close the connection. */
  override _final(done: Written): void {
    if (this.#link.isDelivered(this.#channel)) done();
    else this.#look = setTimeout(() => this._final(done), DELIVERY_LOOK_MS);
  }

  override _destroy(error: Error | null, done: Written): void {
    clearTimeout(this.#look);
    this.#onWritable = undefined;
    done(error);
  }

  handleWritable(): void {
    const done = this.#onWritable;
    this.#onWritable = undefined;
    done?.();
  }
}

export interface UdpChannelsUser {
  /** The other side has begun with a channel. Undefined: it must not. */
  readonly onStream?: ((stream: Duplex, channel: number) => void) | undefined;
  /** The connection is over; its streams are destroyed. */
  readonly onClosed: (reason: CloseReason) => void;
}

export class UdpChannels {
  /** Undefined: the channel is over, and what comes on it is read over. */
  readonly #streams = new Map<number, ChannelStream | undefined>();
  readonly #user: UdpChannelsUser;
  #link: UdpLink | undefined;
  /** Channels that were ever used. */
  #used = 0;

  constructor(user: UdpChannelsUser) {
    this.#user = user;
  }

  /** The connection: given once, before anything can have happened on it. */
  set link(link: UdpLink) {
    this.#link = link;
  }

  get used(): number {
    return this.#used;
  }

  readonly handleEvent = (event: UdpEvent): void => {
    if (event.kind === "data") {
      const stream = this.#streams.has(event.channel)
        ? this.#streams.get(event.channel)
        : this.#begun(event.channel);
      stream?.push(event.bytes);
    } else if (event.kind === "writable") this.#streams.get(event.channel)?.handleWritable();
    else if (event.kind === "closed") {
      for (const stream of this.#streams.values()) stream?.destroy();
      this.#user.onClosed(event.reason);
    }
  };

  /** Begins with the next channel that was not used. */
  open(): Duplex {
    return this.#open(this.#used);
  }

  #begun(channel: number): ChannelStream | undefined {
    if (this.#user.onStream === undefined) return undefined;
    const stream = this.#open(channel);
    this.#user.onStream(stream, channel);
    return stream;
  }

  #open(channel: number): ChannelStream {
    const stream = new ChannelStream(this.#link as UdpLink, channel);
    this.#streams.set(channel, stream);
    this.#used++;
    stream.once("close", () => this.#streams.set(channel, undefined));
    return stream;
  }
}
