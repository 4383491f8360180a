/**
 * Goal: what a customer changes on the page is what an edge does.
 * Method: `isochrone up small`; Chromium on its portal changes a TTL and activates it; requests to an edge, before and after.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  freePort,
  type IsochroneProcess,
  runIsochroneHere,
  startIsochrone,
  waitFor,
} from "../tools/processes.ts";
import { chromiumPath, launch, logIn, openPage, picture } from "./portal-browser.ts";

const state = mkdtempSync(join(tmpdir(), "isochrone-portal-world-"));
const HOST = "www.shop.example";
let world: IsochroneProcess;
let browser: Browser;
let portalOrigin: string;
let edge: { readonly address: string; readonly port: number };
let password: string;

interface Process {
  readonly id: string;
  readonly role: string;
  readonly address: string;
  readonly port: number;
}

/** Asks the edge; gives its own member of Cache-Status, which is the last (RFC 9211 section 2). */
function cacheStatus(path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      { host: edge.address, port: edge.port, path, headers: { host: HOST }, agent: false, timeout: 20_000 },
      (incoming) => {
        incoming.resume();
        incoming.on("end", () =>
          resolve(String(incoming.headers["cache-status"]).split(",").at(-1)?.trim() ?? ""),
        );
        incoming.on("error", reject);
      },
    );
    outgoing.on("timeout", () => outgoing.destroy(new Error(`no answer from ${edge.address} in 20 s`)));
    outgoing.on("error", reject);
    outgoing.end();
  });
}

function ttlOf(member: string): number {
  return Number(/;\s*ttl=(-?\d+)/.exec(member)?.[1]);
}

describe.skipIf(chromiumPath === undefined)("the portal of a running world", () => {
  beforeAll(async () => {
    const [port, dnsPort] = [await freePort("127.10.0.1"), await freePort("127.10.0.1")];
    world = await startIsochrone(
      ["up", "small", "--port", String(port), "--dns-port", String(dnsPort), "--state", state],
      { timeoutMs: 80_000 },
    );
    const { stdout } = await runIsochroneHere(["status", "--json", "--state", state]);
    const { processes } = JSON.parse(stdout) as { processes: Process[] };
    const [portal, fra] = [
      processes.find((one) => one.role === "portal"),
      processes.find((one) => one.id === "fra-1"),
    ];
    if (portal === undefined || fra === undefined) throw new Error(`no portal or edge among ${stdout}`);
    edge = fra;
    portalOrigin = `http://${portal.address}:${portal.port}`;
    const secrets = JSON.parse(readFileSync(join(state, "secrets.json"), "utf8")) as {
      accounts: { name: string; password: string }[];
    };
    password = secrets.accounts.find((one) => one.name === "shop")?.password ?? "";
    await waitFor(async () => (await fetch(portalOrigin)).status === 200, {
      timeoutMs: 60_000,
      what: "the page to be built",
      intervalMs: 200,
    });
    browser = await launch();
  }, 170_000);
  afterAll(async () => {
    await browser?.close();
    await world?.stop();
    rmSync(state, { recursive: true, force: true });
  });

  it("logs in, changes a TTL, activates it, and a request obeys it", async () => {
    // The origin states 60 s for a page.
    await cacheStatus("/portal-before.html");
    const before = await cacheStatus("/portal-before.html");
    expect(before).toMatch(/;\s*hit/);
    expect(ttlOf(before)).toBeGreaterThan(30);
    expect(ttlOf(before)).toBeLessThanOrEqual(60);

    const { page, complaints } = await openPage(browser, portalOrigin);
    await logIn(page, portalOrigin, "shop", password);
    await page.getByRole("link", { name: "Properties" }).click();
    await page.getByRole("link", { name: "shop-www" }).click();
    await page.getByLabel("Override TTL").fill("7200");
    await page.locator(".review .changes").getByText("caching.overrideTtlSeconds").waitFor();
    await page.getByRole("button", { name: "Save and activate" }).click();
    await page.getByText("Version 2 is in force").waitFor();
    // Each server says itself that it runs the version: 3 edges and a parent.
    await page.getByText("on 4 of 4 servers").waitFor();
    await picture(page, "world-property");

    await cacheStatus("/portal-after.html");
    const after = await cacheStatus("/portal-after.html");
    expect(after).toMatch(/;\s*hit/);
    expect(ttlOf(after)).toBeGreaterThan(7_000);

    await page.getByRole("button", { name: "Roll back…" }).click();
    await page.getByRole("button", { name: "Roll back to v1" }).click();
    await page.getByText("Version 1 is in force").waitFor();
    await page.getByText("on 4 of 4 servers").waitFor();
    await cacheStatus("/portal-again.html");
    expect(ttlOf(await cacheStatus("/portal-again.html"))).toBeLessThanOrEqual(60);
    expect(complaints).toEqual([]);
  });

  it("shows the traffic on the map and in the numbers, and purges at every server", async () => {
    const { page, complaints } = await openPage(browser, portalOrigin);
    await logIn(page, portalOrigin, "shop", password);
    const busy = page.locator("svg .link.busy");
    await waitFor(
      async () => {
        await cacheStatus("/");
        return (await busy.count()) > 0;
      },
      { timeoutMs: 20_000, what: "a busy link on the map", intervalMs: 100 },
    );
    await waitFor(
      async () => {
        await cacheStatus("/");
        return !(await page.locator(".card strong").first().textContent())?.startsWith("0/");
      },
      { timeoutMs: 10_000, what: "requests a second", intervalMs: 100 },
    );
    expect(await page.locator("svg .sites .site.well").count()).toBeGreaterThanOrEqual(7);
    await picture(page, "world-overview");
    await page.getByRole("link", { name: "Purge" }).click();
    await page.getByRole("option", { name: /shop-www/ }).waitFor({ state: "attached" });
    await page.getByLabel("Property").selectOption("shop-www");
    await page.getByLabel("URLs, one a line").fill(`http://${HOST}/`);
    expect(await cacheStatus("/")).toMatch(/;\s*hit/);
    await page.getByRole("button", { name: "Purge 1 entry" }).click();
    await page.getByText(/servers in [\d.,]+ ms/).waitFor();
    expect(await page.locator(".purge-sum strong").textContent()).toBe("4/4");
    await picture(page, "world-purge");
    expect(await cacheStatus("/")).toMatch(/;\s*fwd=/);
    expect(complaints).toEqual([]);
  });
});
