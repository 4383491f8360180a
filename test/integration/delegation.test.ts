/** From a root hint to an edge's address, by unbound, over two levels of our name servers; signed from cdn.example on. */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  CUSTOMER_NAME,
  DELEGATED,
  DelegatedWorld,
  PROPERTIES,
  rootHints,
  whyNoPort53,
} from "../tools/delegated-world.ts";
import { requireProgram } from "../tools/processes.ts";
import { ValidatingResolver } from "../tools/validating-resolver.ts";

const unbound = requireProgram("unbound");
const dig = requireProgram("dig");
const noPort = await whyNoPort53();
if (noPort !== undefined)
  console.warn(`skipped: ${noPort}: run as root, or lower net.ipv4.ip_unprivileged_port_start`);

describe.skipIf(unbound === undefined || dig === undefined || noPort !== undefined)(
  "two levels of name servers",
  () => {
    const directory = mkdtempSync(join(tmpdir(), "isochrone-hints-"));
    let world: DelegatedWorld;
    let resolver: ValidatingResolver;
    const nameOf = (n: number): string => `${PROPERTIES[n]}.${DELEGATED}`;

    beforeAll(async () => {
      world = await DelegatedWorld.start({ clusters: ["fra", "nyc", "sin"], ttlSeconds: 3_600 });
      const hints = join(directory, "root.hints");
      writeFileSync(hints, rootHints);
      resolver = await ValidatingResolver.start(
        {
          program: unbound ?? "",
          server: [
            `root-hints: "${hints}"`,
            `trust-anchor: "${world.trustAnchor}"`,
            // A referral of an hour is asked for again after a second, so that a test need not wait.
            "cache-max-ttl: 1",
          ],
          more: [],
        },
        dig ?? "",
      );
    });
    afterAll(async () => {
      await resolver?.stop();
      await world?.close();
      rmSync(directory, { recursive: true, force: true });
    });

    async function referral(name: string): Promise<string[]> {
      const args = [`@${world.topAddress}`, "+norecurse", "+noall", "+additional", name, "A"];
      const { stdout } = await promisify(execFile)(dig ?? "", args);
      return stdout.split("\n").flatMap((line) => / A (\S+)$/.exec(line.replaceAll(/\s+/g, " "))?.[1] ?? []);
    }

    it("the walk: root, top, near, address; a customer's alias leads there; all of ours is validated", async () => {
      const said = await resolver.ask(nameOf(1));
      expect([said.status, said.isAuthentic, said.answers], said.text).toEqual([
        "NOERROR",
        true,
        [world.edgeAddressOf("fra")],
      ]);
      expect(world.queriesOf("top")).toBeGreaterThan(0);
      expect(world.queriesOf("fra") + world.queriesOf("nyc") + world.queriesOf("sin")).toBeGreaterThan(0);
      const alias = await resolver.ask(CUSTOMER_NAME);
      expect(alias.answers, alias.text).toEqual([`${nameOf(0)}.`, world.edgeAddressOf("fra")]);
      expect((await resolver.ask(`nope.${DELEGATED}`)).isAuthentic).toBe(true);
    });

    it("a name server near the resolver dies: the resolver goes on by its own retries, then it is named no more", async () => {
      await resolver.ask(nameOf(2));
      await world.kill("fra");
      const said = await resolver.ask(nameOf(3));
      expect([said.status, said.isAuthentic, said.answers], said.text).toEqual([
        "NOERROR",
        true,
        [world.edgeAddressOf("fra")],
      ]);
      expect(await referral(nameOf(3))).toContain(world.nameServerAddressOf("fra"));
      world.tellDown("fra");
      expect(new Set(await referral(nameOf(3)))).toEqual(
        new Set([world.nameServerAddressOf("nyc"), world.nameServerAddressOf("sin")]),
      );
    });

    it("a cluster that appears is handed out with the first map that ranks it", async () => {
      await world.setClusters(["ams", "nyc", "sin"]);
      expect((await referral(nameOf(4)))[0]).toBe(world.nameServerAddressOf("ams"));
      await expect
        .poll(async () => (await resolver.ask(nameOf(5))).answers, { timeout: 10_000, interval: 300 })
        .toEqual([world.edgeAddressOf("ams")]);
      // Of the name servers that it is told of, a resolver asks any.
      let asked = 0;
      await expect
        .poll(
          async () => {
            await resolver.ask(`new-${asked++}.${DELEGATED}`);
            return world.queriesOf("ams");
          },
          { timeout: 10_000, interval: 20 },
        )
        .toBeGreaterThan(0);
    });
  },
);
