/** Line plots as SVG, small and without anything from elsewhere. */

export interface Series {
  readonly name: string;
  /** Ascending in x; finite. */
  readonly points: readonly (readonly [x: number, y: number])[];
}

export interface Plot {
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  readonly series: readonly Series[];
  /** The x axis by its logarithm; every x above 0. */
  readonly isLogX?: boolean;
  /** The least value of the y axis; default: the least there is. */
  readonly yMin?: number;
}

const WIDTH = 720;
const HEIGHT = 360;
const MARGIN = { left: 64, right: 190, top: 36, bottom: 48 };
const TICKS = 5;
/** Told apart by people who see few colours too (Okabe and Ito, 2008). */
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/** Throws RangeError for a plot without points. */
export function linePlot(plot: Plot): string {
  const all = plot.series.flatMap(({ points }) => points);
  if (all.length === 0) throw new RangeError(`The plot "${plot.title}" has no points`);
  const scaled = (x: number): number => (plot.isLogX === true ? Math.log2(x) : x);
  const xs = all.map(([x]) => scaled(x));
  const ys = all.map(([, y]) => y);
  const [xLow, xHigh] = [Math.min(...xs), Math.max(...xs)];
  const yLow = Math.min(plot.yMin ?? Infinity, ...ys);
  const yHigh = Math.max(...ys);
  const place = (value: number, low: number, high: number, from: number, to: number): number =>
    from + ((value - low) / (high - low || 1)) * (to - from);
  const x = (value: number): string =>
    place(scaled(value), xLow, xHigh, MARGIN.left, WIDTH - MARGIN.right).toFixed(1);
  const y = (value: number): string =>
    place(value, yLow, yHigh, HEIGHT - MARGIN.bottom, MARGIN.top).toFixed(1);
  const xTicks =
    plot.isLogX === true
      ? [...new Set(all.map(([value]) => value))].sort((a, b) => a - b)
      : ticks(xLow, xHigh);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" font-family="sans-serif" font-size="12">`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    text(MARGIN.left, 20, plot.title, 'font-weight="bold"'),
    ...ticks(yLow, yHigh).flatMap((value) => [
      `<line x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${y(value)}" y2="${y(value)}" stroke="#ddd"/>`,
      text(MARGIN.left - 6, Number(y(value)) + 4, label(value), 'text-anchor="end"'),
    ]),
    ...xTicks.map((value) =>
      text(Number(x(value)), HEIGHT - MARGIN.bottom + 16, label(value), 'text-anchor="middle"'),
    ),
    text((WIDTH - MARGIN.right + MARGIN.left) / 2, HEIGHT - 10, plot.xLabel, 'text-anchor="middle"'),
    `<text transform="translate(16 ${HEIGHT / 2}) rotate(-90)" text-anchor="middle">${escaped(plot.yLabel)}</text>`,
    ...plot.series.flatMap(({ name, points }, n) => {
      const colour = COLOURS[n % COLOURS.length] as string;
      const path = points.map(([px, py]) => `${x(px)},${y(py)}`).join(" ");
      const legendY = MARGIN.top + 8 + n * 18;
      const legendX = WIDTH - MARGIN.right + 12;
      return [
        `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>`,
        ...points.map(([px, py]) => `<circle cx="${x(px)}" cy="${y(py)}" r="2.5" fill="${colour}"/>`),
        `<line x1="${legendX}" x2="${legendX + 16}" y1="${legendY}" y2="${legendY}" stroke="${colour}" stroke-width="2"/>`,
        text(legendX + 22, legendY + 4, name),
      ];
    }),
    "</svg>\n",
  ].join("\n");
}

function text(x: number, y: number, content: string, attributes = ""): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${attributes}>${escaped(content)}</text>`;
}

function escaped(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** Round values from low to high, about as many as fit. */
function ticks(low: number, high: number): number[] {
  if (!(high > low)) return [low];
  const rough = (high - low) / TICKS;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10) * power;
  const found: number[] = [];
  for (let n = Math.ceil(low / step); n * step <= high; n++) found.push(n * step);
  return found;
}

function label(value: number): string {
  return String(Number(value.toPrecision(4)));
}
