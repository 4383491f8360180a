import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { dataDirectory, requireProgram, waitFor } from "../../tools/processes.ts";

describe("waitFor", () => {
  test("returns the first value that is neither undefined nor false, past failures", async () => {
    let calls = 0;
    const value = await waitFor(
      () => {
        calls += 1;
        if (calls === 1) throw new Error("not yet");
        if (calls === 2) return undefined;
        return calls === 3 ? false : calls;
      },
      { timeoutMs: 5_000, what: "the fourth call", intervalMs: 1 },
    );
    expect(value).toBe(4);
  });

  test("counts 0 and the empty string as values", async () => {
    expect(await waitFor(() => 0, { timeoutMs: 10, what: "zero" })).toBe(0);
    expect(await waitFor(() => "", { timeoutMs: 10, what: "nothing" })).toBe("");
  });

  test("names what it waited for, and why the last try failed", async () => {
    const cause = new Error("refused");
    const probe = () => Promise.reject<boolean>(cause);
    const waiting = waitFor(probe, { timeoutMs: 5, what: "the port", intervalMs: 1 });
    await expect(waiting).rejects.toMatchObject({ message: "Waited 5 ms in vain for the port", cause });
  });
});

describe("requireProgram and dataDirectory", () => {
  let directory = "";

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "isochrone-tools-"));
    writeFileSync(join(directory, "digger"), "#!/bin/sh\n");
    writeFileSync(join(directory, "notes"), "");
    chmodSync(join(directory, "digger"), 0o755);
    vi.stubEnv("PATH", directory);
    vi.stubEnv("CI", "");
  });

  afterEach(() => {
    vi.unstubAllEnvs();
    vi.restoreAllMocks();
    rmSync(directory, { recursive: true, force: true });
  });

  test("a program is found under any of its names", () => {
    expect(requireProgram("other-digger", "digger")).toBe(join(directory, "digger"));
  });

  test("a file that is not a program is no program; the line says what is missing", () => {
    const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
    expect(requireProgram("notes", "notes-2")).toBeUndefined();
    expect(warn).toHaveBeenCalledExactlyOnceWith(
      'skipped: "notes" or "notes-2" is not in PATH: install it to run this suite',
    );
  });

  test("in CI a missing program is an error, so that no suite skips silently", () => {
    vi.stubEnv("CI", "true");
    expect(() => requireProgram("notes")).toThrow('"notes" is not in PATH');
  });

  test("data are looked for where ISOCHRONE_DATA says", () => {
    vi.stubEnv("ISOCHRONE_DATA", directory);
    expect(dataDirectory()).toBe(directory);
    vi.stubEnv("ISOCHRONE_DATA", join(directory, "missing"));
    expect(dataDirectory()).toBeUndefined();
  });
});
