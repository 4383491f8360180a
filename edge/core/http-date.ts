/** Dates in HTTP (RFC 9110, section 5.6.7). No clock and no locale: the arithmetic is done here. */
import { type EpochMs, epochMs } from "#kit";

const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"] as const;
const DAYS_LONG = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"] as const;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"] as const;
const MONTH = MONTHS.join("|");

const IMF_FIXDATE = new RegExp(
  `^(${DAYS.join("|")}), (\\d{2}) (${MONTH}) (\\d{4}) (\\d{2}):(\\d{2}):(\\d{2}) GMT$`,
);
const RFC_850 = new RegExp(
  `^(${DAYS_LONG.join("|")}), (\\d{2})-(${MONTH})-(\\d{2}) (\\d{2}):(\\d{2}):(\\d{2}) GMT$`,
);
const ASCTIME = new RegExp(
  `^(${DAYS.join("|")}) (${MONTH}) ([ \\d]\\d) (\\d{2}):(\\d{2}):(\\d{2}) (\\d{4})$`,
);

const DAY_MS = 86_400_000;

/** Days from 1970-01-01 to a date of the proleptic Gregorian calendar (H. Hinnant, days_from_civil). `month` is 1..12. */
function daysFromCivil(year: number, month: number, day: number): number {
  const y = month <= 2 ? year - 1 : year;
  const era = Math.floor(y / 400);
  const yearOfEra = y - era * 400;
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1;
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear;
  return era * 146_097 + dayOfEra - 719_468;
}

/** Year, month 1..12 and day of a day count since 1970-01-01 (H. Hinnant, civil_from_days). */
function civilFromDays(days: number): readonly [year: number, month: number, day: number] {
  const z = days + 719_468;
  const era = Math.floor(z / 146_097);
  const dayOfEra = z - era * 146_097;
  const yearOfEra = Math.floor(
    (dayOfEra -
      Math.floor(dayOfEra / 1_460) +
      Math.floor(dayOfEra / 36_524) -
      Math.floor(dayOfEra / 146_096)) /
      365,
  );
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const shifted = Math.floor((5 * dayOfYear + 2) / 153);
  const day = dayOfYear - Math.floor((153 * shifted + 2) / 5) + 1;
  const month = shifted < 10 ? shifted + 3 : shifted - 9;
  return [yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day];
}

function instant(
  year: number,
  monthName: string,
  day: number,
  clock: readonly string[],
): EpochMs | undefined {
  const month = MONTHS.indexOf(monthName as (typeof MONTHS)[number]) + 1;
  const [hour = 0, minute = 0, second = 0] = clock.map(Number);
  // 60 is a leap second (RFC 9110 takes RFC 5322's grammar); it counts as the next second.
  if (hour > 23 || minute > 59 || second > 60 || day < 1 || day > 31) return undefined;
  const days = daysFromCivil(year, month, day);
  // 31 February and its like: the calendar answers with another day.
  if (civilFromDays(days)[2] !== day) return undefined;
  return epochMs(days * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1_000);
}

/**
 * An HTTP-date in any of the three forms that a recipient must take (RFC 9110, section 5.6.7), or undefined. A
 * two-digit year that would lie more than 50 years ahead of `now` is of the century before. The name of the day is
 * not compared with the date: senders get it wrong and nothing depends on it. Never throws.
 */
export function parseHttpDate(text: string, now: EpochMs): EpochMs | undefined {
  let match = IMF_FIXDATE.exec(text);
  if (match) return instant(Number(match[4]), match[3] ?? "", Number(match[2]), match.slice(5, 8));
  match = RFC_850.exec(text);
  if (match) {
    const [yearNow] = civilFromDays(Math.floor(now / DAY_MS));
    let year = Math.floor(yearNow / 100) * 100 + Number(match[4]);
    if (year > yearNow + 50) year -= 100;
    return instant(year, match[3] ?? "", Number(match[2]), match.slice(5, 8));
  }
  match = ASCTIME.exec(text);
  if (match) return instant(Number(match[7]), match[2] ?? "", Number(match[3]), match.slice(4, 7));
  return undefined;
}

const two = (n: number): string => (n < 10 ? `0${n}` : String(n));

/** IMF-fixdate of a time; fractions of a second are cut off. For years 0..9999. */
export function formatHttpDate(time: EpochMs): string {
  const days = Math.floor(time / DAY_MS);
  const [year, month, day] = civilFromDays(days);
  const seconds = Math.floor((time - days * DAY_MS) / 1_000);
  const weekday = DAYS[(((days + 4) % 7) + 7) % 7];
  const clock = `${two(Math.floor(seconds / 3_600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
  return `${weekday}, ${two(day)} ${MONTHS[month - 1]} ${String(year).padStart(4, "0")} ${clock} GMT`;
}
