/** Builds the page into the directory that is named: `node portal/main-build.ts DIRECTORY`. Run by `io/web-build.ts`. */
import { join } from "node:path";
import { build } from "vite";

const [directory] = process.argv.slice(2);
if (directory === undefined) {
  console.error("usage: node portal/main-build.ts DIRECTORY");
  process.exitCode = 2;
} else {
  try {
    await build({
      configFile: join(import.meta.dirname, "vite.config.ts"),
      logLevel: "warn",
      build: { outDir: directory, emptyOutDir: true },
    });
  } catch (error) {
    // Its stack leads into the bundler, not to what is wrong.
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  }
}
