/** What validators make of our signatures: delv and unbound, with a trust anchor that they are given. */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createLogger } from "#kit/io";
import { DnsCounters, DnsServer } from "#mapping";
import { requireProgram } from "../tools/processes.ts";
import { ValidatingResolver } from "../tools/validating-resolver.ts";
import { context } from "../unit/mapping-dns/fixture.ts";
import { dsText, keySet, newKey, signersOf } from "../unit/mapping-dns/signed.ts";

const delv = requireProgram("delv");
const dig = requireProgram("dig");
const unbound = requireProgram("unbound");
const shop = keySet("shop.example", newKey());
const forged = keySet("media.example", newKey());

let server: DnsServer;
beforeAll(async () => {
  const wrong = newKey();
  const signers = signersOf([
    shop,
    // media.example signs with another key than the one that its DNSKEY set and its trust anchor show.
    { ...forged, signers: [{ ...wrong, publicKey: forged.published[0]!.publicKey }] },
  ]);
  const state = { ...context(), signers };
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
        server: [shop, forged].map((keys) => `trust-anchor: "${dsText(keys)}"`),
        more: ["shop.example", "media.example"].flatMap((zone) => [
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
    for (const [name, type, status] of secure) {
      const said = await resolver.ask(name, type);
      // It knows NXNAME or not, by its version; both are right (RFC 9824 section 5).
      const expected =
        status === "NODATA" ? /^NOERROR$/ : status === "NXNAME" ? /^(NOERROR|NXDOMAIN)$/ : /^NOERROR$/;
      expect(said.status, `${name} ${type}: ${said.text}`).toMatch(expected);
      expect(said.isAuthentic, `${name} ${type}: ${said.text}`).toBe(true);
      expect(said.answers.length > 0, `${name} ${type}`).toBe(status === "NOERROR");
    }
  });

  it("takes an unsigned zone below a signed one for what it is: insecure, not bogus", async () => {
    const said = await resolver.ask("sub.shop.example", "SOA");
    expect([said.status, said.isAuthentic, said.answers.length]).toEqual(["NOERROR", false, 1]);
  });

  it("gives nobody what another key has signed", async () => {
    expect((await resolver.ask("media.example", "A")).status).toBe("SERVFAIL");
  });
});
