/** Numbers and times as a person reads them. */
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const oneDecimal = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

export const NONE = "–";

/** 0.4, 12.5, 340, 12,400 */
export function formatRate(perSecond: number | null | undefined): string {
  if (perSecond === null || perSecond === undefined) return NONE;
  return perSecond !== 0 && perSecond < 100 ? oneDecimal.format(perSecond) : whole.format(perSecond);
}

/** 97.2 %; never rounded up to a perfect 100. */
export function formatRatio(ratio: number | null | undefined): string {
  if (ratio === null || ratio === undefined) return NONE;
  const percent = ratio * 100;
  return `${oneDecimal.format(percent < 100 ? Math.min(percent, 99.9) : 100)} %`;
}

export function formatMs(ms: number | null | undefined): string {
  if (ms === null || ms === undefined) return NONE;
  return `${ms < 10 ? oneDecimal.format(ms) : whole.format(ms)} ms`;
}

/** Bytes each second as bits: 8.4 Mbit/s. */
export function formatBits(bytesPerSecond: number): string {
  return scaled(bytesPerSecond * 8, 1_000, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"]);
}

export function formatBytes(bytes: number | null): string {
  return bytes === null ? NONE : scaled(bytes, 1_024, ["B", "KiB", "MiB", "GiB", "TiB"]);
}

function scaled(value: number, step: number, units: readonly string[]): string {
  let index = 0;
  let rest = value;
  while (rest >= step && index < units.length - 1) {
    rest /= step;
    index += 1;
  }
  return `${index === 0 || rest >= 100 ? whole.format(rest) : oneDecimal.format(rest)} ${units[index] ?? ""}`;
}

const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const minute = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });

const second = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** The zone of every time on the page, as people write it: "UTC", "GMT+2". */
export const timeZone =
  new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" })
    .formatToParts()
    .find((part) => part.type === "timeZoneName")?.value ?? "local time";

/** Today only the time, else the day as well. `isExact`: with seconds. */
export function formatTime(atEpochMs: number, isExact = false): string {
  const at = new Date(atEpochMs);
  if (isExact) return second.format(at);
  const isToday = new Date().toDateString() === at.toDateString();
  return isToday ? `today ${minute.format(at)}` : `${day.format(at)} ${minute.format(at)}`;
}

/** 90 -> "1 min 30 s"; for the reader beside a field of seconds. */
export function formatSeconds(seconds: number): string {
  const parts: string[] = [];
  let rest = seconds;
  for (const [unit, size] of [
    ["d", 86_400],
    ["h", 3_600],
    ["min", 60],
    ["s", 1],
  ] as const) {
    const count = Math.floor(rest / size);
    if (count > 0) parts.push(`${count} ${unit}`);
    rest -= count * size;
  }
  return parts.slice(0, 2).join(" ") || "0 s";
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${whole.format(count)} ${count === 1 ? one : many}`;
}
