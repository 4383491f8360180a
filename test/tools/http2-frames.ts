/** HTTP/2 frames written by hand (RFC 9113, section 4), for what no well-behaved client sends. */
import { once } from "node:events";
import { connect, type TLSSocket } from "node:tls";

export const FRAME = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;
export const FLAG = { endStream: 1, ack: 1, endHeaders: 4 } as const;

export const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

export function frame(
  type: number,
  flags: number,
  streamId: number,
  payload: Uint8Array = Buffer.alloc(0),
): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.byteLength, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(streamId, 5);
  return Buffer.concat([head, payload]);
}

export const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

/** A setting of a SETTINGS frame: identifier and value. */
export const setting = (id: number, value: number): Buffer =>
  Buffer.concat([Buffer.from([id >> 8, id & 0xff]), uint32(value)]);

/** A header block of literals that are not indexed (RFC 7541, section 6.2.2), so that nothing depends on what came before. */
export function headerBlock(fields: readonly (readonly [string, string])[]): Buffer {
  const length = (bytes: number): Buffer => {
    if (bytes < 127) return Buffer.from([bytes]);
    const parts = [127];
    let rest = bytes - 127;
    for (; rest >= 128; rest = Math.floor(rest / 128)) parts.push((rest % 128) + 128);
    return Buffer.from([...parts, rest]);
  };
  return Buffer.concat(
    fields.flatMap(([name, value]) => {
      const nameBytes = Buffer.from(name, "latin1");
      const valueBytes = Buffer.from(value, "latin1");
      return [Buffer.from([0]), length(nameBytes.length), nameBytes, length(valueBytes.length), valueBytes];
    }),
  );
}

export const getBlock = (
  path: string,
  host = "a.example",
  more: readonly (readonly [string, string])[] = [],
): Buffer =>
  headerBlock([[":method", "GET"], [":scheme", "https"], [":authority", host], [":path", path], ...more]);

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

/** A connection that speaks frames. */
export class FrameClient {
  readonly socket: TLSSocket;
  readonly frames: Frame[] = [];
  isClosed = false;
  #rest = Buffer.alloc(0);

  private constructor(socket: TLSSocket) {
    this.socket = socket;
    socket.on("error", () => {});
    socket.on("close", () => {
      this.isClosed = true;
    });
    socket.on("data", (chunk: Buffer) => {
      this.#rest = Buffer.concat([this.#rest, chunk]);
      while (this.#rest.length >= 9) {
        const end = 9 + this.#rest.readUIntBE(0, 3);
        if (this.#rest.length < end) break;
        this.frames.push({
          type: this.#rest.readUInt8(3),
          flags: this.#rest.readUInt8(4),
          streamId: this.#rest.readUInt32BE(5) & 0x7fffffff,
          payload: this.#rest.subarray(9, end),
        });
        this.#rest = this.#rest.subarray(end);
      }
    });
  }

  static async open(port: number, settings: Uint8Array = Buffer.alloc(0)): Promise<FrameClient> {
    const socket = connect({
      port,
      host: "127.0.0.1",
      servername: "a.example",
      ALPNProtocols: ["h2"],
      rejectUnauthorized: false,
    });
    await once(socket, "secureConnect");
    const client = new FrameClient(socket);
    socket.write(Buffer.concat([PREFACE, frame(FRAME.settings, 0, 0, settings)]));
    return client;
  }

  send(...frames: readonly Uint8Array[]): void {
    if (!this.socket.destroyed) this.socket.write(Buffer.concat(frames));
  }

  of(type: number, streamId?: number): readonly Frame[] {
    return this.frames.filter(
      (one) => one.type === type && (streamId === undefined || one.streamId === streamId),
    );
  }

  /** Error code of the last GOAWAY; undefined: none came. */
  get goaway(): number | undefined {
    return this.of(FRAME.goaway).at(-1)?.payload.readUInt32BE(4);
  }
}
