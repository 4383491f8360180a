/** Zones fetched from BIND and Knot as their primaries: whole, then as changes after NOTIFY, with and without them. */
import { execFile, execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ZoneDocument, zoneDocument } from "#kit";
import { systemClock } from "#kit/io";
import { type DnsServer, DnsState, SecondaryZones } from "#mapping";
import { respond } from "../../mapping/core/dns/respond.ts";
import type { DnsMessage } from "../../mapping/core/dns/message.ts";
import { readMessage } from "../../mapping/core/dns/wire.ts";
import { secondaryDefaults } from "../../mapping/core/zone/secondary.ts";
import { requireProgram, waitFor } from "../tools/processes.ts";
import { queryFor } from "../tools/zones/hosted.ts";
import { type Peer, startKnot, startNamed } from "../tools/zones/peers.ts";
import { linesOf } from "../tools/zones/records.ts";
import { keys, knotSections, listenForTransfers, logger, namedSections } from "../tools/zones/transfer.ts";
import { ValidatingResolver } from "../tools/validating-resolver.ts";
import { resolver, topology } from "../unit/mapping-dns/fixture.ts";

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
    isSignedHere: () => false,
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

function answerTo(labels: readonly string[], type: number): DnsMessage | undefined {
  const query = {
    bytes: queryFor([...labels, "moved", "test"], type),
    transport: "udp",
    resolverAddress: resolver,
  } as const;
  const decision = respond(query, state.context());
  const read = decision.action === "reply" ? readMessage(decision.bytes) : undefined;
  return read?.ok === true ? read.message : undefined;
}

/** Its rcode, and its answers as text. */
function asked(labels: readonly string[], type: number): readonly string[] {
  const message = answerTo(labels, type);
  return message === undefined ? ["silence"] : [`rcode ${message.header.rcode}`, ...linesOf(message.answers)];
}

beforeAll(async () => {
  server = await listenForTransfers(
    () => state,
    (heard) => zones.handleNotify(heard),
  );
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
        namedSections(
          `type primary; file "${zoneFile}"; allow-transfer { key "xfer.example"; }; ixfr-from-differences yes; max-ixfr-ratio unlimited;
  also-notify { 127.0.0.1 port ${server.port} key "xfer.example"; };`,
        ),
      ),
  },
  {
    name: "knotd",
    start: async (program: string): Promise<Peer> =>
      await startKnot(
        program,
        [],
        knotSections(server.port, "transfer"),
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
        zones.setZone(followed(peer.port, "missing.example"), 1);
        await until("a refusal", () => counted("failed") > 0);
        expect(zones.reports()?.["moved"]).toMatchObject({
          state: "waiting",
          problem: `127.0.0.1 port ${peer.port}: there is no key "missing.example" in the file of --tsig-keys`,
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

const signedText = `$ORIGIN moved.test.
$TTL 300
@ SOA ns h 1 3600 1800 1209600 60
@ NS ns
ns A 192.0.2.1
*.wild A 192.0.2.26
deep.empty A 192.0.2.27
alias CNAME ns
unsigned NS ns.unsigned
ns.unsigned A 192.0.2.53
`;
/** Name, type; all of them are to be validated. */
const validated: readonly (readonly [name: string, type: string])[] = [
  ["moved.test", "SOA"],
  ["alias.moved.test", "A"],
  ["x.wild.moved.test", "A"],
  ["x.wild.moved.test", "MX"],
  ["empty.moved.test", "A"],
  ["nope.moved.test", "A"],
  ["unsigned.moved.test", "DS"],
];

const delv = requireProgram("delv");
const unbound = requireProgram("unbound");
const dig = requireProgram("dig");
const named = requireProgram("named");
const knotd = requireProgram("knotd");
const signers = [
  {
    says: "BIND, with NSEC",
    isMissing: named === undefined,
    start: async (): Promise<Peer> => {
      const keyDirectory = join(directory, "keys");
      mkdirSync(keyDirectory);
      chmodSync(directory, 0o755);
      writeFileSync(zoneFile, signedText);
      const run = (program: string, ...words: readonly string[]): void =>
        void execFileSync(program, words, { stdio: "pipe" });
      const algorithm = ["-q", "-K", keyDirectory, "-a", "ECDSAP256SHA256"];
      run("dnssec-keygen", ...algorithm, "-f", "KSK", "moved.test");
      run("dnssec-keygen", ...algorithm, "moved.test");
      run(
        "dnssec-signzone",
        "-S",
        "-d",
        keyDirectory,
        "-q",
        "-K",
        keyDirectory,
        "-o",
        "moved.test",
        "-f",
        `${zoneFile}.signed`,
        zoneFile,
      );
      return await startNamed(
        named as string,
        [],
        `zone "moved.test" { type primary; file "${zoneFile}.signed"; };`,
      );
    },
  },
  {
    says: "Knot, with NSEC3",
    isMissing: knotd === undefined,
    start: async (): Promise<Peer> => {
      writeFileSync(zoneFile, signedText);
      return await startKnot(
        knotd as string,
        [],
        `policy:
  - id: nsec3
    algorithm: ecdsap256sha256
    nsec3: on
    nsec3-iterations: 3
    nsec3-salt-length: 4
acl:
  - id: all
    address: 127.0.0.1
    action: transfer
`,
        `  - domain: moved.test\n    file: ${zoneFile}\n    acl: all\n    dnssec-signing: on\n    dnssec-policy: nsec3\n`,
      );
    },
  },
];

describe.each(signers)("a zone signed by $says", ({ says, isMissing, start }) => {
  const isAnyMissing = isMissing || [delv, unbound, dig].includes(undefined);
  it.skipIf(isAnyMissing)("is told as it is signed, and delv and unbound validate it", async () => {
    open(says);
    const peer = await start();
    try {
      zones.setZone(followed(peer.port), 1);
      await waitFor(() => zones.reports()?.["moved"]?.state === "current", {
        timeoutMs: 10_000,
        what: "the zone",
      }).catch((cause: unknown) => {
        throw new Error(JSON.stringify(zones.reports()), { cause });
      });
      const anchors = (answerTo([], 48)?.answers ?? [])
        .flatMap(({ data }) => (data.kind === "opaque" ? [data.bytes] : []))
        // RFC 4034 section 2.1.1: 257 is a key that a parent knows.
        .filter((rdata) => rdata[0] === 1 && rdata[1] === 1)
        .map((rdata) => Buffer.from(rdata.subarray(4)).toString("base64"));
      const file = join(directory, "anchor");
      const ofDelv = anchors.map((key) => `moved.test. static-key 257 3 13 "${key}";`);
      writeFileSync(file, `trust-anchors { ${ofDelv.join(" ")} };\n`);
      for (const [name, type] of validated) {
        const words = ["@127.0.0.1", "-p", String(server.port), "-a", file, "+root=moved.test", name, type];
        const said = await promisify(execFile)(delv as string, words).catch(
          (error: { stdout: string; stderr: string }) => error,
        );
        expect(`${said.stdout}${said.stderr}`, `${name} ${type}`).toMatch(
          /^; (negative response, )?fully validated/m,
        );
      }
      const validator = await ValidatingResolver.start(
        {
          program: unbound as string,
          server: anchors.map((key) => `trust-anchor: "moved.test. DNSKEY 257 3 13 ${key}"`),
          more: [
            "stub-zone:",
            '  name: "moved.test"',
            `  stub-addr: 127.0.0.1@${server.port}`,
            "  stub-prime: no",
          ],
        },
        dig as string,
      );
      try {
        for (const [name, type] of validated) {
          const { status, isAuthentic, text } = await validator.ask(name, type);
          expect(status, text).toBe(name === "nope.moved.test" ? "NXDOMAIN" : "NOERROR");
          expect(isAuthentic, `${name} ${type}: ${text}`).toBe(true);
        }
      } finally {
        await validator.stop();
      }
    } finally {
      await zones.close();
      await peer.close();
    }
  });
});
