/** `isochrone dns` with a fault: a query whose name begins with the label `crash` ends the process that looks at it, one with `spin` never returns. */
import module from "node:module";

module.enableCompileCache();
const { runNameServer } = await import("#mapping");
const headerBytes = 12;

process.exitCode = await runNameServer(process.argv.slice(2), (query) => {
  const label = Buffer.from(query.subarray(headerBytes + 1, headerBytes + 1 + (query[headerBytes] ?? 0)))
    .toString("latin1")
    .toLowerCase();
  if (label === "crash") process.abort();
  while (label === "spin");
});
