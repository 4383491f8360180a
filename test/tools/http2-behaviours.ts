/** What clients do to connections of HTTP/2. */
import type { Random } from "#kit";
import type { CheckedHttp2, Http2Client } from "./checked-http2.ts";
import { asks, many, pause, upload, WAIT_MS } from "./connection-behaviours.ts";
import { FLAG, FRAME, frame, headerBlock, setting, uint32 } from "./http2-frames.ts";

export interface Http2Behaviour {
  readonly client: (random: Random) => Http2Client;
  readonly act: (connection: CheckedHttp2, random: Random) => Promise<void>;
  /** It cuts its connections itself, and has nothing to lose. */
  readonly isCutting?: boolean;
}

const WIDE: Http2Client = { windowBytes: 2 ** 20, isCrediting: true };
/** Below what a session may reset, at once and over time. */
const RESETS = 150;
/** An attack of so many frames in this time at most has to be over: fewer are within what a session may, ms. */
const ATTACK_MS = 30_000;
const ATTACK_FRAMES = 50_000;

const attacks: readonly ((id: number) => readonly Buffer[])[] = [
  // Rapid reset (CVE-2023-44487), of what is answered at once and of what is not.
  (id) => [get(id, "/s/1"), frame(FRAME.rstStream, 0, id, uint32(8))],
  (id) => [get(id, `/m/r${id}`), frame(FRAME.rstStream, 0, id, uint32(8))],
  // Resets that the server is made to send (CVE-2025-8671).
  (id) => [get(id, `/m/w${id}`), frame(FRAME.windowUpdate, 0, id, uint32(0))],
  // CONTINUATION without end (CVE-2024-27316).
  (id) => [id === 1 ? frame(FRAME.headers, FLAG.endStream, 1) : frame(FRAME.continuation, 0, 1)],
  () => [frame(FRAME.ping, 0, 0, Buffer.alloc(8))],
  () => [frame(FRAME.settings, 0, 0, setting(4, 100))],
  (id) => [frame(FRAME.settings, 0, 0, setting(1, id % 4_096))],
  () => [frame(FRAME.priority, 0, 3, Buffer.alloc(5))],
  () => [frame(FRAME.windowUpdate, 0, 0, uint32(1))],
  () => [frame(FRAME.windowUpdate, 0, 0, uint32(2 ** 31 - 1))],
  () => [frame(0xbb, 0, 0, Buffer.alloc(30))],
];

function get(id: number, path: string): Buffer {
  const block = headerBlock([
    [":method", "GET"],
    [":scheme", "https"],
    [":authority", "localhost"],
    [":path", path],
  ]);
  return frame(FRAME.headers, FLAG.endStream | FLAG.endHeaders, id, block);
}

/** Asks in groups, never more at once than the server takes. */
async function groups(connection: CheckedHttp2, random: Random, count: number): Promise<void> {
  for (let left = count; left > 0 && connection.mayAsk; ) {
    const asked = many(random, 1 + random.int(30));
    left -= asked.length;
    connection.ask(...asked);
    if (!(await connection.settled(random.int(connection.streamsMax - 30), WAIT_MS))) return;
  }
  await connection.settled(0, WAIT_MS);
}

export const http2Behaviours: Readonly<Record<string, Http2Behaviour>> = {
  h2Streams: {
    client: () => WIDE,
    act: async (connection, random) => await groups(connection, random, 100 + random.int(600)),
  },
  h2Idlers: {
    client: () => WIDE,
    act: async (connection, random) => {
      for (let round = 0; round < 5 && connection.mayAsk; round++) {
        await groups(connection, random, 3);
        await pause(500 + random.int(1_500));
      }
    },
  },
  /** Windows of nothing, opened a little here and there, shut again, and opened wide at last. */
  h2Windows: {
    client: (random) => ({ windowBytes: [0, 1, 10, 1_000, 65_535][random.int(5)] ?? 0, isCrediting: false }),
    act: async (connection, random) => {
      connection.ask(...many(random, 6), asks(`/l/${random.int(8)}`), asks(`/l/${random.int(8)}`));
      // More of them at once are a flood (edge/core/http2-budget.ts).
      let moves = 16;
      for (let turn = 0; turn < 100 && connection.outstanding > 0 && connection.mayAsk; turn++) {
        const ids = connection.streamIds;
        const by = 1 + random.int(random.int(2) === 0 ? 20 : 30_000);
        if (random.int(10) === 0 && turn < 90 && moves-- > 0)
          connection.setInitialWindow(random.int(3) * random.int(20_000));
        else connection.credit(random.int(3) === 0 ? 0 : (ids[random.int(ids.length)] ?? 0), by);
        if (random.int(3) === 0) await pause(random.int(20));
      }
      connection.setInitialWindow(2 ** 22);
      connection.credit(0, 2 ** 26);
      await connection.settled(0, WAIT_MS);
    },
  },
  h2Resets: {
    client: () => WIDE,
    act: async (connection, random) => {
      for (let left = RESETS; left > 0 && connection.mayAsk; ) {
        connection.ask(...many(random, 10), upload(random), asks(`/l/${random.int(8)}`));
        if (random.int(2) === 0) await pause(random.int(20));
        for (const id of connection.streamIds) if (random.int(3) === 0 && left-- > 0) connection.reset(id);
        if (!(await connection.settled(random.int(10), WAIT_MS))) return;
      }
      await connection.settled(0, WAIT_MS);
    },
  },
  h2Uploads: {
    client: () => WIDE,
    act: async (connection, random) => {
      for (let round = 0; round < 5 && connection.mayAsk; round++) {
        connection.ask(...many(random, random.int(5)), upload(random), upload(random), ...many(random, 3));
        await connection.settled(0, WAIT_MS);
      }
    },
  },
  /** Two answers of 10 MiB, wide windows, and a socket that is hardly read. */
  h2SlowReaders: {
    client: () => ({ windowBytes: 2 ** 24, isCrediting: true }),
    act: async (connection, random) => {
      connection.credit(0, 2 ** 26);
      connection.ask(asks("/h/1"), ...many(random, 10), asks("/h/2"));
      for (let turn = 0; turn < 200 && connection.outstanding > 0 && !connection.hasEnded; turn++) {
        connection.socket.pause();
        await pause(random.int(40));
        connection.socket.resume();
        await pause(1);
      }
      await connection.settled(0, WAIT_MS);
    },
  },
  /** Says that it goes, and has its answers all the same. */
  h2Goaway: {
    client: () => WIDE,
    act: async (connection, random) => {
      connection.ask(...many(random, 20));
      connection.send(frame(FRAME.goaway, 0, 0, Buffer.alloc(8)));
      await connection.settled(0, WAIT_MS);
    },
  },
  h2Cuts: {
    client: () => WIDE,
    isCutting: true,
    act: async (connection, random) => {
      connection.ask(...many(random, 1 + random.int(20)), upload(random), asks("/h/1"));
      // With answers unread the system resets the connection.
      if (random.int(2) === 0) connection.socket.pause();
      if (random.int(2) === 0) await pause(random.int(20));
      else await connection.settled(random.int(10), 1_000);
      connection.socket.destroy();
    },
  },
  h2Floods: {
    client: () => WIDE,
    isCutting: true,
    act: async (connection, random) => {
      connection.isHostile = true;
      const attack = attacks[random.int(attacks.length)];
      const endsAt = performance.now() + ATTACK_MS;
      for (let n = 0; !connection.hasEnded && attack !== undefined && performance.now() < endsAt; n += 100) {
        connection.send(
          Buffer.concat(Array.from({ length: 100 }, (_, at) => attack(1 + 2 * (n + at))).flat()),
        );
        await connection.closed(5);
        if (n < ATTACK_FRAMES) continue;
        connection.wrong = `the attack ${attack.toString()} was not ended`;
        return;
      }
    },
  },
  /** A request, then octets that mean something or nothing. */
  h2Garbage: {
    client: () => WIDE,
    isCutting: true,
    act: async (connection, random) => {
      connection.isHostile = true;
      const frames = [get(1, "/s/1"), get(3, "/l/1")];
      for (let count = random.int(30); count > 0; count--) {
        const payload = Buffer.from(Array.from({ length: random.int(60) }, () => random.int(256)));
        frames.push(frame(random.int(12), random.int(256), random.int(12), payload));
      }
      const bytes = Buffer.concat(frames);
      if (random.int(2) === 0) bytes[random.int(bytes.byteLength)] = random.int(256);
      connection.send(bytes);
      await connection.closed(500);
    },
  },
};
