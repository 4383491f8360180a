/** A real browser for suites and lab programs. */
import { type Browser, chromium } from "playwright-core";

export const CHROMIUM_NAMES = ["chromium", "chromium-browser", "google-chrome"] as const;

/** Flags that keep the browser from speaking to its maker. */
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** `more`: flags beside the usual ones. Rejects when it does not start. */
export function launchChromium(executablePath: string, more: readonly string[] = []): Promise<Browser> {
  return chromium.launch({ executablePath, headless: true, args: [...FLAGS, ...more] });
}
