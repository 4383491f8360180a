/** What clients do to connections, and what an origin has for them whose every byte tells where it belongs. */
import { createHash } from "node:crypto";
import type { Random } from "#kit";
import type { CheckedConnection, Expected } from "./checked-connection.ts";

const SMALL = 60;
const LARGE = 8;
/** How long an answer may take before it counts as late, ms. */
export const WAIT_MS = 60_000;

const contents = new Map<string, Buffer>();
/** What the origin has at a path: its name over and over, so that a byte at a wrong place is seen. */
export function contentOf(path: string): Buffer {
  const number = Number(/[0-9]+/.exec(path)?.[0] ?? 0);
  const kept = contents.get(path);
  if (kept !== undefined) return kept;
  const bytes = path.startsWith("/h/")
    ? 10 * 2 ** 20
    : path.startsWith("/l/")
      ? 30_000 + (number % LARGE) ** 2 * 20_000
      : path.startsWith("/s/")
        ? (number * 97) % 19_000
        : 2_000 + (number % 50) * 100;
  const content = Buffer.alloc(bytes, `${path}|`);
  if (!path.startsWith("/m/")) contents.set(path, content);
  return content;
}

const host = "Host: localhost\r\n";
export const markOf = (path: string): string => `"${path}"`;
export function asks(
  path: string,
  method = "GET",
  fields: Expected["fields"] = [],
  statuses: readonly number[] = [200],
  content = contentOf(path),
  body?: Buffer,
): Expected {
  const length = body === undefined ? [] : [["content-length", String(body.byteLength)] as const];
  const lines = [...fields, ...length].map(([name, value]) => `${name}: ${value}\r\n`).join("");
  const head = Buffer.from(`${method} ${path} HTTP/1.1\r\n${host}${lines}\r\n`);
  return {
    request: body === undefined ? head : Buffer.concat([head, body]),
    method,
    path,
    fields,
    body,
    statuses,
    mark: markOf(path),
    content,
  };
}

let serial = 0;
export function anyRequest(random: Random): Expected {
  const small = `/s/${random.int(SMALL)}`;
  switch (random.int(40)) {
    case 0: {
      const large = `/l/${random.int(LARGE)}`;
      return asks(large);
    }
    case 1: {
      const miss = `/m/${++serial}`;
      return asks(miss);
    }
    case 2:
      return asks(small, "HEAD", [], [200], Buffer.alloc(0));
    case 3:
      return asks(small, "GET", [["if-none-match", markOf(small)]], [304], Buffer.alloc(0));
    case 4: {
      const from = random.int(40);
      const large = `/l/${random.int(LARGE)}`;
      const to = from + random.int(9_000);
      return asks(
        large,
        "GET",
        [["range", `bytes=${from}-${to}`]],
        [206],
        contentOf(large).subarray(from, to + 1),
      );
    }
    default:
      return asks(small);
  }
}

/** What the origin answers to content. */
export const digestOf = (body: Buffer): string => createHash("sha256").update(body).digest("hex");

export function upload(random: Random): Expected {
  const path = `/p/${++serial}`;
  const body = Buffer.alloc(random.int(200_000), `${path}!`);
  return asks(path, "POST", [], [200], Buffer.from(digestOf(body)), body);
}

export const pause = async (ms: number): Promise<void> =>
  await new Promise((resolve) => setTimeout(resolve, ms));

/** Writes in pieces that end anywhere. */
async function writeCut(
  connection: CheckedConnection,
  bytes: Buffer,
  random: Random,
  pieces: number,
): Promise<void> {
  let from = 0;
  for (let piece = 0; piece < pieces && from < bytes.byteLength; piece++) {
    const to = piece === pieces - 1 ? bytes.byteLength : from + random.int(bytes.byteLength - from + 1);
    await connection.write(bytes.subarray(from, to));
    from = to;
    if (random.int(3) > 0) await pause(random.int(4));
  }
}

export type Behaviour = (connection: CheckedConnection, random: Random) => Promise<void>;

export const many = (random: Random, count: number): Expected[] =>
  Array.from({ length: count }, () => anyRequest(random));
const bytesOf = (asked: readonly Expected[]): Buffer => Buffer.concat(asked.map(({ request }) => request));

async function oneByOne(connection: CheckedConnection, random: Random): Promise<void> {
  for (let count = 20 + random.int(400); count > 0; count--) {
    const asked = anyRequest(random);
    connection.expect(asked);
    await connection.write(asked.request);
    await connection.settled(0, WAIT_MS);
    if (connection.hasEnded || connection.isClosing) return;
  }
}

/** What clients do on one connection; each ends when all that it may hope for has come. */
export const behaviours: Readonly<Record<string, Behaviour>> = {
  oneByOne,
  overTls: oneByOne,
  pipelines: async (connection, random) => {
    for (let round = 0; round < 8 && !connection.hasEnded && !connection.isClosing; round++) {
      const asked = many(random, 1 + random.int(20));
      connection.expect(...asked);
      await writeCut(connection, bytesOf(asked), random, 1 + random.int(5));
      if (random.int(2) === 0) await connection.settled(0, WAIT_MS);
    }
    await connection.settled(0, WAIT_MS);
  },
  slowReaders: async (connection, random) => {
    const asked = many(random, 40 + random.int(40));
    connection.expect(...asked);
    connection.socket.pause();
    // Without waiting: who does not read does not get to write either.
    connection.socket.write(bytesOf(asked));
    for (let turn = 0; turn < 300 && connection.outstanding > 0 && !connection.hasEnded; turn++) {
      await pause(random.int(30));
      connection.socket.resume();
      await pause(1);
      if (turn < 299) connection.socket.pause();
    }
    connection.socket.resume();
    await connection.settled(0, WAIT_MS);
  },
  slowWriters: async (connection, random) => {
    for (const asked of many(random, 3)) {
      connection.expect(asked);
      for (const byte of asked.request) {
        await connection.write(Buffer.of(byte));
        if (random.int(8) === 0) await pause(1);
        if (connection.hasEnded) return;
      }
      await connection.settled(0, WAIT_MS);
      if (connection.isClosing) return;
    }
  },
  halfCloses: async (connection, random) => {
    const path = `/s/${random.int(8)}`;
    const asked = asks(path);
    // Until it is remembered: who has closed its side waits for a miss only a moment.
    for (let time = 0; time < 3; time++) {
      connection.expect(asked);
      await connection.write(asked.request);
      await connection.settled(0, WAIT_MS);
      if (connection.hasEnded || connection.isClosing || connection.refused > 0) return;
    }
    const more = Array.from({ length: 1 + random.int(6) }, () => asked);
    connection.expect(...more);
    await writeCut(connection, bytesOf(more), random, 1 + random.int(3));
    connection.socket.end();
    await connection.settled(-1, WAIT_MS);
  },
  resets: async (connection, random) => {
    const asked = many(random, 1 + random.int(10));
    connection.expect(...asked);
    connection.socket.write(bytesOf(asked));
    if (random.int(2) === 0) await pause(random.int(20));
    else await connection.settled(random.int(asked.length), WAIT_MS);
    if (random.int(2) === 0) connection.socket.resetAndDestroy();
    else connection.socket.destroy();
  },
  uploads: async (connection, random) => {
    const asked = [
      ...many(random, random.int(3)),
      upload(random),
      ...many(random, random.int(3)),
      upload(random),
    ];
    connection.expect(...asked);
    await writeCut(connection, bytesOf(asked), random, 1 + random.int(8));
    await connection.settled(0, WAIT_MS);
  },
  idlers: async (connection, random) => {
    for (let round = 0; round < 5 && !connection.hasEnded && !connection.isClosing; round++) {
      const asked = anyRequest(random);
      connection.expect(asked);
      await connection.write(asked.request);
      await connection.settled(0, WAIT_MS);
      await pause(500 + random.int(1_500));
    }
  },
};

/** Clients that cut their connections themselves have nothing to lose. */
export const CUTTING = new Set(["resets"]);
