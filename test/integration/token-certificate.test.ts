/** `isochrone token certificate`: what it prints, what it says of the certificate, and what it refuses. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { makeCertificate } from "../tools/certificates.ts";
import { runIsochroneHere } from "../tools/processes.ts";

const directory = mkdtempSync(join(tmpdir(), "isochrone-token-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const file = (name: string, text: string): string => {
  writeFileSync(join(directory, name), text);
  return join(directory, name);
};
const token = async (...args: string[]) =>
  await runIsochroneHere(["token", ...args], {
    env: { ISOCHRONE_PEER_KEY: "00112233445566778899aabbccddeeff" },
  });

const one = makeCertificate({ names: ["cdn.example"] });
const chain = file("one.pem", one.certPem);
const key = file("one.key", one.keyPem);

test("prints the entry, and tells whom origins will see and have to trust", async () => {
  const { code, stdout, stderr } = await token(
    "certificate",
    "shop-www",
    "--chain",
    chain,
    "--private-key",
    key,
  );
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ clientCertificate: { fingerprint: one.fingerprint } });
  expect(stdout).not.toContain("PRIVATE KEY");
  expect(stderr).toMatch(/originAuth of property shop-www\. .*CN=cdn\.example, issued by CN=cdn\.example/);
  expect(stderr).not.toMatch(/Warning/);
});

test("warns of one that has expired", async () => {
  const old = makeCertificate({ names: ["old"], notBeforeMs: 1_000, notAfterMs: 2_000 });
  const files = ["--chain", file("old.pem", old.certPem), "--private-key", file("old.key", old.keyPem)];
  const { code, stderr } = await token("certificate", "shop-www", ...files);
  expect(code).toBe(0);
  expect(stderr).toMatch(/Warning: it has expired/);
});

test.each([
  { args: ["--chain", key, "--private-key", key], wrong: /one\.key".*no "-----BEGIN CERTIFICATE-----"/ },
  {
    args: ["--chain", chain, "--private-key", chain],
    wrong: /no "-----BEGIN PRIVATE KEY-----" block in its file/,
  },
  { args: ["--chain", chain], wrong: /needs --chain FILE and --private-key FILE/ },
  { args: ["--chain", chain, "--private-key", key, "--secret", "x"], wrong: /certificate takes no --secret/ },
])("refuses $args: $wrong", async ({ args, wrong }) => {
  const { code, stdout, stderr } = await token("certificate", "shop-www", ...args);
  expect(code).toBe(2);
  expect(stdout).toBe("");
  expect(stderr).toMatch(wrong);
});
