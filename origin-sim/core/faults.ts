/** A fault that an operator switches on while the origin runs: every request that it is about meets it. */
import {
  integer,
  nullable,
  number,
  object,
  oneOf,
  optional,
  type Parsed,
  Random,
  refine,
  string,
} from "#kit";

export const faultKinds = ["hang", "reset", "status", "slow", "delay"] as const;

/** `kind` null heals. The value that a kind needs must be there, and no other. */
export const faultSchema = refine(
  object({
    kind: nullable(oneOf(faultKinds)),
    /** For `status`. */
    status: optional(integer({ min: 400, max: 599 })),
    /** For `slow`: bytes a second of a body. */
    bytesPerSecond: optional(integer({ min: 1, max: 1e9, unit: "bytes per second" })),
    /** For `delay`: before the head. */
    delayMs: optional(integer({ max: 60_000, unit: "ms" })),
    /** Only requests whose path starts so. */
    pathPrefix: optional(string({ max: 512, pattern: /^\//, expected: "a path that starts with /" })),
    /** Only requests for this host. */
    hostname: optional(string({ max: 253 })),
    /** Share of the requests that meet it, drawn with a fixed seed; 1 unless told. */
    ratio: optional(number({ min: 0, max: 1 })),
    /** So many requests meet it, then it is over. */
    requests: optional(integer({ min: 1, max: 1e9 })),
  }),
  (fault) => {
    const needs = { status: "status", slow: "bytesPerSecond", delay: "delayMs" } as const;
    for (const [kind, key] of Object.entries(needs) as [
      keyof typeof needs,
      (typeof needs)[keyof typeof needs],
    ][]) {
      if (fault.kind === kind && fault[key] === undefined)
        return { at: [key], value: undefined, expected: `a value, because kind is ${kind}` };
      if (fault.kind !== kind && fault[key] !== undefined)
        return { at: [key], value: fault[key], expected: `no value unless kind is ${kind}` };
    }
    return undefined;
  },
);
export type Fault = Parsed<typeof faultSchema>;

/** The one fault in force and whom it has met. */
export class FaultSwitch {
  #fault: Fault = { kind: null };
  #random = new Random("origin-sim/faults");
  #met = 0;

  get current(): { readonly fault: Fault; readonly requestsMet: number } {
    return { fault: this.#fault, requestsMet: this.#met };
  }

  /** Replaces the fault in force; the count and the draws start anew. */
  set(fault: Fault): void {
    this.#fault = fault;
    this.#random = new Random("origin-sim/faults");
    this.#met = 0;
  }

  /** The fault that this request meets; undefined: none. */
  meets(hostname: string, path: string): Fault | undefined {
    const fault = this.#fault;
    if (fault.kind === null) return undefined;
    if (fault.hostname !== undefined && fault.hostname !== hostname) return undefined;
    if (fault.pathPrefix !== undefined && !path.startsWith(fault.pathPrefix)) return undefined;
    if (fault.requests !== undefined && this.#met >= fault.requests) return undefined;
    if (fault.ratio !== undefined && !this.#random.chance(fault.ratio)) return undefined;
    this.#met++;
    return fault;
  }
}
