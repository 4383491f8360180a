/**
 * Run by itself before a world starts: loads every room's process once and writes the compile cache, so that thirty
 * processes do not each strip the same types. Measured: 0.7 s once, and each process that starts afterwards takes a third of the CPU
 * and about 25 MB less memory (the stripper is never loaded).
 */
import module from "node:module";

module.enableCompileCache();
await Promise.all([
  import("../main.ts"),
  import("../../edge/main-process.ts"),
  import("../../edge/main.ts"),
  import("../../mapping/main-dns.ts"),
  import("../../mapping/main-mapper.ts"),
  import("../../origin-sim/main.ts"),
  import("../../portal/main.ts"),
  import("../../transport/main.ts"),
]);
module.flushCompileCache();
// What a room keeps open once it is loaded is no reason to stay.
process.exit(0);
