/** Requests and hit ratio over time: two uPlot graphs that share a cursor. */
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { SeriesAnswer } from "../../core/wire.ts";
import { usePolled } from "../polled.ts";
import { formatRate, formatRatio, timeZone } from "../format.ts";

type Window = "ten-minutes" | "hour";
const REFRESH_MS: Readonly<Record<Window, number>> = { "ten-minutes": 3_000, hour: 10_000 };
const HEIGHT = 150;
/** A portal that has just started shows a short line, not a stretched one. */
const SHOWN_SECONDS_MIN = 60;
/** Between two times on the axis, px: as wide as "23:59:59" and some air. */
const TIME_SPACE = 80;

export function Graphs({ propertyId }: { propertyId: string | null }) {
  const [window, setWindow] = useState<Window>("ten-minutes");
  const query = new URLSearchParams({ window, ...(propertyId !== null && { propertyId }) });
  // What is wrong with a question the connection light says already.
  const { answer: series } = usePolled<SeriesAnswer>(`/series?${query.toString()}`, REFRESH_MS[window]);

  return (
    <section class="panel graphs">
      <div class="panel-head">
        <h2>Traffic</h2>
        <small class="muted">times in {timeZone}</small>
        <fieldset class="choice" aria-label="Time shown">
          <button
            type="button"
            aria-pressed={window === "ten-minutes"}
            onClick={() => setWindow("ten-minutes")}
          >
            10 min
          </button>
          <button type="button" aria-pressed={window === "hour"} onClick={() => setWindow("hour")}>
            1 hour
          </button>
        </fieldset>
      </div>
      <div class="graph-pair">
        <Graph
          name="Requests per second"
          times={series?.atEpochSeconds ?? []}
          values={series?.requestsPerSecond ?? []}
          colour="--edge"
          format={formatRate}
          ceiling={undefined}
        />
        <Graph
          name="Hit ratio"
          times={series?.atEpochSeconds ?? []}
          values={series?.hitRatio ?? []}
          colour="--good"
          format={formatRatio}
          ceiling={1}
        />
      </div>
    </section>
  );
}

interface GraphProps {
  readonly name: string;
  readonly times: readonly number[];
  readonly values: readonly (number | null)[];
  /** A custom property of the style sheet. */
  readonly colour: string;
  readonly format: (value: number | null | undefined) => string;
  readonly ceiling: number | undefined;
}

function Graph({ name, times, values, colour, format, ceiling }: GraphProps) {
  const boxRef = useRef<HTMLDivElement>(null);
  const plotRef = useRef<uPlot | undefined>(undefined);
  const [scheme, setScheme] = useState(0);
  const [reading, setReading] = useState<{ at: number; value: number | null } | undefined>(undefined);

  useEffect(() => {
    const media = matchMedia("(prefers-color-scheme: dark)");
    const onChange = (): void => setScheme((count) => count + 1);
    media.addEventListener("change", onChange);
    return () => media.removeEventListener("change", onChange);
  }, []);

  useEffect(() => {
    const parent = boxRef.current;
    if (parent === null) return;
    // Colours are read from the style sheet, so the canvas follows the scheme.
    const probe = (property: string): string => {
      parent.style.color = `var(${property})`;
      const found = getComputedStyle(parent).color;
      parent.style.color = "";
      return found;
    };
    const line = probe(colour);
    const axis: uPlot.Axis = {
      stroke: probe("--muted"),
      grid: { stroke: probe("--grid"), width: 1 },
      ticks: { show: false },
      font: "11px system-ui, sans-serif",
    };
    const made = new uPlot(
      {
        width: parent.clientWidth,
        height: HEIGHT,
        padding: [8, 24, 0, 0],
        legend: { show: false },
        cursor: { sync: { key: "traffic" }, drag: { x: false, y: false }, points: { size: 6 } },
        scales: {
          x: { time: true, range: (_plot, first, last) => timesShown(first, last) },
          y: { range: (_plot, _min, max) => [0, ceiling ?? Math.max(1, max * 1.1)] },
        },
        axes: [
          {
            ...axis,
            size: 28,
            space: TIME_SPACE,
            incrs: [5, 10, 15, 30, 60, 120, 300, 600, 900],
            values: (_plot, ticks) => ticks.map((tick) => clock(tick)),
          },
          {
            ...axis,
            size: 48,
            space: 36,
            values: (_plot, ticks) =>
              ticks.map((tick) => (ceiling === 1 ? `${Math.round(tick * 100)} %` : formatTick(tick))),
          },
        ],
        series: [
          {},
          {
            stroke: line,
            width: 1.5,
            fill: `color-mix(in srgb, ${line} 12%, transparent)`,
            points: { show: false },
          },
        ],
        hooks: {
          setCursor: [
            (self) => {
              const { idx } = self.cursor;
              const at = idx === null || idx === undefined ? undefined : self.data[0][idx];
              setReading(
                at === undefined || idx === null || idx === undefined
                  ? undefined
                  : { at, value: self.data[1]?.[idx] ?? null },
              );
            },
          ],
        },
      },
      [[], []],
      parent,
    );
    plotRef.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: parent.clientWidth, height: HEIGHT }));
    observer.observe(parent);
    return () => {
      observer.disconnect();
      made.destroy();
      plotRef.current = undefined;
    };
  }, [colour, ceiling, scheme]);

  // Also after the plot was made anew, which is why it names what the plot is made of.
  useEffect(() => {
    plotRef.current?.setData([[...times], [...values]]);
  }, [times, values, colour, ceiling, scheme]);

  const latest = values.findLast((value) => value !== null);
  return (
    <figure>
      <figcaption>
        {name}
        <b>{reading === undefined ? format(latest) : format(reading.value)}</b>
        <small class="muted">
          {reading === undefined
            ? latest === undefined
              ? "no requests yet"
              : "now"
            : clockSeconds(reading.at)}
        </small>
      </figcaption>
      <div ref={boxRef} class="graph" aria-hidden="true" />
    </figure>
  );
}

/** Null (uPlot's word for "no data") or 0 before the first answer: the last minute. */
function timesShown(first: number | null, last: number | null): [number, number] {
  const end = last === null || last === 0 ? Date.now() / 1_000 : last;
  return [Math.min(first ?? end, end - SHOWN_SECONDS_MIN), end];
}

const hourMinute = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const hourMinuteSecond = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

function clock(epochSeconds: number): string {
  return (epochSeconds % 60 === 0 ? hourMinute : hourMinuteSecond).format(epochSeconds * 1_000);
}

function clockSeconds(epochSeconds: number): string {
  return hourMinuteSecond.format(epochSeconds * 1_000);
}

function formatTick(value: number): string {
  return compact.format(value);
}
