/** A day in text. */
import { dayFaultKinds } from "./faults.ts";
import type { DayHour, DayReport } from "./figures.ts";

const percent = (share: number, digits = 2): string => `${(share * 100).toFixed(digits)} %`;

export function formatDay(report: DayReport): string {
  const { world, day, quietChurn } = report;
  const faults = Object.keys(dayFaultKinds).map(
    (kind) => `${kind} ${report.faults[kind as keyof typeof dayFaultKinds]}`,
  );
  return [
    `${report.verdict}: ${world.name}, ${world.clusters} edge clusters with ${world.servers} servers, ${world.networks} client networks, ${report.seconds} s, seed ${report.seed}`,
    ...(report.broken === null
      ? []
      : [`broken at ${report.broken.at / 1_000} s: ${report.broken.sentence} ${report.broken.detail}`]),
    ...(report.unnoticed.length === 0 ? [] : [`never noticed: ${report.unnoticed.join(", ")}`]),
    `faults: ${faults.join(", ")}`,
    `${report.maps} maps (${report.mapsRefused} refused), ${report.answers} answers; while nothing was broken ${quietChurn.maps} maps with a churn of ${percent(quietChurn.mean)} on the mean, ${percent(quietChurn.max)} at most`,
    `interactive users: ${day.rttRatio.toFixed(3)} x the nearest cluster that they reach, ${day.regretMs.toFixed(1)} ms more on the mean, p95 ${day.regretMsP95.toFixed(1)} ms; ${percent(day.lostRatio, 3)} of the demand sent where nobody answers`,
    `load at most ${day.loadMax.toFixed(2)} of the capacity of a cluster; ${percent(day.overloadRatio, 3)} of the demand above capacity`,
    "",
    row(["hour", "demand/s", "x nearest", "regret ms", "p95 ms", "load max", "over", "lost", "churn"]),
    ...report.hours.map((hour) => row(cells(hour))),
    "",
    "left out:",
    ...report.leftOut.map((what) => `- ${what}`),
  ].join("\n");
}

function cells(hour: DayHour): string[] {
  return [
    String(hour.hour),
    String(hour.demandPerSecond),
    hour.rttRatio.toFixed(3),
    hour.regretMs.toFixed(1),
    hour.regretMsP95.toFixed(1),
    hour.loadMax.toFixed(2),
    percent(hour.overloadRatio, 3),
    percent(hour.lostRatio, 3),
    percent(hour.churnRatio),
  ];
}

function row(texts: readonly string[]): string {
  return texts.map((text) => text.padStart(10)).join("");
}
