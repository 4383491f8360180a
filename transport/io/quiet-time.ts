/**
 * For how long the kernel has heard nothing on a connection (tcp_info of getsockopt(2), through koffi). A segment that is lost makes a
 * stream as silent as a path that is cut, but those behind it go on arriving.
 */
import type { Duplex } from "node:stream";
import { endianness } from "node:os";

/** Level, option, and where two of its times stand, ms: since the last data in order, and since the last segment that was looked at for what it acknowledges. */
const IPPROTO_TCP = 6;
const TCP_INFO = 11;
const LAST_DATA_RECV = 52;
const LAST_ACK_RECV = 56;
const INFO_BYTES = 60;

type GetOption = (fd: number, level: number, name: number, value: Buffer, bytes: Uint32Array) => number;

let loading: Promise<void> | undefined;
let getOption: GetOption | undefined;
const info = Buffer.alloc(INFO_BYTES);
const infoBytes = new Uint32Array(1);

/** Which stream the bytes of one go over that has no descriptor: TLS within a tunnel. */
const below = new WeakMap<Duplex, Duplex>();

/** The bytes of `stream` come over `carrier`. */
export function carriedBy(stream: Duplex, carrier: Duplex): void {
  below.set(stream, carrier);
}

/** Before it has resolved, off little-endian Linux, and without the package, nothing is known. Never rejects. */
export async function loadQuietTime(): Promise<void> {
  loading ??= load();
  await loading;
}

async function load(): Promise<void> {
  if (process.platform !== "linux" || endianness() !== "LE") return;
  try {
    const { default: koffi } = await import("koffi");
    getOption = koffi
      .load(null)
      .func("int getsockopt(int fd, int level, int name, _Out_ void *value, _Inout_ uint32 *bytes)");
  } catch {
    // Whoever asks goes by what the stream tells.
  }
}

/** Since the last segment of any kind on its connection, ms (the kernel counts by 1 to 10); undefined: not known. */
export function quietMsOf(stream: Duplex | undefined): number | undefined {
  if (getOption === undefined) return undefined;
  for (let at = stream; at !== undefined; at = below.get(at)) {
    const fd = (at as { _handle?: { readonly fd?: unknown } | null })._handle?.fd;
    if (typeof fd !== "number" || fd <= 2) continue;
    infoBytes[0] = INFO_BYTES;
    if (getOption(fd, IPPROTO_TCP, TCP_INFO, info, infoBytes) !== 0 || infoBytes[0] !== INFO_BYTES)
      return undefined;
    // What comes in order on the kernel's short way is not looked at for the one, what comes out of order counts for the other alone.
    return Math.min(info.readUInt32LE(LAST_DATA_RECV), info.readUInt32LE(LAST_ACK_RECV));
  }
  return undefined;
}
