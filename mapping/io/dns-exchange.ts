/** One question to one DNS server, by UDP or by TCP. Neither rejects: undefined is silence, a refusal, or nothing that `read` takes. */
import { createSocket } from "node:dgram";
import { connect, isIPv6 } from "node:net";

/** What a server is asked, and what of its answers is the answer: undefined: something else. */
export interface DnsExchange<T> {
  /** Address. */
  readonly host: string;
  readonly port: number;
  readonly query: Uint8Array;
  readonly read: (bytes: Uint8Array) => T | undefined;
  readonly timeoutMs: number;
}

/** From a port of its own, which nobody else hears; what is not the answer is not listened to. */
export function askOverUdp<T>({
  host,
  port,
  query,
  read,
  timeoutMs,
}: DnsExchange<T>): Promise<T | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket(isIPv6(host) ? "udp6" : "udp4");
    const end = (result: T | undefined): void => {
      clearTimeout(timer);
      socket.close();
      resolve(result);
    };
    const timer = setTimeout(end, timeoutMs, undefined);
    socket.once("error", () => end(undefined));
    socket.on("message", (bytes) => {
      const result = read(bytes);
      if (result !== undefined) end(result);
    });
    socket.connect(port, host, () => socket.send(query));
  });
}

export function askOverTcp<T>({
  host,
  port,
  query,
  read,
  timeoutMs,
}: DnsExchange<T>): Promise<T | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    let bytes = Buffer.alloc(0);
    const end = (result: T | undefined): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(result);
    };
    const timer = setTimeout(end, timeoutMs, undefined);
    socket.once("error", () => end(undefined));
    socket.once("close", () => end(undefined));
    socket.on("data", (piece: Buffer) => {
      // A message has at most 65,535 octets.
      bytes = Buffer.concat([bytes, piece]);
      const length = bytes.length < 2 ? Infinity : bytes.readUInt16BE(0);
      if (bytes.length >= length + 2) end(read(bytes.subarray(2, length + 2)));
    });
    socket.once("connect", () => {
      const length = Buffer.alloc(2);
      length.writeUInt16BE(query.length);
      socket.write(Buffer.concat([length, query]));
    });
  });
}
