/** HELLO: the first frame of each side. The version that was agreed on, and what this side allows. */
import { type ByteReader, ByteWriter } from "./bytes.ts";
import { LINK_VERSION, type LinkLimits, type SessionReason, STREAMS_MIN, WINDOW_BYTES_MIN } from "./words.ts";

/** Settings by number; others are read over, so that a later side may tell more. */
const SETTING = { streamsMax: 1, windowBytes: 2, udpPort: 3 } as const;
const PORT_MAX = 65_535;

export interface Hello {
  readonly streamsMax: number;
  readonly windowBytes: number;
  /** On which it takes the UDP carrier; undefined: it does not. */
  readonly udpPort: number | undefined;
}

/** The payload. */
export function encodeHello({
  streamsMax,
  windowBytes,
  udpPort,
}: Pick<LinkLimits, "streamsMax" | "windowBytes" | "udpPort">): Uint8Array {
  const out = new ByteWriter();
  out.byte(LINK_VERSION);
  out.number(SETTING.streamsMax);
  out.number(streamsMax);
  out.number(SETTING.windowBytes);
  out.number(windowBytes);
  if (udpPort !== undefined) {
    out.number(SETTING.udpPort);
    out.number(udpPort);
  }
  return out.view();
}

export function parseHello(payload: ByteReader): Hello | SessionReason {
  if (payload.byte() !== LINK_VERSION) return "version";
  let streamsMax: number | undefined;
  let windowBytes: number | undefined;
  let udpPort: number | undefined;
  while (payload.at < payload.end) {
    const setting = payload.number();
    const value = payload.number();
    if (setting < 0 || value < 0) return "number";
    if (setting === SETTING.streamsMax) {
      if (streamsMax !== undefined || value < STREAMS_MIN) return "hello-value";
      streamsMax = value;
    } else if (setting === SETTING.windowBytes) {
      if (windowBytes !== undefined || value < WINDOW_BYTES_MIN) return "hello-value";
      windowBytes = value;
    } else if (setting === SETTING.udpPort) {
      if (udpPort !== undefined || value === 0 || value > PORT_MAX) return "hello-value";
      udpPort = value;
    }
  }
  return { streamsMax: streamsMax ?? STREAMS_MIN, windowBytes: windowBytes ?? WINDOW_BYTES_MIN, udpPort };
}
