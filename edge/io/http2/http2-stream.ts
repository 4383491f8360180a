/** A stream of HTTP/2, whoever speaks its frames. */
import type { OutgoingHttpHeaders } from "node:http2";
import type { Duplex } from "node:stream";

/** What of node:http2's `ServerHttp2Stream` is asked for. */
export interface Http2Stream extends Duplex {
  /** The client has given it up before its content was complete. */
  readonly aborted: boolean;
  /** Bytes that were written and have not left. */
  readonly bufferSize: number;
  readonly headersSent: boolean;
  readonly rstCode?: number | undefined;
  /** @param raw names and values in turn */
  respond(raw: string[], options: { readonly endStream: boolean }): void;
  additionalHeaders(headers: OutgoingHttpHeaders): void;
  /** Ends the stream with an error code of RFC 9113, section 7. */
  close(code: number): void;
}
