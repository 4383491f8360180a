/** `isochrone zone check`: exit codes and what it prints. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { main } from "../../../cli/zone.ts";

let directory = "";
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "isochrone-zone-"));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

async function check(text: string, ...options: readonly string[]) {
  const file = join(directory, "zone");
  writeFileSync(file, text);
  const log = vi.spyOn(console, "log").mockImplementation(() => {});
  try {
    const code = await main(["check", file, ...options]);
    return { code, output: log.mock.calls.map(([line]) => String(line).replaceAll(file, "FILE")) };
  } finally {
    log.mockRestore();
  }
}

const SOUND =
  "$TTL 300\n@ SOA ns h 7 7200 1800 1209600 60\n@ NS ns\n@ NS ns2\nns A 203.0.113.1\nns2 A 203.0.113.2\n";

describe("zone check", () => {
  it("0 for a sound zone", async () => {
    expect(await check(SOUND, "--origin", "example.com")).toEqual({
      code: 0,
      output: ["example.com. serial 7: 5 records at 3 names; 0 errors, 0 warnings"],
    });
  });

  it("1 for errors, each with its line", async () => {
    const { code, output } = await check(`${SOUND}@ MX 1 ns3\n`, "--origin", "example.com", "--serial", "6");
    expect(code).toBe(1);
    expect(output[0]).toBe(
      "FILE:7: error: example.com. MX: ns3.example.com. has no address in this zone [target-without-address]",
    );
  });

  it("--json is one document", async () => {
    const { output } = await check(SOUND, "--origin", "example.com", "--serial", "8", "--json");
    const report = JSON.parse(output.join("")) as { origin: string; findings: readonly { rule: string }[] };
    expect([report.origin, report.findings.map(({ rule }) => rule)]).toEqual([
      "example.com.",
      ["serial-not-newer"],
    ]);
  });

  it("refuses what cannot be served, and bad usage", async () => {
    const origin = ["--origin", "example.com"];
    await expect(check(`${SOUND}x A 1.2.3\n`, ...origin)).rejects.toThrow(
      /zone:7:5: got "1\.2\.3", expected an IPv4 address/,
    );
    await expect(check(`${SOUND}ns CNAME x\n`, ...origin)).rejects.toThrow(
      /zone:7: ns\.example\.com\. CNAME: expected a CNAME alone/,
    );
    await expect(check(SOUND, "--origin", "a..b")).rejects.toThrow(/--origin: got "a\.\.b"/);
    await expect(main(["check"])).rejects.toThrow(/takes one file/);
    await expect(main(["set", "x", "www", "A"])).rejects.toThrow(/zone set takes 4 words or more/);
    await expect(main(["list", "--ttl", "5"])).rejects.toThrow(/zone list takes no --ttl/);
    await expect(main(["mend"])).rejects.toThrow(/no action "mend"/);
  });
});
