/** Zones handed to BIND and Knot as their secondaries: whole, then as changes after NOTIFY; nothing without the key. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { zoneDocument, editZone } from "#kit";
import { type DnsServer, DnsState, ZoneNotifier } from "#mapping";
import { readMessage } from "../../mapping/core/dns/wire.ts";
import { requireProgram, waitFor } from "../tools/processes.ts";
import { queryFor } from "../tools/zones/hosted.ts";
import { type Peer, startKnot, startNamed } from "../tools/zones/peers.ts";
import { linesOf } from "../tools/zones/records.ts";
import {
  keys,
  knotSections,
  listenForTransfers,
  logger,
  namedSections,
  SECRET,
} from "../tools/zones/transfer.ts";
import { topology } from "../unit/mapping-dns/fixture.ts";

const dig = requireProgram("dig");
const many = Array.from({ length: 1_500 }, (_, n) => `192.0.2.${n % 256}`);
const soa = { name: "@", type: "SOA", ttlSeconds: 300, data: ["ns h 7 3600 1800 1209600 60"] };
const first = (port: number) =>
  zoneDocument.parse({
    zoneId: "moved",
    customerId: "acme",
    origin: "moved.test",
    sets: [
      soa,
      { name: "@", type: "NS", ttlSeconds: 300, data: ["ns"] },
      { name: "ns", type: "A", ttlSeconds: 300, data: ["192.0.2.1"] },
      { name: "*.w", type: "MX", ttlSeconds: 60, data: ["5 mail", "6 ns"] },
      ...many.map((address, n) => ({ name: `host-${n}`, type: "A", ttlSeconds: 60, data: [address] })),
      { name: "text", type: "TXT", ttlSeconds: 60, data: ['"a" "\\000\\255"'] },
      { name: "unknown", type: "TYPE65280", ttlSeconds: 60, data: ["\\# 2 abcd"] },
    ],
    transfer: { keyName: "xfer.example", notify: [{ address: "127.0.0.1", port }] },
  });

let server: DnsServer;
const state = new DnsState(() => true);
const notifier = new ZoneNotifier(keys, logger);

beforeAll(async () => {
  state.setTopology(topology, 1);
  server = await listenForTransfers(() => state);
});
afterAll(async () => {
  notifier.close();
  await server?.close();
});

async function digAt(...args: readonly string[]): Promise<readonly string[]> {
  const { stdout } = await promisify(execFile)(dig ?? "dig", [
    "@127.0.0.1",
    "-p",
    String(server.port),
    "+time=3",
    "+tries=1",
    "+onesoa",
    "+noall",
    "+answer",
    "+comments",
    ...args,
  ]);
  return stdout.split("\n").filter((line) => line !== "");
}

describe.skipIf(dig === undefined)("transfers to dig", () => {
  const key = (name: string, secret = SECRET) => ["-y", `hmac-sha256:${name}:${secret}`];

  it("the whole zone with the key, in many messages, all of them signed", async () => {
    state.setZone(first(53), 1);
    const lines = await digAt("moved.test", "AXFR", ...key("xfer.example"));
    expect(lines.filter((line) => /\sIN\s/.test(line)).length).toBe(1 + 1 + 1 + 2 + 1_500 + 1 + 1);
    expect(lines.join()).not.toMatch(/TSIG (error|could not)|verif|expected a TSIG/i);
  });

  it.each<[says: string, args: readonly string[]]>([
    ["no key", []],
    ["another zone's key", key("other.example")],
    ["a key that is not known", key("stranger.example")],
    ["another secret", key("xfer.example", Buffer.alloc(32).toString("base64"))],
  ])("nothing with %s", async (_says, args) => {
    const lines = await digAt("moved.test", "AXFR", ...args).catch((error: { stdout: string }) =>
      error.stdout.split("\n"),
    );
    expect(lines.filter((line) => /\sIN\s/.test(line))).toEqual([]);
    expect(lines.join()).toMatch(/Transfer failed/);
  });
});

/** A secondary on `port` that is to fetch `moved.test` from us. */
const secondaries = [
  {
    name: "named",
    start: async (program: string): Promise<Peer> =>
      await startNamed(
        program,
        [],
        namedSections(
          `type secondary; file "moved.test.db"; primaries { 127.0.0.1 port ${server.port} key "xfer.example"; }; allow-notify { key "xfer.example"; };`,
        ),
      ),
  },
  {
    name: "knotd",
    start: async (program: string): Promise<Peer> =>
      await startKnot(
        program,
        [],
        knotSections(server.port, "notify"),
        "  - domain: moved.test\n    master: us\n    acl: them\n    zonefile-load: none\n    journal-content: changes\n",
      ),
  },
];

describe.each(secondaries)("transfers to $name", ({ name, start }) => {
  const program = requireProgram(name);

  it.skipIf(program === undefined)(
    "fetches the zone, is told of a change, fetches the change, and answers like us",
    async () => {
      state.setZone(first(53), 1);
      const peer = await start(program as string);
      const asked = async (labels: readonly string[], type: number): Promise<readonly string[]> => {
        const read = readMessage(await peer.ask(queryFor([...labels, "moved", "test"], type)));
        return read.ok
          ? [`rcode ${read.message.header.rcode}`, ...linesOf(read.message.answers)]
          : [read.fault];
      };
      try {
        await waitFor(async () => (await asked(["host-1499"], 1)).length === 2, {
          timeoutMs: 10_000,
          what: `the zone at ${name}`,
        });
        expect(await asked(["x", "w"], 15)).toEqual([
          "rcode 0",
          "x.w.moved.test. 60 mx 5 mail.moved.test.",
          "x.w.moved.test. 60 mx 6 ns.moved.test.",
        ]);
        expect(await asked(["text"], 16)).toEqual(["rcode 0", 'text.moved.test. 60 txt "a" "\\000\\255"']);
        expect(await asked(["unknown"], 65_280)).toEqual([
          "rcode 0",
          "unknown.moved.test. 60 type65280 \\# 2 abcd",
        ]);
        const edited = editZone(first(peer.port), [
          { action: "set", name: "new", type: "A", ttlSeconds: 5, data: ["192.0.2.99"] },
          { action: "delete", name: "host-0", type: "A" },
        ]);
        const changed = state.setZone(edited, 2);
        if (changed !== undefined) notifier.notify(edited, changed);
        await waitFor(async () => (await asked(["new"], 1)).length === 2, {
          timeoutMs: 10_000,
          what: `the change at ${name}`,
        });
        expect(await asked(["host-0"], 1)).toEqual(["rcode 3"]);
        expect(await asked(["host-1"], 1)).toEqual(["rcode 0", "host-1.moved.test. 60 a 192.0.2.1"]);
      } finally {
        await peer.close();
      }
    },
  );
});
