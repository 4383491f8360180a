import { describe, expect, test } from "vitest";
import { ParseError } from "#kit";
import { FaultSwitch, faultSchema } from "../../../origin-sim/core/faults.ts";
import { parseScript, ScriptError } from "../../../origin-sim/core/script.ts";

const limits = { objectBytesMax: 1_000_000, delayMsMax: 60_000 };
const parse = (path: string, query = "") => parseScript(path, query, limits);

describe("steps of a path", () => {
  test.each([
    ["/a/b.css", { terminal: { kind: "content", path: "/a/b.css" }, status: null }],
    ["/status/503", { terminal: { kind: "content", path: "/" }, status: 503 }],
    [
      "/delay/500/status/404/a.html",
      { terminal: { kind: "content", path: "/a.html" }, status: 404, delayMs: 500 },
    ],
    ["/chunked/bytes/1024", { terminal: { kind: "bytes", length: 1_024 }, isChunked: true }],
    ["/reset", { resetAfterBytes: 0 }],
    [
      "/reset/1000/file-1MiB.bin",
      { resetAfterBytes: 1_000, terminal: { kind: "content", path: "/file-1MiB.bin" } },
    ],
    ["/reset/a.html", { resetAfterBytes: 0, terminal: { kind: "content", path: "/a.html" } }],
    ["/slow/2048/bytes/10", { bytesPerSecond: 2_048 }],
    ["/vary/Accept-Language/vary/x-a/a.html", { varyBy: ["accept-language", "x-a"] }],
    ["/echo", { terminal: { kind: "echo" } }],
    ["/echo/not", { terminal: { kind: "content", path: "/echo/not" } }],
    ["/status.html", { terminal: { kind: "content", path: "/status.html" }, status: null }],
    ["/statuses/1", { terminal: { kind: "content", path: "/statuses/1" } }],
    ["/hang", { terminal: { kind: "hang" } }],
    ["/serial", { terminal: { kind: "serial" } }],
  ])("%s", (path, expected) => {
    expect(parse(path)).toMatchObject(expected);
  });

  test.each([
    "/status/99",
    "/status/600",
    "/status",
    "/delay/60001",
    "/delay/x",
    "/bytes/1000001",
    "/vary/content-length/a",
    "/vary//a",
    "/chunked".repeat(20),
  ])("%s is refused", (path) => {
    expect(() => parse(path)).toThrow(ScriptError);
  });
});

describe("query", () => {
  test("changes what is sent and leaves other parameters alone", () => {
    const script = parse(
      "/a.css",
      "v=3&cc=max-age%3D5&tags=a,b%20c&validators=0&h=X-A:%20b&h=X-B:c&delay=7&status=404",
    );
    expect(script).toMatchObject({
      cacheControl: "max-age=5",
      tags: ["a", "b", "c"],
      hasValidators: false,
      fields: [
        ["X-A", "b"],
        ["X-B", "c"],
      ],
      delayMs: 7,
      status: 404,
    });
    expect(parse("/a.css", "v=3").terminal).toEqual({ kind: "content", path: "/a.css" });
  });

  test.each([
    "h=Content-Length:5",
    "h=Transfer-Encoding:chunked",
    "h=X-A:a%0d%0aX-B:b",
    "h=novalue",
    "h=:x",
    "cc=a%00b",
    "status=1000",
  ])("%s is refused", (query) => {
    expect(() => parse("/a.css", query)).toThrow(ScriptError);
  });
});

describe("faults", () => {
  test("a fault meets the requests it is about, so often as it says", () => {
    const faults = new FaultSwitch();
    expect(faults.meets("a.example", "/x")).toBeUndefined();
    faults.set(
      faultSchema.parse({
        kind: "status",
        status: 503,
        pathPrefix: "/x",
        hostname: "a.example",
        requests: 2,
      }),
    );
    expect(faults.meets("a.example", "/y")).toBeUndefined();
    expect(faults.meets("b.example", "/x")).toBeUndefined();
    expect(faults.meets("a.example", "/x")?.status).toBe(503);
    expect(faults.meets("a.example", "/x/1")?.kind).toBe("status");
    expect(faults.meets("a.example", "/x")).toBeUndefined();
    expect(faults.current.requestsMet).toBe(2);
    faults.set({ kind: null });
    expect(faults.meets("a.example", "/x")).toBeUndefined();
  });

  test("a share of requests is drawn, the same ones each time", () => {
    const draw = () => {
      const faults = new FaultSwitch();
      faults.set(faultSchema.parse({ kind: "reset", ratio: 0.3 }));
      return Array.from({ length: 1_000 }, () => faults.meets("a", "/") !== undefined);
    };
    const met = draw();
    expect(met).toEqual(draw());
    expect(met.filter(Boolean).length).toBeGreaterThan(250);
    expect(met.filter(Boolean).length).toBeLessThan(350);
  });

  test.each([
    [{ kind: "boom" }, "kind: got"],
    [{}, "kind: got nothing"],
    [{ kind: "status" }, "status: got nothing, expected a value, because kind is status"],
    [{ kind: "hang", status: 503 }, "status: got 503, expected no value unless kind is status"],
    [{ kind: "status", status: 200 }, "status: got 200, expected a whole number from 400 to 599"],
    [{ kind: "hang", ratio: 2 }, "ratio: got 2"],
    [{ kind: "hang", forever: true }, "forever: got true, expected no such key"],
  ])("%j is refused", (value, message) => {
    expect(() => faultSchema.parse(value)).toThrow(ParseError);
    expect(() => faultSchema.parse(value)).toThrow(message);
  });
});
