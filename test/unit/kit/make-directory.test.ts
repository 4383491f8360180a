import { existsSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { makeDirectory } from "../../../kit/io/mod.ts";

let base = "";
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), "isochrone-directory-"));
});
afterEach(() => {
  rmSync(base, { recursive: true });
});

test("makes what is missing, for this user only, and leaves what is there", () => {
  const path = join(base, "a", "b");
  makeDirectory(path);
  expect(statSync(path).mode & 0o777).toBe(0o700);
  expect(statSync(join(base, "a")).mode & 0o777).toBe(0o700);
  makeDirectory(path);
  expect(statSync(path).isDirectory()).toBe(true);
});

test("a file in the way, or a link to nothing, is refused with the path that was asked for", () => {
  writeFileSync(join(base, "file"), "");
  symlinkSync(join(base, "nowhere"), join(base, "link"));
  for (const [path, code] of [
    [join(base, "file"), "EEXIST"],
    [join(base, "file", "x", "y"), "ENOTDIR"],
    [join(base, "link"), "EEXIST"],
  ] as const) {
    expect(() => makeDirectory(path)).toThrow(
      `Cannot make the directory ${JSON.stringify(path)}: a part of the path is a file; choose another place (${code})`,
    );
  }
});

// mkdir's own `recursive` never returns there.
test.runIf(existsSync("/proc/self"))(
  "a place that takes no directories is refused, not tried for ever",
  () => {
    expect(() => makeDirectory("/proc/isochrone/state")).toThrow(
      'Cannot make the directory "/proc/isochrone/state": no directory can be made there; choose another place (ENOENT)',
    );
  },
);
