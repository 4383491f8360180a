/** How the page is built: one script, one style sheet, no inline script (the content security policy forbids it). */
import preactPreset from "@preact/preset-vite";
import { join } from "node:path";
import { defineConfig } from "vite";

export default defineConfig({
  root: join(import.meta.dirname, "web"),
  base: "/",
  publicDir: false,
  plugins: [preactPreset({ devToolsEnabled: false, prefreshEnabled: false })],
  build: {
    target: "es2023",
    modulePreload: false,
    // An inlined asset would be a data: URL, which the policy refuses.
    assetsInlineLimit: 0,
    reportCompressedSize: false,
  },
});
