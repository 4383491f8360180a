/** Conditional and range requests on one representation (RFC 9110 sections 13 and 14). */
import { type EpochMs, epochMs } from "#kit";

export interface Validators {
  /** Quoted, strong; null: none. */
  readonly etag: string | null;
  readonly lastModified: EpochMs | null;
}

/** Request fields by lower-case name; several lines of one field joined with ", ". */
export type RequestFields = (name: string) => string | undefined;

export type Verdict =
  | { readonly kind: "whole" }
  | { readonly kind: "not-modified" }
  | { readonly kind: "precondition-failed" }
  | { readonly kind: "part"; readonly first: number; readonly last: number }
  | { readonly kind: "unsatisfiable" };

/**
 * What to answer to GET or HEAD, in the order of RFC 9110 section 13.2.2. Several ranges and malformed ones are answered
 * whole, which section 14.2 allows.
 */
export function evaluate(
  fields: RequestFields,
  isGet: boolean,
  validators: Validators,
  length: number,
): Verdict {
  const ifMatch = fields("if-match");
  if (ifMatch !== undefined) {
    if (!matches(ifMatch, validators.etag, "strong")) return { kind: "precondition-failed" };
  } else {
    const since = dateOf(fields("if-unmodified-since"));
    if (
      since !== undefined &&
      validators.lastModified !== null &&
      seconds(validators.lastModified) > seconds(since)
    ) {
      return { kind: "precondition-failed" };
    }
  }
  const ifNoneMatch = fields("if-none-match");
  if (ifNoneMatch !== undefined) {
    if (matches(ifNoneMatch, validators.etag, "weak")) return { kind: "not-modified" };
  } else {
    const since = dateOf(fields("if-modified-since"));
    if (
      since !== undefined &&
      validators.lastModified !== null &&
      seconds(validators.lastModified) <= seconds(since)
    ) {
      return { kind: "not-modified" };
    }
  }
  const range = fields("range");
  if (range === undefined || !isGet || !rangeHolds(fields("if-range"), validators)) return { kind: "whole" };
  return rangeOf(range, length);
}

function rangeOf(range: string, length: number): Verdict {
  const parts = /^bytes=[ \t]*([0-9]{0,15})-([0-9]{0,15})[ \t]*$/i.exec(range);
  if (parts === null) return { kind: "whole" };
  const [, from = "", to = ""] = parts;
  if (from === "") {
    if (to === "") return { kind: "whole" };
    // The last bytes; of nothing, or none of them, cannot be satisfied (section 14.1.1).
    const count = Number(to);
    if (count === 0 || length === 0) return { kind: "unsatisfiable" };
    return { kind: "part", first: Math.max(0, length - count), last: length - 1 };
  }
  const first = Number(from);
  const last = to === "" ? length - 1 : Number(to);
  if (to !== "" && last < first) return { kind: "whole" };
  if (first >= length) return { kind: "unsatisfiable" };
  return { kind: "part", first, last: Math.min(last, length - 1) };
}

/** Section 13.1.5: a strong tag that matches, or exactly the date of the representation. */
function rangeHolds(ifRange: string | undefined, validators: Validators): boolean {
  if (ifRange === undefined) return true;
  if (ifRange.startsWith('"')) return ifRange === validators.etag;
  if (ifRange.startsWith("W/")) return false;
  const date = dateOf(ifRange);
  return (
    date !== undefined &&
    validators.lastModified !== null &&
    seconds(date) === seconds(validators.lastModified)
  );
}

/** Section 8.8.3.2. A weak tag in the list never matches strongly. */
function matches(list: string, etag: string | null, comparison: "strong" | "weak"): boolean {
  if (list.trim() === "*") return true;
  if (etag === null) return false;
  for (const [, weak, tag] of list.matchAll(/(W\/)?("[\u0021\u0023-\u007e\u0080-\u00ff]*")/g)) {
    if (tag === etag && (comparison === "weak" || weak === undefined)) return true;
  }
  return false;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const DAY_MS = 86_400_000;

/** IMF-fixdate (RFC 9110 section 5.6.7) without a clock or locale; years 1970 to 9999. */
export function httpDate(time: EpochMs): string {
  const days = Math.floor(time / DAY_MS);
  const second = Math.floor((time - days * DAY_MS) / 1_000);
  const { year, month, day } = civil(days);
  const two = (value: number) => String(value).padStart(2, "0");
  const clock = `${two(Math.floor(second / 3_600))}:${two(Math.floor(second / 60) % 60)}:${two(second % 60)}`;
  return `${DAYS[days % 7]}, ${two(day)} ${MONTHS[month - 1]} ${String(year).padStart(4, "0")} ${clock} GMT`;
}

/** Only IMF-fixdate is read: the obsolete forms are answered as if the field were absent (it is then invalid). */
function dateOf(text: string | undefined): EpochMs | undefined {
  const parts =
    /^[A-Z][a-z]{2}, ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT$/.exec(
      text ?? "",
    );
  if (parts === null) return undefined;
  const [, day, monthName, year, hour, minute, second] = parts;
  const month = MONTHS.indexOf(monthName ?? "") + 1;
  if (month === 0) return undefined;
  const days = daysOf(Number(year), month, Number(day));
  return epochMs(days * DAY_MS + (Number(hour) * 3_600 + Number(minute) * 60 + Number(second)) * 1_000);
}

/** Days since 1970-01-01 of a Gregorian date. H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil. */
function daysOf(year: number, month: number, day: number): number {
  const y = month <= 2 ? year - 1 : year;
  const era = Math.floor(y / 400);
  const ofEra = y - era * 400;
  const ofYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1;
  return era * 146_097 + ofEra * 365 + Math.floor(ofEra / 4) - Math.floor(ofEra / 100) + ofYear - 719_468;
}

/** The inverse: civil_from_days of the same source. */
function civil(days: number): { year: number; month: number; day: number } {
  const shifted = days + 719_468;
  const era = Math.floor(shifted / 146_097);
  const ofEra = shifted - era * 146_097;
  const year = Math.floor(
    (ofEra - Math.floor(ofEra / 1_460) + Math.floor(ofEra / 36_524) - Math.floor(ofEra / 146_096)) / 365,
  );
  const ofYear = ofEra - (365 * year + Math.floor(year / 4) - Math.floor(year / 100));
  const shiftedMonth = Math.floor((5 * ofYear + 2) / 153);
  const month = shiftedMonth + (shiftedMonth < 10 ? 3 : -9);
  const day = ofYear - Math.floor((153 * shiftedMonth + 2) / 5) + 1;
  return { year: year + era * 400 + (month <= 2 ? 1 : 0), month, day };
}

function seconds(time: EpochMs): number {
  return Math.floor(time / 1_000);
}
