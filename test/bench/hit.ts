/** Cache hits over clear HTTP/1.1 with keep-alive, one worker, access record and metrics included. */
import { haproxy } from "./peers/haproxy.ts";
import { isochrone, isochroneWithoutRing } from "./peers/isochrone.ts";
import { nginx } from "./peers/nginx.ts";
import { trafficServer } from "./peers/traffic-server.ts";
import { varnish } from "./peers/varnish.ts";
import { measure, type Workload } from "./tools/measure.ts";
import { benchOptions, publish } from "./tools/options.ts";
import { startOrigin } from "./tools/origin.ts";
import { hitWorkload, KIBIBYTE, notModifiedWorkload, zipfWorkload } from "./tools/workloads.ts";

export const summary = "cache hits, HTTP/1.1 keep-alive: 0 KiB to 1 MiB, 10,000 URLs by Zipf; one worker";

const WORKLOADS: readonly Workload[] = [
  hitWorkload("1KiB-c32", "1 KiB, 32 connections", KIBIBYTE, 32),
  hitWorkload("1KiB-c256", "1 KiB, 256 connections", KIBIBYTE, 256),
  notModifiedWorkload("304-c32", "If-None-Match that matches: 304 without body, 32 connections", 32),
  hitWorkload("10KiB-c32", "10 KiB, 32 connections", 10 * KIBIBYTE, 32),
  hitWorkload("100KiB-c32", "100 KiB, 32 connections", 100 * KIBIBYTE, 32),
  hitWorkload("1MiB-c32", "1 MiB, 32 connections", 1024 * KIBIBYTE, 32),
  zipfWorkload("zipf-c32", 32),
];

export async function main(argv: readonly string[]): Promise<number> {
  const servers = [...isochrone, isochroneWithoutRing, ...nginx, ...varnish, ...trafficServer, ...haproxy];
  const options = benchOptions(argv, "hit", summary, servers, WORKLOADS);
  if (options === undefined) return 0;
  const origin = await startOrigin();
  try {
    const setting = { role: "cache", workers: 1 } as const;
    return publish(await measure({ name: "hit", ...options, origin, setting }), options.out);
  } finally {
    origin.stop();
  }
}
