import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { checkKernel, type KernelCheck, type KernelFacts, overlaySysctls, undoSteps } from "#transport";

const good = new Map([
  ["net.ipv4.tcp_slow_start_after_idle", "0"],
  ["net.ipv4.tcp_allowed_congestion_control", "reno cubic bbr"],
  ["net.ipv4.tcp_rmem", "4096\t131072\t33554432"],
  ["net.ipv4.tcp_wmem", "4096 16384 16777216"],
  ["net.core.somaxconn", "4096"],
]);
const route = { dst: "default", gateway: "192.0.2.1", dev: "eth0", metric: 100 };
const link = { dst: "192.0.2.0/24", dev: "eth0", scope: "link", prefsrc: "192.0.2.2" };
const metrics = [{ initcwnd: 32, rto_min: 40, congestion: "bbr" }];
const rule = (end: { sport?: number; dport?: number }) => ({
  priority: 7400,
  ipproto: "tcp",
  table: "7400",
  ...end,
});
const facts: KernelFacts = {
  sysctls: good,
  availableControls: "reno cubic bbr",
  families: [
    {
      family: 4,
      main: [route, link],
      overlay: [
        { ...route, metrics },
        { ...link, metrics },
      ],
      rules: [{ priority: 0, table: "local" }, rule({ sport: 8443 }), rule({ dport: 8443 })],
    },
  ],
  openFilesMax: 65_536,
};
const family = (change: Partial<KernelFacts["families"][number]>): KernelFacts => ({
  ...facts,
  families: [{ ...facts.families[0]!, ...change }],
});
const named = (checks: readonly KernelCheck[], name: string): KernelCheck => {
  const found = checks.find((one) => one.name === name);
  if (found === undefined) throw new Error(`no check ${name}`);
  return found;
};

describe("a machine that is set as it should be", () => {
  test("passes whole, and nothing is to be done", () => {
    const checks = checkKernel(facts, [8443]);
    expect(checks.map(({ name, state }) => `${name} ${state}`)).toEqual([
      ...overlaySysctls.map(({ name }) => `${name} ok`),
      "open files ok",
      "bbr ok",
      "IPv4 rules ok",
      "IPv4 routes ok",
    ]);
    expect(checks.flatMap(({ steps }) => steps)).toEqual([]);
  });

  test("without ports is not asked for rules, routes or bbr", () => {
    expect(checkKernel(family({ rules: [], overlay: [] }), []).every(({ state }) => state === "ok")).toBe(
      true,
    );
  });
});

describe("what is wrong is named with what mends it", () => {
  test.each([
    ["net.ipv4.tcp_slow_start_after_idle", "1", "0"],
    ["net.ipv4.tcp_allowed_congestion_control", "reno", "reno bbr cubic"],
    ["net.ipv4.tcp_rmem", "4096 87380 6291456", "4096 87380 16777216"],
    ["net.core.somaxconn", "128", "4096"],
  ])("%s = %s", (name, found, value) => {
    const check = named(checkKernel({ ...facts, sysctls: new Map([...good, [name, found]]) }, []), name);
    expect(check).toMatchObject({ state: "wrong", steps: [["sysctl", "-q", "-w", `${name}=${value}`]] });
  });

  test("a setting that cannot be read is unknown, not wrong", () => {
    const checks = checkKernel({ ...facts, sysctls: new Map(), openFilesMax: undefined }, []);
    expect(new Set(checks.map(({ state }) => state))).toEqual(new Set(["unknown"]));
    expect(checks.flatMap(({ steps }) => steps)).toEqual([]);
  });

  test("rules: the missing are added, those of other ports taken away, others' left alone", () => {
    const rules = [
      rule({ sport: 8443 }),
      rule({ sport: 99 }),
      { priority: 5, ipproto: "tcp", sport: 7, table: "9" },
    ];
    expect(named(checkKernel(family({ rules }), [8443]), "IPv4 rules").steps).toEqual([
      "ip -4 rule add ipproto tcp dport 8443 lookup 7400 pref 7400".split(" "),
      "ip -4 rule del ipproto tcp sport 99 lookup 7400 pref 7400".split(" "),
    ]);
  });

  test("routes: each of main has a twin with our metrics; what main has no more goes", () => {
    const overlay = [
      { ...route, metrics: [{ initcwnd: 10, rto_min: 40, congestion: "bbr" }] },
      { ...link, dst: "198.51.100.0/24", metrics },
    ];
    expect(named(checkKernel(family({ overlay }), [8443]), "IPv4 routes").steps).toEqual([
      "ip -4 route replace table 7400 default via 192.0.2.1 dev eth0 metric 100 congctl bbr initcwnd 32 rto_min 40ms".split(
        " ",
      ),
      "ip -4 route replace table 7400 192.0.2.0/24 dev eth0 scope link src 192.0.2.2 congctl bbr initcwnd 32 rto_min 40ms".split(
        " ",
      ),
      "ip -4 route del table 7400 198.51.100.0/24 dev eth0 scope link src 192.0.2.2".split(" "),
    ]);
  });

  test("routes with several next hops are left to a person", () => {
    const check = named(
      checkKernel(family({ main: [{ dst: "default", nexthops: [] }] }), [8443]),
      "IPv4 routes",
    );
    expect(check).toMatchObject({ state: "unknown", steps: [] });
    expect(check.advice).toContain("nexthop");
  });
});

test("undoing takes our rules and our table, nothing else", () => {
  expect(undoSteps(facts)).toEqual([
    "ip -4 rule del ipproto tcp sport 8443 lookup 7400 pref 7400".split(" "),
    "ip -4 rule del ipproto tcp dport 8443 lookup 7400 pref 7400".split(" "),
    "ip -4 route flush table 7400".split(" "),
  ]);
  expect(undoSteps(family({ rules: [{ priority: 0, table: "local" }], overlay: [] }))).toEqual([]);
});

test("the file for sysctl.d passes the check", () => {
  const file = join(import.meta.dirname, "..", "..", "..", "deploy", "kernel", "60-isochrone.conf");
  const lines = readFileSync(file, "utf8")
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"));
  const sysctls = new Map(lines.map((line) => line.split(" = ") as [string, string]));
  expect(lines.length).toBe(overlaySysctls.length);
  expect(checkKernel({ ...facts, sysctls }, []).filter(({ state }) => state !== "ok")).toEqual([]);
});
