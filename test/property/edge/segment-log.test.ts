/**
 * Laws of the disk store's log, against a plain list of what happened. The disk here is a list of records a segment, which a
 * crash cuts anywhere behind what was confirmed.
 */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import type { Location } from "../../../edge/core/disk/location-index.ts";
import { type LogRecord, SegmentIndex } from "../../../edge/core/disk/segment-format.ts";
import { segmentBytesFor, SegmentLog } from "../../../edge/core/disk/segment-log.ts";

const BYTES_MAX = 16_384;

const step = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      type: fc.constant("put" as const),
      key: fc.nat(11),
      variant: fc.nat(2),
      bytes: fc.nat(900),
    }),
  },
  { weight: 3, arbitrary: fc.record({ type: fc.constant("delete" as const), key: fc.nat(11) }) },
  { weight: 6, arbitrary: fc.record({ type: fc.constant("use" as const), key: fc.nat(11) }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant("reclaim" as const) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("refuse" as const), lost: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("restart" as const), lost: fc.nat(6) }) },
);

/** Something that reached the disk, in order. */
type Written =
  | { readonly type: "record"; readonly record: LogRecord }
  | { readonly type: "seal" | "begin" | "drop"; readonly segment: number };

class Disk {
  log = new SegmentLog(BYTES_MAX);
  /** All that was written so far, in order: the state of the files is what it leads to. */
  written: Written[] = [];

  poll(): void {
    for (let step = this.log.pollStep(); step !== undefined; step = this.log.pollStep())
      this.written.push({ type: step.type, segment: step.segment });
  }

  append(kind: LogRecord["kind"], key: number, variant: number, bytes: number): Location {
    const location = this.log.append(kind, key, key, variant, 10, bytes);
    if (location === undefined) throw new Error("It fits by construction");
    this.poll();
    this.written.push({ type: "record", record: { ...location, kind } });
    return location;
  }

  /** Records of each segment that has not been dropped. */
  segments(): Map<number, SegmentIndex> {
    const segments = new Map<number, SegmentIndex>();
    for (const entry of this.written) {
      if (entry.type === "begin") segments.set(entry.segment, new SegmentIndex());
      else if (entry.type === "drop") segments.delete(entry.segment);
      else if (entry.type === "record") segments.get(entry.record.segment)?.add(entry.record);
    }
    return segments;
  }

  /** A new process on the same files, of whose last things `lost` never arrived. */
  restart(lost: number): void {
    this.written = this.written.slice(0, this.written.length - lost);
    this.log = new SegmentLog(BYTES_MAX);
    for (const [segment, index] of this.segments()) {
      let bytes = 32;
      for (let number = 0; number < index.records; number++) {
        const { offset, bodyBytes } = index.at(number, segment);
        bytes = offset + 64 + Math.ceil(bodyBytes / 16) * 16;
      }
      this.log.replay(segment, bytes, index);
    }
    this.log.settle();
    this.poll();
  }
}

test("what it has is the newest that was put and not deleted, also after a crash, and it never outgrows its disk", () => {
  const met = { evictions: 0, crashes: 0, reinserted: 0, refusals: 0, deletes: 0 };
  fc.assert(
    fc.property(fc.array(step, { minLength: 30, maxLength: 160 }), (steps) => {
      const disk = new Disk();
      /** Number of the put that each location holds. */
      const putAt = new Map<string, number>();
      const nameOf = ({ segment, offset }: { segment: number; offset: number }): string =>
        `${segment}:${offset}`;
      let puts = 0;

      /** The state that the disk's order of records leads to; evicted ones may be missing from it. */
      const model = (): Map<string, number> => {
        const state = new Map<string, number>();
        for (const entry of disk.written) {
          if (entry.type !== "record") continue;
          const { kind, hi, variant } = entry.record;
          const put = putAt.get(nameOf(entry.record));
          if (kind === "object") state.set(`${hi}/${variant}`, put ?? -1);
          else if (kind === "delete-variant") state.delete(`${hi}/${variant}`);
          else for (const name of state.keys()) if (name.startsWith(`${hi}/`)) state.delete(name);
        }
        return state;
      };

      for (const each of steps) {
        switch (each.type) {
          case "put": {
            const location = disk.append("object", each.key, each.variant, each.bytes);
            putAt.set(nameOf(location), ++puts);
            break;
          }
          case "delete":
            if (disk.log.forget(each.key, each.key)) {
              disk.poll();
              disk.append("delete", each.key, 0, 0);
              met.deletes++;
            }
            break;
          case "use":
            for (const location of disk.log.find(each.key, each.key)) disk.log.markHit(location);
            break;
          case "reclaim": {
            const victim = disk.log.victim();
            if (victim === undefined) break;
            const index = disk.segments().get(victim);
            expect(index).toBeDefined();
            for (const record of disk.log.keepers(victim, index ?? new SegmentIndex())) {
              if (!disk.log.isCurrent(record)) continue;
              const moved = disk.append("object", record.hi, record.variant, record.bodyBytes);
              putAt.set(nameOf(moved), putAt.get(nameOf(record)) ?? -1);
              met.reinserted++;
            }
            disk.log.drop(victim);
            disk.poll();
            break;
          }
          case "refuse": {
            // The last records, of the segment that is being written, did not arrive.
            const lost: LogRecord[] = [];
            while (lost.length < each.lost) {
              const last = disk.written.at(-1);
              if (last?.type !== "record") break;
              lost.push(last.record);
              disk.written.pop();
            }
            const first = lost.at(-1);
            if (first === undefined) break;
            met.refusals++;
            disk.log.abandon(
              first.segment,
              first.offset,
              lost.filter(({ kind }) => kind === "object"),
            );
            // As the driver does: what was not written must not leave an older form, and deletes are made up for.
            for (const { kind, hi, variant } of lost.toReversed())
              disk.append(kind === "delete" ? "delete" : "delete-variant", hi, variant, 0);
            break;
          }
          case "restart": {
            met.crashes++;
            // A drop is the system's doing, not a write: it is not undone.
            let lost = 0;
            while (lost < each.lost && disk.written.at(-1 - lost)?.type === "record") lost++;
            disk.restart(lost);
            break;
          }
          default:
            each satisfies never;
        }
        expect(disk.log.bytes).toBeLessThanOrEqual(BYTES_MAX);
        const state = model();
        let found = 0;
        for (let key = 0; key <= 11; key++) {
          for (const location of disk.log.find(key, key)) {
            expect(state.get(`${key}/${location.variant}`)).toBe(putAt.get(nameOf(location)));
            found++;
          }
        }
        expect(disk.log.objects).toBe(found);
        // Nothing goes but by its segment's turn.
        const oldest = Math.min(...disk.segments().keys());
        const lastOf = new Map<string, number>();
        for (const entry of disk.written)
          if (entry.type === "record" && entry.record.kind === "object")
            lastOf.set(`${entry.record.hi}/${entry.record.variant}`, entry.record.segment);
        for (const name of state.keys()) {
          if ((lastOf.get(name) ?? 0) < oldest) continue;
          const [key = "", variant = ""] = name.split("/");
          expect(disk.log.find(Number(key), Number(key)).map((l) => l.variant)).toContain(Number(variant));
        }
      }
      met.evictions += disk.log.evictions;
    }),
    { numRuns: 60 },
  );
  for (const [what, times] of Object.entries(met)) expect(times, what).toBeGreaterThan(10);
});

test("segments are a 64th of the store, 4 to 64 MiB, at least four, at most about a thousand", () => {
  const MiB = 2 ** 20;
  expect(segmentBytesFor(50_000)).toBe(12_500);
  expect(segmentBytesFor(16 * MiB)).toBe(4 * MiB);
  expect(segmentBytesFor(1_024 * MiB)).toBe(16 * MiB);
  expect(segmentBytesFor(10 * 1_024 * MiB)).toBe(64 * MiB);
  expect(segmentBytesFor(1_024 * 1_024 * MiB)).toBe(1_024 * MiB);
});
