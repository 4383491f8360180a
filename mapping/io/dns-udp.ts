/** DNS over UDP (RFC 1035 section 4.2.1): datagrams in, datagrams out, no policy. */
import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { isIPv6 } from "node:net";

/** Takes one message and the sender's address as text; undefined: silence. Must not throw. */
export type DnsHandler = (bytes: Uint8Array, address: string) => Uint8Array | undefined;

export interface UdpCounters {
  /** Answers that the system refused to send. */
  sendFailures: number;
  /** Queries from port 0, to which nothing can be sent. */
  unanswerable: number;
}

/** What the kernel may hold while we are busy: about 20,000 queries. Linux caps it at net.core.rmem_max. */
const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024;

/** One UDP socket. With `reusePort` several processes or workers share the port and the kernel spreads the queries. */
export class UdpListener {
  readonly #socket: Socket;
  readonly counters: UdpCounters = { sendFailures: 0, unanswerable: 0 };

  private constructor(socket: Socket, handler: DnsHandler) {
    this.#socket = socket;
    const onSent = (error: Error | null): void => {
      if (error !== null) this.counters.sendFailures++;
    };
    socket.on("message", (bytes: Buffer, from: RemoteInfo) => {
      if (from.port === 0) {
        this.counters.unanswerable++;
        return;
      }
      const answer = handler(bytes, from.address);
      if (answer !== undefined) socket.send(answer, from.port, from.address, onSent);
    });
    // After binding, errors are of single datagrams (an ICMP error that came back): the next one may do.
    socket.on("error", () => {
      this.counters.sendFailures++;
    });
  }

  /** Binds; rejects with the system's error. Port 0: any free one. */
  static async bind(
    address: string,
    port: number,
    handler: DnsHandler,
    options: { readonly reusePort?: boolean } = {},
  ): Promise<UdpListener> {
    const socket = createSocket({
      type: isIPv6(address) ? "udp6" : "udp4",
      reusePort: options.reusePort ?? false,
    });
    await new Promise<void>((resolve, reject) => {
      const onError = (error: Error): void => {
        socket.close();
        reject(error);
      };
      socket.once("error", onError);
      socket.bind({ address, port, exclusive: true }, () => {
        socket.off("error", onError);
        resolve();
      });
    });
    try {
      socket.setRecvBufferSize(RECEIVE_BUFFER_BYTES);
    } catch {
      // A system with a smaller limit serves with what it has.
    }
    return new UdpListener(socket, handler);
  }

  get port(): number {
    return this.#socket.address().port;
  }

  /** Stops receiving; resolves when the socket is closed. */
  close(): Promise<void> {
    return new Promise((resolve) => this.#socket.close(() => resolve()));
  }
}
