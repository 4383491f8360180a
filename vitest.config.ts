import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { defineConfig } from "vitest/config";

/**
 * Suites that need the machine for themselves: they run whole worlds on addresses of their own, or measure waits that other
 * work would lengthen.
 */
const ALONE = [
  "test/integration/{up,up-refusals,portal-world}.test.ts",
  "test/integration/transport.test.ts",
  "test/integration/{overload,edge-slow-clients,edge-protection,http-cache-conformance}.test.ts",
];

// For the processes that suites on sockets run in, and for the servers that those start: compiled once, not once each.
process.env["NODE_COMPILE_CACHE"] ??= join(tmpdir(), "node-compile-cache");

/**
 * Suites on sockets are run by Node itself, as the servers are: it strips types once for all of them, where Vite's module runner would
 * transform each module and evaluate its copy of it for each file. Their files share a process's modules, as the pure suites do.
 * Together a third less CPU (five suites of edges: 32.8 -> 21.8 s).
 */
const BY_NODE = { isolate: false, experimental: { viteModuleRunner: false, nodeLoader: false } };

/**
 * Three projects, because they differ in what they may touch: `fast` holds everything that needs no process of its own (unit,
 * property, contract, conformance, layer rules); `sockets` starts processes and sockets, some files at a time; `world` runs one file at a time.
 */
export default defineConfig({
  test: {
    // One a core: by itself vitest leaves one of them free, which is half of a small machine.
    maxWorkers: "100%",
    reporters: process.env["CI"] ? ["default", "./test/tools/ci-reporter.ts"] : ["default"],
    projects: [
      {
        extends: true,
        test: {
          name: "fast",
          // These files own nothing of the process, so they may share its modules: reading them anew for each took as long as the tests.
          isolate: false,
          include: ["test/{unit,property,contract,conformance,rules}/**/*.test.ts"],
          setupFiles: ["./test/tools/fast-check.ts"],
          testTimeout: 20_000,
        },
      },
      {
        extends: true,
        test: {
          name: "sockets",
          ...BY_NODE,
          include: ["test/{integration,lab,sim}/**/*.test.ts"],
          exclude: ALONE,
          testTimeout: 90_000,
          hookTimeout: 90_000,
          // These wait for processes a quarter of their time: half as many files again as cores.
          maxWorkers: Math.ceil(availableParallelism() * 1.5),
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: "world",
          ...BY_NODE,
          include: ALONE,
          fileParallelism: false,
          sequence: { groupOrder: 2 },
          testTimeout: 90_000,
          hookTimeout: 90_000,
        },
      },
    ],
  },
});
