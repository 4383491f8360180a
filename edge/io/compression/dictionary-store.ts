/**
 * The dictionaries that clients of this server may have: contents that were served with Use-As-Dictionary (RFC 9842), also those that
 * the store has replaced by a newer version since, which is what they are for. The least recently used go first.
 */
import { hash } from "node:crypto";
import { LRUCache } from "lru-cache";
import type { ObjectBody } from "../object-body.ts";
import type { Dictionary } from "./coders.ts";

/** Share of the store that one dictionary may take: scripts are some 100 KiB, and one must not push out all others. */
const DICTIONARY_SHARE_MAX = 1 / 4;

export class DictionaryStore {
  readonly #dictionaries: LRUCache<string, Dictionary>;
  /** Of one dictionary. */
  readonly bytesMax: number;
  /** Of what was kept. */
  readonly #hashes = new WeakMap<ObjectBody, string>();

  /** `bytesMax`: of their contents together; 0: none is kept. */
  constructor(bytesMax: number) {
    this.bytesMax = Math.floor(bytesMax * DICTIONARY_SHARE_MAX);
    this.#dictionaries = new LRUCache({
      maxSize: Math.max(1, bytesMax),
      sizeCalculation: ({ bytes }) => Math.max(1, bytes.byteLength),
    });
  }

  get bytes(): number {
    return this.#dictionaries.calculatedSize;
  }
  get size(): number {
    return this.#dictionaries.size;
  }

  /** Of one web origin: what another one's client has been sent is none of this one's business. Counts as a use. */
  find(origin: string, hashed: string): Dictionary | undefined {
    return this.#dictionaries.get(`${origin} ${hashed}`);
  }

  /** Whether what a body holds is kept. Not a use. */
  has(origin: string, body: ObjectBody): boolean {
    const hashed = this.#hashes.get(body);
    return hashed !== undefined && this.#dictionaries.has(`${origin} ${hashed}`);
  }

  /** Keeps `bytes`, which are the content of `body` without a coding; nothing when they are too many. */
  keep(origin: string, body: ObjectBody, bytes: Uint8Array): void {
    if (bytes.byteLength === 0 || bytes.byteLength > this.bytesMax) return;
    const hashed = hash("sha256", bytes, "base64");
    this.#hashes.set(body, hashed);
    this.#dictionaries.set(`${origin} ${hashed}`, { bytes, hash: hashed });
  }
}
