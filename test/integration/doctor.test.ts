/** `isochrone doctor` on a host of its own: what it applies reaches the sockets of the ports that were named, and no others. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { main } from "../../cli/doctor.ts";
import { WideAreaNetwork, whyNoNetwork } from "../wan/network.ts";
import { receive, startSender } from "../wan/transfers.ts";

const reason = whyNoNetwork();
if (reason !== undefined) console.warn(`doctor.test.ts is skipped: ${reason}`);
const COMMAND = join(import.meta.dirname, "..", "..", "cli", "isochrone.js");

interface Check {
  readonly name: string;
  readonly state: string;
}

describe.skipIf(reason !== undefined)("isochrone doctor", () => {
  let network: WideAreaNetwork;
  beforeAll(async () => {
    network = await WideAreaNetwork.start({ hosts: ["here", "there"] });
    await network.setCongestionControl("here", "cubic");
    await network.setLinks("here", "there", { delayMs: 2 });
  });
  afterAll(() => network.stop());

  /** The open files are the machine's, not the host's. */
  const doctor = async (...argv: string[]): Promise<Check[]> => {
    const command = [COMMAND, "doctor", ...argv, "--json"];
    const stdout = await network.run("here", process.execPath, command).catch((error: unknown) => {
      const { code, stdout: text } = error as { code?: number; stdout?: string };
      if (code === 1 && text !== undefined) return text;
      throw error;
    });
    const { checks } = JSON.parse(stdout) as { checks: Check[] };
    return checks.filter(({ name }) => name !== "open files");
  };
  const controlsOf = async (port: number): Promise<string> =>
    network.run("here", "ss", ["-tinH", `sport = :${port}`]);

  it("finds a plain host wanting, mends it for the named port alone, and takes it back", async () => {
    const before = await doctor("--ports", "5001");
    expect(before.find(({ name }) => name === "IPv4 routes")?.state).toBe("wrong");
    const after = await doctor("--ports", "5001", "--apply");
    expect(after.filter(({ state }) => state !== "ok")).toEqual([]);

    const [ours, another] = await Promise.all([
      startSender(network, "here", 5001),
      startSender(network, "here", 5002),
    ]);
    try {
      const transfers = [receive(network, "there", ours, 3), receive(network, "there", another, 3)];
      const seen = async (port: number): Promise<string> => {
        for (;;) {
          const text = await controlsOf(port);
          if (text.includes("bytes_sent:")) return text;
        }
      };
      expect(await seen(5001)).toMatch(/\bbbr\b/);
      expect(await seen(5002)).toMatch(/\bcubic\b/);
      for (const { wrong, bytes } of await Promise.all(transfers)) {
        expect(wrong).toBe(0);
        expect(bytes).toBeGreaterThan(0);
      }
    } finally {
      await Promise.all([ours.stop(), another.stop()]);
    }

    await network.run("here", process.execPath, [COMMAND, "doctor", "--undo"]);
    expect(await network.run("here", "ip", ["rule"])).not.toContain("7400");
    const undone = await doctor("--ports", "5001");
    expect(undone.filter(({ state }) => state === "wrong").map(({ name }) => name)).toEqual([
      "IPv4 rules",
      "IPv4 routes",
    ]);
  });
});

it.each([
  [["--ports", "0"], "--ports: got"],
  [["--ports", "1,x"], "--ports: got"],
  [["--apply", "--undo"], "exclude each other"],
  [["--undo", "--ports", "5"], "has no --ports"],
])("%j is bad usage", async (argv, message) => {
  await expect(main(argv)).rejects.toThrow(message);
  await expect(main(argv)).rejects.toMatchObject({ exitCode: 2 });
});
