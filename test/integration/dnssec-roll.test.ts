/** `isochrone dnssec` against a control whose clock is ours: a zone is signed, delegated, rolled; a validator follows each step. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { type ControlClient, ControlClient as Client, loadControlServer } from "#control";
import { dnssecDocument, type EpochMs, type MonotonicMs, type ZoneDocument, zoneDocument } from "#kit";
import { createLogger } from "#kit/io";
import { DnsCounters, DnsServer, DnsState, ParentWatch } from "#mapping";
import { main as dnssec } from "../../cli/dnssec.ts";
import { UsageError } from "../../cli/usage.ts";
import { requireProgram } from "../tools/processes.ts";
import { idleReport } from "../tools/server-report.ts";
import { ValidatingResolver } from "../tools/validating-resolver.ts";
import { properties, snapshot, topology } from "../unit/mapping-dns/fixture.ts";

const { ControlServer, MemoryStore } = await loadControlServer();
const token = "test-token-0123456789";
const peerKey = "5a".repeat(32);
const unbound = requireProgram("unbound");
const dig = requireProgram("dig");
const logger = createLogger({ role: "test", id: "dnssec" }, { level: "silent" });

let nowMs = Date.now();
const clock = { epoch: () => nowMs as EpochMs, monotonic: () => nowMs as MonotonicMs };
const control = new ControlServer({ store: new MemoryStore({ logId: "roll" }), token, clock, logger });
const state = new DnsState(() => true, Buffer.from(peerKey, "hex"));
let url = "";
let client: ControlClient;
let server: DnsServer;

beforeAll(async () => {
  url = await control.listen("127.0.0.1", 0);
  client = new Client({ url, token, nodeId: "test", logger });
  await client.put("topology", "test", topology, {
    expectedVersion: 0,
    note: "",
    author: "",
    activate: true,
  });
  state.setTopology(topology, 1);
  for (const property of properties) state.setProperty(property, 1);
  state.setMap(snapshot);
  server = await DnsServer.listen({
    address: "127.0.0.1",
    port: 0,
    context: () => state.context(),
    counters: new DnsCounters(),
    logger,
  });
});
afterAll(async () => {
  await server.close();
  await client.close();
  await control.close();
});
afterEach(() => vi.unstubAllEnvs());

async function command(...args: string[]): Promise<{ code: number; said: string }> {
  vi.stubEnv("ISOCHRONE_CONTROL_TOKEN", token);
  vi.stubEnv("ISOCHRONE_PEER_KEY", peerKey);
  const lines: string[] = [];
  const said = vi.spyOn(console, "log").mockImplementation((line: string) => void lines.push(line));
  try {
    const code = await dnssec([...args, "--control", url]);
    return { code, said: lines.join("\n") };
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return { code: error.exitCode, said: error.message };
  } finally {
    said.mockRestore();
  }
}

/** The version in force reaches the name servers, which say so; then time passes. */
async function pass(seconds: number, sayers = ["ns-1", "ns-2"]): Promise<string[]> {
  const record = await client.document("dnssec", "test");
  if (record === undefined) throw new Error("no keys");
  expect(state.setKeys(dnssecDocument.parse(record.body), record.version)).toEqual([]);
  for (const serverId of sayers)
    control.service.report(
      idleReport(serverId, { role: "nameserver", applied: { "dnssec/test": record.version } }),
    );
  control.service.keys.roll();
  nowMs += seconds * 1_000;
  return control.service.keys
    .roll()
    .flatMap(({ zone, taken }) => taken.map(({ step, keyId }) => `${zone} ${step} ${keyId}`));
}

const DAY = 86_400;

describe("isochrone dnssec", () => {
  it("signs a zone, and asks the parent for a DS when caches have forgotten the unsigned zone", async () => {
    expect((await command("status")).said).toBe("no zone is signed");
    expect(await command("sign", "elsewhere.test")).toMatchObject({ code: 1 });
    const made = await command("sign", "shop.example", "--json");
    const { ds } = JSON.parse(made.said) as { ds: string };
    expect(ds).toMatch(/^shop\.example\. IN DS \d+ 13 2 [0-9A-F]{64}$/);
    expect(await command("sign", "shop.example")).toMatchObject({ code: 1 });
    expect(await command("roll", "shop.example")).toMatchObject({ code: 1 });
    expect((await command("ds", "shop.example")).said).toContain("is to have none yet");
    expect(await pass(DAY + 301, ["ns-1"])).toEqual([]);
    expect((await command("status")).said).toMatch(/key-1 +\d+ +signs +delegate: ns-2/);
    expect(await pass(DAY - 1)).toEqual([]);
    expect(await pass(1)).toEqual(["shop.example delegate key-1"]);
    expect((await command("ds", "shop.example")).said).toBe(ds);
    const stored = await client.document("dnssec", "test");
    expect(JSON.stringify(stored)).not.toMatch(/PRIVATE KEY/);
    expect((await command("status", "--json")).said).not.toMatch(/sealed|v1\./);
  });

  it.skipIf(unbound === undefined || dig === undefined)(
    "sees the parent through a resolver, rolls step by step, and a validator that trusts the DS of the step finds no fault",
    { timeout: 60_000 },
    async () => {
      const anchors = async (): Promise<string[]> => (await command("ds", "shop.example")).said.split("\n");
      const validated = async (dsAtParent: readonly string[]): Promise<void> => {
        const resolver = await ValidatingResolver.start(
          {
            program: unbound ?? "",
            // The parent that there is: a zone of unbound's own.
            server: [
              ...dsAtParent.map((text) => `trust-anchor: "${text}"`),
              'local-zone: "parent.example." static',
            ],
            more: [
              "stub-zone:",
              '  name: "shop.example"',
              `  stub-addr: 127.0.0.1@${server.port}`,
              "  stub-prime: no",
            ],
          },
          dig ?? "",
        );
        try {
          for (const [name, type] of [
            ["www.shop.example", "A"],
            ["nope.shop.example", "A"],
            ["shop.example", "DNSKEY"],
          ] as const) {
            const said = await resolver.ask(name, type);
            expect([name, said.status !== "SERVFAIL", said.isAuthentic], said.text).toEqual([
              name,
              true,
              true,
            ]);
          }
        } finally {
          await resolver.stop();
        }
      };
      const [first = ""] = await anchors();
      await command("ds", "shop.example", "--seen");
      const rolled = await command("roll", "shop.example");
      expect(rolled.said.split("\n")).toContain(first);
      expect(await command("roll", "shop.example")).toMatchObject({ code: 1 });
      await pass(0);
      const both = await anchors();
      expect(both).toHaveLength(2);
      const second = both.find((text) => text !== first) ?? "";
      await validated([first]);
      expect(await pass(3_901)).toEqual(["shop.example activate key-2"]);
      await pass(0);
      await validated([first]);
      expect((await command("status")).said).toMatch(/retired.*the new DS at the parent/);
      await command("ds", "shop.example", "--seen");
      expect(await pass(DAY + 301)).toEqual(["shop.example undelegate key-1"]);
      expect(await anchors()).toEqual([second]);
      await pass(0);
      await validated(both);
      await command("ds", "shop.example", "--gone");
      expect(await pass(DAY + 301)).toEqual(["shop.example remove key-1"]);
      await pass(0);
      await validated([second]);
      expect((await command("status")).said).not.toContain("key-1");
      expect(control.service.keys.counters).toEqual({
        delegate: 1,
        activate: 1,
        undelegate: 1,
        remove: 1,
        unsign: 0,
      });
    },
  );

  it("asks a resolver what the parent has: our own server, which is one for a zone below", async () => {
    await command("sign", "sub.shop.example");
    expect(await pass(DAY + 301)).toEqual(["sub.shop.example delegate key-1"]);
    await pass(0);
    const { code, said } = await command(
      "ds",
      "sub.shop.example",
      "--check",
      `127.0.0.1:${server.port}`,
      "--json",
    );
    expect([code, JSON.parse(said)]).toMatchObject([0, { missing: [], needless: [] }]);
    const top = await command("ds", "shop.example", "--check", `127.0.0.1:${server.port}`);
    expect(top).toMatchObject({ code: 1 });
    expect(top.said).toContain("missing at the parent");
    expect(await command("ds", "shop.example", "--check", "127.0.0.1:1")).toMatchObject({ code: 1 });
    expect(await command("ds", "shop.example", "--check", "resolver")).toMatchObject({ code: 2 });
  });

  it.skipIf(dig === undefined)(
    "signs a customer's zone, tells what its parent has, and unsigns it: no DS before, no signatures after",
    async () => {
      const zone = "hosted.shop.example";
      const sets = [
        { name: "@", type: "SOA", ttlSeconds: 300, data: ["ns1.shop.example. h 1 7200 1800 1209600 60"] },
        { name: "@", type: "NS", ttlSeconds: 300, data: ["ns1.shop.example."] },
        { name: "www", type: "A", ttlSeconds: 2 * DAY, data: ["192.0.2.1"] },
      ];
      const body = zoneDocument.parse({ zoneId: "hosted", customerId: "acme", origin: zone, sets });
      const next = (expectedVersion: number) => ({
        expectedVersion,
        note: "",
        author: "",
        activate: true,
      });
      const put = (document: ZoneDocument, expectedVersion: number) =>
        client.put("zone", "hosted", document, next(expectedVersion));
      const asked = async (name: string, type: string) => {
        const args = ["@127.0.0.1", "-p", String(server.port), "+short", "+nosplit", "+dnssec", name, type];
        const { stdout } = await promisify(execFile)(dig ?? "", args);
        return stdout.split("\n").filter((line) => line !== "");
      };
      expect((await command("sign", zone)).said).toContain("isochrone zone list");
      const transfer = { keyName: "key.example" };
      await put(
        zoneDocument.parse({ zoneId: "hosted", customerId: "acme", origin: zone, sets, transfer }),
        0,
      );
      expect((await command("sign", zone)).said).toContain("would serve it without signatures");
      await put(body, 1);
      state.setZone(body, 2);
      const { ds } = JSON.parse((await command("sign", zone, "--json")).said) as { ds: string };
      // Nor may anybody fetch it from now on.
      await expect(client.put("zone", "hosted", { ...body, transfer }, next(2))).rejects.toThrow(/unsign/);
      expect(await pass(DAY + 301)).toEqual([]);
      expect(await pass(DAY)).toEqual([`${zone} delegate key-1`]);
      const record = await client.document("dnssec", "test");
      const keys = dnssecDocument.parse(record?.body);
      expect(keys.zones.find((one) => one.zone === zone)?.zoneTtlSecondsMax).toBe(2 * DAY);
      state.setKeys(keys, record?.version ?? 0);
      expect((await asked(zone, "CDS"))[0]).toBe(ds.split(" ").slice(3).join(" "));
      expect((await asked(zone, "DS"))[0]).toBe(ds.split(" ").slice(3).join(" "));
      // What a name server tells of it in its reports; the first resolver does not answer.
      const watch = new ParentWatch([
        { host: "127.0.0.1", port: 1 },
        { host: "127.0.0.1", port: server.port },
      ]);
      watch.setKeys(keys);
      await vi.waitFor(() => expect(watch.seen?.[zone]?.keyIds).toEqual(["key-1"]), 10_000);
      watch.close();
      await pass(0);

      expect(await command("unsign", zone)).toMatchObject({ code: 0 });
      expect(await command("unsign", zone)).toMatchObject({ code: 1 });
      expect(await command("roll", zone)).toMatchObject({ code: 1 });
      expect(await command("sign", zone)).toMatchObject({ code: 0 });
      await pass(0);
      expect((await asked(zone, "CDS"))[0]).toBe(ds.split(" ").slice(3).join(" "));
      await command("unsign", zone);
      await pass(0);
      expect((await asked(zone, "CDS"))[0]).toBe("0 0 0 00");
      expect((await asked(zone, "CDNSKEY"))[0]).toBe("0 3 0 AA==");
      expect(await asked(zone, "DS")).toEqual([]);
      expect((await command("ds", zone)).said).toContain("is to have none any more");
      expect(await asked(`www.${zone}`, "A")).toHaveLength(2);
      expect((await command("status")).said).toMatch(/hosted\.shop\.example .* signs, .* +unsign: /);
      await pass(0);
      expect(await pass(DAY + 301)).toEqual([`${zone} unsign key-1`]);
      await pass(0);
      expect(await asked(`www.${zone}`, "A")).toEqual(["192.0.2.1"]);
      expect((await command("status")).said).not.toContain(zone);
    },
  );

  it("tells of keys that do not open, by key, zone and cause", async () => {
    const record = await client.document("dnssec", "test");
    const blind = new DnsState(() => true, Buffer.alloc(32, 1));
    const problems = blind.setKeys(dnssecDocument.parse(record?.body), 1);
    expect(problems[0]).toMatch(
      /^Cannot open key "key-2" of zone "shop.example": it was sealed with another/,
    );
    expect(new DnsState(() => true).setKeys(dnssecDocument.parse(record?.body), 1)[0]).toContain(
      "is not set",
    );
  });
});
