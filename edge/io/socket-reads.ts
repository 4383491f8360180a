/**
 * Where the bytes of an accepted connection go. They lie in memory that all connections of the process read into: they are
 * valid during the call only. Until somebody takes them, and after `push`, they come as the stream's "data".
 */
export class SocketReads {
  sink: ((bytes: Buffer) => void) | undefined = undefined;

  /** Whether a {@link send} is under way. Until it ends the sink hears nothing, and nothing else may be written. */
  get isSending(): boolean {
    return false;
  }

  /** Sends `bytes`, which it copies, in a way that is cheaper than the socket's. False: it did not, write to the socket. */
  send(_bytes: Uint8Array): boolean {
    return false;
  }

  /**
   * Sends `head`, which it copies, and `pieces`, which it does not: their bytes must not change. False as {@link send} says it.
   */
  sendPieces(_head: Uint8Array, _pieces: readonly Uint8Array[]): boolean {
    return false;
  }

  /** Lets the socket read by itself again. `onLeft` gets what came meanwhile; at once, or soon. */
  leave(onLeft: (more: Buffer) => void): void {
    onLeft(NOTHING);
  }
}

const NOTHING = Buffer.alloc(0);
