import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { IsochroneError } from "#kit";
import { BearerGate, formatListenAddress, parseListenAddress, readWorldText, stopSignal } from "#kit/io";

describe("parseListenAddress", () => {
  it.each([
    ["127.0.0.1:8080", "127.0.0.1", 8080],
    ["0.0.0.0:0", "0.0.0.0", 0],
    ["[::1]:65535", "::1", 65_535],
    ["[::ffff:192.0.2.1]:53", "::ffff:192.0.2.1", 53],
  ])("%s is %s and %i, and back", (text, host, port) => {
    expect(parseListenAddress(text)).toEqual({ host, port });
    expect(formatListenAddress({ host, port })).toBe(text);
  });

  it.each([
    "",
    "8080",
    ":8080",
    "127.0.0.1",
    "127.0.0.1:",
    "127.0.0.1:65536",
    "127.0.0.1:8080 ",
    "127.0.0.1:+80",
    "127.0.0.1:808080",
    "256.0.0.1:80",
    "127.1:80",
    "localhost:80",
    "::1:80",
    "[::1]80",
    "[127.0.0.1]:80",
    "[fe80::1%lo]:80",
    "[::1]:80\n",
  ])("refuses %j", (text) => expect(parseListenAddress(text)).toBeUndefined());
});

describe("BearerGate", () => {
  const gate = new BearerGate("s3cret-token");

  it.each(["Bearer s3cret-token", "bearer s3cret-token", "BEARER   s3cret-token "])(
    "opens for %j",
    (field) => {
      expect(gate.judge(field)).toBe("granted");
      expect(gate.opensFor(field)).toBe(true);
    },
  );

  it.each([
    [undefined, "absent"],
    ["", "absent"],
    ["Bearer", "absent"],
    ["Bearer ", "absent"],
    ["Basic s3cret-token", "absent"],
    ["s3cret-token", "absent"],
    ["Bearer s3cret token", "absent"],
    ["Bearer s3cret-toke", "wrong"],
    ["Bearer s3cret-token1", "wrong"],
    ["Bearer S3CRET-TOKEN", "wrong"],
    [`Bearer ${"x".repeat(10_000)}`, "absent"],
  ])("stays shut for %j: %s", (field, verdict) => {
    expect(gate.judge(field)).toBe(verdict);
    expect(gate.opensFor(field)).toBe(false);
  });

  it.each([undefined, ""])("opens for nobody when the token is %j", (token) => {
    const shut = new BearerGate(token);
    for (const field of [undefined, "", "Bearer ", "Bearer undefined", "Bearer x"])
      expect(shut.opensFor(field)).toBe(false);
  });
});

describe("stopSignal", () => {
  it("resolves with the first signal and then leaves that signal to the system", async () => {
    const before = process.listenerCount("SIGTERM");
    const stopped = stopSignal();
    expect(process.listenerCount("SIGTERM")).toBe(before + 1);
    process.emit("SIGTERM", "SIGTERM");
    process.emit("SIGINT", "SIGINT");
    expect(await stopped).toBe("SIGTERM");
    expect(process.listenerCount("SIGTERM")).toBe(before);
  });
});

describe("readWorldText", () => {
  it("gives the text, and names a file that is not there", () => {
    const directory = mkdtempSync(join(tmpdir(), "isochrone-kit-"));
    try {
      const path = join(directory, "world.yaml");
      expect(() => readWorldText(path)).toThrow(IsochroneError);
      expect(() => readWorldText(path)).toThrow(
        `Cannot read ${JSON.stringify(path)}: no such file; name a world`,
      );
      writeFileSync(path, "name: São Paulo\n");
      expect(readWorldText(path)).toBe("name: São Paulo\n");
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
