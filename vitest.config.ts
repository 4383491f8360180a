import { defineConfig } from "vitest/config";

/**
 * Two projects, because they differ in what they may touch: `fast` holds everything that needs no process of its own
 * (unit, property, contract, conformance, layer rules); `world` starts real processes and sockets and runs one file
 * at a time, so that suites do not fight for two cores.
 */
export default defineConfig({
  test: {
    reporters: process.env["CI"] ? ["default", "./test/tools/ci-reporter.ts"] : ["default"],
    projects: [
      {
        extends: true,
        test: {
          name: "fast",
          include: ["test/{unit,property,contract,conformance,rules}/**/*.test.ts"],
          setupFiles: ["./test/tools/fast-check.ts"],
          testTimeout: 20_000,
        },
      },
      {
        extends: true,
        test: {
          name: "world",
          include: ["test/{integration,lab,sim}/**/*.test.ts"],
          fileParallelism: false,
          testTimeout: 90_000,
          hookTimeout: 90_000,
        },
      },
    ],
  },
});
