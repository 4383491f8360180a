/**
 * The link protocol against a model of what streams are: two sessions over a pipe that is cut at any byte and stalls, calls in any
 * order; and frames that were tampered with.
 */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import type { LinkSession } from "../../transport/core/link/session.ts";
import {
  DATA_BYTES_MAX,
  HEAD_BYTES_MAX,
  linkDefaults,
  urgencies,
  WINDOW_BYTES_MIN,
} from "../../transport/core/link/words.ts";
import { at, eventsOf, get, LinkPair, openedSession, outputOf } from "../tools/link-core.ts";

const sides = ["client", "server"] as const;
type Side = (typeof sides)[number];
const otherOf = (side: Side): Side => (side === "client" ? "server" : "client");

/** What any stream's content is cut from: the byte at an offset tells from which stream and place it is. */
const PATTERN_BYTES = 65_521;
const pattern = Buffer.from(
  Array.from({ length: 2 * PATTERN_BYTES }, (_, at) => ((at % PATTERN_BYTES) * 31) >> 3),
);
function contentAt(id: number, side: Side, offset: number, bytes: number): Buffer {
  const pieces: Buffer[] = [];
  for (let done = 0; done < bytes; ) {
    const from = (id * 7_919 + (side === "client" ? 0 : 104_729) + offset + done) % PATTERN_BYTES;
    const length = Math.min(PATTERN_BYTES, bytes - done);
    pieces.push(pattern.subarray(from, from + length));
    done += length;
  }
  return Buffer.concat(pieces);
}

/** One direction of a stream, as it should be. */
interface Half {
  sent: number;
  isEnded: boolean;
  /** The end came with trailers. */
  hasTrailers: boolean;
  came: number;
  read: number;
  cameEnd: boolean;
}
interface Model {
  readonly halves: Record<Side, Half>;
  isKnownToServer: boolean;
  isAnswered: boolean;
  isCancelled: boolean;
}
const half = (): Half => ({ sent: 0, isEnded: false, hasTrailers: false, came: 0, read: 0, cameEnd: false });

const LIMITS = {
  windowBytes: WINDOW_BYTES_MIN,
  windowBytesMax: 2 * WINDOW_BYTES_MIN,
  grownBytesMax: WINDOW_BYTES_MIN,
};

const step = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constant("ask" as const),
      hasContent: fc.boolean(),
      urgency: fc.constantFrom(...urgencies),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      type: fc.constant("send" as const),
      side: fc.constantFrom(...sides),
      which: fc.nat(20),
      bytes: fc.oneof(fc.nat(2_000), fc.integer({ min: 100_000, max: 700_000 })),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      type: fc.constant("end" as const),
      side: fc.constantFrom(...sides),
      which: fc.nat(20),
      hasTrailers: fc.boolean(),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      type: fc.constant("read" as const),
      side: fc.constantFrom(...sides),
      which: fc.nat(20),
      bytes: fc.nat(300_000),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      type: fc.constant("cancel" as const),
      side: fc.constantFrom(...sides),
      which: fc.nat(20),
    }),
  },
  {
    weight: 10,
    arbitrary: fc.record({
      type: fc.constant("carry" as const),
      from: fc.constantFrom(...sides),
      room: fc.oneof(fc.integer({ min: 10, max: 2_000 }), fc.integer({ min: 50_000, max: 400_000 })),
      cuts: fc.array(fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 300_000 })), {
        minLength: 1,
        maxLength: 4,
      }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ type: fc.constant("wait" as const), ms: fc.nat(40) }) },
);

class World {
  readonly pair = new LinkPair(LIMITS);
  readonly streams = new Map<number, Model>();
  readonly #pipes: Record<Side, Buffer> = { client: Buffer.alloc(0), server: Buffer.alloc(0) };
  nowMs = 0;
  cancelled = 0;
  whole = 0;
  stalledByCredit = 0;

  /** The stream that a step means; undefined: there is none yet. */
  pick(which: number): [number, Model] | undefined {
    return [...this.streams][which % Math.max(1, this.streams.size)];
  }

  ask(hasContent: boolean, urgency: (typeof urgencies)[number]): void {
    const id = this.pair.client.request(
      get(`/${this.streams.size}`, { urgency }),
      !hasContent,
      at(this.nowMs),
    );
    if (typeof id === "string") return;
    const halves = { client: half(), server: half() };
    halves.client.isEnded = !hasContent;
    this.streams.set(id, { halves, isKnownToServer: false, isAnswered: false, isCancelled: false });
  }

  send(side: Side, id: number, model: Model, bytes: number): void {
    const { halves, isKnownToServer, isCancelled } = model;
    const mine = halves[side];
    if (mine.isEnded || isCancelled || (side === "server" && !isKnownToServer)) return;
    this.#answer(side, id, model);
    this.pair[side].send(id, contentAt(id, side, mine.sent, bytes));
    mine.sent += bytes;
  }

  end(side: Side, id: number, model: Model, hasTrailers: boolean): void {
    const { halves, isKnownToServer, isCancelled } = model;
    // The client ends first, or its content would be stopped, which is another law.
    if (halves[side].isEnded || isCancelled) return;
    if (side === "server" && (!isKnownToServer || !halves.client.cameEnd)) return;
    this.#answer(side, id, model);
    this.pair[side].end(id, hasTrailers ? ["etag", "x"] : []);
    halves[side].isEnded = true;
    halves[side].hasTrailers = hasTrailers;
  }

  #answer(side: Side, id: number, model: Model): void {
    if (side !== "server" || model.isAnswered) return;
    model.isAnswered = true;
    this.pair.server.respond(id, { status: 200, fields: [] }, false);
  }

  /** What came from the other side is read. */
  read(side: Side, id: number, model: Model, bytes: number): void {
    const theirs = model.halves[otherOf(side)];
    const read = Math.min(bytes, theirs.came - theirs.read);
    theirs.read += read;
    if (read > 0) this.pair[side].consume(id, read, at(this.nowMs));
  }

  cancel(side: Side, id: number, model: Model): void {
    if (side === "server" && !model.isKnownToServer) return;
    this.pair[side].cancel(id, "given-up");
    if (!isDone(model)) {
      model.isCancelled = true;
      this.cancelled++;
    }
  }

  /** Moves bytes, in pieces of these lengths. */
  carry(from: Side, room: number, cuts: readonly number[]): void {
    const to = this.pair[otherOf(from)];
    let waiting = Buffer.concat([this.#pipes[from], this.#output(from, room)]);
    for (const cut of cuts) {
      const piece = waiting.subarray(0, cut);
      waiting = waiting.subarray(cut);
      if (piece.byteLength > 0) to.handleBytes(Buffer.from(piece), at(this.nowMs));
      this.#hear(otherOf(from));
    }
    this.#pipes[from] = waiting;
  }

  #output(from: Side, room: number): Buffer {
    const into = Buffer.allocUnsafe(room);
    const bytes = this.pair[from].pollTransmit(into);
    if (!this.pair[from].hasOutput)
      for (const id of this.streams.keys()) if (this.pair[from].queuedBytes(id) > 0) this.stalledByCredit++;
    return into.subarray(0, bytes);
  }

  #hear(side: Side): void {
    for (const event of eventsOf(this.pair[side])) {
      if (event.kind === "open" || event.kind === "drained" || event.kind === "done") continue;
      if (!("id" in event)) throw new Error(`${side}: ${JSON.stringify(event)}`);
      const model = this.streams.get(event.id)!;
      const theirs = model.halves[otherOf(side)];
      if (event.kind === "cancelled" || event.kind === "stopped") {
        if (!model.isCancelled) throw new Error(`nobody gave up: ${JSON.stringify(event)}`);
        continue;
      }
      if (theirs.cameEnd) throw new Error(`after its end: ${JSON.stringify(event)}`);
      if (event.kind === "request") {
        model.isKnownToServer = true;
        if (event.isEnd) theirs.cameEnd = true;
      } else if (event.kind === "data") {
        const { bytes } = event;
        if (!contentAt(event.id, otherOf(side), theirs.came, bytes.byteLength).equals(bytes))
          throw new Error(`stream ${event.id}: other bytes at ${theirs.came}`);
        theirs.came += bytes.byteLength;
        if (event.isEnd) theirs.cameEnd = true;
        atMost(theirs.came, theirs.sent);
      } else if (event.kind === "trailers") {
        expect(theirs.hasTrailers).toBe(true);
        theirs.cameEnd = true;
      }
    }
    this.#bounds(side);
  }

  /** What a side keeps unread: a window of each stream, and so much growth of all. */
  #bounds(side: Side): void {
    let grown = 0;
    for (const { halves } of this.streams.values()) {
      const theirs = halves[otherOf(side)];
      const unread = theirs.came - theirs.read;
      atMost(unread, LIMITS.windowBytesMax);
      grown += Math.max(0, unread - LIMITS.windowBytes);
    }
    atMost(grown, LIMITS.grownBytesMax);
    atMost(this.pair[side].keptBytes, 2 * HEAD_BYTES_MAX);
  }

  /** The pipe is whole again and everybody reads: all ends that was not given up. */
  heal(): void {
    const isMoving = (): boolean =>
      sides.some(
        (side) =>
          this.pair[side].streams > 0 || this.pair[side].hasOutput || this.#pipes[side].byteLength > 0,
      );
    for (let round = 0; round < 1_000 && isMoving(); round++) {
      for (const from of sides) this.carry(from, 70_000, [1_000_000]);
      for (const [id, model] of this.streams)
        for (const side of sides) {
          this.read(side, id, model, Infinity);
          this.end(side, id, model, false);
        }
    }
    for (const [id, model] of this.streams) {
      if (model.isCancelled) continue;
      for (const side of sides) {
        const { sent, came, cameEnd } = model.halves[side];
        expect({ id, side, came, cameEnd }).toEqual({ id, side, came: sent, cameEnd: true });
      }
      this.whole++;
    }
    for (const side of sides) {
      expect(this.pair[side].streams).toBe(0);
      expect(this.pair[side].hasOutput).toBe(false);
      expect(this.pair[side].keptBytes).toBe(0);
      expect(this.pair[side].grownBytes).toBe(0);
    }
  }
}

/** A bound that is looked at very often, without the machinery of `expect`. */
function atMost(value: number, most: number): void {
  if (value > most) throw new Error(`${value} is more than ${most}`);
}

const isDone = ({ halves }: Model): boolean => halves.client.cameEnd && halves.server.cameEnd;

test("every byte arrives in its order, credit is kept, what is given up leaves nothing behind", () => {
  let whole = 0;
  let cancelled = 0;
  let stalledByCredit = 0;
  fc.assert(
    fc.property(fc.array(step, { minLength: 10, maxLength: 120 }), (steps) => {
      const world = new World();
      for (const one of steps) {
        if (one.type === "wait") world.nowMs += one.ms;
        else if (one.type === "ask") world.ask(one.hasContent, one.urgency);
        else if (one.type === "carry") world.carry(one.from, one.room, one.cuts);
        else {
          const picked = world.pick(one.which);
          if (picked === undefined) continue;
          const [id, model] = picked;
          if (one.type === "send") world.send(one.side, id, model, one.bytes);
          else if (one.type === "end") world.end(one.side, id, model, one.hasTrailers);
          else if (one.type === "read") world.read(one.side, id, model, one.bytes);
          else world.cancel(one.side, id, model);
        }
      }
      world.heal();
      whole += world.whole;
      cancelled += world.cancelled;
      stalledByCredit += world.stalledByCredit;
    }),
    { numRuns: 120 },
  );
  expect(whole).toBeGreaterThan(120);
  expect(cancelled).toBeGreaterThan(10);
  expect(stalledByCredit).toBeGreaterThan(10);
}, 60_000);

test("no stream that may send waits for more than its share of turns", () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({ urgency: fc.constantFrom(...urgencies), bytes: fc.integer({ min: 1, max: 600_000 }) }),
        {
          minLength: 2,
          maxLength: 12,
        },
      ),
      fc.array(fc.integer({ min: 1_000, max: 60_000 }), { minLength: 1, maxLength: 5 }),
      (wanted, rooms) => {
        const pair = LinkPair.open({ windowBytes: 8 * 2 ** 20 });
        for (const { urgency, bytes } of wanted) {
          const id = pair.client.request(get("/", { urgency, method: "POST" }), false, at(0)) as number;
          pair.client.send(id, Buffer.alloc(bytes));
          pair.client.end(id);
        }
        const movedAt = new Map<number, number>();
        let carried = 0;
        for (let turn = 0; pair.client.hasOutput; turn++) {
          const into = Buffer.alloc(rooms[turn % rooms.length]!);
          const bytes = pair.client.pollTransmit(into);
          pair.server.handleBytes(into.subarray(0, bytes), at(0));
          carried += bytes;
          for (const event of eventsOf(pair.server))
            if (event.kind === "data") movedAt.set(event.id, carried);
          // An eighth for each queue, in turns within it, a frame at a time; two queues may be owed at once.
          for (let id = 1; id <= wanted.length; id++)
            if (pair.client.queuedBytes(id) > 0)
              atMost(carried - (movedAt.get(id) ?? 0), 16 * DATA_BYTES_MAX * (wanted.length + 1));
        }
        expect(carried).toBeGreaterThan(wanted.reduce((sum, { bytes }) => sum + bytes, 0));
      },
    ),
    { numRuns: 40 },
  );
});

/** What each side says in a life with a bit of everything. */
function transcripts(): Record<Side, Buffer> {
  const pair = new LinkPair();
  const said: Record<Side, Buffer[]> = { client: [outputOf(pair.client)], server: [outputOf(pair.server)] };
  const carry = (from: Side): void => {
    const bytes = outputOf(pair[from]);
    said[from].push(bytes);
    pair[otherOf(from)].handleBytes(bytes, at(0));
  };
  pair.server.handleBytes(said.client[0]!, at(0));
  pair.client.handleBytes(said.server[0]!, at(0));
  for (let turn = 0; turn < 4; turn++) {
    const fields = ["accept", "*/*", "user-agent", "x", "x-own", "é"];
    pair.client.request(get(`/${turn}`, { fields }), true, at(0));
    const id = pair.client.request(get("/", { method: "PURGE", urgency: "live" }), false, at(0)) as number;
    pair.client.send(id, Buffer.alloc(100));
    pair.client.end(id, ["etag", "1"]);
    carry("client");
    pair.server.respond(id - 1, { status: 200, fields: ["content-length", "20", "age", "0"] }, false);
    pair.server.send(id - 1, Buffer.alloc(20));
    pair.server.end(id - 1);
    pair.server.respond(id, { status: 103, fields: ["link", "</x>"] }, false);
    pair.server.respond(id, { status: 404, fields: [] }, turn % 2 === 0);
    if (turn % 2 !== 0) pair.server.cancel(id, "internal");
    carry("server");
    pair.client.handleTimeout(at(15_000 * (turn + 1)));
    carry("client");
    carry("server");
  }
  pair.server.drain();
  carry("server");
  return { client: Buffer.concat(said.client), server: Buffer.concat(said.server) };
}

const mutation = fc.record({
  kind: fc.constantFrom("flip", "set", "delete", "repeat", "insert"),
  at: fc.nat(),
  value: fc.nat(255),
  bytes: fc.integer({ min: 1, max: 12 }),
});

function mutated(
  whole: Buffer,
  changes: readonly { kind: string; at: number; value: number; bytes: number }[],
): Buffer {
  let bytes = whole;
  for (const { kind, at: where, value, bytes: length } of changes) {
    const from = where % bytes.byteLength;
    const [before, after] = [bytes.subarray(0, from), bytes.subarray(from)];
    if (kind === "delete") bytes = Buffer.concat([before, after.subarray(length)]);
    else if (kind === "repeat") bytes = Buffer.concat([before, after.subarray(0, length * 8), after]);
    else if (kind === "insert") bytes = Buffer.concat([before, Buffer.alloc(length, value), after]);
    else {
      bytes = Buffer.from(bytes);
      bytes[from] = kind === "set" ? value : bytes[from]! ^ (1 << (value & 7));
    }
    if (bytes.byteLength === 0) return bytes;
  }
  return bytes;
}

test("tampered frames are refused by name, never thrown over, and what is kept of them is bounded", () => {
  const spoken = transcripts();
  const reasons = new Map<string, number>();
  let served = 0;
  const law = (session: LinkSession): void => {
    const events = eventsOf(session);
    for (const event of events) {
      if ("reason" in event) reasons.set(event.reason, (reasons.get(event.reason) ?? 0) + 1);
      if (event.kind === "request" || event.kind === "response") served++;
    }
    atMost(session.streams, linkDefaults.streamsMax);
    atMost(session.keptBytes, 2 * HEAD_BYTES_MAX);
  };
  fc.assert(
    fc.property(
      fc.constantFrom(...sides),
      fc.array(mutation, { minLength: 1, maxLength: 4 }),
      fc.integer({ min: 1, max: 400 }),
      (side, changes, cut) => {
        const session = openedSession(otherOf(side));
        if (side === "server") for (let n = 0; n < 8; n++) session.request(get(), n % 2 === 0, at(0));
        // Its HELLO was read: what stands behind the other's is tampered with.
        const bytes = mutated(spoken[side].subarray(spoken[side].indexOf(7)), changes);
        for (let from = 0; from < bytes.byteLength; from += cut) {
          session.handleBytes(bytes.subarray(from, from + cut), at(0));
          law(session);
        }
        outputOf(session);
        session.handleTimeout(at(1e6));
        law(session);
      },
    ),
    { numRuns: 2_000 },
  );
  expect(served).toBeGreaterThan(5_000);
  for (const reason of ["frame-type", "frame-flags", "frame-length", "stream-id", "order"])
    expect(reasons.get(reason) ?? 0, reason).toBeGreaterThan(10);
  expect(reasons.size).toBeGreaterThan(12);
}, 60_000);
