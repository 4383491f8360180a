/** The loads that several benchmarks share, so that their figures can be laid side by side. */
import type { Load } from "./load.ts";
import type { Workload } from "./measure.ts";
import { ENTITY_TAG } from "./origin.ts";

export const KIBIBYTE = 1024;
const ZIPF_URLS = 10_000;
/** Of 100,000 requests the rarest URLs have one or two, and a server may remember only what came twice, each of its workers for itself. */
const ZIPF_WARM_UP_TIMES = 5;

/** A cached object, asked for again and again. */
export function hitWorkload(
  name: string,
  note: string,
  bytes: number,
  connections: number,
  more: Partial<Load> = {},
): Workload {
  return {
    name,
    note,
    load: {
      scheme: "http",
      protocol: "http/1.1",
      connections,
      paths: [`/cached/${bytes}/object`],
      headers: {},
      ...more,
    },
    expected: { status: 200, bodyBytes: bytes, isHit: true },
  };
}

/** The same with a condition that holds: 304 without a body. */
export function notModifiedWorkload(name: string, note: string, connections: number): Workload {
  const workload = hitWorkload(name, note, KIBIBYTE, connections, {
    headers: { "If-None-Match": ENTITY_TAG },
  });
  return { ...workload, expected: { status: 304, bodyBytes: 0, isHit: true } };
}

/** Many objects of 1 KiB, asked for by popularity. */
export function zipfWorkload(name: string, connections: number, more: Partial<Load> = {}): Workload {
  const paths = Array.from({ length: ZIPF_URLS }, (_, index) => `/cached/${KIBIBYTE}/object-${index}`);
  const note = `1 KiB, 10,000 URLs by a Zipf law of exponent 0.9, ${connections} connections`;
  const workload = hitWorkload(name, note, KIBIBYTE, connections, { paths, ...more });
  return { ...workload, warmUpTimes: ZIPF_WARM_UP_TIMES };
}
