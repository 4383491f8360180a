/**
 * nginx with proxy_cache. `default` is Debian's nginx.conf with the cache of nginx' own guide; `tuned` takes what its documentation
 * and its makers' articles advise for a cache: buffered log, kept upstream connections, open files cached, cache on tmpfs.
 */
import { readdirSync, statSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import { freePort, waitFor } from "../../tools/processes.ts";
import { findProgram, listening, runToEnd, scratchDirectory, startProgram } from "../tools/program.ts";
import { header, type Server, type Setting, writeConfiguration } from "./peer.ts";

interface Form {
  readonly name: string;
  readonly note: string;
  readonly isTuned: boolean;
  readonly log: "buffered" | "unbuffered";
  /** Off, head and body leave in one write, which is cheaper for small objects and dearer for large ones. */
  readonly usesSendfile: boolean;
  /** On, an answer of several packets waited tens of milliseconds on loopback and cost half as much CPU again. */
  readonly usesTcpNopush: boolean;
  /** Level of gzip for all text, on the fly; undefined: as the form has it. */
  readonly gzipLevel?: number;
}

/** What files take on their file system, as nginx counts them: in blocks. */
function bytesOnDisk(directory: string): number {
  let bytes = 0;
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true }))
    if (entry.isFile())
      bytes += (statSync(join(entry.parentPath, entry.name), { throwIfNoEntry: false })?.blocks ?? 0) * 512;
  return bytes;
}

async function start(form: Form, setting: Setting, command: string) {
  const directory = scratchDirectory("nginx", form.isTuned);
  const port = await freePort();
  const tlsPort = setting.certificate && (await freePort());
  const { isTuned } = form;
  const configuration = writeConfiguration(join(directory, "nginx.conf"), [
    // Started by root the workers would become "nobody" and could not use our directory.
    process.getuid?.() === 0 && `user ${userInfo().username};`,
    `worker_processes ${setting.workers};`,
    "daemon off;",
    `pid ${directory}/nginx.pid;`,
    `error_log ${directory}/error.log warn;`,
    isTuned && "worker_rlimit_nofile 65536;",
    "events {",
    `  worker_connections ${isTuned ? 16_384 : 768};`,
    isTuned && "  multi_accept on;",
    "}",
    "http {",
    `  sendfile ${form.usesSendfile ? "on" : "off"};`,
    `  tcp_nopush ${form.usesTcpNopush ? "on" : "off"};`,
    "  default_type application/octet-stream;",
    form.log === "buffered"
      ? `  access_log ${directory}/access.log combined buffer=64k flush=1s;`
      : `  access_log ${directory}/access.log combined;`,
    isTuned && form.gzipLevel === undefined ? "  gzip off;" : "  gzip on;",
    ...(form.gzipLevel === undefined
      ? []
      : [
          `  gzip_comp_level ${form.gzipLevel};`,
          "  gzip_types text/css text/javascript application/json;",
          "  gzip_vary on;",
        ]),
    // By default a connection ends after 1,000 requests, which would measure connects, and h2load does not come back.
    (isTuned || setting.certificate !== undefined) && "  keepalive_requests 1000000000;",
    isTuned && "  keepalive_timeout 75s;",
    isTuned && "  open_file_cache max=20000 inactive=60s;",
    isTuned && "  open_file_cache_valid 60s;",
    ...["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
      (name) => `  ${name}_temp_path ${directory}/${name};`,
    ),
    setting.role === "cache" &&
      `  proxy_cache_path ${directory}/cache levels=1:2 keys_zone=bench:64m max_size=${setting.cacheBytes ?? "4g"} inactive=1d use_temp_path=off${
        setting.cacheBytes === undefined
          ? ""
          : " manager_sleep=20ms manager_files=100000 manager_threshold=5s"
      };`,
    `  upstream origin { server 127.0.0.1:${setting.originPort};${isTuned ? " keepalive 64; keepalive_requests 1000000000;" : ""} }`,
    "  server {",
    `    listen 127.0.0.1:${port}${isTuned ? " backlog=4096" : ""}${setting.workers > 1 ? " reuseport" : ""};`,
    tlsPort !== undefined && `    listen 127.0.0.1:${tlsPort} ssl http2;`,
    ...(setting.certificate === undefined
      ? []
      : [
          `    ssl_certificate ${setting.certificate.certificateFile};`,
          `    ssl_certificate_key ${setting.certificate.keyFile};`,
          "    ssl_protocols TLSv1.2 TLSv1.3;",
          isTuned && "    ssl_session_cache shared:tls:10m;",
        ]),
    "    location / {",
    "      proxy_pass http://origin;",
    isTuned && "      proxy_http_version 1.1;",
    isTuned && '      proxy_set_header Connection "";',
    ...(setting.role === "cache"
      ? ["      proxy_cache bench;", "      add_header X-Cache-Status $upstream_cache_status;"]
      : []),
    "    }",
    "  }",
    "}",
  ]);
  const program = startProgram(command, ["-p", directory, "-c", configuration]);
  await listening(program, `nginx ${form.name}`, port);
  const { cacheBytes } = setting;
  return {
    port,
    tlsPort,
    pids: [program.pid],
    stop: () => program.stop(),
    // Its cache manager looks every 10 s, which no directive changes, and the cache holds far more than max_size in between. A
    // reload starts a new manager, which looks at once.
    ...(cacheBytes !== undefined && {
      shrink: async () => {
        process.kill(program.pid, "SIGHUP");
        await waitFor(() => bytesOnDisk(join(directory, "cache")) <= cacheBytes, {
          timeoutMs: 10_000,
          what: "nginx's cache within max_size",
        });
      },
    }),
  };
}

const FORMS: readonly Form[] = [
  {
    name: "default",
    note: "Debian's nginx.conf, one worker, access log unbuffered",
    isTuned: false,
    log: "unbuffered",
    usesSendfile: true,
    usesTcpNopush: true,
  },
  {
    name: "tuned",
    note: "cache on tmpfs, open_file_cache, sendfile without tcp_nopush, keep-alive without limit, access log buffered",
    isTuned: true,
    log: "buffered",
    usesSendfile: true,
    usesTcpNopush: false,
  },
  {
    name: "tuned-small",
    note: "tuned, but sendfile off: the best for objects of a few KiB",
    isTuned: true,
    log: "buffered",
    usesSendfile: false,
    usesTcpNopush: false,
  },
];

/** `tuned` with gzip on the fly: at the level that nginx has by default, and at the one that zlib has. */
const GZIP_FORMS: readonly Form[] = [1, 6].map((gzipLevel) => ({
  name: `gzip-${gzipLevel}`,
  note: `tuned, gzip on for all text at level ${gzipLevel}${gzipLevel === 1 ? ", nginx's default" : ""}`,
  isTuned: true,
  log: "buffered",
  usesSendfile: true,
  usesTcpNopush: false,
  gzipLevel,
}));

function serverOf(form: Form): Server {
  const program = findProgram("nginx");
  return {
    name: "nginx",
    form: form.name,
    note: form.note,
    program,
    version: async () => /nginx\/(\S+)/.exec(await runToEnd(program ?? "nginx", ["-v"], 5000))?.[1] ?? "",
    start: (setting) => start(form, setting, program ?? "nginx"),
    isHit: (headers) => header(headers, "x-cache-status") === "HIT",
  };
}

export const nginx: readonly Server[] = FORMS.map(serverOf);
export const nginxGzip: readonly Server[] = GZIP_FORMS.map(serverOf);
