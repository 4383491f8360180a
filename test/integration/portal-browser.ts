/** A real browser on the portal: it must ask no other host, and its console must stay clean. */
import type { Browser, Page } from "playwright-core";
import { CHROMIUM_NAMES, launchChromium } from "../tools/browser.ts";
import { requireProgram } from "../tools/processes.ts";

export const chromiumPath = requireProgram(...CHROMIUM_NAMES);

export function launch(): Promise<Browser> {
  if (chromiumPath === undefined) throw new Error("no chromium");
  return launchChromium(chromiumPath);
}

export interface Watched {
  readonly page: Page;
  /** Requests to other hosts, console errors and warnings, uncaught errors: all should be none. */
  readonly complaints: string[];
}

export async function openPage(
  browser: Browser,
  origin: string,
  options: { width?: number; height?: number; colorScheme?: "light" | "dark" } = {},
): Promise<Watched> {
  const { width = 1280, height = 900, colorScheme = "light" } = options;
  const context = await browser.newContext({ viewport: { width, height }, colorScheme });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  const complaints: string[] = [];
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== origin) complaints.push(`asked ${request.url()}`);
  });
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning")
      complaints.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => complaints.push(`uncaught: ${error.message}`));
  return { page, complaints };
}

export async function logIn(page: Page, origin: string, name: string, password: string): Promise<void> {
  await page.goto(`${origin}/`);
  await page.getByLabel("Account").fill(name);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("heading", { name: "Overview" }).waitFor();
}

/** A picture for a person to look at, when ISOCHRONE_SCREENSHOTS names a directory. */
export async function picture(page: Page, name: string): Promise<void> {
  const directory = process.env["ISOCHRONE_SCREENSHOTS"];
  if (directory !== undefined && directory !== "")
    await page.screenshot({ path: `${directory}/${name}.png`, fullPage: true });
}
