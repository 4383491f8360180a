/** A map that is made ready in steps: what answers meanwhile, and afterwards. */
import { describe, expect, test } from "vitest";
import { allSteps, type MapSnapshot, PackedClusterMap, parseAddress, ParseError, type ServerId } from "#kit";
import { choiceOfLookup, choiceTableOf } from "../../../mapping/core/dns/choice-table.ts";
import type { DnsContext } from "../../../mapping/core/dns/decision.ts";
import { contextWith, prepareMap, renewContext } from "../../../mapping/core/dns/prepared-map.ts";
import { snapshotFrom } from "../../tools/map-snapshot.ts";
import { context, properties, ranking, snapshot, written } from "./fixture.ts";

const property = properties[0]!;
const BERLIN = parseAddress("192.0.2.1")!.words;

/** As a map comes: a text that nobody has looked into. */
const carried = (map: MapSnapshot): MapSnapshot => ({
  ...map,
  clusterMap: PackedClusterMap.ofText(map.clusterMap.toJSON()),
});
const next = snapshotFrom({
  ...written,
  mapVersion: 8,
  clientNetworks: written.clientNetworks.map((network) => ({
    ...network,
    clusters: ranking("sin", "nyc", "fra"),
  })),
});

function clusterFor(from: DnsContext): string | null | undefined {
  const table = choiceTableOf(from, property, 4);
  return table.choices[choiceOfLookup(table.lookup(4, BERLIN))]?.clusterId;
}

describe("a map in steps", () => {
  test("the one before answers until the new one stands whole, with all that was asked about", () => {
    const inForce = context();
    expect(clusterFor(inForce)).toBe("fra");
    const steps = prepareMap(carried(next), inForce.snapshot ?? undefined, () => inForce);
    let count = 0;
    for (;;) {
      const step = steps.next();
      expect(clusterFor(inForce)).toBe("fra");
      count++;
      if (step.done !== true) continue;
      const after = contextWith(step.value, inForce);
      // The same table, not one made by this question.
      expect(step.value.next).toBe(after);
      expect(clusterFor(after)).toBe("sin");
      expect(after.snapshot?.table.networks).toBe(inForce.snapshot?.table.networks);
      break;
    }
    expect(count).toBeGreaterThan(5);
  });

  test("a death in between counts for what is put in force", () => {
    const down = new Set<string>();
    const base = context();
    let inForce: DnsContext = { ...base, isUp: (serverId: ServerId) => !down.has(serverId) };
    expect(clusterFor(inForce)).toBe("fra");
    const steps = prepareMap(carried(next), inForce.snapshot ?? undefined, () => inForce);
    for (let count = 0; count < 8; count++) steps.next();
    down.add("sin-1").add("sin-2");
    inForce = { ...inForce };
    expect(clusterFor(inForce)).toBe("fra");
    expect(clusterFor(contextWith(allSteps(steps), inForce))).toBe("nyc");
  });

  test("another context than it was prepared for gets the map, and nothing of the old choices", () => {
    const inForce = context();
    clusterFor(inForce);
    const prepared = allSteps(prepareMap(carried(next), undefined, () => inForce));
    const dead = context(["sin-1", "sin-2"]);
    const after = contextWith(prepared, dead);
    expect(after).not.toBe(prepared.next);
    expect(clusterFor(after)).toBe("nyc");
  });

  test("one that is damaged, wherever, is refused and leaves the one before", () => {
    const inForce = context();
    const bytes = next.clusterMap.bytes();
    for (const at of [13, bytes.length >> 1, bytes.length - 1]) {
      const damaged = Uint8Array.from(bytes);
      damaged[at] = (damaged[at] as number) ^ 1;
      const map = { ...next, clusterMap: PackedClusterMap.ofText(Buffer.from(damaged).toString("base64")) };
      expect(() => allSteps(prepareMap(map, inForce.snapshot ?? undefined, () => inForce))).toThrow(
        ParseError,
      );
    }
    expect(inForce.snapshot?.snapshot).toBe(snapshot);
    expect(clusterFor(inForce)).toBe("fra");
  });
});

describe("a death", () => {
  test("is answered by when the choices stand, in whatever context is in force then", () => {
    const down = new Set<string>();
    const before: DnsContext = { ...context(), isUp: (serverId: ServerId) => !down.has(serverId) };
    expect(clusterFor(before)).toBe("fra");
    down.add("fra-1").add("fra-2");
    let inForce = before;
    const put = (renewed: DnsContext): void => {
      inForce = renewed;
    };
    allSteps(renewContext(() => inForce, put));
    expect(clusterFor(before)).toBe("fra");
    expect(clusterFor(inForce)).toBe("nyc");
    // Another map comes in between: what was made for the one before is left.
    const other = contextWith(allSteps(prepareMap(carried(next), undefined, () => before)), before);
    down.clear();
    down.add("sin-1").add("sin-2");
    let asked = 0;
    allSteps(renewContext(() => (asked++ === 0 ? before : other), put));
    expect(inForce.snapshot).toBe(other.snapshot);
    expect(clusterFor(other)).toBe("sin");
    expect(clusterFor(inForce)).toBe("nyc");
  });
});
