import { describe, expect, it } from "vitest";
import { isOneTimeLabel, makeOneTimeLabel, oneTimeNonceBytes, readOneTimeLabel, RecentCounts } from "#kit";
import { labelMac } from "#kit/io";

const mac = labelMac(Buffer.alloc(16, 7));
const nonce = Uint8Array.from({ length: oneTimeNonceBytes }, (_, n) => 250 + n);
const label = makeOneTimeLabel(mac, "192.0.2.0", 1_800_000_000, nonce);

describe("a name that is asked for once", () => {
  it("is a label of a domain name that reads back what it was made of", () => {
    expect(label).toMatch(/^once-6b49d200fafbfcfdfeff[0-9a-f]{32}$/);
    expect(label).toHaveLength(57);
    expect(isOneTimeLabel(label)).toBe(true);
    const read = readOneTimeLabel(mac, label, 1_799_999_999);
    expect([read?.id, read?.expiresAtSeconds]).toEqual(["6b49d200fafbfcfdfeff", 1_800_000_000]);
    expect([read?.isOf("192.0.2.0"), read?.isOf("192.0.3.0")]).toEqual([true, false]);
  });

  it("ends", () => {
    expect(readOneTimeLabel(mac, label, 1_800_000_000)).toBeDefined();
    expect(readOneTimeLabel(mac, label, 1_800_000_001)).toBeUndefined();
  });

  it("cannot be made or altered by who has another key: any digit that is another one breaks the seal", () => {
    expect(readOneTimeLabel(labelMac(Buffer.alloc(16, 8)), label, 0)).toBeUndefined();
    for (let at = 5; at < label.length; at++) {
      const altered = label.slice(0, at) + (label[at] === "0" ? "1" : "0") + label.slice(at + 1);
      expect(isOneTimeLabel(altered), altered).toBe(true);
      expect(readOneTimeLabel(mac, altered, 0), altered).toBeUndefined();
    }
  });

  it.each([
    "",
    "once-",
    "fra",
    label.slice(0, -1),
    `${label}0`,
    label.toUpperCase(),
    label.replace("d", "g"),
  ])("%j is none", (text) => {
    expect(isOneTimeLabel(text)).toBe(false);
    expect(readOneTimeLabel(mac, text, 0)).toBeUndefined();
  });
});

describe("what was seen of late", () => {
  it("is counted, and forgotten when as many others have come since, twice over at most", () => {
    const recent = new RecentCounts(2);
    expect(["a", "a", "b", "a"].map((key) => recent.count(key))).toEqual([1, 2, 1, 3]);
    // A third key begins another generation; what comes again moves over to it.
    expect(["c", "a", "d", "a", "b"].map((key) => recent.count(key))).toEqual([1, 4, 1, 5, 1]);
  });
});
