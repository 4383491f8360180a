/** Our answers beside those of real name servers; `npm run lab -- zone-peers` asks more. */
import { describe, expect, it } from "vitest";
import { comparePeer } from "../lab/zone-peers.ts";
import { requireProgram } from "../tools/processes.ts";
import { startKnot, startNamed } from "../tools/zones/peers.ts";

describe.each([
  { name: "named", start: startNamed },
  { name: "knotd", start: startKnot },
])("zones drawn at random, loaded by us and by $name", ({ name, start }) => {
  const program = requireProgram(name);

  it.skipIf(program === undefined)("are answered the same, but for known reasons", async () => {
    const { cases, counts, shown } = await comparePeer(
      20_261_126,
      3,
      (zones) => start(program as string, zones),
      3,
    );
    expect(shown.filter(({ verdict }) => verdict === "different")).toEqual([]);
    expect(cases).toBeGreaterThan(1_000);
    expect((counts["equal"] ?? 0) / cases).toBeGreaterThan(0.9);
  });
});
