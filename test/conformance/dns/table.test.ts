/** The table of README.md against the files: every vector that it names is there. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const tests = join(import.meta.dirname, "..", "..");
const rows = readFileSync(join(import.meta.dirname, "README.md"), "utf8")
  .split("\n")
  .flatMap((line) => {
    const [, point, file, vector] = /^\| (.+) \| `([^`]+)` \| `([^`]+)` \|$/.exec(line) ?? [];
    return point === undefined || file === undefined || vector === undefined
      ? []
      : [[point, file, vector] as const];
  });

describe("points of the RFCs", () => {
  it("are all read: the table has no row of another shape", () => {
    expect(rows.length).toBeGreaterThan(40);
    expect(new Set(rows.map(([point]) => point)).size).toBe(rows.length);
  });

  it.each(rows)("%s", (_, file, vector) => {
    expect(readFileSync(join(tests, file), "utf8")).toContain(vector);
  });
});
