/** Request traces for cache policies: the AdaptSize trace as published, and synthetic ones after Tragen's descriptors. */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Random } from "#kit";
import { UsageError } from "../../../cli/usage.ts";
import { findProgram } from "../tools/program.ts";

/** Requests in order: which object, and how large it is. Objects are numbered from 0 without gaps. */
export interface Trace {
  readonly name: string;
  /** Where it comes from and how it was made, with every figure that its making needs. */
  readonly origin: string;
  readonly objectOf: Uint32Array;
  /** By object, bytes. */
  readonly bytesOf: Float64Array;
  readonly requests: number;
  /** Sum over all objects. */
  readonly footprintBytes: number;
  /** Sum over all requests. */
  readonly requestedBytes: number;
}

/** Text of a file, or of the same name with ".xz" through the program xz. Throws when neither is there. */
function textOf(path: string): string {
  if (existsSync(path)) return readFileSync(path, "utf8");
  const xz = spawnSync(findProgram("xz") ?? "xz", ["-dc", `${path}.xz`], {
    encoding: "utf8",
    maxBuffer: 2 ** 29,
  });
  if (xz.error !== undefined || xz.status !== 0)
    throw new Error(
      `Cannot read ${JSON.stringify(path)} or its .xz: ${xz.error?.message ?? xz.stderr.trim()}`,
    );
  return xz.stdout;
}

function traceOf(name: string, origin: string, objectOf: Uint32Array, bytesOf: Float64Array): Trace {
  let requestedBytes = 0;
  for (const object of objectOf) requestedBytes += bytesOf[object] ?? 0;
  const footprintBytes = bytesOf.reduce((sum, bytes) => sum + bytes, 0);
  return { name, origin, objectOf, bytesOf, requests: objectOf.length, footprintBytes, requestedBytes };
}

/**
 * The trace published with AdaptSize (Berger, Sitaraman, Harchol-Balter, NSDI 2017): lines of `time id bytes`. An object
 * whose size changes counts with its first one; a size of 0 counts as one byte.
 */
function adaptSizeTrace(dataDirectory: string): Trace {
  const numbers = new Map<string, number>();
  const objects: number[] = [];
  const bytesOf: number[] = [];
  for (const line of textOf(join(dataDirectory, "traces/adaptsize-request.trace")).split("\n")) {
    const [, id, size] = line.split(" ");
    if (id === undefined || size === undefined) continue;
    let number = numbers.get(id);
    if (number === undefined) {
      number = numbers.size;
      numbers.set(id, number);
      bytesOf.push(Math.max(1, Number(size)));
    }
    objects.push(number);
  }
  return traceOf(
    "adaptsize",
    "request trace published with AdaptSize",
    Uint32Array.from(objects),
    Float64Array.from(bytesOf),
  );
}

/** A discrete distribution: values with their weights. */
class Weighted {
  readonly #values: readonly number[];
  readonly #cumulated: Float64Array;

  constructor(weights: ReadonlyMap<number, number>) {
    this.#values = [...weights.keys()];
    this.#cumulated = new Float64Array(this.#values.length);
    let sum = 0;
    for (const [index, value] of this.#values.entries())
      this.#cumulated[index] = sum += weights.get(value) ?? 0;
  }

  sample(random: Random): number {
    const cumulated = this.#cumulated;
    const draw = random.float() * (cumulated.at(-1) ?? 0);
    let low = 0;
    let high = cumulated.length - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((cumulated[middle] ?? 0) <= draw) low = middle + 1;
      else high = middle;
    }
    return this.#values[low] ?? 0;
  }
}

/** Width of a descriptor's stack distance bins, KB. */
const BIN_KB = 200_000;
/** Objects in one block of the list; blocks twice as long are cut. */
const BLOCK = 512;

/**
 * The objects in the order of their next request, and the bytes in front of each: what the generator takes from the front
 * it puts back at a distance in bytes. Blocks with their sums make an insertion cost some hundred steps.
 */
class StackList {
  readonly #blocks: { objects: number[]; kb: number }[] = [{ objects: [], kb: 0 }];
  readonly #kbOf: number[];
  kb = 0;

  constructor(kbOf: number[]) {
    this.#kbOf = kbOf;
  }

  push(object: number): void {
    this.#put(this.#blocks.length - 1, Number.POSITIVE_INFINITY, object);
  }

  shift(): number {
    let first = this.#blocks[0];
    while (first !== undefined && first.objects.length === 0 && this.#blocks.length > 1) {
      this.#blocks.shift();
      first = this.#blocks[0];
    }
    const object = first?.objects.shift() ?? 0;
    const kb = this.#kbOf[object] ?? 0;
    if (first !== undefined) first.kb -= kb;
    this.kb -= kb;
    return object;
  }

  /** Puts an object behind the first ones that make up `distanceKb`. */
  insert(object: number, distanceKb: number): void {
    let left = distanceKb;
    let index = 0;
    for (; index < this.#blocks.length - 1; index++) {
      const { kb } = this.#blocks[index] as { kb: number };
      if (left < kb) break;
      left -= kb;
    }
    let at = 0;
    for (const other of this.#blocks[index]?.objects ?? []) {
      if (left <= 0) break;
      left -= this.#kbOf[other] ?? 0;
      at++;
    }
    this.#put(index, at, object);
  }

  #put(index: number, at: number, object: number): void {
    const block = this.#blocks[index];
    if (block === undefined) return;
    block.objects.splice(at, 0, object);
    const kb = this.#kbOf[object] ?? 0;
    block.kb += kb;
    this.kb += kb;
    if (block.objects.length < 2 * BLOCK) return;
    const objects = block.objects.splice(BLOCK);
    const movedKb = objects.reduce((sum, moved) => sum + (this.#kbOf[moved] ?? 0), 0);
    block.kb -= movedKb;
    this.#blocks.splice(index + 1, 0, { objects, kb: movedKb });
  }
}

interface TragenOptions {
  readonly traffic: "eu-2" | "eu-3" | "tc-0";
  /** What the trace is like the class in: how many of the requests, or how many of the bytes, a cache has to fetch. */
  readonly weight: "requests" | "bytes";
  /** Distances and length are those of the descriptor divided by this: a sample of the objects, not of the requests. */
  readonly scale: number;
  readonly seed: number;
}

/**
 * A synthetic trace with the stack distances and object sizes of a traffic class, after Sabnis and Sitaraman, "TRAGEN: A
 * Synthetic Trace Generator for Realistic Cache Simulations", IMC 2021, section 4: a list of objects in the order of their
 * next request, as many as the largest distance holds; the first is requested, a stack distance is drawn from the footprint
 * descriptor, and the object is put back behind that many bytes; "never again" is drawn with the share of objects in
 * requests, the object goes then and new ones join at the end. Sizes are drawn from the class's size distribution, so they
 * do not depend on popularity: where large objects are the popular ones, as in tc-0, a trace is like its class either in requests
 * or, by the descriptor that counts bytes, in bytes. `scale` divides distances and length alike, which keeps the hit ratio by share of footprint.
 */
function tragenTrace(dataDirectory: string, options: TragenOptions): Trace {
  const { traffic, weight, scale, seed } = options;
  const path = (kind: string): string =>
    join(dataDirectory, "traces/tragen", traffic, `${traffic}-${kind}.txt`);
  const [header = "", ...rows] = textOf(path(weight === "bytes" ? "bfd" : "fd")).split("\n");
  const [descriptorRequests = 0, requestedKb = 0, , , descriptorObjects = 0, footprintKb = 0] = header
    .split(" ")
    .map(Number);
  const newShare = weight === "bytes" ? footprintKb / requestedKb : descriptorObjects / descriptorRequests;
  const distances = new Map<number, number>([[-1, newShare]]);
  for (const row of rows) {
    const [, distance, probability] = row.split(" ").map(Number);
    if (distance === undefined || probability === undefined) continue;
    distances.set(distance, (distances.get(distance) ?? 0) + probability);
  }
  const sizes = new Map<number, number>();
  for (const row of textOf(path("sz")).split("\n")) {
    const [kb, probability] = row.split(" ").map(Number);
    if (kb !== undefined && probability !== undefined) sizes.set(kb, (sizes.get(kb) ?? 0) + probability);
  }
  const name = weight === "bytes" ? `${traffic}-bytes` : traffic;
  const random = new Random(`tragen/${name}/${scale}/${seed}`);
  const distance = new Weighted(distances);
  const size = new Weighted(sizes);
  const listKb = Math.max(...distances.keys()) / scale;
  const kbOf: number[] = [];
  const list = new StackList(kbOf);
  const grow = (): void => {
    while (list.kb < listKb) {
      kbOf.push(Math.max(1, size.sample(random)));
      list.push(kbOf.length - 1);
    }
  };
  grow();
  const length = Math.round(descriptorRequests / scale);
  const objectOf = new Uint32Array(length);
  const numbers = new Map<number, number>();
  const bytesOf: number[] = [];
  for (let request = 0; request < length; request++) {
    const object = list.shift();
    let number = numbers.get(object);
    if (number === undefined) {
      number = numbers.size;
      numbers.set(object, number);
      bytesOf.push((kbOf[object] ?? 1) * 1_000);
    }
    objectOf[request] = number;
    const bin = distance.sample(random);
    if (bin < 0) grow();
    else list.insert(object, (bin + random.float() * BIN_KB) / scale);
  }
  return traceOf(
    name,
    `synthetic, Tragen descriptor ${name} (${descriptorRequests} requests, ${descriptorObjects} objects) at 1/${scale}, seed ${seed}`,
    objectOf,
    Float64Array.from(bytesOf),
  );
}

export const TRACES = ["adaptsize", "eu-2", "eu-3", "tc-0"] as const;
/** Those of {@link TRACES} that are like their classes in bytes. */
export const BYTE_TRACES = ["eu-2-bytes", "eu-3-bytes", "tc-0-bytes"] as const;

/** Large classes are sampled harder; tc-0's few objects of gigabytes need a footprint that is larger than they are. */
const DEFAULT_SCALES = { "eu-2": 100, "eu-3": 100, "tc-0": 8 } as const;

/** @throws UsageError for another name */
export function traceByName(
  name: string,
  dataDirectory: string,
  seed: number,
  scale: number | undefined,
): Trace {
  const tragen = (traffic: TragenOptions["traffic"], weight: TragenOptions["weight"]): Trace =>
    tragenTrace(dataDirectory, { traffic, weight, scale: scale ?? DEFAULT_SCALES[traffic], seed });
  switch (name) {
    case "adaptsize":
      return adaptSizeTrace(dataDirectory);
    case "eu-2":
    case "eu-3":
    case "tc-0":
      return tragen(name, "requests");
    case "eu-2-bytes":
      return tragen("eu-2", "bytes");
    case "eu-3-bytes":
      return tragen("eu-3", "bytes");
    case "tc-0-bytes":
      return tragen("tc-0", "bytes");
    default:
      throw new UsageError(`policies: got ${JSON.stringify(name)}, expected some of ${TRACES.join(", ")}`);
  }
}

/** The first `requests` of a trace with sizes divided by `divisor`; objects that are not asked for any more are left out. */
export function resized(trace: Trace, divisor: number, requests: number): Trace {
  if (divisor === 1 && requests >= trace.requests) return trace;
  const objectOf = trace.objectOf.slice(0, Math.min(requests, trace.requests));
  // Objects are numbered in the order of their first request.
  const objects = objectOf.reduce((most, object) => Math.max(most, object + 1), 0);
  return traceOf(
    trace.name,
    `${trace.origin}; first ${objectOf.length} requests, sizes divided by ${divisor}`,
    objectOf,
    trace.bytesOf.slice(0, objects).map((bytes) => Math.max(1, Math.round(bytes / divisor))),
  );
}
