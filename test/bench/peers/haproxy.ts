/** HAProxy with its small-object cache. By default nothing is logged; `tuned` logs to a file through standard output. */
import { join } from "node:path";
import { freePort } from "../../tools/processes.ts";
import { findProgram, listening, runToEnd, scratchDirectory, startProgram } from "../tools/program.ts";
import { header, type Server, type Setting, writeConfiguration } from "./peer.ts";

interface Form {
  readonly name: string;
  readonly note: string;
  readonly isTuned: boolean;
}

async function start(form: Form, setting: Setting, command: string) {
  const directory = scratchDirectory("haproxy", form.isTuned);
  const port = await freePort();
  const isCache = setting.role === "cache";
  const configuration = writeConfiguration(join(directory, "haproxy.cfg"), [
    "global",
    "  maxconn 8000",
    form.isTuned && `  nbthread ${setting.workers}`,
    "defaults",
    "  mode http",
    "  timeout connect 5s",
    "  timeout client 50s",
    "  timeout server 50s",
    "frontend front",
    `  bind 127.0.0.1:${port}`,
    form.isTuned && "  log stdout format raw local0",
    form.isTuned && "  option httplog",
    isCache && "  http-request cache-use bench",
    isCache && "  http-response cache-store bench",
    isCache && "  http-after-response set-header X-Cache-Status HIT if { res.cache_hit }",
    "  default_backend back",
    "backend back",
    `  server origin 127.0.0.1:${setting.originPort}`,
    ...(isCache
      ? [
          "cache bench",
          // Without these it stores 60 s at most and no object over 1/256 of the cache.
          "  total-max-size 512",
          "  max-object-size 4194304",
          "  max-age 86400",
        ]
      : []),
  ]);
  const program = startProgram(command, ["-f", configuration, "-db"], {
    stdoutFile: join(directory, "access.log"),
  });
  await listening(program, `HAProxy ${form.name}`, port);
  return { port, tlsPort: undefined, pids: [program.pid], stop: () => program.stop() };
}

export const haproxy: readonly Server[] = (
  [
    { name: "default", note: "a thread a core, no log", isTuned: false },
    { name: "tuned", note: "one thread, HTTP log to a file", isTuned: true },
  ] satisfies readonly Form[]
).map((form) => {
  const program = findProgram("haproxy");
  return {
    name: "haproxy",
    form: form.name,
    note: form.note,
    program,
    version: async () => /version (\S+)/.exec(await runToEnd(program ?? "haproxy", ["-v"], 5000))?.[1] ?? "",
    start: (setting) => start(form, setting, program ?? "haproxy"),
    isHit: (headers) => header(headers, "x-cache-status") === "HIT",
  };
});
