/**
 * Varnish, objects in memory (malloc). It always writes its shared memory log; the access log as a file is varnishncsa's, a second
 * program, whose CPU time counts in the form that has it.
 */
import { join } from "node:path";
import { freePort } from "../../tools/processes.ts";
import {
  findProgram,
  listening,
  type RunningProgram,
  runToEnd,
  scratchDirectory,
  startProgram,
} from "../tools/program.ts";
import { header, type Server, type Setting, writeConfiguration } from "./peer.ts";

interface Form {
  readonly name: string;
  readonly note: string;
  readonly isTuned: boolean;
  readonly hasAccessLog: boolean;
}

/** Varnish' guide: enough threads before the load comes, a deep accept queue, no compression work, log memory on tmpfs. */
const TUNED = [
  "thread_pools=2",
  "thread_pool_min=300",
  "thread_pool_max=2000",
  "thread_pool_timeout=600",
  "listen_depth=4096",
  "http_gzip_support=off",
  "timeout_idle=60",
];

async function start(form: Form, setting: Setting, command: string) {
  const directory = scratchDirectory("varnish", form.isTuned);
  const port = await freePort();
  const vcl = writeConfiguration(join(directory, "default.vcl"), [
    "vcl 4.1;",
    `backend default { .host = "127.0.0.1"; .port = "${setting.originPort}"; }`,
    setting.role === "proxy" && "sub vcl_recv { return (pass); }",
  ]);
  const work = join(directory, "work");
  const program = startProgram(command, [
    "-F",
    // No jail: it would change to the packaged user, who could not use our directory.
    "-j",
    "none",
    "-n",
    work,
    "-a",
    `127.0.0.1:${port}`,
    "-f",
    vcl,
    "-s",
    `malloc,${setting.cacheBytes ?? (form.isTuned ? "1g" : "256m")}`,
    // An object's place in the list of uses is renewed every 2 s at most by default, which a compressed trace does not wait for; and
    // at most 50 objects make room for one, which fails then.
    ...(setting.cacheBytes === undefined ? [] : ["-p", "lru_interval=0", "-p", "nuke_limit=100000"]),
    ...(form.isTuned ? TUNED.flatMap((parameter) => ["-p", parameter]) : []),
  ]);
  await listening(program, `varnish ${form.name}`, port);
  const log: RunningProgram | undefined = form.hasAccessLog
    ? startProgram(findProgram("varnishncsa") ?? "varnishncsa", [
        "-n",
        work,
        "-w",
        join(directory, "access.log"),
      ])
    : undefined;
  return {
    port,
    tlsPort: undefined,
    pids: [program.pid, ...(log === undefined ? [] : [log.pid])],
    stop: async () => {
      await log?.stop();
      await program.stop();
    },
  };
}

export const varnish: readonly Server[] = (
  [
    {
      name: "default",
      note: "as packaged: malloc 256m, default threads, shared memory log only",
      isTuned: false,
      hasAccessLog: false,
    },
    {
      name: "tuned",
      note: "600 threads ready, no gzip, work directory on tmpfs, shared memory log only",
      isTuned: true,
      hasAccessLog: false,
    },
    { name: "tuned-ncsa", note: "tuned, with varnishncsa writing a file", isTuned: true, hasAccessLog: true },
  ] satisfies readonly Form[]
).map((form) => {
  const program = findProgram("varnishd");
  return {
    name: "varnish",
    form: form.name,
    note: form.note,
    program,
    version: async () => /varnish-(\S+)/.exec(await runToEnd(program ?? "varnishd", ["-V"], 5000))?.[1] ?? "",
    start: (setting) => start(form, setting, program ?? "varnishd"),
    // Two transaction ids: this request's and the one that fetched the object.
    isHit: (headers) => header(headers, "x-varnish").includes(" "),
  };
});
