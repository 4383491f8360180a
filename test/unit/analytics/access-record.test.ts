import { describe, expect, test } from "vitest";
import { accessRecord, recordedPath, toAccessRecord, truncatedAddress } from "#analytics";
import { recordOf } from "./records.ts";

describe("privacy", () => {
  test.each([
    ["198.18.1.77", "198.18.1.0"],
    ["::ffff:198.18.1.77", "198.18.1.0"],
    ["2001:db8:1:2::3", "2001:db8:1::"],
    ["not an address", null],
    [undefined, null],
  ])("the address %s is kept as %s", (full, kept) => {
    expect(truncatedAddress(full)).toBe(kept);
  });

  test.each([
    ["/a/b?token=secret", "/a/b"],
    ["/a#x?y", "/a"],
    ["/", "/"],
    ["", ""],
    [`/${"x".repeat(5_000)}`, `/${"x".repeat(1_023)}`],
  ])("of the target %s the path is kept", (target, kept) => {
    expect(recordedPath(target)).toBe(kept);
  });

  test("no query and no full address come through, and what is made is a record", () => {
    const { path: _path, clientAddress: _address, ...rest } = recordOf();
    const made = toAccessRecord({
      ...rest,
      target: "/login?password=hunter2",
      peerAddress: "198.18.7.9",
      method: "M".repeat(100),
      atEpochMs: 5.7,
    });
    expect(JSON.stringify(made)).not.toMatch(/hunter2|password|198\.18\.7\.9/);
    expect(accessRecord.parse(made)).toEqual(made);
    expect(made).toMatchObject({
      path: "/login",
      clientAddress: "198.18.7.0",
      atEpochMs: 6,
      method: "M".repeat(32),
    });
  });
});
