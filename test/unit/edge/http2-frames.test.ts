/** Our own HTTP/2: the vectors of RFC 7541, the errors of RFC 9113, flow control. */
import { describe, expect, test } from "vitest";
import { FRAME_BYTES_MAX } from "../../../edge/core/http2/frames.ts";
import { HpackDecoder, hpackEncode } from "../../../edge/core/http2/hpack.ts";
import { begun, framesOf, LIMITS, taken } from "../../tools/http2-core.ts";
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

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");
const bounds = { fieldsMax: 64, listBytesMax: 4_096 };
const list = (text: string): string[] => text.split("|");

describe("header compression (RFC 7541)", () => {
  const requests = [
    ":method|GET|:scheme|http|:path|/|:authority|www.example.com",
    ":method|GET|:scheme|http|:path|/|:authority|www.example.com|cache-control|no-cache",
    ":method|GET|:scheme|https|:path|/index.html|:authority|www.example.com|custom-key|custom-value",
  ];
  const cookie = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
  const responses = [
    ":status|302|cache-control|private|date|Mon, 21 Oct 2013 20:13:21 GMT|location|https://www.example.com",
    ":status|307|cache-control|private|date|Mon, 21 Oct 2013 20:13:21 GMT|location|https://www.example.com",
    `:status|200|cache-control|private|date|Mon, 21 Oct 2013 20:13:22 GMT|location|https://www.example.com|content-encoding|gzip|set-cookie|${cookie}`,
  ];
  test.each([
    [
      "C.3",
      requests,
      [
        "828684410f7777772e6578616d706c652e636f6d",
        "828684be58086e6f2d6361636865",
        "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
      ],
    ],
    [
      "C.4",
      requests,
      [
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        "828684be5886a8eb10649cbf",
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
      ],
    ],
    [
      // Its table has 256 octets: a size update says so first.
      "C.6",
      responses,
      [
        "3fe101 488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
        "4883640effc1c0bf",
        "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
      ],
    ],
  ] as const)("the vectors of %s", (_name, expected, blocks) => {
    const decoder = new HpackDecoder(bounds);
    for (const [index, block] of blocks.entries())
      expect(decoder.decode(hex(block))).toEqual(list(expected[index] as string));
  });

  test.each([
    ["an index of nothing", "80"],
    ["an index beyond the table", "be"],
    ["an integer that never ends", "ffffffffffffff7f"],
    ["an integer that ends too early", "ff80"],
    ["a text longer than the block", "0085612f"],
    ["a name that is missing", "40"],
    ["a table larger than was agreed on", "3fe21f"],
    ["a size update behind a field", "8220"],
    ["the end of string in a text", "0084ffffffff00"],
    ["padding of zeroes", "00811800"],
    ["padding of eight bits", "00821fff00"],
  ])("%s breaks the connection", (_name, block) => {
    expect(new HpackDecoder(bounds).decode(hex(block))).toBe("broken");
  });

  test("a list beyond the limits is read to its end, for the table's sake", () => {
    const decoder = new HpackDecoder(bounds);
    const fields = Array.from({ length: 65 }, (_, n) => [`x-${n}`, "y"] as const);
    // The last one goes into the table.
    const block = Buffer.concat([headerBlock(fields), hex("400161 0162")]);
    expect(decoder.decode(block)).toBe("too-large");
    expect(decoder.decode(hex("be"))).toEqual(["a", "b"]);
  });

  test("a repeated block is the very same list, until the table has changed", () => {
    const decoder = new HpackDecoder(bounds);
    decoder.decode(hex("400161 0162"));
    const first = decoder.decode(hex("be"));
    expect(decoder.decode(hex("be"))).toBe(first);
    decoder.decode(hex("400163 0164"));
    expect(decoder.decode(hex("be"))).toEqual(["c", "d"]);
  });

  test("an answer uses the static table, the shorter text, and never indexes cookies", () => {
    expect(hpackEncode([":status", "200", "age", "5", "x", "\u0001"])).toEqual(
      new Uint8Array(hex("88 0f06 0135 00 0178 0101")),
    );
    expect(hpackEncode(["set-cookie", "a"])[0]).toBe(0x1f);
  });
});

const GET = frame(FRAME.headers, FLAG.endStream | FLAG.endHeaders, 1, getBlock("/"));
const post = (length?: string): Buffer =>
  frame(
    FRAME.headers,
    FLAG.endHeaders,
    1,
    headerBlock([
      [":method", "POST"],
      [":scheme", "https"],
      [":authority", "a.example"],
      [":path", "/"],
      ...(length === undefined ? [] : [["content-length", length] as const]),
    ]),
  );
const bytes = (length: number): Buffer => Buffer.alloc(length);

describe("what a client may not do (RFC 9113)", () => {
  test.each([
    ["a frame that is too long", 6, [frame(FRAME.data, 0, 1, bytes(FRAME_BYTES_MAX + 1))]],
    ["SETTINGS of an odd length", 6, [frame(FRAME.settings, 0, 0, bytes(5))]],
    ["SETTINGS of a stream", 1, [frame(FRAME.settings, 0, 1)]],
    ["an acknowledgement that says something", 6, [frame(FRAME.settings, FLAG.ack, 0, bytes(6))]],
    ["a window beyond all bounds", 3, [frame(FRAME.settings, 0, 0, setting(4, 2 ** 31))]],
    ["a push setting of 2", 1, [frame(FRAME.settings, 0, 0, setting(2, 2))]],
    ["frames of one octet", 1, [frame(FRAME.settings, 0, 0, setting(5, 1))]],
    ["a short PING", 6, [frame(FRAME.ping, 0, 0, bytes(7))]],
    ["PING of a stream", 1, [frame(FRAME.ping, 0, 1, bytes(8))]],
    ["an increment of nothing", 1, [frame(FRAME.windowUpdate, 0, 0, uint32(0))]],
    ["a short WINDOW_UPDATE", 6, [frame(FRAME.windowUpdate, 0, 0, bytes(3))]],
    ["WINDOW_UPDATE of a stream that never was", 1, [frame(FRAME.windowUpdate, 0, 1, uint32(1))]],
    ["a connection's window that overflows", 3, [frame(FRAME.windowUpdate, 0, 0, uint32(2 ** 31 - 1))]],
    ["DATA of no stream", 1, [frame(FRAME.data, 0, 0)]],
    ["DATA of a stream that never was", 1, [frame(FRAME.data, 0, 3)]],
    ["more padding than payload", 1, [post(), frame(FRAME.data, 8, 1, Buffer.from([5, 1, 2]))]],
    ["a stream of our own", 1, [frame(FRAME.headers, FLAG.endHeaders, 2, getBlock("/"))]],
    ["HEADERS of no stream", 1, [frame(FRAME.headers, FLAG.endHeaders, 0, getBlock("/"))]],
    ["a broken header block", 9, [frame(FRAME.headers, FLAG.endHeaders, 1, hex("80"))]],
    ["CONTINUATION of nothing", 1, [frame(FRAME.continuation, FLAG.endHeaders, 1)]],
    [
      "a frame within a header block",
      1,
      [frame(FRAME.headers, 0, 1, getBlock("/")), frame(FRAME.ping, 0, 0, bytes(8))],
    ],
    ["PUSH_PROMISE", 1, [frame(FRAME.pushPromise, 0, 1, bytes(4))]],
    ["a reset of a stream that never was", 1, [frame(FRAME.rstStream, 0, 1, uint32(8))]],
    ["a short reset", 6, [GET, frame(FRAME.rstStream, 0, 1, bytes(3))]],
    ["a short GOAWAY", 6, [frame(FRAME.goaway, 0, 0, bytes(7))]],
    [
      "content beyond the connection's window",
      3,
      [post(), ...Array.from({ length: 7 }, () => frame(FRAME.data, 0, 1, bytes(16_000)))],
    ],
  ] as const)("%s: GOAWAY with %i", (_name, code, frames) => {
    const { connection } = begun();
    expect(connection.receive(Buffer.concat(frames))).toBe("protocol");
    const last = framesOf(taken(connection)).at(-1);
    expect(last?.type).toBe(FRAME.goaway);
    expect(last?.payload.readUInt32BE(4)).toBe(code);
    // What comes after it is not looked at.
    expect(connection.receive(frame(FRAME.ping, 0, 0, bytes(8)))).toBe("protocol");
    expect(taken(connection)).toHaveLength(0);
  });

  test.each([
    ["an increment of nothing", 1, [post(), frame(FRAME.windowUpdate, 0, 1, uint32(0))]],
    ["a window that overflows", 3, [post(), frame(FRAME.windowUpdate, 0, 1, uint32(2 ** 31 - 1))]],
    ["PRIORITY that is too long", 6, [post(), frame(FRAME.priority, 0, 1, bytes(6))]],
    ["more content than stated", 1, [post("2"), frame(FRAME.data, 0, 1, bytes(3))]],
    ["less content than stated", 1, [post("2"), frame(FRAME.data, FLAG.endStream, 1, bytes(1))]],
    [
      "stated content that is not sent",
      1,
      [frame(FRAME.headers, 5, 1, getBlock("/", "a", [["content-length", "1"]]))],
    ],
    ["content after the end", 5, [GET, frame(FRAME.data, 0, 1, bytes(1))]],
    ["fields after the end", 5, [GET, frame(FRAME.headers, 5, 1, headerBlock([["a", "b"]]))]],
    [
      "fields after content, without an end",
      1,
      [post(), frame(FRAME.headers, FLAG.endHeaders, 1, headerBlock([["a", "b"]]))],
    ],
    ["a pseudo field after content", 1, [post(), frame(FRAME.headers, 5, 1, headerBlock([[":path", "/"]]))]],
    [
      "no path",
      1,
      [
        frame(
          FRAME.headers,
          5,
          1,
          headerBlock([
            [":method", "GET"],
            [":scheme", "https"],
          ]),
        ),
      ],
    ],
    [
      "two paths",
      1,
      [frame(FRAME.headers, 5, 1, Buffer.concat([getBlock("/"), headerBlock([[":path", "/a"]])]))],
    ],
    [
      "an unknown pseudo field",
      1,
      [frame(FRAME.headers, 5, 1, Buffer.concat([getBlock("/"), headerBlock([[":status", "1"]])]))],
    ],
    [
      "a pseudo field behind others",
      1,
      [
        frame(
          FRAME.headers,
          5,
          1,
          headerBlock([
            ["a", "b"],
            [":method", "GET"],
            [":scheme", "https"],
            [":path", "/"],
          ]),
        ),
      ],
    ],
    ["an upper-case name", 1, [frame(FRAME.headers, 5, 1, getBlock("/", "a", [["A", "b"]]))]],
    [
      "a tunnel with a path",
      1,
      [
        frame(
          FRAME.headers,
          5,
          1,
          headerBlock([
            [":method", "CONNECT"],
            [":authority", "a"],
            [":path", "/"],
          ]),
        ),
      ],
    ],
    [
      "a list that is far too long",
      11,
      [
        frame(
          FRAME.headers,
          5,
          1,
          getBlock(
            "/",
            "a",
            Array.from({ length: 64 }, () => ["a", "b"] as const),
          ),
        ),
      ],
    ],
  ] as const)("%s: the stream ends with %i, the connection goes on", (_name, code, frames) => {
    const { connection, heard } = begun();
    expect(connection.receive(Buffer.concat(frames))).toBeUndefined();
    const resets = framesOf(taken(connection)).filter(({ type }) => type === FRAME.rstStream);
    expect(resets.map(({ payload }) => payload.readUInt32BE(0))).toEqual([code]);
    expect(heard.counts.reset).toBe(1);
    expect(heard.requests.get(1)?.end ?? code).toBe(code);
    expect(connection.streams).toBe(0);
    connection.receive(frame(FRAME.headers, 5, 3, getBlock("/after")));
    expect(heard.requests.get(3)?.end).toBe("ended");
  });

  test("what is no preface, or goes on without SETTINGS, is no HTTP/2", () => {
    for (const wrong of [
      Buffer.from("GET / HTTP/1.1\r\n"),
      Buffer.concat([PREFACE, frame(FRAME.ping, 0, 0, bytes(8))]),
      Buffer.concat([PREFACE, frame(FRAME.settings, FLAG.ack, 0)]),
    ]) {
      const { connection } = begun();
      const fresh = new (connection.constructor as new (...args: unknown[]) => typeof connection)(
        LIMITS,
        begun().heard,
      );
      taken(fresh);
      expect(fresh.receive(wrong)).toBe("protocol");
      expect(framesOf(taken(fresh)).at(-1)?.payload.readUInt32BE(4)).toBe(1);
    }
  });

  test("a header block without end is given up (CVE-2024-27316)", () => {
    const { connection } = begun();
    connection.receive(frame(FRAME.headers, FLAG.endStream, 1, getBlock("/")));
    let fault: string | undefined;
    let frames = 0;
    for (; fault === undefined && frames < 100; frames++)
      fault = connection.receive(frame(FRAME.continuation, 0, 1));
    expect(fault).toBe("header-flood");
    expect(frames).toBeLessThanOrEqual(16);
  });

  test("answers that nobody takes end the connection", () => {
    const { connection } = begun();
    let fault: string | undefined;
    for (let n = 0; fault === undefined && n < 1_000; n++)
      fault = connection.receive(
        Buffer.concat(Array.from({ length: 500 }, () => frame(FRAME.ping, 0, 0, bytes(8)))),
      );
    expect(fault).toBe("output-flood");
    expect(connection.output.length).toBeLessThan(3 * 2 ** 20);
  });
});

describe("streams", () => {
  test("padding, priorities, unknown frames and settings, and trailers are read over", () => {
    const { connection, heard } = begun();
    const block = post("4").subarray(9);
    connection.receive(
      Buffer.concat([
        frame(FRAME.priority, 0, 3, bytes(5)),
        frame(0xbb, 0xff, 77, bytes(9)),
        frame(FRAME.settings, 0, 0, setting(0xab, 1)),
        frame(
          FRAME.headers,
          FLAG.endHeaders | 8 | 0x20,
          1,
          Buffer.concat([Buffer.from([3]), bytes(5), block, bytes(3)]),
        ),
        frame(FRAME.data, 8, 1, Buffer.concat([Buffer.from([2]), Buffer.from("abcd"), bytes(2)])),
        frame(FRAME.headers, 5, 1, headerBlock([["x-sum", "1"]])),
      ]),
    );
    expect(heard.requests.get(1)).toMatchObject({ end: "ended", content: [Buffer.from("abcd")] });
    expect(heard.counts).toEqual({ reset: 0, ping: 0, settings: 2, request: 1 });
  });

  test("more at once than allowed are refused; after GOAWAY nothing is begun, and what was is finished", () => {
    const { connection, heard } = begun();
    for (let n = 0; n < 10; n++) connection.receive(frame(FRAME.headers, 5, 1 + 2 * n, getBlock("/")));
    const refused = framesOf(taken(connection)).filter(({ type }) => type === FRAME.rstStream);
    expect(refused.map(({ payload }) => payload.readUInt32BE(0))).toEqual([7, 7]);
    connection.goaway(0, true);
    connection.receive(frame(FRAME.headers, 5, 21, getBlock("/late")));
    expect(heard.requests.size).toBe(8);
    connection.respond(1, hpackEncode([":status", "204"]), true);
    expect(connection.streams).toBe(7);
    expect(framesOf(taken(connection)).map(({ type, streamId }) => [type, streamId])).toEqual([
      [FRAME.goaway, 0],
      [FRAME.headers, 1],
    ]);
  });

  test("an answer at once needs no stream, and counts against the connection's window", () => {
    const { connection, heard } = begun();
    const content = bytes(16_000);
    const asked: number[] = [];
    heard.atOnce = (_raw, bytesMax) => {
      asked.push(bytesMax);
      return bytesMax < content.length ? undefined : { block: hpackEncode([":status", "200"]), content };
    };
    for (let n = 0; n < 5; n++) {
      connection.receive(frame(FRAME.headers, 5, 1 + 2 * n, getBlock("/")));
      taken(connection);
    }
    // 65,535 octets: four of them, and what is left is too little for the fifth.
    expect(asked).toEqual([16_384, 16_384, 16_384, 16_384, 65_535 - 4 * 16_000]);
    expect([...heard.requests.keys()]).toEqual([9]);
  });

  test("a window below zero has to be filled first (section 6.9.2)", () => {
    const { connection } = begun();
    connection.receive(GET);
    connection.respond(1, hpackEncode([":status", "200"]), false);
    connection.send(1, bytes(20));
    connection.pump();
    connection.receive(frame(FRAME.settings, 0, 0, setting(4, 10)));
    connection.send(1, bytes(20));
    connection.end(1);
    connection.pump();
    expect(framesOf(taken(connection)).filter(({ type }) => type === FRAME.data).length).toBe(1);
    connection.receive(frame(FRAME.windowUpdate, 0, 1, uint32(10)));
    connection.pump();
    expect(framesOf(taken(connection))).toEqual([]);
    connection.receive(frame(FRAME.windowUpdate, 0, 1, uint32(25)));
    connection.pump();
    const [data, ...more] = framesOf(taken(connection));
    expect(data).toMatchObject({ type: FRAME.data, flags: FLAG.endStream, streamId: 1 });
    expect(data?.payload.length).toBe(20);
    expect(more).toEqual([]);
    expect(connection.streams).toBe(0);
  });

  test("streams take turns, a frame each, across pumps; one whose window is shut is passed by", () => {
    const { connection } = begun(LIMITS, setting(4, 200_000));
    connection.receive(frame(FRAME.windowUpdate, 0, 0, uint32(1_000_000)));
    for (const id of [1, 3, 5, 7]) {
      connection.receive(frame(FRAME.headers, 5, id, getBlock("/")));
      connection.respond(id, hpackEncode([":status", "200"]), false);
    }
    taken(connection);
    connection.receive(frame(FRAME.settings, 0, 0, setting(4, 0)));
    for (const id of [1, 3, 5]) connection.receive(frame(FRAME.windowUpdate, 0, id, uint32(200_000)));
    taken(connection);
    for (const id of [7, 1, 3, 5]) connection.send(id, bytes(100_000));
    const order: number[] = [];
    for (let round = 0; round < 3; round++) {
      connection.pump();
      order.push(...framesOf(taken(connection)).map(({ streamId }) => streamId));
    }
    expect(order).toEqual([1, 3, 5, 1, 3, 5, 1, 3, 5]);
  });

  test("content for a stream that was given up is no flood, as far as its window went", () => {
    const { connection, heard } = begun();
    connection.receive(frame(FRAME.headers, FLAG.endHeaders, 1, getBlock("/")));
    connection.receive(frame(FRAME.data, 0, 1, bytes(10_000)));
    connection.reset(1, 0);
    for (let n = 0; n < 12; n++) connection.receive(frame(FRAME.data, 0, 1, bytes(10_000)));
    // What came before counts as content; what was on its way is what the window of 100,000 had left.
    expect(heard.discardedBytes).toBe(90_000);
    const windows = framesOf(taken(connection)).filter(({ type }) => type === FRAME.windowUpdate);
    const credited = windows.reduce((sum, { payload }) => sum + payload.readUInt32BE(0), 0);
    expect(credited).toBeGreaterThanOrEqual(100_000);
  });

  test("a header block that does not fit into a frame goes on in CONTINUATION", () => {
    const { connection } = begun();
    connection.receive(GET);
    const value = "\u0001".repeat(40_000);
    connection.respond(1, hpackEncode([":status", "200", "x", value]), true);
    const frames = framesOf(taken(connection));
    expect(frames.map(({ type, flags }) => [type, flags])).toEqual([
      [FRAME.headers, FLAG.endStream],
      [FRAME.continuation, 0],
      [FRAME.continuation, FLAG.endHeaders],
    ]);
    const decoder = new HpackDecoder({ fieldsMax: 10, listBytesMax: 100_000 });
    expect(decoder.decode(Buffer.concat(frames.map(({ payload }) => payload)))).toEqual([
      ":status",
      "200",
      "x",
      value,
    ]);
  });
});
