/** What validators make of our signatures: delv and unbound, with a trust anchor that they are given. */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readZoneFile, zoneDataOf } from "#kit";
import { createLogger } from "#kit/io";
import { DnsCounters, DnsServer } from "#mapping";
import { ZoneTable } from "../../mapping/core/dns/zone-table.ts";
import { HostedZone } from "../../mapping/core/zone/hosted-zone.ts";
import { requireProgram } from "../tools/processes.ts";
import { ValidatingResolver } from "../tools/validating-resolver.ts";
import { context, properties, topology } from "../unit/mapping-dns/fixture.ts";
import { dsText, keySet, newKey, signersOf } from "../unit/mapping-dns/signed.ts";

const delv = requireProgram("delv");
const dig = requireProgram("dig");
const unbound = requireProgram("unbound");
const shop = keySet("shop.example", newKey());
const forged = keySet("media.example", newKey());

/** A customer's zone, signed, with all that makes proofs hard; and a name in it whose addresses the map gives. */
const hosted = keySet("customer.test", newKey());
const zoneText = `
$ORIGIN customer.test.
$TTL 300
@ IN SOA ns1.shop.example. hostmaster 1 7200 1800 1209600 60
@ IN NS ns1.shop.example.
@ IN MX 10 Mail
@ IN TXT "v=spf1 -all"
mail IN A 192.0.2.25
*.wild IN A 192.0.2.26
*.wild IN MX 10 MAIL.Customer.Test.
deep.empty IN A 192.0.2.27
alias IN CNAME mail
cdn IN CNAME www.shop.example.
insecure IN CNAME www.sub.shop.example.
dname IN DNAME elsewhere
x.elsewhere IN A 192.0.2.28
_sip._tcp IN SRV 1 2 5060 Mail.customer.test.
unsigned IN NS ns.unsigned
ns.unsigned IN A 192.0.2.53
big IN TXT ${Array.from({ length: 12 }, (_, n) => `"${String.fromCharCode(97 + n).repeat(200)}"`).join(" ")}
`;
function hostedZone(): HostedZone {
  const read = zoneDataOf(hosted.origin, readZoneFile(zoneText).records);
  if (!read.ok) throw new Error(read.problem.expected);
  return HostedZone.of(read.zone);
}

let server: DnsServer;
beforeAll(async () => {
  const wrong = newKey();
  const signers = signersOf([
    shop,
    hosted,
    // media.example signs with another key than the one that its DNSKEY set and its trust anchor show.
    { ...forged, signers: [{ ...wrong, publicKey: forged.published[0]!.publicKey }] },
  ]);
  const zones = new ZoneTable({ topology, properties, hostedZones: [hostedZone()], serial: 42 });
  const state = { ...context(), zones, signers };
  server = await DnsServer.listen({
    address: "127.0.0.1",
    port: 0,
    context: () => state,
    counters: new DnsCounters(),
    logger: createLogger({ role: "nameserver", id: "dnssec" }),
  });
});
afterAll(() => server.close());

/** Name, type, and what a validator makes of it. */
const secure: readonly (readonly [name: string, type: string, status: string])[] = [
  ["www.shop.example", "A", "NOERROR"],
  ["WWW.sHoP.Example", "A", "NOERROR"],
  ["www.shop.example", "AAAA", "NODATA"],
  ["www.shop.example", "HTTPS", "NODATA"],
  ["empty.shop.example", "A", "NODATA"],
  ["nope.shop.example", "A", "NXNAME"],
  ["a.b.nope.shop.example", "MX", "NXNAME"],
  [`${"a".repeat(63)}.${"b".repeat(63)}.${"c".repeat(63)}.${"d".repeat(46)}.shop.example`, "A", "NXNAME"],
  [`${"a".repeat(63)}.${"b".repeat(63)}.${"c".repeat(63)}.${"d".repeat(48)}.shop.example`, "A", "NXNAME"],
  ["*.shop.example", "A", "NXNAME"],
  ["shop.example", "SOA", "NOERROR"],
  ["shop.example", "NS", "NOERROR"],
  ["shop.example", "DNSKEY", "NOERROR"],
  ["shop.example", "CDS", "NOERROR"],
  ["shop.example", "ANY", "NOERROR"],
  ["sub.shop.example", "DS", "NODATA"],
];

const secureHosted: typeof secure = [
  ["customer.test", "MX", "NOERROR"],
  ["customer.test", "DNSKEY", "NOERROR"],
  ["customer.test", "AAAA", "NODATA"],
  ["a.b.wild.customer.test", "A", "NOERROR"],
  ["a.wild.customer.test", "MX", "NOERROR"],
  ["a.wild.customer.test", "TXT", "NODATA"],
  ["wild.customer.test", "A", "NODATA"],
  ["*.wild.customer.test", "A", "NOERROR"],
  ["empty.customer.test", "A", "NODATA"],
  ["nope.customer.test", "A", "NXNAME"],
  ["alias.customer.test", "A", "NOERROR"],
  ["cdn.customer.test", "A", "NOERROR"],
  ["x.dname.customer.test", "A", "NOERROR"],
  ["_sip._tcp.customer.test", "SRV", "NOERROR"],
  ["big.customer.test", "TXT", "NOERROR"],
  ["unsigned.customer.test", "DS", "NODATA"],
];
/** What denials are made of, asked for itself: unbound has it from others. */
const proofs: typeof secure = [
  ["customer.test", "NSEC", "NOERROR"],
  ["alias.customer.test", "NSEC", "NOERROR"],
  ["empty.customer.test", "NSEC", "NOERROR"],
  ["a.wild.customer.test", "NSEC", "NOERROR"],
  ["nope.customer.test", "NSEC", "NOERROR"],
];

describe.skipIf(delv === undefined)("delv", () => {
  const directory = mkdtempSync(join(tmpdir(), "isochrone-delv-"));
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  const anchorOf = (keys: typeof shop): string => {
    const [, , , tag, algorithm, digestType, digest] = dsText(keys).split(" ");
    const file = join(directory, `${keys.origin.text}.anchor`);
    const anchor = `${keys.origin.text}. static-ds ${tag} ${algorithm} ${digestType} "${digest}"`;
    writeFileSync(file, `trust-anchors { ${anchor}; };\n`);
    return file;
  };

  async function delve(origin: string, file: string, name: string, type: string): Promise<string> {
    const { stdout, stderr } = await promisify(execFile)(delv ?? "delv", [
      "@127.0.0.1",
      "-p",
      String(server.port),
      "-a",
      file,
      `+root=${origin}`,
      name,
      type,
    ]).catch((error: { stdout: string; stderr: string }) => error);
    return `${stdout}${stderr}`;
  }

  it("validates answers and denials", async () => {
    const file = anchorOf(shop);
    const said = await Promise.all(
      secure
        // It has no way to ask for ANY.
        .filter(([, type]) => type !== "ANY")
        .map(async ([name, type]) => ({
          name,
          type,
          text: await delve("shop.example", file, name, type),
        })),
    );
    for (const { name, type, text } of said)
      expect(text, `${name} ${type}`).toMatch(/^; (negative response, )?fully validated/m);
  });

  it("validates a customer's zone: wildcards, aliases, empty names, cuts, long sets over TCP", async () => {
    const file = anchorOf(hosted);
    const said = await Promise.all(
      // Of an alias into another zone it has no trust anchor.
      [...secureHosted, ...proofs]
        .filter(([name]) => name !== "cdn.customer.test")
        .map(async ([name, type]) => ({
          name,
          type,
          text: await delve("customer.test", file, name, type),
        })),
    );
    for (const { name, type, text } of said)
      expect(text, `${name} ${type}`).toMatch(/^; (negative response, )?fully validated/m);
  });

  it("refuses what another key has signed", async () => {
    const text = await delve("media.example", anchorOf(forged), "media.example", "A");
    expect(text).not.toContain("fully validated");
    expect(text).toMatch(/RRSIG failed to verify|verify failed|no valid RRSIG|broken trust chain/);
  });
});

describe.skipIf(unbound === undefined || dig === undefined)("unbound", () => {
  let resolver: ValidatingResolver;
  beforeAll(async () => {
    resolver = await ValidatingResolver.start(
      {
        program: unbound ?? "unbound",
        server: [shop, forged, hosted].map((keys) => `trust-anchor: "${dsText(keys)}"`),
        more: ["shop.example", "media.example", "customer.test"].flatMap((zone) => [
          "stub-zone:",
          `  name: "${zone}"`,
          `  stub-addr: 127.0.0.1@${server.port}`,
          "  stub-prime: no",
        ]),
      },
      dig ?? "dig",
    );
  });
  afterAll(() => resolver?.stop());

  it("validates answers and denials, also those that it makes of kept ones (RFC 8198)", async () => {
    for (const [name, type, status] of [...secure, ...secureHosted]) {
      const said = await resolver.ask(name, type);
      // It knows NXNAME or not, by its version; both are right (RFC 9824 section 5).
      const expected =
        status === "NODATA" ? /^NOERROR$/ : status === "NXNAME" ? /^(NOERROR|NXDOMAIN)$/ : /^NOERROR$/;
      expect(said.status, `${name} ${type}: ${said.text}`).toMatch(expected);
      expect(said.isAuthentic, `${name} ${type}: ${said.text}`).toBe(true);
      expect(said.answers.length > 0, `${name} ${type}`).toBe(status === "NOERROR");
    }
  });

  it("takes an alias from a signed zone into an unsigned one for insecure", async () => {
    const said = await resolver.ask("insecure.customer.test", "A");
    expect([said.status, said.isAuthentic], said.text).toEqual(["NXDOMAIN", false]);
  });

  it("takes an unsigned zone below a signed one for what it is: insecure, not bogus", async () => {
    const said = await resolver.ask("sub.shop.example", "SOA");
    expect([said.status, said.isAuthentic, said.answers.length]).toEqual(["NOERROR", false, 1]);
  });

  it("gives nobody what another key has signed", async () => {
    expect((await resolver.ask("media.example", "A")).status).toBe("SERVFAIL");
  });
});
