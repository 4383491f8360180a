import { describe, expect, test } from "vitest";
import { epochMs } from "#kit";
import { type ContentRequest, contentAt, patternBytes, patternOf } from "#origin-sim";
import { PLAYLIST_SEGMENTS, SEGMENT_SECONDS, SEGMENTS_KEPT } from "../../../origin-sim/core/content.ts";

const now = epochMs(1_800_000_000_000);

function request(
  kind: ContentRequest["kind"],
  path: string,
  more: Partial<ContentRequest> = {},
): ContentRequest {
  return { kind, host: "www.shop.example", path, version: 1, now, objectBytesMax: 2 ** 32, ...more };
}
function textOf(body: unknown): string {
  return new TextDecoder().decode(body as Uint8Array);
}

describe("content", () => {
  test.each([
    ["static", "/", "text/html; charset=utf-8", "max-age=60"],
    ["static", "/deep/down/page.html", "text/html; charset=utf-8", "max-age=60"],
    ["static", "/assets/style.css", "text/css; charset=utf-8", "max-age=300"],
    ["static", "/assets/app.js", "text/javascript; charset=utf-8", "max-age=300"],
    ["static", "/assets/logo.svg", "image/svg+xml", "max-age=300"],
    ["page", "/", "text/html; charset=utf-8", "max-age=5"],
    ["page", "/api/cart", "application/json", "no-store"],
    ["download", "/file-10MiB.bin", "application/octet-stream", "max-age=3600"],
    ["hls", "/live/index.m3u8", "application/vnd.apple.mpegurl", "max-age=1"],
    ["generic", "/page/a.html", "text/html; charset=utf-8", "max-age=5"],
    ["generic", "/64KiB.bin", "application/octet-stream", "max-age=3600"],
  ] as const)("%s %s is %s", (kind, path, contentType, cacheControl) => {
    const resource = contentAt(request(kind, path));
    expect(resource).toMatchObject({ contentType, cacheControl });
    expect(resource?.body.length).toBeGreaterThan(0);
  });

  test.each([
    ["static", "/nothing"],
    ["static", "/missing.html"],
    ["page", "/a.bin"],
    ["download", "/file-5GiB.bin"],
    ["download", "/file.bin"],
    ["hls", "/live/segment-1.ts"],
    ["hls", "/index.css"],
    ["static", `/${"a".repeat(3_000)}.css`],
  ] as const)("%s has no %s", (kind, path) => {
    expect(contentAt(request(kind, path))).toBeUndefined();
  });

  test("is the same each time, and another one for another host, path or version", () => {
    const first = contentAt(request("static", "/a.css"));
    expect(contentAt(request("static", "/a.css"))).toEqual(first);
    const others = [
      request("static", "/b.css"),
      request("static", "/a.css", { version: 2 }),
      request("static", "/a.css", { host: "x.example" }),
    ];
    const etags = new Set([first, ...others.map(contentAt)].map((resource) => resource?.etag));
    expect(etags.size).toBe(4);
    expect(contentAt(request("static", "/a.css", { version: 2 }))?.lastModified).toBeGreaterThan(
      first?.lastModified ?? 0,
    );
  });

  test("a page names twelve objects that exist", () => {
    const page = textOf(contentAt(request("page", "/a.html"))?.body);
    const names = [...page.matchAll(/(?:href|src)="([^"]+)"/g)].map((match) => match[1] ?? "");
    expect(names).toHaveLength(12);
    expect(new Set(names).size).toBe(12);
    for (const name of names) expect(contentAt(request("page", name)), name).toBeDefined();
  });

  test("a playlist moves with the time, and its segments exist until they are old", () => {
    const list = textOf(contentAt(request("hls", "/live/index.m3u8"))?.body);
    const first = Number(/#EXT-X-MEDIA-SEQUENCE:(\d+)/.exec(list)?.[1]);
    const names = list.split("\n").filter((line) => line.endsWith(".ts"));
    expect(names).toHaveLength(PLAYLIST_SEGMENTS);
    expect(names[0]).toBe(`segment-${first}.ts`);
    const segment = contentAt(request("hls", `/live/${names[0]}`));
    expect(segment).toMatchObject({ contentType: "video/mp2t", body: { isTransportStream: true } });
    const later = epochMs(now + SEGMENT_SECONDS * 1_000);
    const next = textOf(contentAt(request("hls", "/live/index.m3u8", { now: later }))?.body);
    expect(next).toContain(`#EXT-X-MEDIA-SEQUENCE:${first + 1}\n`);
    expect(contentAt(request("hls", `/live/${names[0]}`, { now: later }))?.etag).toBe(segment?.etag);
    const old = epochMs(now + SEGMENTS_KEPT * SEGMENT_SECONDS * 1_000);
    expect(contentAt(request("hls", `/live/${names[0]}`, { now: old }))).toBeUndefined();
    expect(contentAt(request("hls", `/live/segment-${first + PLAYLIST_SEGMENTS}.ts`))).toBeUndefined();
  });
});

describe("patterns", () => {
  test("any range equals the same range of the whole", () => {
    for (const isTransportStream of [false, true]) {
      const pattern = patternOf("a", 300_000, isTransportStream);
      const whole = patternBytes(pattern, 0, pattern.length);
      expect(whole.length).toBe(300_000);
      for (const [offset, length] of [
        [0, 1],
        [65_530, 20],
        [65_536, 8],
        [131_071, 70_000],
        [299_999, 5],
        [7, 0],
        [300_000, 4],
      ] as const) {
        expect(patternBytes(pattern, offset, length)).toEqual(whole.subarray(offset, offset + length));
      }
      if (isTransportStream)
        expect(whole.filter((byte, at) => at % 188 === 0 && byte !== 0x47)).toHaveLength(0);
    }
  });

  test("blocks and names differ", () => {
    const a = patternOf("a", 200_000);
    expect(patternBytes(a, 0, 65_536)).not.toEqual(patternBytes(a, 65_536, 65_536));
    expect(patternBytes(a, 0, 64)).not.toEqual(patternBytes(patternOf("b", 200_000), 0, 64));
  });
});
