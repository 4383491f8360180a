/** The content of an HTTP/2 request as a stream of its own: giving it up must not end the stream that the answer goes out on. */
import { Readable } from "node:stream";
import type { Http2Stream } from "./http2-stream.ts";

/** @param onBytes hears of each piece, also of what nobody wants */
export function contentOf(stream: Http2Stream, onBytes: (bytes: number) => void): Readable {
  const content = new Readable({
    read: () => stream.resume(),
    destroy: (error, done) => {
      // What still comes is let go; the flow-control window keeps it small until the stream is closed.
      stream.resume();
      done(error);
    },
  });
  // Whoever forwards it may have stopped listening when the client goes.
  content.on("error", () => {});
  stream.on("data", (chunk: Buffer) => {
    onBytes(chunk.byteLength);
    if (!content.destroyed && !content.push(chunk)) stream.pause();
  });
  stream.on("end", () => {
    // A reset without an error (RFC 9113, section 7, NO_ERROR) also ends the readable side: that is no end of the content.
    if (stream.aborted || stream.closed) cutShort(content);
    else content.push(null);
  });
  stream.on("aborted", () => cutShort(content));
  stream.on("close", () => {
    if (!content.readableEnded && !stream.readableEnded) cutShort(content);
  });
  stream.pause();
  return content;
}

function cutShort(content: Readable): void {
  if (!content.destroyed)
    content.destroy(new Error("The client reset the stream before its content was complete"));
}
