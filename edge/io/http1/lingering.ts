/** A close that does not take the last answer with it. */
import type { Socket } from "node:net";

/** How long a client may take to close after we did, ms. */
export const LINGER_MS = 2_000;

/**
 * Node closes a connection as soon as its last answer is written. With bytes of the client unread, the rest of an upload or of a pipeline,
 * the system then sends a reset, and an answer that was not read by then is lost (RFC 9112, section 9.6). So our side is ended alone, what
 * still comes is thrown away, unread by any parser, and the client gets a moment to close its own. `onLinger`: that has begun.
 */
export function lingerAtEnd(socket: Socket, onLinger: () => void): void {
  socket.destroySoon = () => {
    if (socket.destroyed || socket.writableEnded) return;
    onLinger();
    socket.removeAllListeners("data");
    socket.on("data", ignore);
    socket.end();
    socket.resume();
    const timer = setTimeout(() => socket.destroy(), LINGER_MS);
    timer.unref();
    socket.once("close", () => clearTimeout(timer));
  };
}

function ignore(): void {}
