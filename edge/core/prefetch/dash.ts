/**
 * DASH manifests (ISO/IEC 23009-1) as far as they say what is asked for next: SegmentTemplate with $Number$ or $Time$,
 * SegmentTimeline, SegmentList, BaseURL. Of the first period; later ones come with the manifest's next version, or are long hence.
 */
import type { EpochMs } from "#kit";
import { type PageAddress, type Reference, resolveReference, type ReferenceScope } from "./reference.ts";
import { mediaReference, type MediaPlan } from "./sequence.ts";
import { XmlReader } from "./xml.ts";

const RENDITIONS_MAX = 12;
const RENDITION_SEGMENTS_MAX = 256;

/** What a SegmentTemplate or SegmentList says, with what it takes over from the level above (ISO/IEC 23009-1, 5.3.9.1). */
interface Template {
  readonly attributes: ReadonlyMap<string, string>;
  /** Start and length of each segment, units of timescale; undefined: no timeline was stated. */
  readonly timeline: { readonly start: number; readonly duration: number }[] | undefined;
  readonly list: { readonly media: string; readonly range: string | undefined }[];
}

interface Level {
  readonly name: "MPD" | "Period" | "AdaptationSet" | "Representation";
  readonly attributes: ReadonlyMap<string, string>;
  base: PageAddress;
  template: Template | undefined;
}

export class DashReader {
  readonly #scope: ReferenceScope;
  readonly #now: EpochMs;
  readonly #xml: XmlReader;
  readonly #levels: Level[] = [];
  readonly #first: Reference[] = [];
  readonly #sequences: Reference[][] = [];
  #text = "";
  #periods = 0;
  #adaptationSets = 0;
  readonly #begunSets = new Set<number>();

  /** `now`: which segment of a live stream is the newest follows from it. */
  constructor(scope: ReferenceScope, now: EpochMs) {
    this.#scope = scope;
    this.#now = now;
    this.#xml = new XmlReader({
      open: (name, attributes) => this.#open(name, attributes),
      text: (text) => {
        this.#text = text;
      },
      close: (name) => this.#close(name),
    });
  }

  get isDone(): boolean {
    return this.#xml.isRefused || this.#sequences.length >= RENDITIONS_MAX;
  }

  write(text: string): void {
    if (!this.isDone) this.#xml.write(text);
  }

  /** Undefined: refused, or it names nothing. */
  plan(): MediaPlan | undefined {
    if (this.#xml.isRefused || this.#sequences.length === 0) return undefined;
    return { first: this.#first, sequences: this.#sequences };
  }

  #open(name: string, attributes: ReadonlyMap<string, string>): void {
    const level = this.#levels.at(-1);
    this.#text = "";
    switch (name) {
      case "MPD":
        if (level === undefined)
          this.#levels.push(this.#level("MPD", attributes, this.#scope.page, undefined));
        return;
      case "Period":
        if (level?.name === "MPD") this.#periods++;
        this.#descend("MPD", "Period", attributes);
        return;
      case "AdaptationSet":
        this.#adaptationSets++;
        this.#descend("Period", name, attributes);
        return;
      case "Representation":
        this.#descend("AdaptationSet", name, attributes);
        return;
      case "SegmentTemplate":
      case "SegmentList":
        if (level !== undefined) level.template = merged(level.template, attributes);
        return;
      case "SegmentTimeline":
        if (level?.template !== undefined) level.template = { ...level.template, timeline: [] };
        return;
      case "S":
        this.#timelineEntry(level?.template?.timeline, attributes);
        return;
      case "SegmentURL": {
        const list = level?.template?.list;
        const media = attributes.get("media");
        if (list !== undefined && list.length < RENDITION_SEGMENTS_MAX)
          list.push({ media: media ?? "", range: attributes.get("mediaRange") });
        return;
      }
      case "Initialization": {
        const url = attributes.get("sourceURL");
        if (level?.template !== undefined && url !== undefined)
          level.template = merged(level.template, new Map([["initialization", url]]));
        return;
      }
    }
  }

  #close(name: string): void {
    const level = this.#levels.at(-1);
    if (level === undefined) return;
    if (name === "BaseURL") {
      level.base = resolveReference(this.#text.trim(), level.base) ?? level.base;
    } else if (name === level.name) {
      if (name === "Representation" && this.#periods === 1) this.#representation(level);
      this.#levels.pop();
    }
  }

  #descend(from: Level["name"], to: Level["name"], attributes: ReadonlyMap<string, string>): void {
    const above = this.#levels.at(-1);
    if (above?.name === from) this.#levels.push(this.#level(to, attributes, above.base, above.template));
  }

  #level(
    name: Level["name"],
    attributes: ReadonlyMap<string, string>,
    base: PageAddress,
    template: Template | undefined,
  ): Level {
    return { name, attributes, base, template };
  }

  #timelineEntry(timeline: Template["timeline"], attributes: ReadonlyMap<string, string>): void {
    if (timeline === undefined) return;
    const last = timeline.at(-1);
    let start = numberOf(attributes.get("t")) ?? (last === undefined ? 0 : last.start + last.duration);
    const duration = numberOf(attributes.get("d"));
    if (duration === undefined || duration === 0) return;
    // -1: until the period ends, which may be never.
    const stated = attributes.get("r");
    const repeats = stated === "-1" ? RENDITION_SEGMENTS_MAX : (numberOf(stated) ?? 0);
    for (let n = 0; n <= repeats && timeline.length < RENDITION_SEGMENTS_MAX; n++) {
      timeline.push({ start, duration });
      start += duration;
    }
  }

  #representation(level: Level): void {
    if (level.template === undefined || this.#sequences.length >= RENDITIONS_MAX) return;
    const segments = this.#segments(level, level.template);
    if (segments.length === 0) return;
    const refer = (text: string): Reference | undefined =>
      mediaReference(text, level.base, this.#scope, "media");
    const initialization = level.template.attributes.get("initialization");
    const init = initialization && refer(filled(initialization, level, undefined, undefined) ?? "");
    this.#sequences.push(init ? [init, ...segments] : [...segments]);
    // A player begins with one rendition of each set.
    if (this.#begunSets.has(this.#adaptationSets)) return;
    this.#begunSets.add(this.#adaptationSets);
    if (init) this.#first.push(init);
    const isLive = this.#levels[0]?.attributes.get("type") === "dynamic";
    const begin = isLive && level.template.timeline !== undefined ? segments.at(-1) : segments[0];
    if (begin !== undefined) this.#first.push(begin);
  }

  #segments(level: Level, template: Template): readonly Reference[] {
    const found: Reference[] = [];
    const add = (text: string | undefined, range?: string): void => {
      const match = /^(\d{1,15})-(\d{1,15})$/.exec(range ?? "");
      const bytes = match === null ? undefined : { from: Number(match[1]), to: Number(match[2]) };
      const reference =
        text === undefined ? undefined : mediaReference(text, level.base, this.#scope, "media", bytes);
      if (reference !== undefined) found.push(reference);
    };
    if (template.list.length > 0) {
      for (const { media, range } of template.list) add(media, range);
      return found;
    }
    const media = template.attributes.get("media");
    if (media === undefined) return found;
    const startNumber = numberOf(template.attributes.get("startNumber")) ?? 1;
    if (template.timeline !== undefined) {
      for (const [index, { start }] of template.timeline.entries())
        add(filled(media, level, startNumber + index, start));
      return found;
    }
    const timescale = numberOf(template.attributes.get("timescale")) ?? 1;
    const duration = numberOf(template.attributes.get("duration"));
    if (duration === undefined || duration === 0 || timescale === 0) return found;
    const from = this.#firstIndex(duration / timescale);
    const count = this.#count(duration / timescale, from);
    for (let n = from; n < from + count; n++) add(filled(media, level, startNumber + n, n * duration));
    return found;
  }

  /** Index of the first segment to name: 0, and of a live stream the newest that is whole. */
  #firstIndex(seconds: number): number {
    const manifest = this.#levels[0]?.attributes;
    if (manifest?.get("type") !== "dynamic") return 0;
    const start = dateTimeMs(manifest.get("availabilityStartTime"));
    if (start === undefined) return 0;
    return Math.max(0, Math.floor((this.#now - start) / 1_000 / seconds) - 1);
  }

  #count(seconds: number, from: number): number {
    const manifest = this.#levels[0]?.attributes;
    const length =
      durationSeconds(this.#levels[1]?.attributes.get("duration")) ??
      durationSeconds(manifest?.get("mediaPresentationDuration"));
    if (length === undefined) return RENDITION_SEGMENTS_MAX;
    return Math.max(0, Math.min(RENDITION_SEGMENTS_MAX, Math.ceil(length / seconds) - from));
  }
}

/** What is stated further in replaces what is stated further out, attribute by attribute. */
function merged(outer: Template | undefined, attributes: ReadonlyMap<string, string>): Template {
  return {
    attributes: new Map([...(outer?.attributes ?? []), ...attributes]),
    timeline: outer?.timeline,
    list: [],
  };
}

/** A template with its identifiers replaced (5.3.9.4.4); undefined when one is unknown or has no value here. */
function filled(
  template: string,
  level: Level,
  number: number | undefined,
  time: number | undefined,
): string | undefined {
  let isGood = true;
  const text = template.replace(
    /\$(?:(RepresentationID)|(Number|Time|Bandwidth)(?:%0(\d{1,2})d)?|([^$]*))\$/g,
    (
      _whole,
      id: string | undefined,
      name: string | undefined,
      width: string | undefined,
      other: string | undefined,
    ) => {
      if (other === "") return "$";
      const value =
        id !== undefined
          ? level.attributes.get("id")
          : name === "Number"
            ? number?.toString()
            : name === "Time"
              ? time?.toString()
              : name === "Bandwidth"
                ? level.attributes.get("bandwidth")
                : undefined;
      if (value === undefined) {
        isGood = false;
        return "";
      }
      return value.padStart(Number(width ?? 0), "0");
    },
  );
  return isGood ? text : undefined;
}

function numberOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

/** An xs:duration without years and months, seconds. */
function durationSeconds(text: string | undefined): number | undefined {
  const match = /^P(?:(\d{1,4})D)?(?:T(?:(\d{1,5})H)?(?:(\d{1,6})M)?(?:(\d{1,8}(?:\.\d{1,6})?)S)?)?$/.exec(
    text ?? "",
  );
  if (match === null) return undefined;
  const [, days = 0, hours = 0, minutes = 0, seconds = 0] = match;
  return Number(days) * 86_400 + Number(hours) * 3_600 + Number(minutes) * 60 + Number(seconds);
}

/** An xs:dateTime of UTC, ms since 1970; a manifest that states another zone is not followed by time. */
function dateTimeMs(text: string | undefined): number | undefined {
  const match = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d(?:\.\d{1,9})?)Z$/.exec(text ?? "");
  if (match === null) return undefined;
  const [, year = 0, month = 0, day = 0, hours = 0, minutes = 0, seconds = 0] = match.map(Number);
  // Days of the Gregorian calendar, the year beginning in March so that a leap day is its last.
  const marchYear = month > 2 ? year : year - 1;
  const marchMonth = (month + 9) % 12;
  const days =
    marchYear * 365 +
    Math.floor(marchYear / 4) -
    Math.floor(marchYear / 100) +
    Math.floor(marchYear / 400) +
    Math.floor((marchMonth * 153 + 2) / 5) +
    day -
    1 -
    719_468;
  return ((days * 24 + hours) * 60 + minutes) * 60_000 + seconds * 1_000;
}
