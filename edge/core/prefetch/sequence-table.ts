/** Which segments follow which, of the manifests that passed lately. Bounded; the manifest that was read longest ago goes first. */
import type { PrefetchKind } from "#kit";
import type { Reference } from "./reference.ts";
import { addressName, type MediaPlan } from "./sequence.ts";

/** Segments in the table; a reference takes about 300 bytes. */
const ENTRIES_MAX = 30_000;

/** What kind of manifest said it. */
export type SequenceKind = Extract<PrefetchKind, "hls" | "dash">;

interface Place {
  readonly manifest: string;
  readonly kind: SequenceKind;
  readonly sequence: readonly Reference[];
  readonly index: number;
}

export class SequenceTable {
  readonly #places = new Map<string, Place>();
  /** The names of each manifest's segments, oldest manifest first. */
  readonly #manifests = new Map<string, readonly string[]>();

  get size(): number {
    return this.#places.size;
  }

  /** Replaces what the manifest said before. */
  set(manifest: string, kind: SequenceKind, sequences: MediaPlan["sequences"]): void {
    this.#delete(manifest);
    const names: string[] = [];
    for (const sequence of sequences)
      for (const [index, reference] of sequence.entries()) {
        if (names.length >= ENTRIES_MAX) break;
        const name = addressName(reference);
        this.#places.set(name, { manifest, kind, sequence, index });
        names.push(name);
      }
    this.#manifests.set(manifest, names);
    while (this.#places.size > ENTRIES_MAX) {
      const [oldest] = this.#manifests.keys();
      if (oldest === undefined) return;
      this.#delete(oldest);
    }
  }

  /** What follows a segment, at most `count`, and what said so; nothing when the segment is of no manifest. */
  after(
    name: string,
    count: number,
  ): { readonly kind: SequenceKind; readonly next: readonly Reference[] } | undefined {
    const place = this.#places.get(name);
    return (
      place && { kind: place.kind, next: place.sequence.slice(place.index + 1, place.index + 1 + count) }
    );
  }

  #delete(manifest: string): void {
    for (const name of this.#manifests.get(manifest) ?? [])
      if (this.#places.get(name)?.manifest === manifest) this.#places.delete(name);
    this.#manifests.delete(manifest);
  }
}
