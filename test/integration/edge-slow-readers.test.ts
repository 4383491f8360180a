/**
 * Goal: what the streams of connections that take nothing make a server hold of answers that are not kept is bounded in sum, whoever is
 * honest is served meanwhile, and whoever reads on in the end gets every byte. Method: clients whose streams have no window.
 */
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WINDOW_BYTES_MAX, WINDOW_BYTES_MIN } from "#edge";
import { makeCertificate } from "../tools/certificates.ts";
import { startEdge, TestOrigin, until } from "./edge-support.ts";

const MEBIBYTE = 2 ** 20;
const SESSIONS = 3;
const STREAMS = 60;
const MEMORY_BYTES = 64 * MEBIBYTE;
/** An eighth of memory, a little for each stream, and the piece that was under way when there was no room any more. */
const HELD_BYTES_MAX = MEMORY_BYTES / 8 + SESSIONS * STREAMS * (WINDOW_BYTES_MIN + 64 * 1_024);

const origin = new TestOrigin();
const directory = mkdtempSync(join(tmpdir(), "isochrone-readers-"));
const pair = { certificateFile: join(directory, "a.crt"), keyFile: join(directory, "a.key") };

beforeAll(async () => {
  const { certPem, keyPem } = makeCertificate({ names: ["a.example"] });
  writeFileSync(pair.certificateFile, certPem);
  writeFileSync(pair.keyFile, keyPem);
  const content = Buffer.alloc(MEBIBYTE, "x");
  origin.answer = ({ url }, response) => {
    const control = url?.startsWith("/big/") === true ? "no-store" : "max-age=60";
    response.writeHead(200, { "cache-control": control, "content-length": MEBIBYTE }).end(content);
  };
  await origin.start();
});
afterAll(async () => {
  await origin.stop();
  rmSync(directory, { recursive: true });
});

function ask(session: ClientHttp2Session, path: string): ClientHttp2Stream {
  return session.request({ ":path": path, ":authority": "a.example" });
}

async function bytesOf(stream: ClientHttp2Stream): Promise<number> {
  let bytes = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) bytes += chunk.byteLength;
  return bytes;
}

test.each([{ http2Direct: true }, { http2Direct: false }])(
  "180 streams of three connections that take nothing (our own frames: $http2Direct)",
  async ({ http2Direct }) => {
    expect(HELD_BYTES_MAX).toBeLessThan((SESSIONS * STREAMS * WINDOW_BYTES_MAX) / 3);
    const edge = await startEdge(
      origin,
      { memoryBytes: MEMORY_BYTES, http2Direct, hopForwardsInitial: 500, hopForwardsMin: 500 },
      undefined,
      {
        host: "127.0.0.1",
        port: 0,
        pairs: [pair],
        unknownName: "default",
        ticketSecret: Buffer.alloc(32, 1),
      },
    );
    const open = (initialWindowSize: number): ClientHttp2Session =>
      connect(`https://127.0.0.1:${edge.running.tlsPort}`, {
        rejectUnauthorized: false,
        servername: "a.example",
        settings: { initialWindowSize },
      }).on("error", () => {});
    const held = async (): Promise<number> => await edge.metric("fill_window_bytes");
    const sessions = Array.from({ length: SESSIONS }, () => open(0));
    const honest = open(MEBIBYTE);
    try {
      const streams = sessions.flatMap((session, s) =>
        Array.from({ length: STREAMS }, (_, n) => ask(session, `/big/${s}-${n}`)),
      );
      await Promise.all(streams.map(async (stream) => await once(stream, "response")));
      let most = 0;
      await until(async () => {
        const before = await held();
        await delay(200);
        const now = await held();
        most = Math.max(most, before, now);
        return now === before && now > MEMORY_BYTES / 16;
      }, "nothing more comes");
      expect(most).toBeLessThanOrEqual(HELD_BYTES_MAX);
      expect(await bytesOf(ask(honest, "/stored"))).toBe(MEBIBYTE);
      expect(await bytesOf(ask(honest, "/big/honest"))).toBe(MEBIBYTE);

      for (const session of sessions.slice(1)) session.settings({ initialWindowSize: MEBIBYTE });
      const read = await Promise.all(streams.slice(STREAMS).map(bytesOf));
      expect(read.every((bytes) => bytes === MEBIBYTE)).toBe(true);
      sessions[0]?.destroy();
      await until(async () => (await edge.metric("fills_active")) === 0, "all fills have ended");
      await until(async () => (await held()) === 0, "nothing is held any more");
    } finally {
      for (const session of [...sessions, honest]) session.destroy();
      await edge.running.stop();
    }
  },
  60_000,
);
