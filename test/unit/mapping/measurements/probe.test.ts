import { describe, expect, test } from "vitest";
import { parsePing, parseProbeTargets, parseTraceroute, ProbeReader, probeSample } from "#mapping";

describe("what ping prints", () => {
  test.each([
    [
      "iputils, with a loss and a duplicate",
      "64 bytes from 192.0.2.1: icmp_seq=1 ttl=64 time=0.323 ms\n64 bytes from 192.0.2.1: icmp_seq=1 ttl=64 time=9 ms (DUP!)\n64 bytes from 192.0.2.1: icmp_seq=3 ttl=64 time=12 ms\n\n3 packets transmitted, 2 received, +1 duplicates, 33% packet loss, time 1026ms",
      [0.323, 12],
    ],
    [
      "BusyBox",
      "64 bytes from 192.0.2.1: seq=0 ttl=42 time=10.107 ms\n\n1 packets transmitted, 1 packets received, 0% packet loss",
      [10.107],
    ],
    [
      "macOS",
      "64 bytes from ::1, icmp_seq=0 hlim=64 time=0.130 ms\n1 packets transmitted, 1 packets received",
      [0.13],
    ],
    [
      "a time below the clock",
      "64 bytes from 192.0.2.1: icmp_seq=1 ttl=64 time<1 ms\n1 packets transmitted",
      [1],
    ],
    ["nothing answered", "2 packets transmitted, 0 received, 100% packet loss, time 1010ms", []],
  ])("%s", (_, output, rttMs) => {
    expect(parsePing(output)).toEqual({ rttMs, isSent: true, expiredAt: null });
  });

  test("that nothing was sent; whose router let it expire; nonsense", () => {
    expect(parsePing("ping: connect: Network is unreachable").isSent).toBe(false);
    expect(parsePing("From 192.0.2.9 icmp_seq=1 Time to live exceeded").expiredAt).toBe("192.0.2.9");
    expect(parsePing("From 2001:DB8::9 icmp_seq=1 Time exceeded: Hop limit").expiredAt).toBe("2001:db8::9");
    expect(
      parsePing("icmp_seq=1 time=99999999 ms\nicmp_seq=1 time=70000 ms\nicmp_seq=x time=1 ms").rttMs,
    ).toEqual([]);
  });
});

test("what traceroute prints: hops in order, silent ones too", () => {
  const output = `traceroute to 192.0.2.9 (192.0.2.9), 30 hops max, 60 byte packets
 1  10.0.0.1  0.030 ms
 2  *
 3  2001:DB8::1  12.3 ms !N
 2  10.0.0.2  1.0 ms
 4  router.example  1 ms
10  192.0.2.9  20 ms
300  192.0.2.9  20 ms`;
  expect(parseTraceroute(output)).toEqual([
    { hop: 1, address: "10.0.0.1", rttMs: 0.03 },
    { hop: 2, address: null, rttMs: null },
    { hop: 3, address: "2001:db8::1", rttMs: 12.3 },
    { hop: 10, address: "192.0.2.9", rttMs: 20 },
  ]);
});

describe("a list of targets", () => {
  test("every kind, addresses canonical, names in lower case", () => {
    const targets = parseProbeTargets(
      "# edges\n\nicmp 192.0.2.1\ntrace  2001:DB8::1\ntcp WWW.Example:443\ntcp [2001:db8::2]:80\nhttp https://a.example/x?y=1\nhttp http://[::1]:8080\n",
    );
    expect(targets.map(({ kind, host, port, path, isTls }) => [kind, host, port, path, isTls])).toEqual([
      ["icmp", "192.0.2.1", 0, "", false],
      ["trace", "2001:db8::1", 0, "", false],
      ["tcp", "www.example", 443, "", false],
      ["tcp", "2001:db8::2", 80, "", false],
      ["http", "a.example", 443, "/x?y=1", true],
      ["http", "::1", 8080, "/", false],
    ]);
  });

  test.each([
    "icmp -f",
    "icmp 10.1",
    "icmp a b",
    "icmp",
    "icmp 192.0.2.1;reboot",
    "icmp $(id).example",
    "tcp 192.0.2.1",
    "tcp 192.0.2.1:0",
    "tcp 192.0.2.1:65536",
    "tcp 2001:db8::2:80",
    "http ftp://a.example/",
    "http https://user:pw@a.example/",
    "http /x",
    "udp 192.0.2.1",
    `icmp ${"a.".repeat(2_000)}a`,
  ])("is refused with its line: %s", (line) => {
    expect(() => parseProbeTargets(`icmp 192.0.2.1\n${line}`)).toThrow(
      /^line 2: got ".*", expected "icmp HOST"/,
    );
  });

  test("is refused when it is empty or has too many", () => {
    expect(() => parseProbeTargets("# none\n")).toThrow("got 0 targets, expected 1 to 1000");
    expect(() => parseProbeTargets("icmp 192.0.2.1\n".repeat(1_001))).toThrow("got 1001 targets");
  });
});

describe("what an agent writes", () => {
  const base = {
    agent: "fra-1",
    method: "icmp",
    target: "icmp a.example",
    from: null,
    to: "192.0.2.1",
    at: 1e12,
  };
  const read = (...records: readonly object[]) => {
    const samples: unknown[] = [];
    const reader = new ProbeReader((record) => samples.push(probeSample(record)?.rttMs));
    reader.read(new TextEncoder().encode(records.map((one) => JSON.stringify(one)).join("\n")));
    reader.end();
    return { samples, summary: reader.tally.summary() };
  };

  test("is read again: answered, lost, not measured, a trace that arrived and one that did not", () => {
    const hops = [{ hop: 1, address: null, rttMs: null }];
    const { samples, summary } = read(
      { ...base, rttMs: 1.5 },
      { ...base, rttMs: null },
      { ...base, to: null, rttMs: null, error: "no such name" },
      { ...base, rttMs: 7, hops },
      { ...base, rttMs: null, hops },
      { ...base, method: "http", rttMs: 9, http: { dnsMs: 0, connectMs: 1, tlsMs: null, status: 200 } },
    );
    expect(samples).toEqual([1.5, null, undefined, 7, undefined, 9]);
    expect(summary).toEqual({ taken: 6, skipped: {}, examples: [] });
  });

  test.each([
    [{ ...base, rttMs: -1 }, "rttMs: got -1, expected a number from 0 to 60000 (ms)"],
    [{ ...base, rttMs: 1, to: "192.0.2.01" }, "to: got"],
    [{ ...base, rttMs: 1, to: "2001:DB8::1" }, "an IP address in canonical form"],
    [{ ...base, rttMs: 1, agent: "a b" }, "agent: got"],
    [{ ...base, rttMs: 1, extra: 1 }, "no such key"],
    [{ ...base }, "rttMs: got nothing"],
    [{ ...base, rttMs: 1, hops: [{ hop: 0, address: null, rttMs: null }] }, "hops[0].hop"],
  ])("is refused whole: %#", (record, why) => {
    const { samples, summary } = read(record, { ...base, rttMs: 3 });
    expect([samples, summary.skipped]).toEqual([[3], { refused: 1 }]);
    expect(summary.examples[0]?.why).toContain(why);
  });
});
