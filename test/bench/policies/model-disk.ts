/** The disk store of a replay: the edge's own log and admission, without the bytes. */
import { SegmentLog } from "../../../edge/core/disk/segment-log.ts";
import type { SegmentIndex } from "../../../edge/core/disk/segment-format.ts";
import { WriteAdmission } from "../../../edge/core/disk/write-admission.ts";
import { SecondHitFilter } from "../../../edge/core/eviction/second-hit.ts";

/**
 * What a full disk takes; one that is not full takes whatever is fetched. `all`: what is fetched. `second-request`: what is fetched a second
 * time, or used in memory. `second-fetch`: what is fetched a second time. A number: the edge's admission, with so many reads that a write has to
 * be worth.
 */
export type DiskAdmission = "all" | "second-request" | "second-fetch" | number;

export interface DiskCount {
  readonly writes: number;
  /** Of these writes, and of what is written again because it is in use when its segment goes. */
  readonly writtenBytes: number;
  /** Of the writes that nobody had read when the piece left the disk, or the trace ended: what one that knows the future saves at no loss. */
  readonly unreadWrites: number;
}

/** Of a record beside its content, about. */
const HEAD_BYTES = 300;

export class ModelDisk {
  readonly #log: SegmentLog;
  readonly #hashes: Uint32Array;
  readonly #indexes = new Map<number, SegmentIndex>();
  readonly #filter: SecondHitFilter;
  readonly #edge: WriteAdmission | undefined;
  readonly #admission: DiskAdmission;
  /** By piece. */
  readonly #bytesOf: Float64Array;
  readonly #isRead: Uint8Array;
  #writes = 0;
  #writtenBytes = 0;
  #readWrites = 0;
  isInMemory: (piece: number) => boolean = () => false;

  constructor(pieces: number, hashes: Uint32Array, diskBytes: number, admission: DiskAdmission) {
    this.#log = new SegmentLog(diskBytes);
    this.#hashes = hashes;
    this.#admission = admission;
    this.#bytesOf = new Float64Array(pieces);
    this.#isRead = new Uint8Array(pieces);
    // As the edge does it (io/disk-shards.ts).
    const keys = Math.max(65_536, diskBytes / 16_384);
    this.#filter = new SecondHitFilter(keys);
    this.#edge =
      typeof admission === "number"
        ? new WriteAdmission({ diskBytes, keys, readsAWriteMin: admission })
        : undefined;
  }

  count(): DiskCount {
    return {
      writes: this.#writes,
      writtenBytes: this.#writtenBytes,
      unreadWrites: this.#writes - this.#readWrites,
    };
  }

  /** Memory does not have the piece: reads it, if it is here. */
  read(piece: number): boolean {
    const hash = this.#hashes[piece] ?? 0;
    const locations = this.#log.find(hash, piece);
    if (locations.length === 0) return false;
    this.#edge?.returned(hash, this.#writtenBytes);
    for (const location of locations) this.#log.markHit(location);
    this.#readWrites += 1 - (this.#isRead[piece] ?? 0);
    this.#isRead[piece] = 1;
    return true;
  }

  fetched(piece: number, bytes: number): void {
    this.#bytesOf[piece] = bytes;
    const hash = this.#hashes[piece] ?? 0;
    const { isFull } = this.#log;
    this.#edge?.returned(hash, this.#writtenBytes);
    const isTaken =
      this.#edge?.admits(hash, bytes, "fetched", this.#writtenBytes, isFull) ??
      (!isFull || this.#admission === "all" || this.#filter.isSecond(hash));
    if (isTaken) this.#write(piece);
  }

  usedInMemory(piece: number): void {
    if (this.#admission === "second-request" && !this.#log.has(this.#hashes[piece] ?? 0, piece))
      this.#write(piece);
  }

  leavesMemory(piece: number): void {
    const hash = this.#hashes[piece] ?? 0;
    if (this.#edge === undefined || this.#log.has(hash, piece)) return;
    const bytes = this.#bytesOf[piece] ?? 0;
    if (this.#edge.admits(hash, bytes, "leaving-memory", this.#writtenBytes, this.#log.isFull))
      this.#write(piece);
  }

  #write(piece: number): void {
    if (!this.#append(piece)) return;
    this.#writes++;
    this.#isRead[piece] = 0;
    for (let victim = this.#log.victim(); victim !== undefined; victim = this.#log.victim())
      this.#reclaim(victim);
  }

  #append(piece: number): boolean {
    const bytes = this.#bytesOf[piece] ?? 0;
    if (this.#log.append("object", this.#hashes[piece] ?? 0, piece, 0, HEAD_BYTES, bytes) === undefined)
      return false;
    this.#writtenBytes += bytes;
    this.#pollSteps();
    return true;
  }

  /** As DiskStore does it: what was read, or is in memory, is written again. */
  #reclaim(segment: number): void {
    const index = this.#indexes.get(segment);
    if (index !== undefined) {
      for (const record of this.#log.unused(segment, index))
        if (this.isInMemory(record.lo)) this.#log.markHit(record);
      for (const record of this.#log.keepers(segment, index))
        if (this.#log.isCurrent(record)) this.#append(record.lo);
    }
    this.#log.drop(segment);
    this.#pollSteps();
  }

  #pollSteps(): void {
    for (let step = this.#log.pollStep(); step !== undefined; step = this.#log.pollStep())
      if (step.type === "seal") this.#indexes.set(step.segment, step.index);
      else if (step.type === "drop") this.#indexes.delete(step.segment);
  }
}
