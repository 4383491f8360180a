/**
 * Goal: an object that is asked for at all edges at once costs the origin one request, and when the server dies half-way that fetches
 * it, at most one more for the rest. Method: a tier world in this process, clients at each edge, an origin that holds the
 * second half back until all of them have the first. `npm run lab -- one-fetch` does it with processes.
 */
import { Readable } from "node:stream";
import { afterEach, describe, expect, test } from "vitest";
import type { ServerId } from "#kit";
import type { TransportRequest, TransportResponse } from "#transport";
import { askedSpan, TierNodes, transportResponse } from "../../tools/tier-nodes.ts";

const OBJECT = Buffer.alloc(400_000, "0123456789abcdef");
const HALF_BYTES = OBJECT.length / 2;
/** Of each edge. */
const CLIENTS = 200;

/** An origin of one object that gives its first half at once, the rest when it is let go. */
class HoldingOrigin {
  readonly #object: Buffer;
  readonly ranges: string[] = [];
  /** The servers of ours that the first request came through. */
  via: readonly string[] = [];
  readonly #hold = Promise.withResolvers<void>();

  constructor(object: Buffer) {
    this.#object = object;
  }

  readonly answer = (request: TransportRequest): TransportResponse => {
    const object = this.#object;
    const halfBytes = object.length / 2;
    const { first, last, isPart } = askedSpan(request, object.length);
    const value = (name: string): string => request.headers.find(([one]) => one === name)?.[1] ?? "";
    if (this.ranges.length === 0) this.via = value("Via").replaceAll("1.1 ", "").split(", ");
    this.ranges.push(value("Range"));
    const { promise } = this.#hold;
    async function* content(): AsyncGenerator<Buffer> {
      if (first < halfBytes) yield object.subarray(first, Math.min(halfBytes, last + 1));
      await promise;
      yield object.subarray(Math.max(first, halfBytes), last + 1);
    }
    return transportResponse(isPart ? 206 : 200, Readable.from(content()), [
      ["Cache-Control", "max-age=3600"],
      ["ETag", '"1"'],
      ["Content-Length", String(last - first + 1)],
      ...(isPart ? [["Content-Range", `bytes ${first}-${last}/${object.length}`] as const] : []),
    ]);
  };

  letGo(): void {
    this.#hold.resolve();
  }
}

let nodes: TierNodes | undefined;
afterEach(() => nodes?.close());

/** All clients of all edges ask; when all have the first half, `victimOf` is killed, and the rest comes. */
async function burst(
  victimOf: (via: readonly string[]) => string | undefined,
  serversPerParent = 1,
): Promise<{ readonly ranges: readonly string[]; readonly whole: number; readonly clients: number }> {
  const origin = new HoldingOrigin(OBJECT);
  const { promise: allBegun, resolve } = Promise.withResolvers<void>();
  nodes = new TierNodes({
    edgeClusters: 4,
    edgesPerCluster: 5,
    parents: 3,
    serversPerParent,
    origin: origin.answer,
  });
  let missing = nodes.edges.length * CLIENTS;
  const client = async (edge: ServerId): Promise<boolean> => {
    const answer = await (nodes as TierNodes).ask(edge, "/object");
    let bytes = 0;
    let isSame = true;
    for await (const chunk of answer.body ?? []) {
      isSame &&= OBJECT.subarray(bytes, bytes + chunk.byteLength).equals(chunk);
      if (bytes < HALF_BYTES && bytes + chunk.byteLength >= HALF_BYTES && --missing === 0) resolve();
      bytes += chunk.byteLength;
    }
    return isSame && bytes === OBJECT.length;
  };
  const asked = nodes.edges.flatMap((edge) =>
    Array.from({ length: CLIENTS }, () => ({ edge, isWhole: client(edge).catch(() => false) })),
  );
  await allBegun;
  const victim = victimOf(origin.via);
  if (victim !== undefined) nodes.kill(victim as ServerId);
  origin.letGo();
  // Clients of a dead edge have to ask another one.
  const others = asked.filter(({ edge }) => edge !== victim);
  const got = await Promise.all(others.map(({ isWhole }) => isWhole));
  return { ranges: origin.ranges, whole: got.filter(Boolean).length, clients: others.length };
}

describe("parents that take each other for the shield, while a new map is on its way", () => {
  test.each([
    ["a fill", 400_000, ["", ""]],
    [
      "a slice",
      2_500_000,
      [0, 0, 1, 1, 2, 2].map((n) => `bytes=${n * 2 ** 20}-${Math.min((n + 1) * 2 ** 20, 2_500_000) - 1}`),
    ],
  ])("do not wait for each other with %s", async (_, bytes, ranges) => {
    const origin = new HoldingOrigin(Buffer.alloc(bytes, "0123456789abcdef"));
    origin.letGo();
    nodes = new TierNodes({
      edgeClusters: 2,
      edgesPerCluster: 1,
      parents: 2,
      origin: origin.answer,
      mapOf: (serverId, map) => ({
        ...map,
        paths: (map["paths"] as { readonly fromClusterId: string }[]).filter(
          ({ fromClusterId }) => !serverId.startsWith(fromClusterId),
        ),
      }),
    });
    const range: [string, string][] = ranges[0] === "" ? [] : [["Range", "bytes=0-"]];
    const got = await Promise.all(
      nodes.edges.map(async (edge) => {
        const { body = [] } = await (nodes as TierNodes).ask(edge, "/object", range);
        let received = 0;
        for await (const chunk of body) received += chunk.byteLength;
        return received;
      }),
    );
    expect(got).toEqual([bytes, bytes]);
    expect(origin.ranges.toSorted()).toEqual(ranges);
  });
});

describe("one object at 20 edges with 200 clients each at once", () => {
  test("costs one request", async () => {
    const { ranges, whole, clients } = await burst(() => undefined);
    expect(ranges).toEqual([""]);
    expect(whole).toBe(clients);
    expect(clients).toBe(4_000);
  });

  test("and no other when the owner that fetches it for its cluster dies half-way", async () => {
    const { ranges, whole, clients } = await burst((via) => via.findLast((id) => id.startsWith("e")));
    expect(ranges).toEqual([""]);
    expect(whole).toBe(clients);
    expect(clients).toBe(3_800);
  });

  test.each([
    // It had it from the shield, as far as it came.
    ["the next parent cluster", 1, `bytes=${HALF_BYTES}-`],
    // It has nothing yet, and asks for the slice of which all want the rest.
    ["its cluster's next server", 2, "bytes=0-1048575"],
  ])("and one more when the shield dies half-way: all meet at %s", async (_, serversPerParent, range) => {
    const { ranges, whole, clients } = await burst((via) => via.at(-1), serversPerParent);
    expect(ranges).toEqual(["", range]);
    expect(whole).toBe(clients);
  });
});
