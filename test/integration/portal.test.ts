/**
 * Goal: the portal as a process, against a real control, in a real browser.
 * Method: control and portal on port 0; documents and reports put into control as the world would; Chromium on the page.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ControlClient } from "#control";
import type { ServerReport } from "#kit";
import { createLogger } from "#kit/io";
import { type IsochroneProcess, runIsochroneHere, startIsochrone, waitFor } from "../tools/processes.ts";
import { map, news, policyFor, report, shop, topology, video } from "../unit/portal/fixtures.ts";
import { chromiumPath, launch, logIn, openPage, picture } from "./portal-browser.ts";

const token = "test-token-0123456789";
const accounts = JSON.stringify([
  { name: "operator", password: "operator-pass", customerId: null },
  { name: "acme", password: "acme-pass", customerId: "acme" },
]);
const directory = mkdtempSync(join(tmpdir(), "isochrone-portal-"));
const env = { ISOCHRONE_CONTROL_TOKEN: token, ISOCHRONE_PORTAL_ACCOUNTS: accounts };

let control: IsochroneProcess;
let controlUrl: string;
let portal: IsochroneProcess;
let origin: string;
let client: ControlClient;
let beat: NodeJS.Timeout;

const startPortal = () =>
  startIsochrone(
    ["portal", "--listen", "127.0.0.1:0", "--control", controlUrl, "--state", join(directory, "portal")],
    { env },
  );
const originOf = (one: IsochroneProcess) => one.readyLine.split(" ").at(-1) ?? "";
const isPageBuilt = (at: string) =>
  waitFor(async () => (await fetch(at)).status === 200, {
    timeoutMs: 60_000,
    what: "the page to be built",
    intervalMs: 100,
  });

/** What the servers of the fixture world say each second; they acknowledge no purge by themselves. */
const servers = topology.clusters
  .filter((one) => one.role === "edge" || one.role === "parent")
  .flatMap((one) => one.servers.map((server) => server.serverId as string));
const silent = new Set<string>();
let second = 0;
function reports(): ServerReport[] {
  second += 1;
  return servers
    .filter((serverId) => !silent.has(serverId))
    .map((serverId) =>
      report(serverId, {
        shop: { requests: second * 20, hits: second * 15 },
        news: { requests: second * 1_000, hits: 0 },
      }),
    );
}

beforeAll(async () => {
  control = await startIsochrone(
    ["control", "--listen", "127.0.0.1:0", "--state", join(directory, "control")],
    { env },
  );
  controlUrl = originOf(control);
  client = new ControlClient({
    url: controlUrl,
    token,
    nodeId: "test",
    logger: createLogger({ role: "test", id: "test" }, { level: "silent" }),
  });
  await client.put("topology", topology.name, topology, { expectedVersion: 0, author: "world" });
  await client.put("map", topology.name, map, { expectedVersion: 0, author: "world" });
  for (const one of [shop, video, news])
    await client.put("property", one.propertyId, one, {
      expectedVersion: 0,
      author: "world",
      activate: true,
    });
  client.watch(["purge"], (event) => {
    if (event.type !== "purge") return;
    for (const serverId of servers)
      void client.acknowledgePurge({
        purgeSeq: event.purge.purgeSeq,
        serverId: serverId as never,
        removed: 1,
      });
  });
  const tell = (): void => {
    for (const one of reports()) void client.publishReport(one);
  };
  tell();
  beat = setInterval(tell, 1_000);
  portal = await startPortal();
  origin = originOf(portal);
  await isPageBuilt(origin);
});
afterAll(async () => {
  clearInterval(beat);
  await client.close();
  await portal.stop();
  await control.stop();
  rmSync(directory, { recursive: true, force: true });
});

async function session(name: string, password: string, at = origin): Promise<string> {
  const answer = await fetch(`${at}/api/v1/session`, {
    method: "POST",
    headers: { "content-type": "application/json", "isochrone-portal": "1" },
    body: JSON.stringify({ name, password }),
  });
  expect(answer.status).toBe(200);
  return answer.headers.get("set-cookie")?.split(";")[0] ?? "";
}

describe("the process", () => {
  it("says ready with its address, and has the health paths and metrics", async () => {
    expect(portal.readyLine).toMatch(/^ready portal http:\/\/127\.0\.0\.1:\d+$/);
    for (const path of ["/livez", "/readyz"]) expect((await fetch(`${origin}${path}`)).status).toBe(200);
    expect(await (await fetch(`${origin}/metrics`)).text()).toContain("isochrone_portal_requests_total");
  });

  it.each([
    ["no token", { ...env, ISOCHRONE_CONTROL_TOKEN: undefined }, /ISOCHRONE_CONTROL_TOKEN: got nothing/],
    [
      "no accounts",
      { ...env, ISOCHRONE_PORTAL_ACCOUNTS: undefined },
      /ISOCHRONE_PORTAL_ACCOUNTS: got nothing/,
    ],
    [
      "bad accounts",
      { ...env, ISOCHRONE_PORTAL_ACCOUNTS: '[{"name":"a","password":"p4ss"}]' },
      /0\.password: expected/,
    ],
  ])("refuses %s with exit code 2 and one line", async (_what, environment, message) => {
    const ended = await runIsochroneHere(
      ["portal", "--listen", "127.0.0.1:0", "--control", controlUrl, "--state", join(directory, "refused")],
      { env: environment },
    );
    expect(ended.code).toBe(2);
    expect(ended.stderr).toMatch(message);
    expect(ended.stderr.trim().split("\n")).toHaveLength(1);
    expect(ended.stderr).not.toContain("p4ss");
  });

  it("refuses an address in use with what to do", async () => {
    const ended = await runIsochroneHere(
      [
        "portal",
        "--listen",
        origin.slice("http://".length),
        "--control",
        controlUrl,
        "--state",
        join(directory, "refused"),
      ],
      { env },
    );
    expect(ended.code).toBe(2);
    expect(ended.stderr).toMatch(/in use; stop the process/);
  });

  it("never writes a secret to its log", () => {
    expect(portal.stderr()).not.toMatch(/operator-pass|acme-pass|test-token/);
  });
});

describe("the live stream", () => {
  it("sends the state each second to a customer without operators' details, and ends at log-out", async () => {
    const cookie = await session("acme", "acme-pass");
    const answer = await fetch(`${origin}/api/v1/live`, { headers: { cookie } });
    expect(answer.headers.get("content-type")).toContain("text/event-stream");
    const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    while (text.split("event: state").length <= 3) text += (await reader.read()).value ?? "";
    expect(text).not.toContain("127.10.");
    await fetch(`${origin}/api/v1/session`, {
      method: "DELETE",
      headers: { cookie, "isochrone-portal": "1" },
    });
    for (;;) if ((await reader.read()).done) break;
    expect((await fetch(`${origin}/api/v1/live`, { headers: { cookie } })).status).toBe(401);
  });

  it("forgets a page whose connection is gone", async () => {
    const cookie = await session("operator", "operator-pass");
    const { hostname, port } = new URL(origin);
    const socket = createConnection({ host: hostname, port: Number(port) });
    socket.write(`GET /api/v1/live HTTP/1.1\r\nhost: ${hostname}:${port}\r\ncookie: ${cookie}\r\n\r\n`);
    const streams = async () =>
      /^isochrone_portal_streams (\d+)$/m.exec(await (await fetch(`${origin}/metrics`)).text())?.[1];
    await waitFor(async () => (await streams()) === "1", {
      timeoutMs: 5_000,
      what: "the stream to be counted",
    });
    socket.destroy();
    await waitFor(async () => (await streams()) === "0", {
      timeoutMs: 5_000,
      what: "the stream to be forgotten",
    });
  });

  it("sees a server fall silent and come back", async () => {
    const cookie = await session("operator", "operator-pass");
    const stateOf = async (serverId: string) => {
      const state = (await (await fetch(`${origin}/api/v1/state`, { headers: { cookie } })).json()) as {
        sites: { servers: { serverId: string; state: string }[] }[];
      };
      return state.sites.flatMap((site) => site.servers).find((one) => one.serverId === serverId)?.state;
    };
    await waitFor(async () => (await stateOf("ams-1")) === "ready", {
      timeoutMs: 5_000,
      what: "ams-1 ready",
    });
    silent.add("ams-1");
    await waitFor(async () => (await stateOf("ams-1")) === "down", { timeoutMs: 8_000, what: "ams-1 down" });
    silent.delete("ams-1");
    await waitFor(async () => (await stateOf("ams-1")) === "ready", {
      timeoutMs: 5_000,
      what: "ams-1 ready again",
    });
    expect(await stateOf("ams-2")).toBe("ready");
  });
});

describe.skipIf(chromiumPath === undefined)("in a browser", () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await launch();
  });
  afterAll(() => browser.close());

  it("logs in, shows the world, its own traffic, and asks no other host", async () => {
    const { page, complaints } = await openPage(browser, origin);
    await logIn(page, origin, "acme", "acme-pass");
    await page.locator("svg .site.edge").first().waitFor();
    expect(await page.locator("svg .sites .site").count()).toBe(12);
    expect(await page.locator("svg .link .line").count()).toBe(8);
    await page.locator("svg .link.relayed").waitFor();
    // 12 edge servers with 20 requests a second each; the other customer's 1,000 are not in it.
    await waitFor(
      async () => /^2[0-9]{2}\/s$/.test((await page.locator(".card strong").first().textContent()) ?? ""),
      { timeoutMs: 20_000, what: "240 requests a second" },
    );
    await page.getByRole("button", { name: /Sydney/ }).click();
    await page.getByText("syd-1").waitFor();
    expect(await page.content()).not.toContain("127.10.");
    await picture(page, "portal-overview-customer");
    await page.getByRole("link", { name: "Properties" }).click();
    await page.getByRole("link", { name: "video" }).waitFor();
    expect(await page.getByRole("link", { name: "news" }).count()).toBe(0);
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByLabel("Account").waitFor();
    expect(complaints).toEqual([]);
  });

  it("says at the field and at the line what is wrong, changes a TTL, activates it and rolls back", async () => {
    const { page, complaints } = await openPage(browser, origin);
    await logIn(page, origin, "acme", "acme-pass");
    await page.goto(`${origin}/properties/shop`);
    const ttl = page.getByLabel("Default TTL");
    await ttl.fill("-1");
    await page.getByText("got -1, expected a whole number").first().waitFor();
    expect(await ttl.getAttribute("aria-invalid")).toBe("true");
    expect(await page.locator("#source-faults").textContent()).toMatch(
      /line \d+.*caching\.defaultTtlSeconds/,
    );
    expect(await page.getByRole("button", { name: "Save and activate" }).isDisabled()).toBe(true);
    await picture(page, "portal-property-fault");

    await page.getByRole("button", { name: "YAML" }).click();
    await ttl.fill("5");
    await page.locator(".review .changes").getByText("caching.defaultTtlSeconds").waitFor();
    expect(await page.getByLabel("Document as YAML").inputValue()).toContain("defaultTtlSeconds: 5\n");
    await page.getByLabel("Note for the list of versions").fill("shorter");
    await page.getByRole("button", { name: "Save and activate" }).click();
    await page.getByText("Version 2 is in force").waitFor();
    expect((await client.document("property", "shop"))?.body).toMatchObject({
      caching: { defaultTtlSeconds: 5 },
    });
    expect((await client.document("property", "shop"))?.author).toBe("acme");

    await page.getByRole("button", { name: "Roll back…" }).click();
    await page.getByRole("dialog").getByText("caching.defaultTtlSeconds").waitFor();
    await picture(page, "portal-roll-back");
    await page.getByRole("button", { name: "Roll back to v1" }).click();
    await page.getByText("Version 1 is in force").waitFor();
    expect((await client.document("property", "shop"))?.version).toBe(1);
    expect(complaints).toEqual([]);
  });

  it("tells that somebody else saved, keeps the draft, and saves it after theirs", async () => {
    const { page } = await openPage(browser, origin);
    await logIn(page, origin, "acme", "acme-pass");
    await page.goto(`${origin}/properties/video`);
    await page.getByLabel("DNS TTL").fill("30");
    await client.put(
      "property",
      "video",
      { ...video, dnsTtlSeconds: 99 },
      { expectedVersion: 1, author: "colleague" },
    );
    await page.getByRole("button", { name: "Save as version 2" }).click();
    await page.getByText("Somebody else saved version 2 while version 1 was edited here").waitFor();
    await picture(page, "portal-conflict");
    await page.getByRole("button", { name: "Keep my draft, save it after 2" }).click();
    await page.getByRole("button", { name: "Save as version 3" }).click();
    await page.getByText("Version 3 is saved").waitFor();
    expect((await client.document("property", "video", 3))?.body).toMatchObject({ dnsTtlSeconds: 30 });
  });

  it("purges with live progress, by keyboard alone", async () => {
    const { page, complaints } = await openPage(browser, origin);
    await logIn(page, origin, "acme", "acme-pass");
    await page.getByRole("link", { name: "Purge" }).focus();
    await page.keyboard.press("Enter");
    await page.getByRole("option", { name: /shop/ }).waitFor({ state: "attached" });
    await page.getByLabel("URLs, one a line").focus();
    await page.keyboard.type("https://www.shop.example/index.html");
    // Tags, the chosen way (one stop), the button.
    for (let index = 0; index < 3; index++) await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.getByText(/servers in \d+(?:\.\d)? ms/).waitFor();
    expect(await page.locator(".purge-sum strong").textContent()).toBe("16/16");
    expect(await page.locator(".chips .done").count()).toBe(16);
    await picture(page, "portal-purge");
    expect(complaints).toEqual([]);
  });

  it.each([
    [1280, "dark"],
    [390, "light"],
  ] as const)("fits %i pixels on every page (%s)", async (width, colorScheme) => {
    const { page, complaints } = await openPage(browser, origin, { width, colorScheme });
    await logIn(page, origin, "operator", "operator-pass");
    for (const path of ["/", "/properties", "/properties/shop", "/policies", "/purge"]) {
      await page.goto(`${origin}${path}`);
      await page.locator("main h1").waitFor();
      await page.locator(".panel").first().waitFor();
      expect([path, await page.evaluate("document.documentElement.scrollWidth - innerWidth")]).toEqual([
        path,
        0,
      ]);
      const unnamed = await page
        .locator("input:visible, select:visible, textarea:visible")
        .evaluateAll(
          (controls) => controls.filter((one) => (one as HTMLInputElement).labels?.length === 0).length,
        );
      expect([path, unnamed]).toEqual([path, 0]);
      await picture(page, `portal-${width}${path.replaceAll("/", "-")}`);
    }
    expect(complaints).toEqual([]);
  });

  it("shows in which stage a change of a policy is, to its customer alone, and what halted it", async () => {
    const nameServer = async (serverId: string): Promise<void> => {
      await client.publishReport({ ...report(serverId), role: "nameserver" });
    };
    await client.put("policy", "acme", policyFor("acme"), { expectedVersion: 0 });
    await client.put("policy", "other", policyFor("other"), { expectedVersion: 0 });
    for (const serverId of ["fra-1", "fra-2"]) await nameServer(serverId);
    const changed = { ...policyFor("acme"), ttlSeconds: 7 };
    expect(await client.put("policy", "acme", changed, { expectedVersion: 1 })).toMatchObject({
      version: 2,
      activeVersion: 1,
    });
    const { page, complaints } = await openPage(browser, origin);
    await logIn(page, origin, "acme", "acme-pass");
    await page.getByRole("link", { name: "Policies" }).click();
    await page.getByText("v2, stage 1 of 2").waitFor();
    expect(await page.getByRole("row").count()).toBe(2);
    await picture(page, "policies");
    await client.haltRollout("policy", "acme");
    await page.getByText("v2 halted").waitFor();
    await page.getByText("stopped by hand").waitFor();
    expect(complaints).toEqual([]);
    await page.context().close();
  });

  it("shows a wrong password at the form", async () => {
    const { page } = await openPage(browser, origin);
    await page.goto(origin);
    await page.getByLabel("Account").fill("acme");
    await page.getByLabel("Password").fill("wrong");
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByText("The name or the password is wrong").waitFor();
  });
});

describe("with control away", () => {
  it("starts from its own disk, lists what is in force, and says that nothing can be changed", async () => {
    await control.stop();
    const second = await startPortal();
    try {
      const at = originOf(second);
      const cookie = await session("acme", "acme-pass", at);
      const list = (await (await fetch(`${at}/api/v1/properties`, { headers: { cookie } })).json()) as {
        properties: { propertyId: string; activeVersion: number }[];
      };
      expect(list.properties.map((one) => [one.propertyId, one.activeVersion])).toEqual([
        ["shop", 1],
        ["video", 1],
      ]);
      const state = (await (await fetch(`${at}/api/v1/state`, { headers: { cookie } })).json()) as {
        control: string;
        sites: unknown[];
      };
      expect([state.control, state.sites.length]).toEqual(["disconnected", topology.clusters.length]);
      const save = await fetch(`${at}/api/v1/properties/shop/versions`, {
        method: "POST",
        headers: { cookie, "content-type": "application/json", "isochrone-portal": "1" },
        body: JSON.stringify({ document: shop, expectedVersion: 2 }),
      });
      expect(save.status).toBe(503);
      expect(await save.text()).toContain("nothing was changed");
    } finally {
      expect(await second.stop()).toEqual({ code: 0, signal: null });
    }
  });
});
