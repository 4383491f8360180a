/** How a connection is cut so that the other side, and the system, know it at once. */
import { Socket } from "node:net";
import type { Duplex } from "node:stream";

/**
 * Resets the connection: what was written and not read is thrown away. An orderly close would stay in the system's queue
 * behind it, for as long as the client reads nothing. Over TLS the connection is closed.
 */
export function reset(socket: Duplex | null): void {
  if (socket instanceof Socket && !("encrypted" in socket)) socket.resetAndDestroy();
  else socket?.destroy();
}
