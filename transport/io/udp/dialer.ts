/** UDP connections from this process to servers of ours: one socket for each family of addresses, and the emulated network where one is installed. */
import type { Duplex } from "node:stream";
import { isIP } from "node:net";
import { TLSSocket } from "node:tls";
import type { UdpEvent } from "../../core/udp/words.ts";
import { wanViewOf } from "../wan.ts";
import { UdpEndpoint, type UdpLink } from "./endpoint.ts";
import { exportUdpSecret } from "./packet-keys.ts";
import { ShapedPath } from "./shaped-path.ts";

export interface UdpDialOptions {
  /** The TLS session on which it was agreed, and what tells its keys from all others of that. */
  readonly socket: Duplex;
  readonly context: number;
  /** Of the server, as TLS was dialled: by them the emulated network knows the path. */
  readonly host: string;
  readonly tcpPort: number;
  readonly port: number;
  readonly onEvent: (event: UdpEvent) => void;
}

/** Any address of the machine: the system takes the one that it takes for TCP. */
const ANY = { 4: "0.0.0.0", 6: "::" } as const;

export class UdpDialer {
  readonly #endpoints = new Map<number, Promise<UdpEndpoint>>();
  #isClosed = false;

  /** Undefined: there is no TLS 1.3 below, its other end has no address that is known, or there are too many connections. Rejects when no socket can be had. */
  async open({
    socket,
    context,
    host,
    tcpPort,
    port,
    onEvent,
  }: UdpDialOptions): Promise<UdpLink | undefined> {
    if (!(socket instanceof TLSSocket)) return undefined;
    const secret = exportUdpSecret(socket, context);
    // A connection that is emulated, or goes through something else, does not know its other end.
    const address = socket.remoteAddress ?? host;
    const family = isIP(address);
    if (secret === undefined || (family !== 4 && family !== 6)) return undefined;
    const endpoint = await this.#endpoint(family);
    const view = wanViewOf(address, tcpPort);
    const path = view && (await ShapedPath.open(view, address, port));
    if (this.#isClosed) {
      path?.close();
      return undefined;
    }
    const link = endpoint.open({
      secret,
      role: "client",
      ...(path?.near ?? { address, port }),
      isRemoteValidated: true,
      onEvent: (event) => {
        if (event.kind === "closed") path?.close();
        onEvent(event);
      },
    });
    if (link === undefined) path?.close();
    return link;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const endpoints = [...this.#endpoints.values()];
    this.#endpoints.clear();
    await Promise.allSettled(endpoints.map(async (endpoint) => await (await endpoint).close()));
  }

  async #endpoint(family: 4 | 6): Promise<UdpEndpoint> {
    let endpoint = this.#endpoints.get(family);
    if (endpoint === undefined) {
      endpoint = UdpEndpoint.bind(ANY[family], 0);
      this.#endpoints.set(family, endpoint);
      // Without a socket now there may be one later.
      endpoint.catch(() => this.#endpoints.delete(family));
    }
    return await endpoint;
  }
}
