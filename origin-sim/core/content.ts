/** What the origin serves at a path, by kind of content. Deterministic: host, path, version and time decide, nothing else. */
import { type EpochMs, epochMs, parseBytes, Random, xxh64Hex } from "#kit";
import type { ContentKind } from "#kit/world";
import { type Pattern, patternOf } from "./pattern.ts";

/** One representation with its stored metadata; a fault or a path script may change what is sent of it. */
export interface Resource {
  readonly contentType: string;
  /** Null: no Cache-Control field. */
  readonly cacheControl: string | null;
  /** Strong entity tag, quoted (RFC 9110 section 8.8.3); null: none. */
  readonly etag: string | null;
  readonly lastModified: EpochMs | null;
  /** Sent as Surrogate-Key (by blanks) and Cache-Tag (by commas). */
  readonly tags: readonly string[];
  readonly body: Uint8Array | Pattern;
}

export interface ContentRequest {
  readonly kind: ContentKind | "generic";
  readonly host: string;
  /** Path without query, starting with "/". */
  readonly path: string;
  /** Grows when an operator publishes new content: entity tags, dates and bodies change with it. */
  readonly version: number;
  readonly now: EpochMs;
  readonly objectBytesMax: number;
}

/** Dates of unchanged content: 2026-01-01T00:00:00Z, plus a minute a version. */
const PUBLISHED_AT = 1_767_225_600_000;
const VERSION_STEP_MS = 60_000;
const PATH_LENGTH_MAX = 2_048;

/** Seconds of one HLS segment, segments in a playlist, and how long ago a segment may be and still be served. */
export const SEGMENT_SECONDS = 2;
export const PLAYLIST_SEGMENTS = 6;
export const SEGMENTS_KEPT = 60;
/** About 2 Mbit/s, in whole transport stream packets. */
const SEGMENT_BYTES = 188 * 2_660;

const encoder = new TextEncoder();

/** The resource at a path; undefined: there is none (404). */
export function contentAt(request: ContentRequest): Resource | undefined {
  if (request.path.length > PATH_LENGTH_MAX || request.path.startsWith("/missing")) return undefined;
  switch (request.kind) {
    case "static":
      return staticAt(request);
    case "page":
      return pageAt(request);
    case "download":
      return (
        downloadAt(request) ?? indexOf(request, ["/file-1MiB.bin", "/file-10MiB.bin", "/file-100MiB.bin"])
      );
    case "hls":
      return liveAt(request) ?? indexOf(request, ["/live/index.m3u8"]);
    case "generic":
      if (request.path.startsWith("/live/")) return liveAt(request);
      if (request.path.startsWith("/page/")) return pageAt(request);
      return downloadAt(request) ?? staticAt(request);
  }
}

/** `length` deterministic bytes, as `/bytes/N` asks for. */
export function bytesResource(request: ContentRequest, length: number): Resource {
  return patterned(request, patternOf(nameOf(request), length), "application/octet-stream", "max-age=60", [
    "bytes",
  ]);
}

/** A short text that may be stored only if `?cc=` says so. */
export function textResource(contentType: string, text: string): Resource {
  return {
    contentType,
    cacheControl: null,
    etag: null,
    lastModified: null,
    tags: [],
    body: encoder.encode(text),
  };
}

function nameOf(request: ContentRequest): string {
  return `${request.host}${request.path}#${request.version}`;
}

function published(request: ContentRequest): EpochMs {
  return epochMs(PUBLISHED_AT + request.version * VERSION_STEP_MS);
}

function written(
  request: ContentRequest,
  contentType: string,
  cacheControl: string,
  tags: readonly string[],
  text: string,
): Resource {
  return {
    contentType,
    cacheControl,
    etag: `"${xxh64Hex(text)}"`,
    lastModified: published(request),
    tags,
    body: encoder.encode(text),
  };
}

function patterned(
  request: ContentRequest,
  pattern: Pattern,
  contentType: string,
  cacheControl: string,
  tags: readonly string[],
): Resource {
  const etag = `"${xxh64Hex(`${nameOf(request)} ${pattern.length}`)}"`;
  return { contentType, cacheControl, etag, lastModified: published(request), tags, body: pattern };
}

function extensionOf(path: string): string {
  if (path.endsWith("/")) return "html";
  return /\.([a-z0-9]{1,8})$/.exec(path)?.[1] ?? "";
}

/** Any path with one of these extensions exists; a path that ends with "/" is a page. */
function staticAt(request: ContentRequest): Resource | undefined {
  const extension = extensionOf(request.path);
  const asset = assetAt(request, extension, "max-age=300");
  if (asset !== undefined) return asset;
  const title = `Page ${request.path} of ${request.host}, version ${request.version}`;
  switch (extension) {
    case "html":
      return written(
        request,
        "text/html; charset=utf-8",
        "max-age=60",
        ["html", "all"],
        html(title, ["/assets/style.css", "/assets/app.js", "/assets/logo.svg"], prose(request, 40)),
      );
    case "txt":
      return written(
        request,
        "text/plain; charset=utf-8",
        "max-age=60",
        ["text", "all"],
        `${title}\n${prose(request, 10)}\n`,
      );
    case "json":
      return written(
        request,
        "application/json",
        "max-age=10",
        ["json", "all"],
        `${JSON.stringify({ title })}\n`,
      );
    default:
      return undefined;
  }
}

/** Styles, scripts and drawings of one to some tens of KiB. */
function assetAt(request: ContentRequest, extension: string, cacheControl: string): Resource | undefined {
  const name = nameOf(request);
  const random = new Random(name);
  const lines = 20 + random.int(400);
  const texts: Record<string, () => [string, string]> = {
    css: () => [
      "text/css; charset=utf-8",
      repeated(lines, (n) => `.c${n} { color: #${hex(random)}; margin: ${random.int(64)}px; }`),
    ],
    js: () => [
      "text/javascript; charset=utf-8",
      repeated(lines, (n) => `export const value${n} = ${random.int(1_000_000)};`),
    ],
    svg: () => [
      "image/svg+xml",
      `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 640">\n${repeated(lines, () => `<circle cx="${random.int(640)}" cy="${random.int(640)}" r="${random.int(40)}" fill="#${hex(random)}"/>`)}</svg>\n`,
    ],
  };
  if (!Object.hasOwn(texts, extension)) return undefined;
  const [contentType, text] = texts[extension]?.() ?? ["", ""];
  const comment = extension === "svg" ? `<!-- ${xxh64Hex(name)} -->\n` : `/* ${xxh64Hex(name)} */\n`;
  return written(request, contentType, cacheControl, [extension, "assets", "all"], comment + text);
}

/** Objects that a page names: enough for fetching ahead to show, few enough to count by hand. */
function embeddedBy(path: string): readonly string[] {
  const base = `/assets/${xxh64Hex(path).slice(0, 8)}`;
  return [
    ...[1, 2, 3].map((n) => `${base}/style-${n}.css`),
    ...[1, 2, 3, 4].map((n) => `${base}/script-${n}.js`),
    ...[1, 2, 3, 4, 5].map((n) => `${base}/image-${n}.svg`),
  ];
}

/** An application: pages that are fresh for seconds, objects for minutes, and an interface that nobody may store. */
function pageAt(request: ContentRequest): Resource | undefined {
  const extension = extensionOf(request.path);
  if (request.path.startsWith("/api/")) {
    const answer = JSON.stringify({ path: request.path, atEpochMs: request.now, version: request.version });
    return { ...textResource("application/json", `${answer}\n`), cacheControl: "no-store" };
  }
  if (extension === "html") {
    const title = `Application page ${request.path} of ${request.host}, version ${request.version}`;
    const page = html(title, embeddedBy(request.path), prose(request, 80));
    return written(request, "text/html; charset=utf-8", "max-age=5", ["page", "all"], page);
  }
  return assetAt(request, extension, "max-age=300");
}

/** `/file-10MiB.bin`, `/any/where/64KB.bin`. */
function downloadAt(request: ContentRequest): Resource | undefined {
  const size = /(?:^|[/-])([0-9]{1,10}(?:\.[0-9]{1,3})?(?:B|KB|KiB|MB|MiB|GB|GiB)?)\.bin$/.exec(
    request.path,
  )?.[1];
  const length = size === undefined ? undefined : parseBytes(size);
  if (length === undefined || length > request.objectBytesMax) return undefined;
  return patterned(request, patternOf(nameOf(request), length), "application/octet-stream", "max-age=3600", [
    "download",
    "all",
  ]);
}

/** A live stream: the playlist's first segment follows from the time (RFC 8216 section 6.2.2), segments never change. */
function liveAt(request: ContentRequest): Resource | undefined {
  const newest = Math.floor(request.now / (SEGMENT_SECONDS * 1_000));
  if (request.path === "/live/index.m3u8") {
    const first = newest - PLAYLIST_SEGMENTS + 1;
    const lines = [
      "#EXTM3U",
      "#EXT-X-VERSION:3",
      `#EXT-X-TARGETDURATION:${SEGMENT_SECONDS}`,
      `#EXT-X-MEDIA-SEQUENCE:${first}`,
    ];
    for (let n = first; n <= newest; n++)
      lines.push(`#EXTINF:${SEGMENT_SECONDS.toFixed(3)},`, `segment-${n}.ts`);
    const text = `${lines.join("\n")}\n`;
    const playlist = written(
      request,
      "application/vnd.apple.mpegurl",
      "max-age=1",
      ["playlist", "live", "all"],
      text,
    );
    return { ...playlist, lastModified: epochMs(newest * SEGMENT_SECONDS * 1_000) };
  }
  const number = /^\/live\/segment-([0-9]{1,12})\.ts$/.exec(request.path)?.[1];
  if (number === undefined) return undefined;
  const n = Number(number);
  if (n > newest || n <= newest - SEGMENTS_KEPT) return undefined;
  return patterned(
    request,
    patternOf(nameOf(request), SEGMENT_BYTES, true),
    "video/mp2t",
    "max-age=3600, immutable",
    ["segment", "live", "all"],
  );
}

function indexOf(request: ContentRequest, names: readonly string[]): Resource | undefined {
  if (request.path !== "/" && request.path !== "/index.html") return undefined;
  const list = names.map((name) => `<li><a href="${name}">${name}</a></li>`).join("\n");
  return written(
    request,
    "text/html; charset=utf-8",
    "max-age=60",
    ["html", "all"],
    html(request.host, [], `<ul>\n${list}\n</ul>`),
  );
}

function html(title: string, embedded: readonly string[], text: string): string {
  const safe = title.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  const head = embedded.map((path) => {
    if (path.endsWith(".css")) return `<link rel="stylesheet" href="${path}">`;
    return path.endsWith(".js") ? `<script src="${path}" type="module"></script>` : "";
  });
  const images = embedded.filter((path) => path.endsWith(".svg")).map((path) => `<img src="${path}" alt="">`);
  return [
    "<!doctype html>",
    '<html lang="en">',
    "<head>",
    '<meta charset="utf-8">',
    `<title>${safe}</title>`,
    ...head.filter((line) => line !== ""),
    "</head>",
    "<body>",
    `<h1>${safe}</h1>`,
    ...images,
    text,
    "</body>",
    "</html>",
    "",
  ].join("\n");
}

const WORDS = "edge parent relay origin cache path link map score client region round trip fresh stale".split(
  " ",
);

function prose(request: ContentRequest, lines: number): string {
  const random = new Random(`${nameOf(request)}/prose`);
  return repeated(lines, () => `<p>${Array.from({ length: 12 }, () => random.pick(WORDS)).join(" ")}.</p>`);
}

function repeated(lines: number, line: (n: number) => string): string {
  let text = "";
  for (let n = 0; n < lines; n++) text += `${line(n)}\n`;
  return text;
}

function hex(random: Random): string {
  return random.int(0x100_0000).toString(16).padStart(6, "0");
}
