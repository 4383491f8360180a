/**
 * Sockets of ours that read into one buffer of the process in place of a new one for each read. Until somebody takes its bytes, and after that
 * again, they come as any stream's.
 */
import { connect, type Socket } from "node:net";
import type { Duplex } from "node:stream";

/** What the kernel holds for a socket is read in pieces of so many bytes, twice what Node takes; bodies wait for their readers up to as much. */
export const READ_BYTES = 128 * 1_024;
const readBuffer = Buffer.allocUnsafeSlow(READ_BYTES);

export class DirectReads {
  /** Takes what comes; the bytes are valid during the call only. */
  sink: ((bytes: Buffer) => void) | undefined = undefined;
}

const known = new WeakMap<Duplex, DirectReads>();

/** Where the bytes of a connection come from; undefined: from its stream alone. */
export function directReadsOf(stream: Duplex): DirectReads | undefined {
  return known.get(stream);
}

/** Begins to connect, as `net.connect` does, a socket whose bytes {@link directReadsOf} gives. */
export function connectDirectly(host: string, port: number): Socket {
  const reads = new DirectReads();
  const socket: Socket = connect({
    host,
    port,
    noDelay: true,
    onread: {
      buffer: readBuffer,
      callback: (bytes) => {
        const chunk = readBuffer.subarray(0, bytes);
        if (reads.sink === undefined) return socket.push(Buffer.from(chunk));
        reads.sink(chunk);
        return true;
      },
    },
  });
  known.set(socket, reads);
  return socket;
}
