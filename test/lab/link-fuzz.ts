/**
 * `npm run lab -- link-fuzz`: frames by the million at sessions of the link protocol, in this process: made by hand, mostly nearly right, in
 * bytes that are cut anywhere, while the session's own user does what users do. A session never throws, names why it ends, and keeps no
 * more than its bounds allow.
 */
import { parseArgs } from "node:util";
import { type MonotonicMs, monotonicMs, Random } from "#kit";
import { LinkSession } from "../../transport/core/link/session.ts";
import {
  HEAD_BYTES_MAX,
  type LinkLimits,
  linkDefaults,
  sessionReasons,
  streamReasons,
  WINDOW_BYTES_MIN,
} from "../../transport/core/link/words.ts";
import { wholeNumber } from "../tools/flags.ts";
import { HELLO, wireFrame, wireHead, wireNumber } from "../tools/link-core.ts";

export const summary =
  "millions of link frames, nearly right, at sessions: none throws, every end has its reason, what is kept is bounded";

const HELP = `Usage: npm run lab -- link-fuzz [options]

${summary}. Exit code 1: a session threw, kept more than its bounds, told of a reason that is none, or memory was not flat.

  --frames N    (default 5000000)
  --seed N      the same seed gives the same frames (default 1)
  --help
`;

const LIMITS: LinkLimits = {
  ...linkDefaults,
  streamsMax: 100,
  windowBytes: WINDOW_BYTES_MIN,
  windowBytesMax: 2 * WINDOW_BYTES_MIN,
  grownBytesMax: 2 * WINDOW_BYTES_MIN,
};
/** One frame that is not whole, and its replies: 1,024 of 7 bytes at most, and credit. */
const KEPT_BYTES_MAX = 2 * HEAD_BYTES_MAX;
/** Frames of a session that does not end before. */
const SESSION_FRAMES_MAX = 400;
/** What a heap that is collected goes up and down by. */
const FLAT_MEBIBYTES = 8;
const MEBIBYTE = 1_024 * 1_024;

const HEADS: readonly Buffer[] = [
  wireHead([0x11, 1, 1], "a/"),
  wireHead([0x02, 1, 2, 0x41, 1], "a/xg"),
  wireHead([0x13, 1, 1, 0x53, 1], "a/9"),
  wireHead([0x10, 5, 1, 1, 0x83], "PURGEa/"),
  wireHead([0, 200], ""),
  wireHead([0, 200, 0x53, 2], "20"),
  wireHead([0, 103, 0x6a, 3], "</>"),
  wireHead([1, 0x30], ""),
  wireHead([0x03, 1, 5], "xvalue"),
];

class Fuzzer {
  readonly #random: Random;
  frames = 0;
  bytes = 0;
  sessions = 0;
  events = 0;
  keptBytesMax = 0;
  streamsMax = 0;
  readonly reasons = new Map<string, number>();
  readonly faults: string[] = [];

  constructor(seed: number) {
    this.#random = new Random(seed);
  }

  #below(most: number): number {
    return Math.floor(this.#random.float() * most);
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.#below(list.length)] as T;
  }

  /** One of the last streams, mostly. */
  #id(top: number): number {
    if (this.#below(400) === 0) return this.#pick([0, top + 1, top + 2, this.#below(2 ** 30)]);
    return Math.max(1, top - this.#below(12));
  }

  #head(): Buffer {
    const head = Buffer.from(this.#pick(HEADS));
    // One in four has a byte changed.
    if (this.#below(4) === 0) head[this.#below(head.byteLength)] = this.#below(256);
    return head;
  }

  /** One frame, and whether it begins a stream. */
  #frame(top: number, isServer: boolean): { readonly bytes: Buffer; readonly id: number } {
    const id = this.#id(top);
    const end = this.#below(2) === 0 ? 0x10 : 0;
    const kind = this.#below(24);
    const isHead = kind > 13 || top === 0;
    if (isHead && isServer) {
      const next = this.#below(8) === 0 ? id : top + 1;
      return { bytes: wireFrame(2 | end, next, this.#head()), id: next };
    }
    switch (kind) {
      case 0:
        if (this.#below(8) !== 0) return { bytes: wireFrame(3, id, Buffer.of(0x61)), id };
        return { bytes: wireFrame(this.#below(256), id, Buffer.alloc(this.#below(8), this.#below(256))), id };
      case 1:
        if (this.#below(20) !== 0) return { bytes: wireFrame(8, 0, Buffer.alloc(4)), id: 0 };
        return { bytes: HELLO, id: 0 };
      case 2:
      case 3:
        return { bytes: wireFrame(4, id, wireHead([0x03, 1, 1], "xy1")), id };
      case 4:
      case 5:
        return {
          bytes: wireFrame(
            5,
            id,
            wireNumber(1 + this.#below(2 ** this.#below(this.#below(50) === 0 ? 30 : 16))),
          ),
          id,
        };
      case 6:
        return { bytes: wireFrame(6, id, Buffer.of(this.#below(24))), id };
      case 7:
        return { bytes: wireFrame(7 + this.#below(2), 0, Buffer.alloc(4, this.#below(4))), id: 0 };
      case 8:
        // Rare: it ends what the session takes.
        return this.#below(20) === 0
          ? {
              bytes: wireFrame(
                9,
                0,
                Buffer.concat([Buffer.of(this.#below(20)), wireNumber(this.#below(50))]),
              ),
              id: 0,
            }
          : { bytes: wireFrame(8, 0, Buffer.alloc(4)), id: 0 };
      case 9:
      case 10:
      case 11:
      case 12:
      case 13: {
        const length = this.#below(4) === 0 ? this.#below(16_385) : this.#below(64);
        return { bytes: wireFrame(3 | end, id, Buffer.alloc(length, 0x61)), id };
      }
      default:
        return { bytes: wireFrame(2 | end, id, this.#head()), id };
    }
  }

  /** Bytes of several frames; one in a hundred with a byte changed, which may break where they begin and end. */
  #burst(top: number, isServer: boolean): { bytes: Buffer; top: number } {
    const pieces: Buffer[] = [];
    let highest = top;
    for (let left = 1 + this.#below(6); left > 0; left--) {
      const { bytes, id } = this.#frame(highest, isServer);
      if (id === highest + 1) highest = id;
      pieces.push(bytes);
      this.frames++;
    }
    const bytes = Buffer.concat(pieces);
    if (this.#below(100) === 0) bytes[this.#below(bytes.byteLength)] = this.#below(256);
    return { bytes, top: highest };
  }

  session(): void {
    this.sessions++;
    const isServer = this.#below(2) === 0;
    let nowMs = 0;
    const now = (): MonotonicMs => monotonicMs(nowMs);
    const session = new LinkSession(isServer ? "server" : "client", LIMITS, now());
    session.handleBytes(HELLO, now());
    const sent = Buffer.alloc(65_536);
    let top = 0;
    for (let frames = 0; frames < SESSION_FRAMES_MAX && session.endReason === undefined; ) {
      if (!isServer && this.#below(3) === 0) {
        const id = session.request(
          { method: "GET", authority: "a", path: "/", urgency: "normal", fields: [] },
          this.#below(2) === 0,
          now(),
        );
        if (typeof id === "number") top = id;
      }
      const before = this.frames;
      const burst = this.#burst(top, isServer);
      if (isServer) top = burst.top;
      frames += this.frames - before;
      this.bytes += burst.bytes.byteLength;
      const cut = this.#below(2) === 0 ? burst.bytes.byteLength : 1 + this.#below(40);
      for (let from = 0; from < burst.bytes.byteLength; from += cut)
        session.handleBytes(burst.bytes.subarray(from, from + cut), now());
      this.#use(session, isServer, now());
      this.#check(session);
      // It reads, mostly.
      if (this.#below(4) !== 0) while (session.pollTransmit(sent) > 0);
      nowMs += this.#below(60);
      const due = session.pollTimeout();
      if (due !== undefined && due <= nowMs) session.handleTimeout(now());
    }
    if (session.endReason !== undefined) this.#count(`session ${session.endReason}`);
  }

  #use(session: LinkSession, isServer: boolean, now: MonotonicMs): void {
    for (let event = session.pollEvent(); event !== undefined; event = session.pollEvent()) {
      this.events++;
      if ("reason" in event) {
        if (
          !(sessionReasons as readonly string[]).includes(event.reason) &&
          !(streamReasons as readonly string[]).includes(event.reason)
        )
          this.faults.push(`a reason that is none: ${event.reason}`);
        this.#count(`${event.kind} ${event.reason}`);
      }
      if (event.kind === "data" && this.#below(3) !== 0)
        session.consume(event.id, event.bytes.byteLength, now);
      if (event.kind !== "request" || !isServer) continue;
      const draw = this.#below(6);
      if (draw === 0) session.cancel(event.id, "internal");
      else if (draw < 5) {
        session.respond(event.id, { status: 200, fields: ["age", "0"] }, draw === 1);
        session.send(event.id, Buffer.alloc(this.#below(40_000)));
        if (draw < 4) session.end(event.id, draw === 2 ? ["etag", "1"] : []);
      }
    }
    if (this.#below(2_000) === 0) session.drain();
  }

  #check(session: LinkSession): void {
    const { streams, keptBytes, grownBytes } = session;
    this.streamsMax = Math.max(this.streamsMax, streams);
    this.keptBytesMax = Math.max(this.keptBytesMax, keptBytes);
    if (streams > LIMITS.streamsMax) this.faults.push(`${streams} streams`);
    if (keptBytes > KEPT_BYTES_MAX) this.faults.push(`${keptBytes} bytes kept`);
    if (grownBytes > LIMITS.grownBytesMax || grownBytes < 0)
      this.faults.push(`windows grown by ${grownBytes}`);
    if (session.endReason !== undefined && streams > 0) this.faults.push("streams of a session that is over");
  }

  #count(reason: string): void {
    this.reasons.set(reason, (this.reasons.get(reason) ?? 0) + 1);
  }
}

function heapMebibytes(): number {
  globalThis.gc?.();
  return process.memoryUsage().heapUsed / MEBIBYTE;
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      frames: { type: "string", default: "5000000" },
      seed: { type: "string", default: "1" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  const frames = wholeNumber("frames", values.frames, 1, 1e12);
  const seed = wholeNumber("seed", values.seed, 0, 2 ** 31);
  const { setFlagsFromString } = await import("node:v8");
  setFlagsFromString("--expose-gc");
  const { runInNewContext } = await import("node:vm");
  globalThis.gc = runInNewContext("gc") as typeof globalThis.gc;
  const fuzzer = new Fuzzer(seed);
  let thrown: string | undefined;
  let halfMebibytes = 0;
  try {
    // What is made once is made by then.
    while (fuzzer.frames < frames / 10) fuzzer.session();
    halfMebibytes = heapMebibytes();
    while (fuzzer.frames < frames) fuzzer.session();
  } catch (error) {
    thrown = error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
  const grownMebibytes = heapMebibytes() - halfMebibytes;
  const { sessions, bytes, events, keptBytesMax, streamsMax } = fuzzer;
  const isFlat = grownMebibytes <= FLAT_MEBIBYTES;
  console.log(
    JSON.stringify(
      {
        frames: fuzzer.frames,
        seed,
        sessions,
        bytes,
        events,
        keptBytesMax,
        streamsMax,
        grownMebibytes: Number(grownMebibytes.toFixed(1)),
        thrown: thrown ?? null,
        faults: fuzzer.faults.slice(0, 20),
        reasons: Object.fromEntries([...fuzzer.reasons].toSorted(([a], [b]) => (a < b ? -1 : 1))),
      },
      undefined,
      1,
    ),
  );
  return thrown === undefined && fuzzer.faults.length === 0 && isFlat ? 0 : 1;
}
