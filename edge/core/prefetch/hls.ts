/** HLS playlists (RFC 8216; EXT-X-PRELOAD-HINT of draft-pantos-hls-rfc8216bis) as far as they say what is asked for next. */
import type { Reference, ReferenceScope } from "./reference.ts";
import { mediaReference, type MediaPlan, SEGMENTS_MAX } from "./sequence.ts";

const PLAYLIST_CHARACTERS_MAX = 1_048_576;
const LINE_CHARACTERS_MAX = 4_096;
/** RFC 8216, section 6.3.3: a player does not begin closer to the end of a live playlist than three segments. */
const LIVE_SEGMENTS_FROM_END = 3;

/** Reads one playlist as it passes; {@link plan} once it has ended. */
export class HlsReader {
  readonly #scope: ReferenceScope;
  readonly #segments: Reference[] = [];
  readonly #maps: Reference[] = [];
  #line = "";
  #characters = 0;
  #isPlaylist = false;
  #isFirstLine = true;
  #isEnded = false;
  #isVariantNext = false;
  #isSegmentNext = false;
  #variant: Reference | undefined;
  #hint: Reference | undefined;
  #range: { readonly length: number; readonly offset: number | undefined } | undefined;
  /** End of the last byte range and what it is of (section 4.3.2.2: without an offset it goes on there). */
  #last: { readonly target: string; readonly end: number } | undefined;

  constructor(scope: ReferenceScope) {
    this.#scope = scope;
  }

  get isDone(): boolean {
    return (
      this.#characters >= PLAYLIST_CHARACTERS_MAX ||
      this.#segments.length >= SEGMENTS_MAX ||
      (!this.#isFirstLine && !this.#isPlaylist)
    );
  }

  write(text: string): void {
    let from = 0;
    while (from < text.length && !this.isDone) {
      const end = text.indexOf("\n", from);
      const piece = text.slice(from, end === -1 ? text.length : end);
      this.#characters += piece.length + 1;
      // One beyond the bound, so that a line that is too long is refused and not cut.
      if (this.#line.length <= LINE_CHARACTERS_MAX)
        this.#line += piece.slice(0, LINE_CHARACTERS_MAX + 1 - this.#line.length);
      if (end === -1) return;
      this.#endLine();
      from = end + 1;
    }
  }

  /** `ahead`: how many segments a player is given beforehand. Undefined: it was no playlist. */
  plan(ahead: number): MediaPlan | undefined {
    if (this.#line !== "") this.#endLine();
    if (!this.#isPlaylist) return undefined;
    if (this.#variant !== undefined) return { first: [this.#variant], sequences: [] };
    const start = this.#isEnded ? 0 : Math.max(0, this.#segments.length - LIVE_SEGMENTS_FROM_END);
    const sequence = this.#hint === undefined ? this.#segments : [...this.#segments, this.#hint];
    return {
      first: [...this.#maps.slice(0, 1), ...this.#segments.slice(start, start + ahead)],
      sequences: sequence.length === 0 ? [] : [sequence],
    };
  }

  #endLine(): void {
    const line = this.#line.trim();
    const isTooLong = this.#line.length > LINE_CHARACTERS_MAX;
    this.#line = "";
    if (this.#isFirstLine) {
      this.#isFirstLine = false;
      // Section 4.3.1.1: the first line of every playlist; a byte order mark is not allowed (section 4.1).
      this.#isPlaylist = line === "#EXTM3U";
      return;
    }
    if (line === "" || !this.#isPlaylist) return;
    if (isTooLong) {
      this.#isSegmentNext = this.#isVariantNext = false;
      return;
    }
    if (!line.startsWith("#")) this.#uri(line);
    else if (line.startsWith("#EXT")) this.#tag(line);
  }

  #tag(line: string): void {
    const colon = line.indexOf(":");
    const name = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? "" : line.slice(colon + 1);
    switch (name) {
      case "#EXTINF":
        this.#isSegmentNext = true;
        return;
      case "#EXT-X-STREAM-INF":
        this.#isVariantNext = true;
        return;
      case "#EXT-X-ENDLIST":
        this.#isEnded = true;
        return;
      case "#EXT-X-BYTERANGE": {
        this.#range = byteRange(value);
        return;
      }
      case "#EXT-X-MAP": {
        const attributes = attributesOf(value);
        const range = byteRange(attributes.get("BYTERANGE") ?? "");
        const from = range?.offset ?? 0;
        this.#push(this.#maps, attributes.get("URI"), range && { from, to: from + range.length - 1 });
        return;
      }
      case "#EXT-X-PRELOAD-HINT": {
        const attributes = attributesOf(value);
        // A hint of an unknown end is answered as it grows; such an answer is not asked for beforehand.
        if (attributes.get("TYPE") !== "PART" || attributes.has("BYTERANGE-START")) return;
        this.#hint = this.#reference(attributes.get("URI"), undefined);
        return;
      }
    }
  }

  #uri(line: string): void {
    if (this.#isVariantNext) {
      this.#variant ??= mediaReference(line, this.#scope.page, this.#scope, "playlist");
    } else if (this.#isSegmentNext) {
      const range = this.#range;
      const from =
        range === undefined ? 0 : (range.offset ?? (this.#last?.target === line ? this.#last.end : 0));
      this.#push(this.#segments, line, range && { from, to: from + range.length - 1 });
      this.#last = range && { target: line, end: from + range.length };
    }
    this.#isVariantNext = this.#isSegmentNext = false;
    this.#range = undefined;
  }

  #push(to: Reference[], uri: string | undefined, bytes: Reference["bytes"]): void {
    const reference = this.#reference(uri, bytes);
    if (reference !== undefined) to.push(reference);
  }

  #reference(uri: string | undefined, bytes: Reference["bytes"]): Reference | undefined {
    return uri === undefined ? undefined : mediaReference(uri, this.#scope.page, this.#scope, "media", bytes);
  }
}

/** `length[@offset]` (section 4.3.2.2). */
function byteRange(
  text: string,
): { readonly length: number; readonly offset: number | undefined } | undefined {
  const match = /^(\d{1,15})(?:@(\d{1,15}))?$/.exec(text.trim());
  const length = Number(match?.[1]);
  if (match === null || length === 0) return undefined;
  return { length, offset: match[2] === undefined ? undefined : Number(match[2]) };
}

/** An attribute list (section 4.2). */
function attributesOf(text: string): ReadonlyMap<string, string> {
  const attributes = new Map<string, string>();
  for (const part of text.matchAll(/([A-Z0-9-]{1,64})=(?:"([^"\r\n]*)"|([^",\s]*))(?:,|$)/g))
    attributes.set(part[1] ?? "", part[2] ?? part[3] ?? "");
  return attributes;
}
