/** Where sites and their names go on the map, so that neighbours stay apart. Pure geometry, in pixels. */

export interface Spot {
  readonly key: string;
  readonly x: number;
  readonly y: number;
}

const ROUNDS = 24;

/** Moves spots that are closer than `gap` apart, each by half; a spot stays near where it belongs. */
export function spread(spots: readonly Spot[], gap: number): Map<string, Spot> {
  const moved = spots.map((spot) => ({ ...spot }));
  for (let round = 0; round < ROUNDS; round++) {
    for (let i = 0; i < moved.length; i++) {
      for (let j = i + 1; j < moved.length; j++) {
        const [a, b] = [moved[i], moved[j]];
        if (a === undefined || b === undefined) continue;
        let [dx, dy] = [b.x - a.x, b.y - a.y];
        let distance = Math.hypot(dx, dy);
        if (distance >= gap) continue;
        if (distance === 0) [dx, dy, distance] = [1, 0.3, 1];
        const push = (gap - distance) / 2 / distance;
        a.x -= dx * push;
        a.y -= dy * push;
        b.x += dx * push;
        b.y += dy * push;
      }
    }
  }
  return new Map(moved.map((spot) => [spot.key, spot]));
}

export interface Label {
  readonly key: string;
  readonly x: number;
  readonly y: number;
  readonly anchor: "start" | "end" | "middle";
}

interface Box {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

/** Names that fit beside their spots without covering another spot or name; those that do not fit are left out. */
export function placeLabels(
  wanted: readonly (Spot & { readonly text: string })[],
  spots: readonly Spot[],
  bounds: { readonly width: number; readonly height: number },
  size: { readonly character: number; readonly line: number; readonly radius: number },
): readonly Label[] {
  const taken: Box[] = spots.map(({ x, y }) => ({
    left: x - size.radius,
    right: x + size.radius,
    top: y - size.radius,
    bottom: y + size.radius,
  }));
  const labels: Label[] = [];
  for (const { key, x, y, text } of wanted) {
    const width = text.length * size.character;
    const off = size.radius + 5;
    const tries: readonly Label[] = [
      { key, x: x + off, y: y + size.line * 0.32, anchor: "start" },
      { key, x: x - off, y: y + size.line * 0.32, anchor: "end" },
      { key, x, y: y - off, anchor: "middle" },
      { key, x, y: y + off + size.line * 0.7, anchor: "middle" },
    ];
    for (const label of tries) {
      const left =
        label.anchor === "start" ? label.x : label.anchor === "end" ? label.x - width : label.x - width / 2;
      const box = {
        left,
        right: left + width,
        top: label.y - size.line * 0.8,
        bottom: label.y + size.line * 0.25,
      };
      const isOutside = box.left < 0 || box.right > bounds.width || box.top < 0 || box.bottom > bounds.height;
      if (isOutside || taken.some((other) => overlap(box, other))) continue;
      taken.push(box);
      labels.push(label);
      break;
    }
  }
  return labels;
}

function overlap(a: Box, b: Box): boolean {
  return a.left < b.right && a.right > b.left && a.top < b.bottom && a.bottom > b.top;
}
