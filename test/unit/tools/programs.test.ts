import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { runProgram } from "../../tools/programs.ts";

let directory: string;
const out: string[] = [];
const err: string[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "isochrone-programs-"));
  writeFileSync(join(directory, "run.ts"), "throw new Error('the dispatcher is not a program');\n");
  writeFileSync(
    join(directory, "two.ts"),
    'export const summary = "gives its argument count";\nexport const main = async (argv) => argv.length;\n',
  );
  writeFileSync(
    join(directory, "throws.ts"),
    'export const summary = "throws";\nexport const main = async () => { throw new TypeError("planted"); };\n',
  );
  vi.spyOn(console, "log").mockImplementation((line: string) => void out.push(line));
  vi.spyOn(console, "error").mockImplementation((line: string) => void err.push(line));
});

afterEach(() => {
  vi.restoreAllMocks();
  rmSync(directory, { recursive: true });
  out.length = 0;
  err.length = 0;
});

const run = (...argv: string[]) => runProgram("bench", "What they are.", directory, argv);

describe("the programs of a folder", () => {
  test("without a name they are listed and the usage is bad", async () => {
    expect(await run()).toBe(2);
    expect(out.join("\n")).toContain("  two     gives its argument count");
    expect(out.join("\n")).not.toContain("  run ");
  });

  test("--json lists them as data", async () => {
    expect(await run("--json")).toBe(0);
    expect(JSON.parse(out.join("\n"))).toEqual([
      { name: "throws", summary: "throws" },
      { name: "two", summary: "gives its argument count" },
    ]);
  });

  test("a name runs the program with the rest and takes its exit code", async () => {
    expect(await run("two", "--a", "--b", "c")).toBe(3);
  });

  test("an unknown name is refused with the names that there are", async () => {
    expect(await run("../two")).toBe(2);
    expect(err.join("\n")).toContain("expected one of throws, two");
  });

  test("a program that throws is a failure with its stack", async () => {
    expect(await run("throws")).toBe(1);
    expect(err.join("\n")).toContain("planted");
    expect(err.join("\n")).toContain("throws.ts");
  });
});
