/** Fields as prefetching reads and writes them: what an answer holds, what a client says of itself, what an object is asked for with. */
import type { PrefetchKind } from "#kit";
import { type Field, fieldLines, type Fields, fieldValue } from "../headers.ts";
import type { Reference, ReferenceRole } from "./reference.ts";
import type { Screen } from "./srcset.ts";

/** Content that names what comes next. */
export type ContentKind = Exclude<PrefetchKind, "link" | "cmcd">;

/** What kind of reader an answer needs; undefined: none. */
export function contentKind(fields: Fields): ContentKind | undefined {
  const type = fieldLines(fields, "content-type")[0]?.split(";", 1)[0]?.trim().toLowerCase();
  switch (type ?? "") {
    case "text/html":
      return "html";
    case "text/css":
      return "css";
    // RFC 8216, section 4; the second is what is widely sent.
    case "application/vnd.apple.mpegurl":
    case "application/x-mpegurl":
    case "audio/mpegurl":
      return "hls";
    case "application/dash+xml":
      return "dash";
    default:
      return undefined;
  }
}

/** Fields of the page's request that its objects' requests will have too, and that answers vary by. */
const CARRIED = ["accept-encoding", "accept-language", "user-agent"] as const;

export function carriedFields(fields: Fields): Fields {
  return CARRIED.flatMap((name): readonly Field[] => {
    const value = fieldLines(fields, name)[0];
    return value === undefined ? [] : [[name, value]];
  });
}

/** What browsers accept, by what they ask for (WHATWG Fetch, section 2.2.5); images as Chromium states it. */
const ACCEPT: Readonly<Partial<Record<ReferenceRole, string>>> = {
  style: "text/css,*/*;q=0.1",
  image: "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
};

/**
 * What an object is asked for with; `carried`: {@link carriedFields} of who named it. The tiers behind give it spare room only,
 * as this one does (RFC 9218: urgency 7 is for background tasks).
 */
export function prefetchFields(
  kind: PrefetchKind,
  { role, bytes }: Pick<Reference, "role" | "bytes">,
  carried: Fields,
): Fields {
  // A player's requests accept anything, whatever a playlist calls its parts.
  const isPages = kind === "html" || kind === "css" || kind === "link";
  const accept = (isPages ? ACCEPT[role] : undefined) ?? "*/*";
  const range: readonly Field[] = bytes === undefined ? [] : [["range", `bytes=${bytes.from}-${bytes.to}`]];
  return [["accept", accept], ["priority", "u=7"], ...carried, ...range];
}

/** The one range that a request states; undefined: none, or another form. */
export function statedRange(fields: Fields): Reference["bytes"] {
  const match = /^bytes=(\d{1,15})-(\d{1,15})$/.exec(fieldLines(fields, "range")[0] ?? "");
  return match === null ? undefined : { from: Number(match[1]), to: Number(match[2]) };
}

/** What the client's hints say; their older names are those of current Android browsers. */
export function screenOf(fields: Fields): Screen {
  const of = (...names: readonly string[]): number | undefined => {
    const value = Number(names.map((name) => fieldValue(fields, name)).find((text) => text !== undefined));
    return value > 0 && value < 100_000 ? value : undefined;
  };
  return {
    pixelRatio: of("sec-ch-dpr", "dpr") ?? 1,
    viewportWidth: of("sec-ch-viewport-width", "viewport-width"),
  };
}
