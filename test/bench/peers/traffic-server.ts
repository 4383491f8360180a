/**
 * Apache Traffic Server with its RAM cache over a cache file. `default` keeps Debian's records.config as far as it shows under load;
 * `tuned` is one event thread for one worker, no response header that costs, and the binary access log that it ships with.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "../../tools/processes.ts";
import { findProgram, listening, runToEnd, scratchDirectory, startProgram } from "../tools/program.ts";
import { header, type Server, type Setting, writeConfiguration } from "./peer.ts";

interface Form {
  readonly name: string;
  readonly note: string;
  readonly isTuned: boolean;
}

const DIRECTORIES = ["etc", "log", "run", "cache"];

async function start(form: Form, setting: Setting, command: string) {
  const directory = scratchDirectory("trafficserver", form.isTuned);
  for (const name of DIRECTORIES) mkdirSync(join(directory, name), { recursive: true });
  const port = await freePort();
  const etc = join(directory, "etc");
  const set = (name: string, type: "INT" | "STRING" | "FLOAT", value: number | string): string =>
    `CONFIG proxy.config.${name} ${type} ${value}`;
  writeConfiguration(join(etc, "records.config"), [
    set("http.server_ports", "STRING", `${port}:ip-in=127.0.0.1`),
    // Root would become the packaged user and could not use our directory.
    set("admin.user_id", "STRING", "#-1"),
    set("log.logfile_dir", "STRING", join(directory, "log")),
    set("log.logging_enabled", "INT", 3),
    set("log.max_space_mb_for_logs", "INT", 2000),
    set("exec_thread.autoconfig", "INT", form.isTuned ? 0 : 1),
    set("exec_thread.autoconfig.scale", "FLOAT", "1.0"),
    set("exec_thread.limit", "INT", form.isTuned ? setting.workers : 2),
    set("task_threads", "INT", form.isTuned ? 1 : 2),
    set("cache.threads_per_disk", "INT", 8),
    // With a size given the RAM cache is a copy of what the storage has: as small as it can be, so that it adds nothing.
    set("cache.ram_cache.size", "INT", setting.cacheBytes === undefined ? (form.isTuned ? "1G" : -1) : "1M"),
    set("cache.ram_cache_cutoff", "INT", 4_194_304),
    set("http.cache.http", "INT", setting.role === "cache" ? 1 : 0),
    set("http.cache.required_headers", "INT", 2),
    set("http.insert_response_via_str", "INT", 0),
    set("http.keep_alive_no_activity_timeout_in", "INT", 120),
    set("http.normalize_ae", "INT", 1),
    set("url_remap.remap_required", "INT", 1),
    set("reverse_proxy.enabled", "INT", 1),
    set("net.connections_throttle", "INT", 30_000),
    set("diags.debug.enabled", "INT", 0),
  ]);
  writeConfiguration(join(etc, "remap.config"), [`map / http://127.0.0.1:${setting.originPort}/`]);
  writeConfiguration(join(etc, "storage.config"), [
    `${join(directory, "cache")} ${setting.cacheBytes ?? "512M"}`,
  ]);
  writeConfiguration(join(etc, "ip_allow.yaml"), [
    "ip_allow:",
    "  - apply: in",
    "    ip_addrs: 0/0",
    "    action: allow",
    "    methods: ALL",
  ]);
  writeConfiguration(join(etc, "logging.yaml"), [
    "logging:",
    "  formats:",
    "    - name: squid",
    "      format: '%<cqtq> %<ttms> %<chi> %<crc>/%<pssc> %<psql> %<cqhm> %<cquc> %<caun> %<phr>/%<shn> %<psct>'",
    "  logs:",
    "    - filename: squid",
    "      format: squid",
    "      mode: binary",
  ]);
  for (const name of [
    "plugin.config",
    "cache.config",
    "hosting.config",
    "parent.config",
    "volume.config",
    "splitdns.config",
    "ssl_multicert.config",
    "socks.config",
    "sni.yaml",
    "strategies.yaml",
  ])
    writeConfiguration(join(etc, name), [""]);
  const runRoot = writeConfiguration(join(directory, "runroot.yaml"), [
    ...["prefix", "exec_prefix"].map((name) => `${name}: /usr`),
    "bindir: /usr/bin",
    "sbindir: /usr/sbin",
    `sysconfdir: ${etc}`,
    "datadir: /usr/share/trafficserver",
    "includedir: /usr/include",
    "libdir: /usr/lib/trafficserver",
    "libexecdir: /usr/lib/trafficserver/modules",
    `localstatedir: ${join(directory, "run")}`,
    `runtimedir: ${join(directory, "run")}`,
    `logdir: ${join(directory, "log")}`,
    `cachedir: ${join(directory, "cache")}`,
  ]);
  const program = startProgram(command, [`--run-root=${runRoot}`]);
  await listening(program, `Traffic Server ${form.name}`, port);
  return { port, tlsPort: undefined, pids: [program.pid], stop: () => program.stop() };
}

export const trafficServer: readonly Server[] = (
  [
    {
      name: "default",
      note: "Debian's records.config: an event thread a core, binary access log",
      isTuned: false,
    },
    {
      name: "tuned",
      note: "one event thread, 1 GiB RAM cache, everything on tmpfs, binary access log",
      isTuned: true,
    },
  ] satisfies readonly Form[]
).map((form) => {
  const program = findProgram("traffic_server");
  return {
    name: "trafficserver",
    form: form.name,
    note: form.note,
    program,
    version: async () =>
      /Traffic Server (\S+)/.exec(await runToEnd(program ?? "traffic_server", ["-V"], 5000))?.[1] ?? "",
    start: (setting) => start(form, setting, program ?? "traffic_server"),
    // Only what was stored has an age; that the origin was not asked is looked at besides, as with every server.
    isHit: (headers) => header(headers, "age") !== "",
  };
});
