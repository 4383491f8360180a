import { describe, expect, it } from "vitest";
import type { RendezvousNode } from "../../../kit/rendezvous.ts";
import { rendezvousOrder, rendezvousPick } from "../../../kit/rendezvous.ts";

const KEYS = Array.from({ length: 20_000 }, (_, index) => `https://shop.example/object/${index}`);
const nodesOf = (count: number): RendezvousNode[] =>
  Array.from({ length: count }, (_, index) => ({ id: `edge-${index}` }));

function firsts(nodes: readonly RendezvousNode[]): Map<string, number> {
  const counts = new Map<string, number>(nodes.map(({ id }) => [id, 0]));
  for (const key of KEYS) {
    const id = rendezvousOrder(key, nodes)[0]?.id ?? "";
    counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  return counts;
}

describe("rendezvousOrder", () => {
  it("is the same whatever the order of the nodes, and holds each once", () => {
    const nodes = nodesOf(9);
    for (const key of KEYS.slice(0, 200)) {
      const order = rendezvousOrder(key, nodes).map(({ id }) => id);
      expect(rendezvousOrder(key, nodes.toReversed()).map(({ id }) => id)).toEqual(order);
      expect(order.toSorted()).toEqual(nodes.map(({ id }) => id).toSorted());
    }
  });

  it("moves only the keys of a node that is removed, each to its second node", () => {
    const nodes = nodesOf(10);
    const left = nodes.filter(({ id }) => id !== "edge-3");
    let moved = 0;
    for (const key of KEYS.slice(0, 5000)) {
      const before = rendezvousOrder(key, nodes);
      const after = rendezvousOrder(key, left);
      expect(after.map(({ id }) => id)).toEqual(before.map(({ id }) => id).filter((id) => id !== "edge-3"));
      if (before[0]?.id === "edge-3") moved++;
    }
    expect(moved).toBeGreaterThan(400);
    expect(moved).toBeLessThan(600);
  });

  it("balances: 16 nodes within 10 % of the mean over 20,000 keys", () => {
    for (const count of firsts(nodesOf(16)).values()) expect(Math.abs(count / 1250 - 1)).toBeLessThan(0.1);
  });

  it("shares by weight; weight 0 comes last", () => {
    const nodes = [
      { id: "a", weight: 1 },
      { id: "b", weight: 3 },
      { id: "c", weight: 0 },
      { id: "d", weight: 4 },
    ];
    const counts = firsts(nodes);
    expect((counts.get("a") ?? 0) / KEYS.length).toBeCloseTo(1 / 8, 1.5);
    expect((counts.get("b") ?? 0) / KEYS.length).toBeCloseTo(3 / 8, 1.5);
    expect((counts.get("d") ?? 0) / KEYS.length).toBeCloseTo(4 / 8, 1.5);
    expect(counts.get("c")).toBe(0);
    expect(rendezvousOrder("k", nodes).at(-1)?.id).toBe("c");
  });

  it("is spread in the second place too: a dead node's keys go to all others", () => {
    const seconds = new Map<string, number>();
    for (const key of KEYS) {
      const [first, second] = rendezvousOrder(key, nodesOf(5));
      if (first?.id !== "edge-0") continue;
      seconds.set(second?.id ?? "", (seconds.get(second?.id ?? "") ?? 0) + 1);
    }
    expect(seconds.size).toBe(4);
    for (const count of seconds.values()) expect(Math.abs(count / 1000 - 1)).toBeLessThan(0.15);
  });

  it("breaks ties by id", () => {
    const order = rendezvousOrder("k", [
      { id: "b", weight: 0 },
      { id: "a", weight: 0 },
      { id: "B", weight: 0 },
    ]);
    expect(order.map(({ id }) => id)).toEqual(["B", "a", "b"]);
  });

  it.each([-1, Number.NaN, Infinity])("refuses weight %s", (weight) => {
    expect(() => rendezvousOrder("k", [{ id: "a", weight }])).toThrow(/weight of node "a"/);
  });
});

describe("rendezvousPick", () => {
  it("is the first in order while all are equally loaded, and undefined for no nodes", () => {
    const nodes = nodesOf(7);
    for (const key of KEYS.slice(0, 500)) {
      expect(rendezvousPick(key, nodes, () => 0)).toBe(rendezvousOrder(key, nodes)[0]);
      expect(rendezvousPick(key, nodes, () => 10)).toBe(rendezvousOrder(key, nodes)[0]);
    }
    expect(rendezvousPick("k", [], () => 0)).toBeUndefined();
  });

  it.each([1, 1.1, 1.25, 2])("never loads a node over ceil(%d x mean), even with one hot key", (ratio) => {
    const nodes = nodesOf(8);
    const loads = new Map<string, number>();
    const loadOf = (id: string): number => loads.get(id) ?? 0;
    let skipped = 0;
    for (let placed = 1; placed <= 4000; placed++) {
      const key = placed % 2 ? "hot" : (KEYS[placed] as string);
      const node = rendezvousPick(key, nodes, loadOf, ratio);
      if (!node) throw new Error("no node");
      if (node !== rendezvousOrder(key, nodes)[0]) skipped++;
      loads.set(node.id, loadOf(node.id) + 1);
      expect(loadOf(node.id)).toBeLessThanOrEqual(Math.ceil((ratio * placed) / nodes.length));
    }
    expect(skipped).toBeGreaterThan(100);
  });

  it("skips to the next in order, not to any", () => {
    const nodes = nodesOf(6);
    for (const key of KEYS.slice(0, 300)) {
      const [first, second] = rendezvousOrder(key, nodes);
      expect(rendezvousPick(key, nodes, (id) => (id === first?.id ? 100 : 0))).toBe(second);
    }
  });

  it("gives a node with more weight more room, and one with none nothing", () => {
    const nodes = [
      { id: "big", weight: 3 },
      { id: "small", weight: 1 },
      { id: "none", weight: 0 },
    ];
    const loads = new Map<string, number>();
    for (const key of KEYS.slice(0, 4000)) {
      const id = rendezvousPick(key, nodes, (node) => loads.get(node) ?? 0, 1)?.id ?? "";
      loads.set(id, (loads.get(id) ?? 0) + 1);
    }
    expect(loads.get("big")).toBe(3000);
    expect(loads.get("small")).toBe(1000);
    expect(loads.has("none")).toBe(false);
  });

  it("falls back to the first if none has room", () => {
    const nodes = nodesOf(4);
    expect(rendezvousPick("k", nodes, () => 10, 0.5)).toBe(rendezvousOrder("k", nodes)[0]);
    expect(() => rendezvousPick("k", nodes, () => 0, 0)).toThrow(/bound ratio/);
  });
});
