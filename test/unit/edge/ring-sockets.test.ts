/** What connections through io_uring must not get wrong whatever the moment: bytes of one client never reach another. */
import { once } from "node:events";
import { closeSync, openSync, readdirSync, readlinkSync } from "node:fs";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { type RingOperations, RingReads, RingSockets } from "#edge";

/** A look at what takes a few turns of the event loop. */
async function until(what: () => boolean): Promise<void> {
  const endsAt = performance.now() + 20_000;
  while (!what()) {
    if (performance.now() > endsAt) throw new Error("waited in vain");
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** Connections of a server of its own, whose sides are both here. */
async function listening(): Promise<{ server: Server; pair: () => Promise<[Socket, Socket]> }> {
  const server = createServer({ allowHalfOpen: true });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    server,
    pair: async () => {
      const client = connect({ port, host: "127.0.0.1", noDelay: true, allowHalfOpen: true });
      const [[served]] = await Promise.all([
        once(server, "connection") as Promise<[Socket]>,
        once(client, "connect"),
      ]);
      client.on("error", () => {});
      served.on("error", () => {});
      return [client, served];
    },
  };
}

/** The ring reads it from here on. */
function takenBy(sockets: RingSockets, served: Socket, sink?: (bytes: Buffer) => void) {
  const handle = (served as unknown as { readonly _handle: { readStop(): void; readStart(): void } })._handle;
  handle.readStop();
  const reads = sockets.take(handle);
  reads.attach(served);
  reads.sink = sink;
  handle.readStart();
  return reads;
}

const ring = await RingSockets.open().catch(() => undefined);
if (ring === undefined) console.log("io_uring is not to be had here, its test is skipped");

interface WithHandle {
  readonly _handle: { readonly fd: number };
}

test.skipIf(ring === undefined).for(["destroy", "resetAndDestroy"] as const)(
  "an answer that was written before its connection went by %s goes to nobody else, though the descriptor is used again",
  async (close) => {
    if (ring === undefined) return;
    const { server, pair: accepted } = await listening();
    const [client, served] = await accepted();
    const [bystander, other] = await accepted();
    const handle = (served as unknown as WithHandle)._handle;
    const { fd } = handle;
    const reads = ring.take(handle);
    reads.attach(served);
    const heard: Buffer[] = [];
    const late = createServer((socket) => socket.on("data", (bytes) => heard.push(bytes)));
    late.listen(0, "127.0.0.1");
    await once(late, "listening");

    expect(reads.send(Buffer.from("of the first client alone"))).toBe(true);
    served[close]();
    // In the same turn of the event loop: this one gets the number that has become free.
    const next = connect((late.address() as AddressInfo).port, "127.0.0.1");
    await new Promise<void>((resolve) => process.nextTick(resolve));
    expect((next as unknown as WithHandle)._handle.fd).toBe(fd);
    await once(next, "connect");
    next.write("own");
    while (heard.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(Buffer.concat(heard).toString()).toBe("own");
    while (ring.connections > 0) await new Promise((resolve) => setTimeout(resolve, 5));

    for (const socket of [client, bystander, other, next]) socket.destroy();
    server.close();
    late.close();
  },
);

const ANSWER = Buffer.alloc(16_000, "a whole answer. ");

/** Sends until the system takes no more: what is then under way waits for the client to read. */
async function fill(reads: {
  readonly isSending: boolean;
  send(bytes: Uint8Array): boolean;
}): Promise<number> {
  let sent = 0;
  for (;;) {
    if (!reads.send(ANSWER)) throw new Error("not sent");
    sent += ANSWER.byteLength;
    for (let turn = 0; turn < 20 && reads.isSending; turn++)
      await new Promise((resolve) => setTimeout(resolve, 1));
    if (reads.isSending) return sent;
  }
}

test.skipIf(ring === undefined)(
  "the end of a connection waits for the answer that is under way, and single bytes that come meanwhile stop its reading soon",
  async () => {
    if (ring === undefined) return;
    const { server, pair } = await listening();
    const [client, served] = await pair();
    client.pause();
    const heard: Buffer[] = [];
    const reads = takenBy(ring, served, (bytes) => heard.push(Buffer.from(bytes)));
    const sent = await fill(reads);
    const before = ring.counters.receives;
    const BYTES = 2_000;
    for (let byte = 0; byte < BYTES; byte++) {
      client.write("x");
      await new Promise((resolve) => setImmediate(resolve));
    }
    // Each piece that is kept costs some hundred bytes, which are counted.
    expect(ring.counters.receives - before).toBeLessThan(400);
    served.end();
    const got: Buffer[] = [];
    client.on("data", (bytes: Buffer) => got.push(bytes));
    client.resume();
    await once(client, "end");
    const all = Buffer.concat(got);
    expect(all.byteLength).toBe(sent);
    expect(all.equals(Buffer.alloc(sent, ANSWER))).toBe(true);
    await until(() => Buffer.concat(heard).byteLength === BYTES);
    client.destroy();
    served.destroy();
    server.close();
    await until(() => ring.connections === 0);
  },
);

test.skipIf(ring === undefined)(
  "a ring that is much too small for its connections loses nothing: buffers, slots and completions run out",
  async () => {
    const small = await RingSockets.open({ submissions: 8, completions: 16, buffers: 4, sends: 2 });
    const { server, pair } = await listening();
    const CONNECTIONS = 60;
    const pairs: [Socket, Socket][] = [];
    while (pairs.length < CONNECTIONS) pairs.push(await pair());
    const echoed = pairs.map(([client], index) => {
      const texts: string[] = [];
      client.on("data", (bytes: Buffer) => texts.push(bytes.toString()));
      return { texts, client, asked: `${index};`.repeat(3_000) };
    });
    for (const [, served] of pairs) {
      const reads = takenBy(small, served, (bytes) => {
        if (!reads.send(bytes)) served.write(Buffer.from(bytes));
      });
    }
    for (const { client, asked } of echoed) client.write(asked);
    await until(() => echoed.every(({ texts, asked }) => texts.join("").length >= asked.length));
    for (const { texts, asked } of echoed) expect(texts.join("")).toBe(asked);
    expect(small.counters.buffersExhausted).toBeGreaterThan(0);
    expect(small.counters.sendsElsewhere).toBeGreaterThan(0);
    for (const sockets of pairs) for (const socket of sockets) socket.destroy();
    server.close();
    await until(() => small.connections === 0);
  },
);

test.skipIf(ring === undefined)(
  "a ring that breaks cuts its connections, says so, and takes no more",
  async () => {
    const ringsBefore = ringDescriptors();
    const broken = await RingSockets.open();
    const [descriptor] = ringDescriptors().filter((fd) => !ringsBefore.includes(fd));
    if (descriptor === undefined) throw new Error("no ring");
    const { server, pair } = await listening();
    const [[idle, idleServed], [asking, served]] = [await pair(), await pair()];
    const told: Error[] = [];
    broken.onFailure = (error) => told.push(error);
    for (const one of [idleServed, served]) takenBy(broken, one);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(broken.isWhole).toBe(true);
    closeSync(descriptor);
    // The number must not be another's when it is closed once more.
    expect(openSync("/dev/null", "r")).toBe(descriptor);
    asking.write("anyone?");
    for (const client of [idle, asking]) client.resume().on("end", () => client.end());
    const third = await pair();
    const late = broken.take((third[1] as unknown as { readonly _handle: unknown })._handle);
    late.attach(third[1]);
    third[1].destroy();
    await until(() => idle.destroyed && asking.destroyed);
    expect(broken.isWhole).toBe(false);
    expect(told.map(({ message }) => message)).toEqual([expect.stringContaining("io_uring_enter failed")]);
    await until(() => broken.connections === 0);
    third[0].destroy();
    server.close();
  },
);

function ringDescriptors(): number[] {
  return readdirSync("/proc/self/fd")
    .map(Number)
    .filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).includes("io_uring");
      } catch {
        return false;
      }
    });
}

/** Content of a seed: of another seed, or at another place, it is other bytes. */
function contentOf(seed: number, bytes: number): Buffer {
  return Buffer.alloc(bytes, `${seed} `.padEnd(61, "content "));
}

/** The content in pieces as stores have it: long ones, with short ones between. Nobody else refers to them. */
function piecesOf(whole: Buffer): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let from = 0; from < whole.byteLength; from += pieces.at(-1)?.byteLength ?? 0) {
    const index = pieces.length;
    const piece = index % 4 === 3 ? 1 + index : 4_096 + ((index * 70_001) % 900_000);
    pieces.push(Uint8Array.from(whole.subarray(from, from + piece)));
  }
  return pieces;
}

const HEAD = Buffer.from("sixteen of head ");

test.skipIf(ring === undefined)(
  "contents that the kernel reads where they lie arrive whole, though nobody refers to them any more and others' connections are cut",
  async () => {
    if (ring === undefined) return;
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    const { server, pair } = await listening();
    const ANSWERS = 2;
    const before = { ...ring.counters };
    const pairs: [Socket, Socket][] = [];
    while (pairs.length < 3) pairs.push(await pair());
    const clients = pairs.map(([client, served], number) => {
      // More than the system takes before the client reads, or no more than that; one is cut.
      const kind = (["long", "cut", "short"] as const)[number % 3] ?? "long";
      const bytes = kind === "short" ? 300_000 : 11_000_000;
      let answers = 0;
      const reads = takenBy(ring, served, () => {
        const head = Buffer.from(HEAD);
        const pieces = piecesOf(contentOf(number * 10 + answers++, bytes));
        if (!reads.sendPieces(head, pieces)) throw new Error("not sent");
        // Of the head a copy was made.
        head.fill(0);
      });
      client.pause();
      client.write("?");
      return { client, served, reads, number, kind, bytes, whole: 0 };
    });
    // Nobody reads yet: what is long waits in the kernel, half sent, the rest is done.
    await until(() => ring.counters.longSends - before.longSends === clients.length);
    await until(() => clients.every(({ reads, kind }) => kind !== "short" || !reads.isSending));
    expect(clients.filter(({ reads }) => reads.isSending).map(({ kind }) => kind)).toEqual(["long", "cut"]);
    // What was let go of is soon somebody else's, as it would be in a store that is full.
    const others: Buffer[] = [];
    for (let round = 0; round < 2; round++) {
      collect();
      await new Promise((resolve) => setImmediate(resolve));
      for (let other = 0; other < 40; other++) others.push(Buffer.alloc(4_096 + other * 24_000, 0xee));
    }
    for (const one of clients) {
      const { client, served, number, kind, bytes } = one;
      if (kind === "cut") {
        served.destroy();
        continue;
      }
      const expected = (): Buffer => Buffer.concat([HEAD, contentOf(number * 10 + one.whole, bytes)]);
      let answer = expected();
      let at = 0;
      client.on("data", (heard: Buffer) => {
        const isRight = heard.equals(answer.subarray(at, at + heard.byteLength));
        if (!isRight) client.destroy(new Error(`other bytes at ${at}`));
        at += heard.byteLength;
        if (!isRight || at < answer.byteLength) return;
        one.whole++;
        at = 0;
        answer = expected();
        if (one.whole < ANSWERS) client.write("?");
      });
      client.resume();
    }
    const staying = clients.filter(({ kind }) => kind !== "cut");
    await until(() => staying.every(({ client, whole }) => client.destroyed || whole === ANSWERS));
    expect(staying.map(({ client, whole }) => [client.errored, whole])).toEqual(
      staying.map(() => [null, ANSWERS]),
    );
    expect(ring.counters.sendsElsewhere).toBe(before.sendsElsewhere);
    for (const { client, served } of clients) {
      client.destroy();
      served.destroy();
    }
    server.close();
    await until(() => ring.connections === 0);
  },
);

test("what the system did not take of an answer is written by the socket, wherever it stopped", async () => {
  const head = "a head; ";
  const pieces = ["one", "", "and two", "3"].map((text) => Buffer.from(text));
  const whole = head + pieces.join("");
  for (let taken = 0; taken <= whole.length; taken++) {
    const freed: number[] = [];
    const written: string[] = [];
    const operations: RingOperations = {
      arm: () => {},
      cancel: () => {},
      send: () => -1,
      sendPieces: () => 7,
      unsent: (send, from, to, isMessage) => {
        expect([send, isMessage]).toEqual([7, true]);
        return Buffer.from(head.slice(from, to));
      },
      freeSend: (send) => freed.push(send),
      settle: () => {},
      free: () => {},
    };
    const reads = new RingReads(operations, 0, 1, { fd: -1 });
    const socket = {
      writableLength: 0,
      write: (bytes: Buffer) => written.push(Buffer.from(bytes).toString()),
    };
    reads.attach(socket as unknown as Socket);
    expect(reads.sendPieces(Buffer.from(head), pieces)).toBe(true);
    expect(reads.isSending).toBe(true);
    expect(reads.sendPieces(Buffer.from(head), pieces)).toBe(false);
    reads.sent(taken);
    expect(written.join("")).toBe(whole.slice(taken));
    expect(freed).toEqual([7]);
    expect(reads.isSending).toBe(false);
  }
});
