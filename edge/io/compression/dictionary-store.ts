/**
 * The dictionaries that clients of this server may have: contents that were served with Use-As-Dictionary (RFC 9842), also those that
 * the store has replaced by a newer version since, which is what they are for. The least recently used go first.
 */
import { hash } from "node:crypto";
import { LRUCache } from "lru-cache";
import type { Coding } from "../../core/compression/accept-encoding.ts";
import type { ObjectBody } from "../object-body.ts";
import { decodedWhole, type Dictionary } from "./coders.ts";

/** Share of the store that one dictionary may take: scripts are some 100 KiB, and one must not push out all others. */
const DICTIONARY_SHARE_MAX = 1 / 4;

export class DictionaryStore {
  readonly #dictionaries: LRUCache<string, Dictionary>;
  /** Of one dictionary. */
  readonly #bytesMax: number;
  /** Of what was kept. */
  readonly #hashes = new WeakMap<ObjectBody, string>();

  /** `bytesMax`: of their contents together; 0: none is kept. */
  constructor(bytesMax: number) {
    this.#bytesMax = Math.floor(bytesMax * DICTIONARY_SHARE_MAX);
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

  /** Keeps the content of a body, without its coding, once it is complete; nothing when it is too long. Never rejects. */
  async keep(origin: string, body: ObjectBody, coding: Coding | "identity"): Promise<void> {
    const known = this.#hashes.get(body);
    if (known !== undefined && this.#dictionaries.has(`${origin} ${known}`)) return;
    const bytes = await this.#plainContent(body, coding);
    if (bytes === undefined || bytes.byteLength === 0 || bytes.byteLength > this.#bytesMax) return;
    const hashed = hash("sha256", bytes, "base64");
    this.#hashes.set(body, hashed);
    this.#dictionaries.set(`${origin} ${hashed}`, { bytes, hash: hashed });
  }

  async #plainContent(body: ObjectBody, coding: Coding | "identity"): Promise<Uint8Array | undefined> {
    if (!body.isComplete && !(await whenComplete(body))) return undefined;
    if (body.bytes > this.#bytesMax) return undefined;
    const content = Buffer.concat(body.chunks);
    if (coding === "identity") return content;
    const decoded = await decodedWhole(content, coding, this.#bytesMax);
    return "bytes" in decoded ? decoded.bytes : undefined;
  }
}

/** Resolves when a body that is being filled has ended: whether it is whole and all of it here. */
async function whenComplete(body: ObjectBody): Promise<boolean> {
  if (!body.isRetained || !body.canJoin) return false;
  try {
    for await (const _chunk of body.read());
  } catch {
    return false;
  }
  return body.isRetained && body.isComplete;
}
