/** Our own HTTP/2 beside nghttp2 (Node's client), beside itself with its bytes cut elsewhere, and under bytes that are none. */
import { once } from "node:events";
import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from "node:http2";
import { duplexPair } from "node:stream";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Http2Connection } from "../../../edge/core/http2/connection.ts";
import { HpackDecoder, hpackEncode } from "../../../edge/core/http2/hpack.ts";
import { huffmanBytes, huffmanDecode, huffmanEncode } from "../../../edge/core/http2/huffman.ts";
import { begun, framesOf, HeardRequests, LIMITS, taken } from "../../tools/http2-core.ts";
import {
  FLAG,
  FRAME,
  frame,
  getBlock,
  headerBlock,
  PREFACE,
  setting,
  uint32,
} from "../../tools/http2-frames.ts";

const latin1 = fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)) });
const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,12}$/).map((text) => `x-${text}`);
const value = fc.stringMatching(/^(?:[!-~]([ -~]{0,60}[!-~])?)?$/);
/** Few names and values, so that tables are used, and others. */
const field = fc.oneof(
  fc.tuple(fc.constantFrom("x-a", "x-b", "accept", "x-c"), fc.constantFrom("1", "2", "text/html")),
  fc.tuple(name, value),
);

test("Huffman texts come back, and no octets are read beyond theirs", () => {
  fc.assert(
    fc.property(latin1, (text) => {
      const bytes = new Uint8Array(huffmanBytes(text) + 1).fill(0xaa);
      const end = huffmanEncode(text, bytes, 0);
      expect(end).toBe(huffmanBytes(text));
      expect(bytes[end]).toBe(0xaa);
      expect(huffmanDecode(bytes, 0, end)).toBe(text);
    }),
    { numRuns: 2_000 },
  );
});

test("what the encoder says the decoder hears", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(name, latin1), { maxLength: 20 }), (fields) => {
      const raw = fields.flat();
      const decoder = new HpackDecoder({ fieldsMax: 100, listBytesMax: 100_000 });
      expect(decoder.decode(hpackEncode(raw))).toEqual(raw);
    }),
  );
});

/** A client of nghttp2 on one end, ours on the other. */
function pair(heard: HeardRequests): {
  client: ClientHttp2Session;
  connection: Http2Connection;
  flush: () => void;
} {
  const [near, far] = duplexPair();
  const connection = new Http2Connection({ ...LIMITS, streamsMax: 100, headerBytesMax: 16_384 }, heard);
  let isScheduled = false;
  // Never from within the client's own write: Node's session asserts on data that comes back into it there.
  const flush = (): void => {
    if (isScheduled) return;
    isScheduled = true;
    setImmediate(() => {
      isScheduled = false;
      connection.pump();
      if (connection.output.length === 0) return;
      near.write(taken(connection));
      flush();
    });
  };
  near.on("data", (bytes: Buffer) => {
    expect(connection.receive(bytes)).toBeUndefined();
    flush();
  });
  const client = connect("http://a.example", { createConnection: () => far });
  flush();
  return { client, connection, flush };
}

test("nghttp2 and we understand each other: header lists of many requests, content both ways, windows", async () => {
  const exchange = fc.record({
    fields: fc.array(field, { maxLength: 12 }),
    content: fc.option(
      fc.integer({ min: 0, max: 300_000 }).map((bytes) => Buffer.alloc(bytes, String(bytes))),
      { nil: undefined, freq: 3 },
    ),
    answer: fc.array(fc.tuple(name, value), { maxLength: 12 }),
    answerBytes: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 200_000 })),
  });
  let credited = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(exchange, { minLength: 1, maxLength: 8 }), async (exchanges) => {
      const heard = new HeardRequests();
      const { client, connection, flush } = pair(heard);
      heard.onContent = (id, bytes) => {
        credited += bytes;
        connection.credit(id, bytes);
      };
      heard.onEnd = (id) => {
        const { answer, answerBytes } = exchanges[(id - 1) / 2]!;
        connection.respond(id, hpackEncode([":status", "200", ...answer.flat()]), answerBytes === 0);
        if (answerBytes === 0) return;
        for (let at = 0; at < answerBytes; at += 50_000)
          connection.send(id, Buffer.alloc(Math.min(50_000, answerBytes - at), id));
        connection.end(id);
        flush();
      };
      await Promise.all(
        exchanges.map(async ({ fields, content, answer, answerBytes }, index) => {
          const raw = [
            ":method",
            "POST",
            ":path",
            `/${index}`,
            ":scheme",
            "http",
            ":authority",
            "a.example",
            ...fields.flat(),
          ];
          const stream = client.request(raw, { endStream: content === undefined });
          if (content !== undefined) stream.end(content);
          let headers: IncomingHttpHeaders = {};
          let bytes = 0;
          stream.on("response", (received) => {
            headers = received;
          });
          stream.on("data", (chunk: Buffer) => {
            bytes += chunk.length;
            if (!chunk.equals(Buffer.alloc(chunk.length, 1 + 2 * index)))
              throw new Error("content of another stream");
          });
          await once(stream, "close");
          expect(bytes).toBe(answerBytes);
          for (const [one, said] of answer) expect(String(headers[one]).split(", ")).toContain(said);
          const seen = heard.requests.get(1 + 2 * index);
          expect(seen?.raw).toEqual(raw);
          expect(Buffer.concat(seen?.content ?? []).equals(content ?? Buffer.alloc(0))).toBe(true);
        }),
      );
      expect(connection.streams).toBe(0);
      client.destroy();
    }),
    { numRuns: 25 },
  );
  // Less than a window would not have needed an update.
  expect(credited).toBeGreaterThan(LIMITS.windowBytes);
}, 60_000);

/** Frames that mean something, and some that do not. */
const someFrame = fc.oneof(
  fc
    .record({
      id: fc.integer({ min: 0, max: 20 }),
      flags: fc.constantFrom(4, 5, 0, 1, 13, 37),
      fields: fc.array(field, { maxLength: 4 }),
    })
    .map(({ id, flags, fields }) =>
      frame(FRAME.headers, flags, id, Buffer.concat([getBlock("/"), headerBlock(fields)])),
    ),
  fc
    .record({
      id: fc.integer({ min: 0, max: 20 }),
      flags: fc.constantFrom(0, 1, 8, 9),
      bytes: fc.uint8Array({ maxLength: 300 }),
    })
    .map(({ id, flags, bytes }) => frame(FRAME.data, flags, id, bytes)),
  fc
    .record({ id: fc.integer({ min: 0, max: 20 }), by: fc.constantFrom(0, 1, 1_000, 2 ** 31 - 1) })
    .map(({ id, by }) => frame(FRAME.windowUpdate, 0, id, uint32(by))),
  fc
    .tuple(fc.integer({ min: 1, max: 6 }), fc.constantFrom(0, 1, 16_384, 70_000))
    .map(([id, to]) => frame(FRAME.settings, 0, 0, setting(id, to))),
  fc.integer({ min: 0, max: 20 }).map((id) => frame(FRAME.rstStream, 0, id, uint32(8))),
  fc
    .record({
      type: fc.integer({ min: 0, max: 11 }),
      flags: fc.integer({ min: 0, max: 255 }),
      id: fc.integer({ min: 0, max: 20 }),
      bytes: fc.uint8Array({ maxLength: 40 }),
    })
    .map(({ type, flags, id, bytes }) => frame(type, flags, id, bytes)),
);

function answering(): { connection: Http2Connection; heard: HeardRequests; calls: string[] } {
  const { connection, heard } = begun();
  const calls: string[] = [];
  heard.onContent = (id, bytes) => {
    calls.push(`content ${id} ${bytes}`);
    if (id % 4 === 1) connection.credit(id, bytes);
  };
  heard.onEnd = (id) => {
    calls.push(`end ${id}`);
    connection.respond(id, hpackEncode([":status", "200"]), false);
    connection.send(id, Buffer.alloc(1_000 * (id % 16)));
    connection.end(id);
  };
  return { connection, heard, calls };
}

test("where bytes are cut changes nothing; no bytes make it throw, hold more than it may, or send past a window", () => {
  const FIRST = frame(FRAME.headers, FLAG.endStream | FLAG.endHeaders, 1, getBlock("/"));
  let faults = 0;
  let answered = 0;
  fc.assert(
    fc.property(
      fc.array(someFrame, { maxLength: 30 }),
      fc.infiniteStream(fc.integer({ min: 1, max: 400 })),
      fc.option(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { nil: undefined }),
      (frames, cuts, change) => {
        const bytes = Buffer.concat([FIRST, ...frames]);
        // A wrong octet anywhere.
        if (change !== undefined) bytes[change[0] % bytes.length] = change[1];
        const whole = answering();
        const pieces = answering();
        const fault = whole.connection.receive(bytes);
        let faultOfPieces: string | undefined;
        for (let at = 0; at < bytes.length; ) {
          const length = cuts.next().value as number;
          faultOfPieces = pieces.connection.receive(bytes.subarray(at, at + length));
          at += length;
        }
        if (fault !== undefined) faults++;
        expect(faultOfPieces).toBe(fault);
        expect(pieces.calls).toEqual(whole.calls);
        expect(pieces.heard.requests).toEqual(whole.heard.requests);
        expect(pieces.heard.counts).toEqual(whole.heard.counts);
        expect(whole.connection.streams).toBeLessThanOrEqual(LIMITS.streamsMax);
        const said = taken(whole.connection);
        expect(taken(pieces.connection)).toEqual(said);
        whole.connection.pump();
        const sent = framesOf(taken(whole.connection)).filter(({ type }) => type === FRAME.data);
        answered += sent.length;
      },
    ),
    { numRuns: 1_500 },
  );
  expect(faults).toBeGreaterThan(100);
  expect(answered).toBeGreaterThan(100);
});

test("flow control is exact: what is sent is the least of what is queued and what both windows allow, in order", () => {
  const step = fc.oneof(
    fc.record({
      what: fc.constant("send" as const),
      stream: fc.nat(2),
      bytes: fc.integer({ min: 1, max: 50_000 }),
    }),
    fc.record({
      what: fc.constant("window" as const),
      stream: fc.nat(3),
      bytes: fc.integer({ min: 1, max: 20_000 }),
    }),
    fc.record({
      what: fc.constant("initial" as const),
      stream: fc.constant(0),
      bytes: fc.integer({ min: 0, max: 90_000 }),
    }),
  );
  const pattern = Buffer.from(Array.from({ length: 60_000 }, (_, at) => at % 251));
  let waited = 0;
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const { connection } = begun();
      const ids = [1, 3, 5];
      for (const id of ids) {
        connection.receive(frame(FRAME.headers, FLAG.endStream | FLAG.endHeaders, id, getBlock("/")));
        connection.respond(id, hpackEncode([":status", "200"]), false);
      }
      const queued = [0, 0, 0];
      const windows = [65_535, 65_535, 65_535];
      const numbers = [0, 0, 0];
      const got = [0, 0, 0];
      let whole = 65_535;
      let initial = 65_535;
      for (const { what, stream, bytes } of steps) {
        if (what === "send") {
          const from = numbers[stream]! % 251;
          numbers[stream]! += bytes;
          connection.send(ids[stream]!, pattern.subarray(from, from + bytes));
          queued[stream]! += bytes;
        } else if (what === "window") {
          // The fourth is the connection.
          connection.receive(frame(FRAME.windowUpdate, 0, ids[stream] ?? 0, uint32(bytes)));
          if (stream === 3) whole += bytes;
          else windows[stream]! += bytes;
        } else {
          connection.receive(frame(FRAME.settings, 0, 0, setting(4, bytes)));
          for (const index of ids.keys()) windows[index]! += bytes - initial;
          initial = bytes;
        }
        const before = [...queued];
        const wholeBefore = whole;
        for (let hasMore = true; hasMore; ) {
          connection.pump();
          const frames = framesOf(taken(connection));
          hasMore = frames.some(({ type }) => type === FRAME.data);
          for (const { type, streamId, payload } of frames) {
            if (type !== FRAME.data) continue;
            const index = ids.indexOf(streamId);
            const from = got[index]! % 251;
            got[index]! += payload.length;
            expect(payload.equals(pattern.subarray(from, from + payload.length))).toBe(true);
            queued[index]! -= payload.length;
            windows[index]! -= payload.length;
            whole -= payload.length;
          }
        }
        const possible = before.map((left, index) =>
          Math.min(left, Math.max(0, windows[index]! + before[index]! - queued[index]!)),
        );
        const allowed = Math.min(
          possible.reduce((a, b) => a + b, 0),
          wholeBefore,
        );
        const sent = before.reduce((a, b) => a + b, 0) - queued.reduce((a, b) => a + b, 0);
        expect(sent).toBe(allowed);
        if (sent < before.reduce((a, b) => a + b, 0)) waited++;
      }
    }),
    { numRuns: 60 },
  );
  expect(waited).toBeGreaterThan(20);
});

test("the preface may come in any pieces", () => {
  for (let cut = 1; cut < PREFACE.length; cut++) {
    const connection = new Http2Connection(LIMITS, new HeardRequests());
    taken(connection);
    expect(connection.receive(PREFACE.subarray(0, cut))).toBeUndefined();
    expect(
      connection.receive(Buffer.concat([PREFACE.subarray(cut), frame(FRAME.settings, 0, 0)])),
    ).toBeUndefined();
    expect(framesOf(taken(connection))).toMatchObject([{ type: FRAME.settings, flags: FLAG.ack }]);
  }
});
