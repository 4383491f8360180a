import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { WorldWan } from "../../../cli/up/wan.ts";
import { parseWorld, planAddresses, topologyOf } from "../../../kit/world/mod.ts";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "isochrone-wan-"));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

function smallWan(): WorldWan {
  const file = new URL("../../../deploy/worlds/small.yaml", import.meta.url);
  const world = parseWorld(readFileSync(file, "utf8"), "small.yaml");
  const plan = planAddresses(world, { loopback: "127.10", port: 8080, dnsPort: 5300 });
  return new WorldWan(world, plan, topologyOf(world, plan), directory);
}

test.each(["São Paulo", "são paulo", "SAO PAULO", "Sa\u0303o Paulo", "gru"])("%j is the site gru", (name) => {
  expect(smallWan().resolveSite(name)).toEqual(["gru"]);
});

test("a site that is not there is refused with those that are", () => {
  expect(() => smallWan().resolveSite("Sao")).toThrow(/^No site "Sao"; the sites are fra, ams-parent, /);
});

test("a second cut of the same link adds nothing, and one heal mends it", () => {
  const wan = smallWan();
  expect(wan.cut("Sao Paulo", "Frankfurt")).toEqual([["fra", "gru"]]);
  expect(wan.cut("fra", "gru")).toEqual([]);
  expect(wan.heal(["gru", "fra"])).toEqual([["fra", "gru"]]);
  expect(wan.cuts).toEqual([]);
});
