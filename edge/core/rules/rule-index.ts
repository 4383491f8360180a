/** Which rules a path may meet: by its first segment and by its extension, so that a request looks at few of 200. */
import type { Rule } from "#kit";
import type { RequestFacts } from "./request-facts.ts";

const NONE: readonly number[] = [];

/** `/a` of `/a/b`; undefined when a longer first segment begins alike. */
function firstSegment(prefix: string, isWhole: boolean): string | undefined {
  const slash = prefix.indexOf("/", 1);
  if (slash !== -1) return prefix.slice(0, slash);
  return isWhole ? prefix : undefined;
}

export class RuleIndex {
  readonly #bySegment = new Map<string, number[]>();
  readonly #byExtension = new Map<string, number[]>();
  readonly #others: number[] = [];

  constructor(rules: readonly Rule[]) {
    for (const [index, { match }] of rules.entries()) {
      const { path, pathPrefix, pathGlob, extensions } = match;
      if (path !== undefined)
        for (const segment of new Set(path.map((one) => firstSegment(one, true) ?? one)))
          add(this.#bySegment, segment, index);
      else {
        const star = pathGlob?.indexOf("*") ?? -1;
        const prefix = pathPrefix ?? (star === -1 ? undefined : pathGlob?.slice(0, star));
        const segment = prefix === undefined ? undefined : firstSegment(prefix, false);
        if (segment !== undefined) add(this.#bySegment, segment, index);
        else if (extensions !== undefined)
          for (const extension of new Set(extensions)) add(this.#byExtension, extension, index);
        else this.#others.push(index);
      }
    }
  }

  /** Indices of the rules that could hold, in order. */
  candidates(facts: RequestFacts): readonly number[] {
    const bySegment = this.#bySegment.get(firstSegment(facts.path, true) ?? "") ?? NONE;
    const byExtension =
      this.#byExtension.size === 0 ? NONE : (this.#byExtension.get(facts.extension) ?? NONE);
    if (bySegment.length + byExtension.length === 0) return this.#others;
    if (byExtension.length + this.#others.length === 0) return bySegment;
    // No rule stands in two of them.
    return [...bySegment, ...byExtension, ...this.#others].sort((a, b) => a - b);
  }
}

function add(into: Map<string, number[]>, name: string, index: number): void {
  const present = into.get(name);
  if (present === undefined) into.set(name, [index]);
  else present.push(index);
}
