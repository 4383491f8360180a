/** Zones fetched from BIND and Knot as their primaries: whole, then as changes after NOTIFY, with and without them. */
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ZoneDocument, zoneDocument } from "#kit";
import { createLogger, systemClock } from "#kit/io";
import { DnsCounters, DnsServer, DnsState, hmac, SecondaryZones, tsigKeysOf } from "#mapping";
import { respond } from "../../mapping/core/dns/respond.ts";
import { readMessage } from "../../mapping/core/dns/wire.ts";
import { secondaryDefaults } from "../../mapping/core/zone/secondary.ts";
import { requireProgram, waitFor } from "../tools/processes.ts";
import { queryFor } from "../tools/zones/hosted.ts";
import { type Peer, startKnot, startNamed } from "../tools/zones/peers.ts";
import { linesOf } from "../tools/zones/records.ts";
import { resolver, topology } from "../unit/mapping-dns/fixture.ts";

const SECRET = Buffer.from("0123456789abcdef0123456789abcdef").toString("base64");
const keys = tsigKeysOf([{ name: "xfer.example", algorithm: "hmac-sha256", secret: SECRET }]);
const logger = createLogger({ role: "nameserver", id: "test" }, { level: "silent" });
const directory = mkdtempSync(join(tmpdir(), "isochrone-secondary-"));
const zoneFile = join(directory, "moved.test.zone");
let written = 0;

/** Enough for several messages. */
function writeZone(serial: number, more: string): void {
  const many = Array.from({ length: 3_000 }, (_, n) => `host-${n} 60 A 192.0.2.${n % 256}`).join("\n");
  const text = `$ORIGIN moved.test.\n$TTL 300\n@ SOA ns h ${serial} 3600 1800 1209600 60\n@ NS ns\nns A 192.0.2.1
*.w 60 MX 5 Mail\n*.w 60 MX 6 ns\ntext 60 TXT "a" "\\000\\255"\nsrv SRV 1 2 3 Mail.x\nunknown TYPE65280 \\# 2 abcd\n${many}\n${more}\n`;
  writeFileSync(zoneFile, text);
  // Whoever compares times of whole seconds sees another one.
  const seconds = Date.now() / 1_000 + 10 * written++;
  utimesSync(zoneFile, seconds, seconds);
}

let server: DnsServer;
let state: DnsState;
let zones: SecondaryZones;
const open = (name: string): void => {
  state = new DnsState(() => true);
  state.setTopology(topology, 1);
  zones = new SecondaryZones({
    clock: systemClock,
    logger,
    stateDirectory: join(directory, name),
    keys,
    mayAskPrivate: true,
    seed: "1",
    settings: { ...secondaryDefaults, notifyGapMs: 10 },
    onZone: (document, version) => void state.setZone(document, version),
  });
  zones.setAsking(true);
};
const followed = (port: number, keyName?: string): ZoneDocument =>
  zoneDocument.parse({
    zoneId: "moved",
    customerId: "acme",
    origin: "moved.test",
    secondary: { primaries: [{ address: "127.0.0.1", port, ...(keyName !== undefined && { keyName }) }] },
  });

/** Its rcode, and its answers as text. */
function asked(labels: readonly string[], type: number): readonly string[] {
  const query = {
    bytes: queryFor([...labels, "moved", "test"], type),
    transport: "udp",
    resolverAddress: resolver,
  } as const;
  const decision = respond(query, state.context());
  const read = decision.action === "reply" ? readMessage(decision.bytes) : undefined;
  return read?.ok === true
    ? [`rcode ${read.message.header.rcode}`, ...linesOf(read.message.answers)]
    : ["silence"];
}

beforeAll(async () => {
  server = await DnsServer.listen({
    address: "127.0.0.1",
    port: 0,
    context: () => state.context(),
    counters: new DnsCounters(),
    logger,
    service: { tsig: { keys, hmac } },
    onNotify: (heard) => zones.handleNotify(heard),
  });
});
afterAll(async () => {
  await server?.close();
  rmSync(directory, { recursive: true, force: true });
});

const primaries = [
  {
    name: "named",
    start: async (program: string): Promise<Peer> =>
      await startNamed(
        program,
        [],
        `key "xfer.example" { algorithm hmac-sha256; secret "${SECRET}"; };
zone "moved.test" { type primary; file "${zoneFile}"; allow-transfer { key "xfer.example"; }; ixfr-from-differences yes; max-ixfr-ratio unlimited;
  also-notify { 127.0.0.1 port ${server.port} key "xfer.example"; }; };`,
      ),
  },
  {
    name: "knotd",
    start: async (program: string): Promise<Peer> =>
      await startKnot(
        program,
        [],
        `key:
  - id: xfer.example
    algorithm: hmac-sha256
    secret: ${SECRET}
remote:
  - id: us
    address: 127.0.0.1@${server.port}
    key: xfer.example
acl:
  - id: them
    key: xfer.example
    action: transfer
`,
        `  - domain: moved.test\n    file: ${zoneFile}\n    notify: us\n    acl: them\n    zonefile-load: difference\n    journal-content: changes\n`,
      ),
  },
];

describe.each(primaries)("a zone of $name", ({ name, start }) => {
  const program = requireProgram(name);

  it.skipIf(program === undefined)(
    "is fetched, followed by its changes, kept over a restart, and not given up for a bad one",
    async () => {
      writeZone(7, "");
      open(name);
      let peer = await start(program as string);
      const counted = (event: string): number => zones.counters[event] ?? 0;
      const until = async (what: string, holds: () => boolean): Promise<void> => {
        try {
          await waitFor(holds, { timeoutMs: 10_000, what });
        } catch (cause) {
          throw new Error(`${what}: ${JSON.stringify([zones.counters, zones.reports()])}`, { cause });
        }
      };
      try {
        zones.setZone(followed(peer.port, "other.example"), 1);
        await until("a refusal", () => counted("failed") > 0);
        expect(zones.reports()?.["moved"]).toMatchObject({
          state: "waiting",
          problem: `127.0.0.1 port ${peer.port}: there is no key "other.example" in the file of --tsig-keys`,
        });
      } catch (error) {
        await peer.close();
        throw error;
      }
      try {
        expect(asked([], 6)).toEqual(["rcode 2"]);
        zones.setZone(followed(peer.port, "xfer.example"), 2);
        await until("the zone", () => counted("axfr") === 1);
        expect(asked(["host-2999"], 1)).toEqual(["rcode 0", "host-2999.moved.test. 60 a 192.0.2.183"]);
        expect(asked(["x", "w"], 15)).toEqual([
          "rcode 0",
          "x.w.moved.test. 60 mx 5 mail.moved.test.",
          "x.w.moved.test. 60 mx 6 ns.moved.test.",
        ]);
        expect(asked(["text"], 16)).toEqual(["rcode 0", 'text.moved.test. 60 txt "a" "\\000\\255"']);
        expect(asked(["srv"], 33)).toEqual(["rcode 0", "srv.moved.test. 300 srv 1 2 3 mail.x.moved.test."]);
        expect(asked(["unknown"], 65_280)).toEqual([
          "rcode 0",
          "unknown.moved.test. 300 type65280 \\# 2 abcd",
        ]);

        writeZone(8, "new 5 A 192.0.2.99");
        peer.reload();
        await until("the change", () => counted("ixfr") === 1);
        expect(asked(["new"], 1)).toEqual(["rcode 0", "new.moved.test. 5 a 192.0.2.99"]);
        expect(zones.reports()?.["moved"]).toMatchObject({ state: "current", serial: 8 });

        await zones.close();
        await peer.close();
        open(name);
        zones.setZone(followed(peer.port, "xfer.example"), 2);
        expect(asked(["new"], 1)).toEqual(["rcode 0", "new.moved.test. 5 a 192.0.2.99"]);
        await zones.close();
        // BIND's of the zone before, which does not fit this one.
        rmSync(`${zoneFile}.jnl`, { force: true });
        // An address beside an ALIAS, which only we know: nobody else refuses it.
        writeZone(9, "two A 192.0.2.1\ntwo TYPE65401 \\# 3 016100");
        peer = await start(program as string);
        open(name);
        zones.setZone(followed(peer.port, "xfer.example"), 2);
        zones.handleNotify({ zoneId: "moved", serial: 9 });
        await until("a refusal", () => counted("failed") > 0);
        expect(zones.reports()?.["moved"]).toMatchObject({ state: "unconfirmed", serial: 8 });
        expect(zones.reports()?.["moved"]?.problem).toMatch(/two.moved.test. ALIAS, expected one ALIAS/);
        expect(asked(["new"], 1)).toEqual(["rcode 0", "new.moved.test. 5 a 192.0.2.99"]);
      } finally {
        await zones.close();
        await peer.close();
      }
    },
  );
});
