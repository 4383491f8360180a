/** Tables of figures, for a terminal and for a page. */

export interface FigureTable {
  readonly head: readonly string[];
  /** As many cells as the head; the first column names the row. */
  readonly rows: readonly (readonly string[])[];
}

/** First column left, all others right. */
export function textTable({ head, rows }: FigureTable): string {
  const widths = head.map((name, column) =>
    Math.max(name.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  return [head, ...rows]
    .map((row) =>
      row
        .map((cell, column) => {
          const width = widths[column] ?? 0;
          return column === 0 ? cell.padEnd(width) : cell.padStart(width);
        })
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** GitHub's tables; a bar in a cell is escaped. */
export function markdownTable({ head, rows }: FigureTable): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), `|---|${"---:|".repeat(head.length - 1)}`, ...rows.map(line)].join("\n");
}

export const percent = (share: number, digits = 1): string => `${(share * 100).toFixed(digits)} %`;
export const fixed = (value: number, digits = 3): string => value.toFixed(digits);
