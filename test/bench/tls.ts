/** Cache hits over TLS: HTTP/1.1 and HTTP/2, one worker, every server with the same ECDSA P-256 certificate. */
import { hasFlag, isochrone, isochroneByNode } from "./peers/isochrone.ts";
import { nginx } from "./peers/nginx.ts";
import { nodeHttp2 } from "./peers/node-http2.ts";
import { makeCertificate } from "./tools/certificate.ts";
import { measure, type Workload } from "./tools/measure.ts";
import { benchOptions, publish } from "./tools/options.ts";
import { startOrigin } from "./tools/origin.ts";
import { hitWorkload, KIBIBYTE } from "./tools/workloads.ts";

export const summary = "cache hits over TLS, HTTP/1.1 and HTTP/2, against nginx; new TLS connections";

const TLS = { scheme: "https" } as const;
const HTTP2 = { scheme: "https", protocol: "h2", streams: 10 } as const;

const WORKLOADS: readonly Workload[] = [
  hitWorkload("tls-1KiB-c32", "HTTP/1.1 over TLS, 1 KiB, 32 connections", KIBIBYTE, 32, TLS),
  hitWorkload("tls-100KiB-c32", "HTTP/1.1 over TLS, 100 KiB, 32 connections", 100 * KIBIBYTE, 32, TLS),
  hitWorkload("h2-1KiB-c32", "HTTP/2, 1 KiB, 32 connections of 10 streams", KIBIBYTE, 32, HTTP2),
  hitWorkload("h2-100KiB-c32", "HTTP/2, 100 KiB, 32 connections of 10 streams", 100 * KIBIBYTE, 32, HTTP2),
  hitWorkload("connect-c32", "a new TLS connection for each request of 1 KiB, 32 at a time", KIBIBYTE, 32, {
    ...TLS,
    headers: { Connection: "close" },
  }),
];

export async function main(argv: readonly string[]): Promise<number> {
  const servers = [...isochrone, isochroneByNode, ...nginx, nodeHttp2];
  const options = benchOptions(argv, "tls", summary, servers, WORKLOADS);
  if (options === undefined) return 0;
  const mayTls = await hasFlag("--tls-listen");
  if (!mayTls) console.error("isochrone left out: this edge has no --tls-listen");
  const origin = await startOrigin();
  try {
    const setting = { role: "cache", workers: 1, certificate: await makeCertificate() } as const;
    const able = options.servers.filter((server) => server.name !== "isochrone" || mayTls);
    return publish(await measure({ name: "tls", ...options, servers: able, origin, setting }), options.out);
  } finally {
    origin.stop();
  }
}
