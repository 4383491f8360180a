/** Counts requests by (method, host, target), so that a test can say how often the origin was asked, and for what. */

export interface CountedRequest {
  readonly method: string;
  readonly host: string;
  readonly target: string;
  readonly count: number;
  /** Of these: with If-None-Match or If-Modified-Since, answered 304, with Range. */
  readonly conditional: number;
  readonly notModified: number;
  readonly ranged: number;
}

type Counter = { -readonly [K in keyof CountedRequest]: CountedRequest[K] };

export interface RequestCounts {
  readonly total: number;
  readonly bodyBytesSent: number;
  /** Requests beyond the bound on different targets: in `total` only. */
  readonly uncounted: number;
  readonly requests: readonly CountedRequest[];
}

export interface RequestLogLimits {
  readonly countedTargetsMax: number;
  readonly countedTargetLengthMax: number;
}

export class RequestLog {
  readonly #limits: RequestLogLimits;
  readonly #counters = new Map<string, Counter>();
  #total = 0;
  #bodyBytesSent = 0;
  #uncounted = 0;

  constructor(limits: RequestLogLimits) {
    this.#limits = limits;
  }

  /** Counts one request; the returned object takes what is known later. */
  count(
    method: string,
    host: string,
    target: string,
    isConditional: boolean,
    isRanged: boolean,
  ): Counter | undefined {
    this.#total++;
    const key = `${method} ${host} ${target}`;
    let counter = this.#counters.get(key);
    if (counter === undefined) {
      if (
        this.#counters.size >= this.#limits.countedTargetsMax ||
        target.length > this.#limits.countedTargetLengthMax
      ) {
        this.#uncounted++;
        return undefined;
      }
      counter = { method, host, target, count: 0, conditional: 0, notModified: 0, ranged: 0 };
      this.#counters.set(key, counter);
    }
    counter.count++;
    if (isConditional) counter.conditional++;
    if (isRanged) counter.ranged++;
    return counter;
  }

  sent(bytes: number): void {
    this.#bodyBytesSent += bytes;
  }

  /** All counts; with `path`, only targets that begin with it. */
  counts(path?: string): RequestCounts {
    const all = [...this.#counters.values()];
    return {
      total: this.#total,
      bodyBytesSent: this.#bodyBytesSent,
      uncounted: this.#uncounted,
      requests: path === undefined ? all : all.filter((counter) => counter.target.startsWith(path)),
    };
  }

  clear(): void {
    this.#counters.clear();
    this.#total = 0;
    this.#bodyBytesSent = 0;
    this.#uncounted = 0;
  }
}
