/**
 * Goal: a page that is open tells the truth while what stands behind it goes away and comes back, and loses nothing that
 * was typed.
 * Method: control and portal as processes on fixed ports, Chromium on the page; processes are stopped, frozen and started.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ControlClient } from "#control";
import { createLogger } from "#kit/io";
import { type IsochroneProcess, startIsochrone, waitFor } from "../tools/processes.ts";
import { map, news, report, shop, topology } from "../unit/portal/fixtures.ts";
import { chromiumPath, launch, logIn, openPage, picture } from "./portal-browser.ts";

const token = "test-token-0123456789";
const env = {
  ISOCHRONE_CONTROL_TOKEN: token,
  ISOCHRONE_PORTAL_ACCOUNTS: JSON.stringify([
    { name: "operator", password: "operator-pass", customerId: null },
    { name: "acme", password: "acme-pass", customerId: "acme" },
  ]),
};
const directory = mkdtempSync(join(tmpdir(), "isochrone-portal-away-"));
const originOf = (one: IsochroneProcess): string => one.readyLine.split(" ").at(-1) ?? "";
const listenOf = (url: string): string => url.slice("http://".length);

describe.skipIf(chromiumPath === undefined)("a page whose ground moves", () => {
  let browser: Browser;
  let control: IsochroneProcess;
  let portal: IsochroneProcess;
  let controlUrl: string;
  let origin: string;
  let client: ControlClient;
  let beat: NodeJS.Timeout;

  const startControl = (listen: string): Promise<IsochroneProcess> =>
    startIsochrone(["control", "--listen", listen, "--state", join(directory, "control")], { env });
  const startPortal = (listen: string): Promise<IsochroneProcess> =>
    startIsochrone(
      ["portal", "--listen", listen, "--control", controlUrl, "--state", join(directory, "portal")],
      { env },
    );
  const isBuilt = (): Promise<unknown> =>
    waitFor(async () => (await fetch(origin).catch(() => undefined))?.status === 200, {
      timeoutMs: 60_000,
      what: "the page to be built",
      intervalMs: 100,
    });

  beforeAll(async () => {
    control = await startControl("127.0.0.1:0");
    controlUrl = originOf(control);
    client = new ControlClient({
      url: controlUrl,
      token,
      nodeId: "test",
      logger: createLogger({ role: "test", id: "test" }, { level: "silent" }),
    });
    await client.put("topology", topology.name, topology, { expectedVersion: 0 });
    await client.put("map", topology.name, map, { expectedVersion: 0 });
    for (const one of [shop, news])
      await client.put("property", one.propertyId, one, { expectedVersion: 0, activate: true });
    const tell = (): void => {
      void client.publishReport(report("ams-1", { shop: { requests: 1, hits: 0 } })).catch(() => {});
    };
    beat = setInterval(tell, 1_000);
    portal = await startPortal("127.0.0.1:0");
    origin = originOf(portal);
    await isBuilt();
    browser = await launch();
  });
  afterAll(async () => {
    clearInterval(beat);
    await browser.close();
    await client.close();
    await portal.stop();
    await control.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  it("has a title for each page, the time zone, and a page for an address that does not exist", async () => {
    const { page } = await openPage(browser, origin);
    await page.goto(origin);
    await page.getByLabel("Account").waitFor();
    expect(await page.title()).toBe("Log in · Isochrone");
    await logIn(page, origin, "acme", "acme-pass");
    for (const [path, title] of [
      ["/", "Overview"],
      ["/properties", "Properties"],
      ["/properties/shop", "shop"],
      ["/purge", "Purge"],
      ["/nowhere", "Nothing here"],
    ] as const) {
      await page.goto(`${origin}${path}`);
      await page.locator("main h1").waitFor();
      expect(await page.title()).toBe(`${title} · Isochrone`);
    }
    await page.goto(origin);
    await page
      .getByText(/times in (?:UTC|GMT|[A-Z]{3,4})/)
      .first()
      .waitFor();
    await page.context().close();
  });

  it("keeps a draft from the back button, when it is asked to", async () => {
    const { page } = await openPage(browser, origin);
    await logIn(page, origin, "acme", "acme-pass");
    await page.getByRole("link", { name: "Properties" }).click();
    await page.getByRole("link", { name: "shop" }).click();
    await page.getByLabel("DNS TTL").fill("77");
    page.once("dialog", (dialog) => void dialog.dismiss());
    await page.evaluate("history.back()");
    await waitFor(async () => page.url() === `${origin}/properties/shop`, {
      timeoutMs: 5_000,
      what: "the address to be put back",
    });
    expect(await page.getByLabel("DNS TTL").inputValue()).toBe("77");
    await page.context().close();
  });

  it("says that control is away where it matters, shows what was last known, and goes on by itself", async () => {
    const { page } = await openPage(browser, origin);
    await logIn(page, origin, "acme", "acme-pass");
    await control.stop();
    await page.getByText("Control away").waitFor();
    await page.getByText("not known: control is away").waitFor();
    await page.goto(`${origin}/properties/shop`);
    await page.getByText("This is the property as it was last known").waitFor();
    await page.getByLabel("DNS TTL").fill("33");
    await page.getByRole("button", { name: "Save and activate" }).click();
    await page.getByRole("alert").getByText("nothing was changed").waitFor();
    await picture(page, "portal-control-away");
    control = await startControl(listenOf(controlUrl));
    await page.getByText("This is the property as it was last known").waitFor({ state: "detached" });
    expect(await page.getByLabel("DNS TTL").inputValue()).toBe("33");
    await page.getByRole("button", { name: "Save and activate" }).click();
    await page.getByText("Version 2 is in force").waitFor();
    await page.context().close();
  });

  it("says within seconds that a frozen portal sends nothing, and goes on when it thaws", async () => {
    const { page } = await openPage(browser, origin);
    await logIn(page, origin, "acme", "acme-pass");
    await page.getByText("Live", { exact: true }).waitFor();
    process.kill(portal.pid, "SIGSTOP");
    try {
      await page.getByText("No live data").waitFor({ timeout: 10_000 });
      await page.getByText("The portal has sent nothing since").waitFor();
    } finally {
      process.kill(portal.pid, "SIGCONT");
    }
    await page.getByText("Live", { exact: true }).waitFor();
    await page.context().close();
  });

  it("asks for the password again when the session is gone, and the draft is still there", async () => {
    const { page } = await openPage(browser, origin);
    await logIn(page, origin, "acme", "acme-pass");
    await page.goto(`${origin}/properties/shop`);
    await page.getByLabel("DNS TTL").fill("44");
    await page.getByLabel("Note for the list of versions").fill("half written");
    await portal.stop();
    await page.getByText("No live data").waitFor();
    page.once("dialog", (dialog) => void dialog.accept());
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByText("You are still logged in").waitFor();
    portal = await startPortal(listenOf(origin));
    await isBuilt();
    await page.getByText("The session is over. Log in again").waitFor();
    expect(await page.title()).toBe("Log in · Isochrone");
    await picture(page, "portal-session-over");
    expect(await page.getByLabel("Account").inputValue()).toBe("acme");
    await page.getByLabel("Password").fill("acme-pass");
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByText("Live", { exact: true }).waitFor();
    expect(await page.getByLabel("DNS TTL").inputValue()).toBe("44");
    expect(await page.getByLabel("Note for the list of versions").inputValue()).toBe("half written");
    await page.context().close();
  });
});
