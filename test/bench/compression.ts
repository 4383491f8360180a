/**
 * What compression costs and saves: forms that are made once and stored, beside nginx' gzip on the fly, for the same texts; the bytes and
 * CPU of each form; and the bytes of a script's next version for a client that has the last one (RFC 9842).
 */
import { hash } from "node:crypto";
import { brotliCompressSync, constants, gzipSync, zstdCompressSync } from "node:zlib";
import { CODINGS, type Coding } from "../../edge/core/compression/accept-encoding.ts";
import { storedLevel, streamLevel } from "../../edge/core/compression/levels.ts";
import { isochrone } from "./peers/isochrone.ts";
import { nginxGzip } from "./peers/nginx.ts";
import { header, type Server } from "./peers/peer.ts";
import { type Answer, ask } from "./tools/ask.ts";
import { decoded } from "./tools/coding.ts";
import { cpuSecondsOf } from "./tools/cpu.ts";
import { type BenchResult, labelOf, measure, type Workload } from "./tools/measure.ts";
import { benchOptions, publish } from "./tools/options.ts";
import { type Origin, startOrigin } from "./tools/origin.ts";
import { TEXTS, VERSIONS } from "./tools/texts.ts";

export const summary =
  "compressed text: stored forms beside gzip on the fly, bytes and CPU of each form, dictionaries";

const CONNECTIONS = 32;
/** What a tool sends, and what a browser does. */
const CLIENTS = { gzip: "gzip", all: "gzip, deflate, br, zstd" } as const;

const WORKLOADS: readonly Workload[] = Object.entries(TEXTS).flatMap(([name, { note, read }]) =>
  Object.entries(CLIENTS).map(
    ([client, accept]): Workload => ({
      name: `${name}-${client}`,
      note: `${note}, ${read().byteLength} bytes, Accept-Encoding: ${accept}`,
      load: {
        scheme: "http",
        protocol: "http/1.1",
        connections: CONNECTIONS,
        paths: [`/text/${name}`],
        headers: { "Accept-Encoding": accept },
      },
      expected: { status: 200, bodyBytes: read().byteLength, isHit: true, isCoded: true },
    }),
  ),
);

/** Bytes of one answer as they were on the wire, head included. */
interface WireBytes {
  readonly workload: string;
  readonly server: string;
  readonly bytesPerRequest: number;
}

function wireBytesOf({ medians }: BenchResult): readonly WireBytes[] {
  return medians.map((run) => ({
    workload: run.workload,
    server: labelOf(run),
    bytesPerRequest: Math.round(run.bytes / run.requests),
  }));
}

const COMPRESS: Readonly<Record<Coding, (content: Buffer, level: number) => Buffer>> = {
  br: (content, level) =>
    brotliCompressSync(content, {
      params: {
        [constants.BROTLI_PARAM_QUALITY]: level,
        [constants.BROTLI_PARAM_SIZE_HINT]: content.byteLength,
      },
    }),
  zstd: (content, level) =>
    zstdCompressSync(content, { params: { [constants.ZSTD_c_compressionLevel]: level } }),
  gzip: (content, level) => gzipSync(content, { level }),
};
/** Compressions of which the fastest counts. */
const TRIES = 3;

/** What one text takes in one coding at one level, by itself. */
function formOf(content: Buffer, coding: Coding, level: number) {
  let cpuMs = Number.POSITIVE_INFINITY;
  let bytes = 0;
  for (let number = 0; number < TRIES; number++) {
    const { value, seconds } = cpuSecondsOf(() => COMPRESS[coding](content, level).byteLength);
    bytes = value;
    cpuMs = Math.min(cpuMs, seconds * 1_000);
  }
  return { coding, level, bytes, share: bytes / content.byteLength, cpuMs };
}

/** Each text in each form: stored, as it goes by, and as nginx has it by default. */
function formsOf() {
  return Object.entries(TEXTS).map(([name, { read }]) => {
    const content = read();
    return {
      text: name,
      bytes: content.byteLength,
      stored: CODINGS.map((coding) => formOf(content, coding, storedLevel(coding, content.byteLength))),
      streamed: CODINGS.map((coding) => formOf(content, coding, streamLevel(coding))),
      nginxDefault: formOf(content, "gzip", 1),
    };
  });
}

/** How long a form may take to be made in the background, ms. */
const FORM_TIMEOUT_MS = 30_000;

/** A script's next version as one server sends it to who has the last one, and to who has not. */
async function dictionariesOf(server: Server, origin: Origin) {
  const running = await server.start({ originPort: origin.port, role: "cache", workers: 1 });
  try {
    const get = async (path: string, headers: Readonly<Record<string, string>>): Promise<Answer> => {
      const question = { scheme: "http", protocol: "http/1.1", port: running.port, isQuiet: false } as const;
      const [answer] = await ask({ ...question, headers, paths: [path] });
      if (answer?.status !== 200) throw new Error(`${path}: status ${answer?.status}`);
      return answer;
    };
    const results = [];
    for (const [name, { note, read }] of Object.entries(VERSIONS)) {
      const { old, next } = read();
      const path = `/version/${name}/next`;
      /** Asks until the next version comes in this coding, from the store or not. */
      const bytesIn = async (coding: string, isStored: boolean, more: Record<string, string> = {}) => {
        for (const endMs = performance.now() + FORM_TIMEOUT_MS; ; ) {
          const { headers, content } = await get(path, { "Accept-Encoding": coding, ...more });
          const isKept = header(headers, "content-length") !== "";
          if (header(headers, "content-encoding") === coding && (isKept || !isStored)) {
            if (!decoded(content, coding, old).equals(next)) throw new Error(`${path}: not the content`);
            return content.byteLength;
          }
          if (performance.now() > endMs) throw new Error(`${path}: no ${coding} after ${FORM_TIMEOUT_MS} ms`);
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      };
      await get(`/version/${name}/old`, { "Accept-Encoding": CLIENTS.all });
      const having = { "Available-Dictionary": `:${hash("sha256", old, "base64")}:` };
      const result = {
        pair: name,
        note,
        oldBytes: old.byteLength,
        nextBytes: next.byteLength,
        dczAtOnce: await bytesIn("dcz", false, having),
        gzip: await bytesIn("gzip", true),
        br: await bytesIn("br", true),
        dcb: await bytesIn("dcb", true, having),
      };
      results.push({ ...result, shareOfBr: result.dcb / result.br, savedBytes: result.br - result.dcb });
    }
    return results;
  } finally {
    await running.stop();
  }
}

export async function main(argv: readonly string[]): Promise<number> {
  const [ours] = isochrone;
  const servers = [...(ours === undefined ? [] : [ours]), ...nginxGzip];
  const options = benchOptions(argv, "compression", summary, servers, WORKLOADS);
  if (options === undefined) return 0;
  const origin = await startOrigin();
  try {
    const setting = { role: "cache", workers: 1 } as const;
    const result = await measure({ name: "compression", ...options, origin, setting });
    const wireBytes = wireBytesOf(result);
    for (const { workload, server, bytesPerRequest } of wireBytes)
      console.error(`${workload.padEnd(14)} ${server.padEnd(22)} ${bytesPerRequest} bytes a request`);
    const dictionaries =
      ours !== undefined && options.servers.includes(ours) ? await dictionariesOf(ours, origin) : [];
    for (const { pair, nextBytes, br, dcb, dczAtOnce } of dictionaries)
      console.error(`${pair}: ${nextBytes} bytes, br ${br}, dcz at once ${dczAtOnce}, dcb ${dcb}`);
    const kept = { ...result, wireBytes, forms: formsOf(), dictionaries };
    return publish(kept, options.out);
  } finally {
    origin.stop();
  }
}
