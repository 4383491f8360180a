/** Zones drawn from a seed: few labels, so that names meet; every rule of answering gets its turn. What every server loads. */
import { randomBelow } from "../hostile/dns-packets.ts";

export interface DrawnZone {
  readonly origin: string;
  readonly text: string;
  /** Labels of the names that are asked for, from the left, the zone's own last. */
  readonly names: readonly (readonly string[])[];
}

const LABELS = ["a", "b", "c", "Ns", "x-1", "_dmarc"];
const DATA_TYPES = ["A", "AAAA", "MX", "TXT", "SRV", "CAA", "HTTPS", "TLSA", "TYPE65280"];

/** @param count zones, `z0.peers.test` and on; aliases lead into the other ones, too */
export function drawZones(seed: number, count: number, namesPerZone = 14): readonly DrawnZone[] {
  const below = randomBelow(seed);
  const pick = <T>(list: readonly T[]): T => list[below(list.length)] as T;
  return Array.from({ length: count }, (_, n) =>
    drawZone(`z${n}.peers.test`, count, namesPerZone, below, pick),
  );
}

function drawZone(
  origin: string,
  count: number,
  namesPerZone: number,
  below: (limit: number) => number,
  pick: <T>(list: readonly T[]) => T,
): DrawnZone {
  const relative = (depth: number): string[] => Array.from({ length: depth }, () => pick(LABELS));
  const lines = [
    `$ORIGIN ${origin}.`,
    "$TTL 300",
    `@ ${300 + below(600)} SOA ns hostmaster ${1 + below(1_000_000)} 7200 1800 1209600 ${30 + below(900)}`,
    "@ NS ns",
    "@ NS ns.elsewhere.test.",
    "ns A 192.0.2.53",
    "ns AAAA 2001:db8::53",
  ];
  const used = new Map<string, string>();
  const dnames: string[] = [];
  const target = (): string => {
    const roll = below(10);
    if (roll === 0) return "outside.test.";
    if (roll === 1) return `${relative(1 + below(2)).join(".")}.z${below(count)}.peers.test.`;
    return relative(1 + below(3)).join(".");
  };
  for (let n = 0; n < namesPerZone; n++) {
    const labels = relative(1 + below(3));
    if (below(5) === 0) labels[0] = "*";
    const name = labels.join(".");
    const key = name.toLowerCase();
    // Names below a DNAME are refused by Knot; one kind a name keeps CNAME alone.
    if (used.has(key) || key === "ns" || dnames.some((one) => key.endsWith(`.${one}`))) continue;
    const roll = below(12);
    if (roll < 2) {
      used.set(key, "CNAME");
      lines.push(`${name} CNAME ${target()}`);
    } else if (roll === 2 && labels[0] !== "*" && ![...used.keys()].some((one) => one.endsWith(`.${key}`))) {
      used.set(key, "DNAME");
      dnames.push(key);
      lines.push(`${name} DNAME ${target()}`);
    } else if (roll < 5 && labels[0] !== "*" && !used.has(`ns.${key}`)) {
      used.set(key, "NS");
      lines.push(`${name} NS ns.${name}`, `${name} NS ${pick(["ns", "ns.elsewhere.test."])}`);
      lines.push(`ns.${name} A 192.0.2.${below(256)}`);
      if (below(2) === 0) lines.push(`${name} DS ${below(65536)} 13 2 ${"ab".repeat(32)}`);
      used.set(`ns.${key}`, "glue");
      if (below(2) === 0 && !used.has(`b.${key}`)) {
        used.set(`b.${key}`, "occluded");
        lines.push(`b.${name} TXT "occluded"`);
      }
    } else {
      used.set(key, "data");
      for (const type of new Set(Array.from({ length: 1 + below(3) }, () => pick(DATA_TYPES))))
        lines.push(
          ...Array.from(
            { length: 1 + below(2) },
            () => `${name} ${60 + n} ${type} ${rdata(type, below, target)}`,
          ),
        );
    }
  }
  const names: string[][] = [[]];
  for (const key of used.keys()) {
    const labels = key.split(".");
    names.push(labels, [pick(LABELS), ...labels], [pick(LABELS), pick(LABELS), ...labels]);
    if (labels.length > 1) names.push(labels.slice(1));
  }
  for (let n = 0; n < 6; n++) names.push(relative(1 + below(3)));
  const unique = new Map(names.map((labels) => [labels.join(".").toLowerCase(), labels]));
  return {
    origin,
    text: `${lines.join("\n")}\n`,
    names: [...unique.values()].map((labels) => [...labels, ...origin.split(".")]),
  };
}

function rdata(type: string, below: (limit: number) => number, target: () => string): string {
  switch (type) {
    case "A":
      return `198.51.100.${below(256)}`;
    case "AAAA":
      return `2001:db8::${below(65_536).toString(16)}`;
    case "MX":
      return `${below(100)} ${target()}`;
    case "TXT":
      return `"text ${below(1000)}" "\\${String(128 + below(100))}"`;
    case "SRV":
      return `0 ${below(10)} 443 ${target()}`;
    case "CAA":
      return `0 issue "ca${below(100)}.test"`;
    case "HTTPS":
      return `1 . alpn=h2 port=${1 + below(65_535)}`;
    case "TLSA":
      return `3 1 1 ${"c0de".repeat(16)}`;
    default:
      return `\\# 3 0102${below(256).toString(16).padStart(2, "0")}`;
  }
}

export const askedTypes = [1, 2, 5, 6, 15, 16, 28, 33, 39, 43, 65, 257, 65_280] as const;
