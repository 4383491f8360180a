/** The emulated wide-area network does what it is told, seen by the kernel's own TCP and ICMP. */
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { WideAreaNetwork, whyNoNetwork, type LinkStats } from "../wan/network.ts";
import { ping } from "../wan/pings.ts";
import { receive, startSender } from "../wan/transfers.ts";

const reason = whyNoNetwork();
if (reason?.startsWith("not on PATH") === true && (process.env["CI"] ?? "") !== "")
  throw new Error(`${reason}: install it, CI runs every suite`);
if (reason !== undefined) console.warn(`wan.test.ts is skipped: ${reason}`);

const HOSTS = ["ams", "bru", "cdg", "dub", "ewr", "fra", "gru", "hkg", "iad", "jnb", "kix", "lhr"];

function linkOf(links: readonly LinkStats[], from: string, to: string): LinkStats {
  const link = links.find((one) => one.from === from && one.to === to);
  if (link === undefined) throw new Error(`nothing crossed ${from} -> ${to}`);
  return link;
}

function namespaces(): string[] {
  return readdirSync("/run/netns").filter((name) => name.startsWith(`isowan${process.pid}-`));
}

describe.skipIf(reason !== undefined)("a wide-area network of twelve hosts", () => {
  let network: WideAreaNetwork;
  beforeAll(async () => {
    network = await WideAreaNetwork.start({ hosts: HOSTS, seed: 7 });
  });
  afterAll(() => network.stop());
  beforeEach(async () => {
    await network.stats(true);
  });
  afterEach(async () => {
    await network.setLinks("ams", "bru", { delayMs: 0 });
  });

  it("has the round trips of its matrix, within 1 ms or 2 %", async () => {
    // Each direction its own delay, so that a mix-up of the two would show.
    const oneWayMs = (from: number, to: number): number => 2 + 7 * from + 3 * to;
    for (const [i, from] of HOSTS.entries())
      for (const [j, to] of HOSTS.entries())
        if (i !== j) await network.setLink(from, to, { delayMs: oneWayMs(i, j) });
    for (const [i, j] of [
      [0, 1],
      [1, 0],
      [2, 9],
      [11, 10],
      [5, 0],
    ] as const) {
      const wantedMs = oneWayMs(i, j) + oneWayMs(j, i);
      // The least of some: other work on this machine may wake the forwarder late, it never wakes early.
      const { rttMsMin } = await ping(network, HOSTS[i]!, HOSTS[j]!);
      expect(rttMsMin, `${HOSTS[i]} and ${HOSTS[j]}`).toBeGreaterThanOrEqual(wantedMs - 0.01);
      expect(rttMsMin).toBeLessThanOrEqual(wantedMs + Math.max(1, wantedMs * 0.02));
    }
  });

  it.each([
    ["alone", {}, 1],
    ["in runs of four packets", { burstPackets: 4 }, 4],
  ])("loses the asked share of packets, %s", async (_, runs, meanRun) => {
    const lossRatio = 0.1;
    await network.setLink("ams", "bru", { delayMs: 0, lossRatio, ...runs });
    await network.run("ams", "ping", ["-q", "-f", "-c", "1500", "-i", "0", network.addressOf("bru")]);
    const there = linkOf((await network.stats()).links, "ams", "bru");
    expect(there.packets).toBe(1_500);
    // Five standard deviations of the mean; runs of n have about (2n - 1) times the variance of single losses.
    const deviation = Math.sqrt((lossRatio * (1 - lossRatio) * (2 * meanRun - 1)) / there.packets);
    expect(Math.abs(there.lost / there.packets - lossRatio)).toBeLessThan(5 * deviation);
    expect(linkOf((await network.stats()).links, "bru", "ams").lost).toBe(0);
  });

  it("cuts one direction and heals it", async () => {
    await network.cut("bru", "ams");
    expect(await ping(network, "ams", "bru", { count: 3 })).toMatchObject({ sent: 3, received: 0 });
    const { links } = await network.stats();
    expect(linkOf(links, "ams", "bru")).toMatchObject({ packets: 3, cutDrops: 0 });
    expect(linkOf(links, "bru", "ams")).toMatchObject({ packets: 0, cutDrops: 3 });
    await network.heal("bru", "ams");
    expect(await ping(network, "ams", "bru", { count: 3 })).toMatchObject({ received: 3 });
  });

  it("carries TCP intact through loss, never faster than the rate of a link or of a host's access", async () => {
    const sender = await startSender(network, "ams");
    try {
      await network.setLink("ams", "bru", { delayMs: 5, lossRatio: 0.01, rateMbit: 40 });
      await network.setLink("bru", "ams", { delayMs: 5, lossRatio: 0.01 });
      const over = await receive(network, "bru", sender, 1.5);
      expect(over.wrong).toBe(0);
      expect(over.bytes).toBeGreaterThan(200_000);
      expect(over.mbit).toBeLessThan(40);
      expect(linkOf((await network.stats()).links, "ams", "bru").lost).toBeGreaterThan(0);

      await network.setLinks("ams", "bru", { delayMs: 5 });
      await network.setAccess("bru", { downMbit: 10, queueBytes: 64 * 1024 });
      const access = await receive(network, "bru", sender, 1);
      expect(access).toMatchObject({ wrong: 0 });
      expect(access.mbit).toBeLessThan(10);
      expect(access.bytes).toBeGreaterThan(100_000);
    } finally {
      await network.setAccess("bru", {});
      await sender.stop();
    }
  });

  it("refuses what it cannot do, and goes on", async () => {
    await expect(network.setLink("ams", "nowhere", { delayMs: 1 })).rejects.toThrow(
      "a link has two different hosts",
    );
    await expect(network.setLink("ams", "bru", { delayMs: -1 })).rejects.toThrow(
      "delayMs: got -1, expected 0 to 10000",
    );
    await expect(network.setLink("ams", "bru", { delayMs: 1, lossRatio: 1.4 })).rejects.toThrow(
      "lossRatio: got 1.4",
    );
    expect(() => network.addressOf("nowhere")).toThrow('got "nowhere"');
    await expect(WideAreaNetwork.start({ hosts: ["a", "a"] })).rejects.toThrow("each once");
    await expect(WideAreaNetwork.start({ hosts: ["a b"] })).rejects.toThrow('got "a b"');
    expect(await ping(network, "ams", "bru", { count: 2 })).toMatchObject({ received: 2 });
  });
});

describe.skipIf(reason !== undefined)("what a network leaves behind", () => {
  it("is nothing", async () => {
    const network = await WideAreaNetwork.start({ hosts: ["a", "b"] });
    expect(namespaces().length).toBeGreaterThanOrEqual(2);
    await network.stop();
    expect(namespaces()).toEqual([]);
    await expect(network.setLinks("a", "b", { delayMs: 1 })).rejects.toThrow("has ended");
  });

  it("is swept up by the next one where a run was killed", async () => {
    // Process ids above the kernel's limit belong to nobody.
    execFileSync("ip", ["netns", "add", "isowan99999999-0-0"]);
    const network = await WideAreaNetwork.start({ hosts: ["a", "b"] });
    try {
      expect(readdirSync("/run/netns")).not.toContain("isowan99999999-0-0");
    } finally {
      await network.stop();
    }
  });
});
