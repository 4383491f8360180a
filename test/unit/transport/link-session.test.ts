/** Sessions of the link protocol: the life of a stream, faults by name, flow control, who goes first, timers. */
import { describe, expect, test } from "vitest";
import { LinkSession } from "../../../transport/core/link/session.ts";
import {
  DATA_BYTES_MAX,
  linkDefaults,
  type LinkEvent,
  sessionReasons,
  type SessionReason,
  streamReasons,
  WINDOW_BYTES_MIN,
} from "../../../transport/core/link/words.ts";
import {
  at,
  eventsOf,
  get,
  GET_ROOT,
  HELLO,
  LinkPair,
  OK,
  openedSession,
  outputOf,
  wireFrame,
  wireHead,
  wireNumber,
} from "../../tools/link-core.ts";

const kindsOf = (events: readonly LinkEvent[]): string[] =>
  events.map((event) => (event.kind === "data" && event.isEnd ? "data/end" : event.kind));

/** Opens a stream and carries it over. */
function asked(pair: LinkPair, head = get(), isEnd = true): number {
  const id = pair.client.request(head, isEnd, at(0));
  if (typeof id === "string") throw new Error(id);
  pair.server.handleBytes(outputOf(pair.client), at(0));
  eventsOf(pair.server);
  return id;
}

describe("a stream", () => {
  test("asks, and is answered with a head, content and trailers", () => {
    const pair = LinkPair.open();
    const head = get("/a", { method: "POST", fields: ["content-length", "5"] });
    const id = pair.client.request(head, false, at(0)) as number;
    pair.client.send(id, Buffer.from("hello"));
    pair.client.end(id);
    pair.settle();
    expect(eventsOf(pair.server)).toEqual([
      { kind: "request", id, head, isEnd: false },
      { kind: "data", id, bytes: Buffer.from("hello"), isEnd: true },
    ]);
    pair.server.respond(id, { status: 103, fields: ["link", "</a>"] }, false);
    pair.server.respond(id, { status: 200, fields: ["age", "0"] }, false);
    pair.server.send(id, Buffer.from("one"));
    expect(pair.server.end(id, ["etag", '"x"'])).toBeUndefined();
    pair.settle();
    expect(eventsOf(pair.client)).toEqual([
      { kind: "response", id, head: { status: 103, fields: ["link", "</a>"] }, isEnd: false },
      { kind: "response", id, head: { status: 200, fields: ["age", "0"] }, isEnd: false },
      { kind: "data", id, bytes: Buffer.from("one"), isEnd: false },
      { kind: "trailers", id, fields: ["etag", '"x"'] },
    ]);
    expect([pair.client.streams, pair.server.streams]).toEqual([0, 0]);
  });

  test("may be answered while its request is still being sent: each half ends by itself", () => {
    const pair = LinkPair.open();
    const id = asked(pair, get("/", { method: "POST" }), false);
    pair.server.respond(id, { status: 200, fields: [] }, false);
    pair.server.send(id, Buffer.from("early"));
    pair.settle();
    expect(kindsOf(eventsOf(pair.client))).toEqual(["response", "data"]);
    pair.client.send(id, Buffer.from("late"));
    pair.client.end(id);
    pair.settle();
    expect(kindsOf(eventsOf(pair.server))).toEqual(["drained", "data/end"]);
    pair.server.end(id);
    pair.settle();
    expect(kindsOf(eventsOf(pair.client))).toEqual(["data/end"]);
    expect([pair.client.streams, pair.server.streams]).toEqual([0, 0]);
  });

  test("that is answered before its content was read stops the content, not the answer", () => {
    const pair = LinkPair.open();
    const id = asked(pair, get("/", { method: "POST" }), false);
    pair.server.respond(id, { status: 413, fields: [] }, true);
    pair.settle();
    expect(eventsOf(pair.client)).toEqual([
      { kind: "response", id, head: { status: 413, fields: [] }, isEnd: true },
      { kind: "stopped", id, reason: "not-needed" },
    ]);
    pair.client.send(id, Buffer.from("nobody wants it"));
    expect(pair.client.hasOutput).toBe(false);
    expect([pair.client.streams, pair.server.streams]).toEqual([0, 0]);
  });

  test.each(["client", "server"] as const)(
    "that the %s gives up is gone on both sides, with what waited",
    (who) => {
      const pair = LinkPair.open();
      const id = asked(pair);
      pair.server.respond(id, { status: 200, fields: [] }, false);
      pair.server.send(id, Buffer.alloc(50_000_000));
      pair.server.pollTransmit(Buffer.alloc(40_000));
      pair[who].cancel(id, "given-up");
      const other = who === "client" ? pair.server : pair.client;
      pair.settle();
      expect(kindsOf(eventsOf(other))).toContain("cancelled");
      expect([pair.client.streams, pair.server.streams]).toEqual([0, 0]);
      expect(pair.server.queuedBytes(id)).toBe(0);
      expect([pair.client.endReason, pair.server.endReason]).toEqual([undefined, undefined]);
    },
  );

  test("the answer to HEAD, a 204 and a 304 may state a length and have no content", () => {
    const pair = LinkPair.open();
    for (const [method, status] of [
      ["HEAD", 200],
      ["GET", 304],
      ["GET", 204],
    ] as const) {
      const id = asked(pair, get("/", { method }));
      pair.server.respond(id, { status, fields: ["content-length", "1000"] }, true);
      pair.settle();
      expect(kindsOf(eventsOf(pair.client))).toEqual(["response"]);
    }
  });
});

describe("a session ends by name", () => {
  const data = (id: number, bytes: number) => wireFrame(3, id, Buffer.alloc(bytes));
  const head = wireFrame(0x12, 1, GET_ROOT);
  test.each<[string, string, Buffer]>([
    ["hello-first", "a request before HELLO", head],
    ["hello-first", "content before HELLO", data(1, 1)],
    ["hello-first", "a second HELLO", Buffer.concat([HELLO, HELLO])],
    ["version", "another version", wireFrame(1, 0, Buffer.of(2))],
    ["hello-value", "fewer streams than every side may count on", wireFrame(1, 0, Buffer.of(1, 1, 1))],
    [
      "hello-value",
      "a smaller window",
      wireFrame(1, 0, Buffer.concat([Buffer.of(1, 2), wireNumber(65_536)])),
    ],
    ["number", "a setting without a value", wireFrame(1, 0, Buffer.of(1, 1))],
    ["frame-type", "an unknown frame", Buffer.concat([HELLO, wireFrame(12, 0)])],
    [
      "frame-type",
      "a rest of what did not come by UDP",
      Buffer.concat([HELLO, wireFrame(11, 1, Buffer.of(0, 1))]),
    ],
    ["frame-type", "UDP that was not offered", Buffer.concat([HELLO, wireFrame(10, 0, Buffer.of(1))])],
    ["hello-value", "a port that is none", wireFrame(1, 0, Buffer.of(1, 3, 0))],
    ["hello-value", "a port twice", wireFrame(1, 0, Buffer.of(1, 3, 1, 3, 1))],
    ["frame-flags", "text of HTTP/1.1", Buffer.from("GET / HTTP/1.1\r\n\r\n")],
    ["frame-flags", "an unknown flag", Buffer.concat([HELLO, wireFrame(0x22, 1, GET_ROOT)])],
    ["frame-flags", "an end where none can be", Buffer.concat([HELLO, wireFrame(0x17, 0, Buffer.alloc(4))])],
    ["frame-length", "content of no bytes and no end", Buffer.concat([HELLO, head, data(1, 0)])],
    [
      "frame-length",
      "content longer than may be",
      Buffer.concat([HELLO, head, data(1, DATA_BYTES_MAX + 1).subarray(0, 9)]),
    ],
    [
      "frame-length",
      "a head longer than may be",
      Buffer.concat([HELLO, Buffer.of(2, 1), wireNumber(65_537)]),
    ],
    ["number", "a number of eight bytes", Buffer.concat([HELLO, Buffer.of(3, 0xc0)])],
    ["number", "a number in a longer form", Buffer.concat([HELLO, Buffer.of(3, 0x40, 1, 0)])],
    ["number", "credit of nothing", Buffer.concat([HELLO, head, wireFrame(5, 1, Buffer.of(0))])],
    ["stream-id", "a stream of no number", Buffer.concat([HELLO, wireFrame(0x12, 0, GET_ROOT)])],
    ["stream-id", "a ping of a stream", Buffer.concat([HELLO, wireFrame(7, 1, Buffer.alloc(4))])],
    ["stream-id", "a number that is not the next", Buffer.concat([HELLO, wireFrame(0x12, 2, GET_ROOT)])],
    ["stream-id", "content of a stream that is not", Buffer.concat([HELLO, data(1, 1)])],
    ["stream-id", "credit of a stream that is not", Buffer.concat([HELLO, wireFrame(5, 1, Buffer.of(1))])],
    [
      "credit-overflow",
      "credit for ever",
      Buffer.concat([HELLO, head, ...[1, 2, 3].map(() => wireFrame(5, 1, wireNumber(2 ** 30 - 1)))]),
    ],
  ])("%s: %s", (reason, _what, bytes) => {
    const session = new LinkSession("server", linkDefaults, at(0));
    outputOf(session);
    session.handleBytes(bytes, at(0));
    expect(session.endReason).toBe(reason);
    expect(eventsOf(session).at(-1)).toEqual({ kind: "closed", reason });
    // The other side is told which one it was.
    const lastId = told(bytes) ? 1 : 0;
    const goaway = wireFrame(9, 0, Buffer.of(sessionReasons.indexOf(reason as SessionReason), lastId));
    expect(outputOf(session).subarray(-5)).toEqual(goaway);
  });

  /** Whether a request that can be served is among them. */
  function told(bytes: Buffer): boolean {
    return bytes.indexOf(Buffer.concat([HELLO, wireFrame(0x12, 1, GET_ROOT)])) >= 0;
  }

  test("the reason reaches the other side", () => {
    const client = openedSession("client");
    const id = client.request(get(), true, at(0)) as number;
    client.handleBytes(wireFrame(9, 0, Buffer.of(sessionReasons.indexOf("cancel-flood"), 0)), at(0));
    expect(eventsOf(client)).toEqual([
      { kind: "cancelled", id, reason: "session-lost" },
      { kind: "closed", reason: "cancel-flood" },
    ]);
  });

  test("UDP is agreed on by who offers it: each time under another number, and not too often", () => {
    const offering = { ...linkDefaults, udpPort: 8_080 };
    const client = new LinkSession("client", linkDefaults, at(0));
    const server = new LinkSession("server", offering, at(0));
    expect(client.peerUdpPort).toBeUndefined();
    client.handleBytes(outputOf(server), at(0));
    server.handleBytes(outputOf(client), at(0));
    expect([client.peerUdpPort, server.peerUdpPort]).toEqual([8_080, undefined]);
    eventsOf(server);
    expect([client.announceUdp(), client.announceUdp()]).toEqual([1, 2]);
    server.handleBytes(outputOf(client), at(0));
    expect(eventsOf(server)).toEqual([
      { kind: "udp", context: 1 },
      { kind: "udp", context: 2 },
    ]);
    for (let n = 0; n < 6; n++) client.announceUdp();
    server.handleBytes(outputOf(client), at(0));
    expect([eventsOf(server).length, server.endReason]).toEqual([6, undefined]);
    client.announceUdp();
    server.handleBytes(outputOf(client), at(1_000));
    expect(server.endReason).toBe("control-flood");
  });

  test.each([
    ["number", "a context that was there", [2, 2]],
    ["number", "an older one", [2, 1]],
    ["number", "none", [0]],
  ] as const)("%s: UDP under %s", (reason, _what, contexts) => {
    const session = openedSession("server", { udpPort: 1 });
    for (const context of contexts) session.handleBytes(wireFrame(10, 0, Buffer.of(context)), at(0));
    expect(session.endReason).toBe(reason);
  });

  test("the rest of an answer by UDP comes on a stream of TLS, without a head, from where it was", () => {
    const tls = LinkPair.open({ udpPort: 1 });
    const udp = LinkPair.open();
    const id = asked(udp);
    udp.server.respond(id, { status: 200, fields: ["content-length", "6"] }, false);
    udp.server.send(id, Buffer.from("abc"));
    udp.settle();
    udp.server.send(id, Buffer.from("def"));
    udp.server.end(id);
    expect(tls.client.move(7, id, at(0))).toBe(1);
    tls.settle();
    expect(eventsOf(tls.server)).toEqual([{ kind: "move", id: 1, channel: 7, stream: id }]);
    expect(udp.server.takeBack(id)).toEqual({ content: [Buffer.from("def")], isEnd: true });
    udp.server.cancel(id, "moved");
    tls.server.send(1, Buffer.from("def"));
    tls.server.end(1);
    udp.settle();
    tls.settle();
    expect(eventsOf(udp.client).slice(1)).toEqual([
      { kind: "data", id, bytes: Buffer.from("abc"), isEnd: false },
      { kind: "cancelled", id, reason: "moved" },
    ]);
    expect(eventsOf(tls.client)).toEqual([{ kind: "data", id: 1, bytes: Buffer.from("def"), isEnd: true }]);
    expect([udp.client, udp.server, tls.client, tls.server].map(({ streams }) => streams)).toEqual([
      0, 0, 0, 0,
    ]);
    expect(udp.server.takeBack(id)).toBeUndefined();
  });

  test("nothing is taken back of what has no head", () => {
    const pair = LinkPair.open();
    const id = asked(pair);
    expect(pair.server.takeBack(id)).toBeUndefined();
    expect(pair.server.streams).toBe(1);
  });

  test.each([
    ["frame-length", "without a stream", [0]],
    ["number", "of stream 0", [0, 0]],
    ["frame-length", "of too much", [0, 0x80, 0, 0x40, 0, 0]],
  ] as const)("%s: a rest %s", (reason, _what, payload) => {
    const session = openedSession("server", { udpPort: 1 });
    session.handleBytes(wireFrame(11, 1, Buffer.from(payload)), at(0));
    expect(session.endReason).toBe(reason);
  });

  test("frame-type: UDP to a client", () => {
    const client = openedSession("client", { udpPort: 1 });
    client.handleBytes(wireFrame(10, 0, Buffer.of(1)), at(0));
    expect(client.endReason).toBe("frame-type");
  });

  test("streams-exceeded: one more than HELLO says", () => {
    const session = openedSession("server", { streamsMax: 100 });
    for (let id = 1; id <= 101; id++) {
      expect(session.endReason).toBeUndefined();
      session.handleBytes(wireFrame(0x12, id, GET_ROOT), at(0));
    }
    expect(session.endReason).toBe("streams-exceeded");
  });

  test("credit-exceeded: a byte more than the window", () => {
    const session = openedSession("server", { windowBytes: WINDOW_BYTES_MIN });
    session.handleBytes(wireFrame(2, 1, GET_ROOT), at(0));
    for (let bytes = 0; bytes < WINDOW_BYTES_MIN; bytes += DATA_BYTES_MAX)
      session.handleBytes(data(1, DATA_BYTES_MAX), at(0));
    expect(session.endReason).toBeUndefined();
    session.handleBytes(data(1, 1), at(0));
    expect(session.endReason).toBe("credit-exceeded");
  });

  test("cancel-flood: streams that are given up faster than may be", () => {
    const session = openedSession("server");
    let id = 0;
    const flood = (count: number, nowMs: number): void => {
      for (let left = count; left > 0; left--)
        session.handleBytes(
          Buffer.concat([wireFrame(0x12, ++id, GET_ROOT), wireFrame(6, id, Buffer.of(0))]),
          at(nowMs),
        );
    };
    flood(512, 0);
    flood(128, 1_000);
    expect(session.endReason).toBeUndefined();
    flood(1, 1_000);
    expect(session.endReason).toBe("cancel-flood");
  });

  test("control-flood: pings from who does not read", () => {
    const session = openedSession("server");
    const pings = Buffer.concat(Array.from({ length: 1_024 }, () => wireFrame(7, 0, Buffer.alloc(4))));
    for (let round = 0; round < 3; round++) {
      session.handleBytes(pings, at(0));
      expect(outputOf(session)).toHaveLength(1_024 * 7);
    }
    session.handleBytes(pings, at(0));
    session.handleBytes(wireFrame(7, 0, Buffer.alloc(4)), at(0));
    expect(session.endReason).toBe("control-flood");
  });
});

describe("a stream alone is refused by name", () => {
  const reasonIn = (output: Buffer): string | undefined => streamReasons[output.at(-1) as number];
  test.each<[string, string, readonly Buffer[]]>([
    ["path", "a head that cannot be", [wireFrame(0x12, 1, wireHead([0x11, 1, 1], "ab"))]],
    ["order", "a second head", [wireFrame(2, 1, GET_ROOT), wireFrame(2, 1, GET_ROOT)]],
    ["order", "content after its end", [wireFrame(0x12, 1, GET_ROOT), wireFrame(3, 1, Buffer.of(1))]],
    ["order", "trailers after its end", [wireFrame(0x12, 1, GET_ROOT), wireFrame(4, 1, Buffer.of(0))]],
    ["head-form", "trailers that cannot be", [wireFrame(2, 1, GET_ROOT), wireFrame(4, 1, Buffer.of(9))]],
    [
      "content-length",
      "less content than stated",
      [wireFrame(2, 1, withLength("3")), wireFrame(0x13, 1, Buffer.alloc(2))],
    ],
    [
      "content-length",
      "more content than stated",
      [wireFrame(2, 1, withLength("3")), wireFrame(3, 1, Buffer.alloc(4))],
    ],
    ["content-length", "an end where content was stated", [wireFrame(0x12, 1, withLength("3"))]],
    ["content-length", "a length that is none", [wireFrame(2, 1, withLength("+3"))]],
    ["field-name", "a length in trailers", [wireFrame(2, 1, GET_ROOT), wireFrame(4, 1, lengthOf("3"))]],
  ])("%s: %s", (reason, _what, frames) => {
    const session = openedSession("server");
    session.handleBytes(Buffer.concat(frames), at(0));
    const refusal = outputOf(session);
    expect(refusal.subarray(0, 3)).toEqual(Buffer.of(6, 1, 1));
    expect(reasonIn(refusal)).toBe(reason);
    expect([session.streams, session.endReason]).toEqual([0, undefined]);
    // The next one is none the worse for it, and what comes late for this one is read over.
    session.handleBytes(Buffer.concat([wireFrame(3, 1, Buffer.of(1)), wireFrame(0x12, 2, GET_ROOT)]), at(0));
    expect(eventsOf(session).at(-1)).toMatchObject({ kind: "request", id: 2 });
  });

  test.each<[string, string, readonly Buffer[]]>([
    ["order", "content before the head", [wireFrame(3, 1, Buffer.of(1))]],
    ["order", "a second final head", [wireFrame(2, 1, OK), wireFrame(2, 1, OK)]],
    ["order", "an interim head that ends", [wireFrame(0x12, 1, wireHead([0, 103], ""))]],
    ["status", "a status that is none", [wireFrame(2, 1, wireHead([0, 9], ""))]],
  ])("by the client: %s: %s", (reason, _what, frames) => {
    const session = openedSession("client");
    const id = session.request(get(), true, at(0)) as number;
    outputOf(session);
    session.handleBytes(Buffer.concat(frames), at(0));
    expect(eventsOf(session).at(-1)).toEqual({ kind: "cancelled", id, reason });
    expect(reasonIn(outputOf(session))).toBe(reason);
  });

  function withLength(length: string): Buffer {
    // Known name 19.
    return wireHead([0x11, 1, 1, 0x40 | 19, length.length], `a/${length}`);
  }
  function lengthOf(length: string): Buffer {
    return wireHead([0x40 | 19, length.length], length);
  }
});

describe("who goes first", () => {
  /** The streams of content frames, in their order. */
  function orderOf(output: Buffer): number[] {
    const order: number[] = [];
    for (let from = 0; from < output.byteLength; ) {
      const [first = 0, id = 0, length = 0] = output.subarray(from);
      const isLong = length >= 0x80;
      const bytes = isLong
        ? output.readUInt32BE(from + 2) & 0x3fff_ffff
        : length >= 0x40
          ? output.readUInt16BE(from + 2) & 0x3fff
          : length;
      if ((first & 0x0f) === 3) order.push(id);
      from += 2 + (isLong ? 4 : length >= 0x40 ? 2 : 1) + bytes;
    }
    return order;
  }
  function answering(pair: LinkPair, bytes: number, urgency: "live" | "normal" | "background"): number {
    const id = asked(pair, get("/", { urgency }));
    pair.server.respond(id, { status: 200, fields: [] }, false);
    pair.server.send(id, Buffer.alloc(bytes));
    pair.server.end(id);
    return id;
  }

  test("live, then small, then large, then background; and the last ones get their eighth", () => {
    const pair = LinkPair.open({ windowBytes: 8 * 2 ** 20 });
    const background = answering(pair, 1_000_000, "background");
    const large = answering(pair, 1_000_000, "normal");
    // What it sends at first is as good as small.
    pair.server.pollTransmit(Buffer.alloc(5 * DATA_BYTES_MAX));
    const live = answering(pair, 4_000_000, "live");
    const small = answering(pair, 1_000, "normal");
    const order = orderOf(outputOf(pair.server));
    expect(order.indexOf(live)).toBeLessThan(order.indexOf(small));
    expect(order.indexOf(small)).toBeLessThanOrEqual(10);
    const whileLive = order.slice(0, order.lastIndexOf(live));
    for (const id of [large, background]) {
      const share = whileLive.filter((one) => one === id).length / whileLive.length;
      expect(share).toBeGreaterThan(0.08);
      expect(share).toBeLessThan(0.2);
    }
    // After that the large one has what there is, but for the eighth of the last.
    const afterwards = order.slice(order.lastIndexOf(live) + 1, order.lastIndexOf(large));
    expect(afterwards.filter((id) => id === large).length).toBeGreaterThan(
      4 * afterwards.filter((id) => id === background).length,
    );
  });

  test("streams alike take turns", () => {
    const pair = LinkPair.open();
    const ids = [1, 2, 3].map(() => answering(pair, 3 * DATA_BYTES_MAX, "normal"));
    expect(orderOf(outputOf(pair.server, 2 ** 20))).toEqual([...ids, ...ids, ...ids]);
  });

  test("one whose reader has stopped holds nobody up", () => {
    const pair = LinkPair.open({ windowBytes: WINDOW_BYTES_MIN });
    const stuck = answering(pair, 10_000_000, "live");
    pair.settle();
    expect(pair.server.queuedBytes(stuck)).toBe(10_000_000 - WINDOW_BYTES_MIN);
    const other = answering(pair, 200_000, "background");
    eventsOf(pair.client);
    pair.settle();
    expect(eventsOf(pair.client).at(-1)).toMatchObject({ kind: "data", id: other, isEnd: true });
  });
});

describe("credit", () => {
  /** Sends over a link of 100 Mbit/s and `rttMs` for some seconds; Mbit/s of the last one. */
  function rateOver(rttMs: number): number {
    const pair = new LinkPair();
    const stepMs = 4;
    const bytesPerStep = ((100e6 / 8) * stepMs) / 1_000;
    const flights: { readonly to: LinkSession; readonly dueMs: number; readonly bytes: Buffer }[] = [];
    const chunk = Buffer.alloc(2 ** 20);
    let lastSecondBytes = 0;
    let id = 0;
    for (let nowMs = 0; nowMs < 3_000; nowMs += stepMs) {
      while (flights[0] !== undefined && flights[0].dueMs <= nowMs) {
        const { to, bytes } = flights.shift()!;
        to.handleBytes(bytes, at(nowMs));
      }
      for (const event of eventsOf(pair.server))
        if (event.kind === "request") pair.server.respond(event.id, { status: 200, fields: [] }, false);
      if (id > 0 && pair.server.queuedBytes(id) < 2 ** 20) pair.server.send(id, chunk);
      for (const event of eventsOf(pair.client)) {
        if (event.kind !== "data") continue;
        pair.client.consume(event.id, event.bytes.byteLength, at(nowMs));
        if (nowMs >= 2_000) lastSecondBytes += event.bytes.byteLength;
      }
      if (id === 0) id = pair.client.request(get(), true, at(nowMs)) as number;
      for (const [from, to] of [
        [pair.client, pair.server],
        [pair.server, pair.client],
      ] as const) {
        const into = Buffer.alloc(bytesPerStep);
        const bytes = from.pollTransmit(into);
        if (bytes > 0) flights.push({ to, dueMs: nowMs + rttMs / 2, bytes: into.subarray(0, bytes) });
      }
    }
    return (lastSecondBytes * 8) / 1e6;
  }

  test.each([16, 96, 300])("a path of 100 Mbit/s and %i ms is filled", (rttMs) => {
    expect(rateOver(rttMs)).toBeGreaterThan(90);
  });

  test("windows of all streams together grow to their bound and no further, and give it back", () => {
    const limits = { windowBytes: WINDOW_BYTES_MIN, windowBytesMax: 2 ** 20, grownBytesMax: 2 ** 20 };
    const pair = new LinkPair(limits);
    // Each way takes 10 ms.
    pair.server.handleBytes(outputOf(pair.client), at(10));
    pair.client.handleBytes(outputOf(pair.server), at(20));
    expect(pair.client.rttMs).toBe(20);
    const ids = [1, 2, 3, 4].map(() => asked(pair));
    for (const id of ids) {
      pair.server.respond(id, { status: 200, fields: [] }, false);
      pair.server.send(id, Buffer.alloc(3_000_000));
    }
    for (let round = 0; round < 20; round++) {
      pair.settle(20);
      for (const event of eventsOf(pair.client))
        if (event.kind === "data") pair.client.consume(event.id, event.bytes.byteLength, at(20));
    }
    expect(pair.client.grownBytes).toBe(2 ** 20);
    for (const id of ids) pair.client.cancel(id, "given-up");
    expect(pair.client.grownBytes).toBe(0);
  });
});

describe("time", () => {
  const limits = { busyPingMs: 2_000, idlePingMs: 15_000, silenceMs: 10_000 };
  test("a session whose HELLO is not answered is silent", () => {
    const client = new LinkSession("client", { ...linkDefaults, ...limits }, at(0));
    expect(client.pollTimeout()).toBe(10_000);
    client.handleTimeout(at(9_999));
    expect(client.endReason).toBeUndefined();
    client.handleTimeout(at(10_000));
    expect(client.endReason).toBe("silent");
    expect(client.pollTimeout()).toBeUndefined();
  });
  test("an idle one is asked now and then, a busy one soon, and what comes keeps it", () => {
    const pair = LinkPair.open(limits);
    expect(pair.client.pollTimeout()).toBe(15_000);
    pair.client.handleTimeout(at(15_000));
    pair.settle(15_040);
    expect(pair.client.pollTimeout()).toBe(30_000);
    pair.client.request(get(), true, at(15_050));
    expect(pair.client.pollTimeout()).toBe(17_040);
    pair.client.handleTimeout(at(17_040));
    outputOf(pair.client);
    expect(pair.client.pollTimeout()).toBe(27_040);
    // Not the answer to the ping, but something.
    pair.client.handleBytes(wireFrame(7, 0, Buffer.alloc(4)), at(20_000));
    // It falls silent after that: it is asked anew, and has as long to answer.
    expect(pair.client.pollTimeout()).toBe(22_000);
    expect(pair.client.askingSince).toBeUndefined();
    pair.client.handleTimeout(at(22_000));
    expect(outputOf(pair.client).subarray(-7, -4)).toEqual(wireFrame(7, 0, Buffer.alloc(4)).subarray(0, 3));
    expect(pair.client.askingSince).toBe(22_000);
    expect(pair.client.pollTimeout()).toBe(32_000);
    pair.client.handleTimeout(at(32_000));
    expect(kindsOf(eventsOf(pair.client))).toEqual(["cancelled", "closed"]);
  });
});

describe("an orderly end", () => {
  test("the server finishes what it has begun; what it has not begun may be asked elsewhere", () => {
    const pair = LinkPair.open();
    const begun = asked(pair);
    pair.server.drain();
    const late = pair.client.request(get(), true, at(0)) as number;
    pair.settle();
    expect(eventsOf(pair.client)).toEqual([
      { kind: "goaway", reason: "done" },
      { kind: "cancelled", id: late, reason: "refused" },
    ]);
    expect(pair.client.request(get(), true, at(0))).toBe("refused");
    pair.server.respond(begun, { status: 204, fields: [] }, true);
    pair.settle();
    expect(kindsOf(eventsOf(pair.client))).toEqual(["response"]);
    expect([pair.client.streams, pair.server.streams]).toEqual([0, 0]);
  });
  test("all that crosses the notice is read over: heads, content, credit, ends", () => {
    const pair = LinkPair.open();
    const begun = asked(pair);
    pair.server.drain();
    for (let turn = 0; turn < 4; turn++) {
      const id = pair.client.request(get(), false, at(0)) as number;
      pair.client.send(id, Buffer.alloc(100));
      if (turn === 1) pair.client.cancel(id, "given-up");
      else if (turn === 2) pair.client.end(id, ["x", "y"]);
    }
    pair.settle();
    expect(pair.server.endReason).toBeUndefined();
    expect(eventsOf(pair.server)).toEqual([]);
    expect(kindsOf(eventsOf(pair.client)).filter((kind) => kind === "cancelled")).toHaveLength(3);
    expect([pair.client.streams, pair.server.streams]).toEqual([1, 1]);
    pair.server.respond(begun, { status: 204, fields: [] }, true);
    pair.settle();
    expect(kindsOf(eventsOf(pair.client))).toEqual(["response"]);
    // A number that was left out is a fault all the same.
    pair.server.handleBytes(wireFrame(2, 9, Buffer.of(3, 0x11, 1, 1, 0x61, 0x2f)), at(0));
    expect(pair.server.endReason).toBe("stream-id");
  });
  test("a notice before the end: what crosses it is begun with, nothing new is asked after it", () => {
    const pair = LinkPair.open();
    pair.server.announceEnd();
    const crossing = pair.client.request(get(), false, at(0)) as number;
    pair.client.send(crossing, Buffer.alloc(100));
    pair.settle();
    expect(kindsOf(eventsOf(pair.server))).toEqual(["request", "data"]);
    expect(kindsOf(eventsOf(pair.client))).toEqual(["drained", "goaway"]);
    expect(pair.client.request(get(), true, at(0))).toBe("refused");
    pair.server.drain();
    pair.client.end(crossing);
    pair.server.respond(crossing, { status: 204, fields: [] }, true);
    pair.settle();
    expect(kindsOf(eventsOf(pair.client))).toEqual(["goaway", "response"]);
    expect([pair.client.streams, pair.server.streams]).toEqual([0, 0]);
  });
  test("the client says that nothing more comes", () => {
    const pair = LinkPair.open();
    pair.client.drain();
    pair.settle();
    expect(eventsOf(pair.server)).toEqual([{ kind: "goaway", reason: "done" }]);
  });
});
