/** Our own edge, alone in front of one origin. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { freePort, runIsochrone, startIsochrone } from "../../tools/processes.ts";
import { dieWithUs, scratchDirectory } from "../tools/program.ts";
import { header, type Server } from "./peer.ts";

const ROOT = join(import.meta.dirname, "..", "..", "..");

let help: Promise<string> | undefined;

/** The flags that this checkout's edge knows: benchmarks of what is not built yet say so instead of failing oddly. */
export async function hasFlag(flag: string): Promise<boolean> {
  help ??= runIsochrone(["edge", "--help"]).then((ended) => ended.stdout);
  return (await help).includes(flag);
}

function form(name: string, note: string, wantsLog: boolean, more: readonly string[] = []): Server {
  return {
    name: "isochrone",
    form: name,
    note,
    program: process.execPath,
    version: async () => {
      const manifest = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string };
      const log = (await hasFlag("--access-log")) ? "" : " (no access log: this edge has no --access-log)";
      return `${manifest.version}, node ${process.versions.node}${log}`;
    },
    start: async (setting) => {
      const directory = scratchDirectory("isochrone");
      const args = ["edge", "--listen", "127.0.0.1:0", "--origin", `http://127.0.0.1:${setting.originPort}`];
      args.push("--memory", setting.cacheBytes === undefined ? "1GiB" : `${setting.cacheBytes}B`);
      args.push("--workers", String(setting.workers), ...more);
      if (wantsLog && (await hasFlag("--access-log")))
        args.push("--access-log", join(directory, "access.log"));
      let tlsPort: number | undefined;
      if (setting.certificate !== undefined) {
        tlsPort = await freePort();
        args.push("--tls-listen", `127.0.0.1:${tlsPort}`);
        args.push("--tls-certificate", setting.certificate.certificateFile);
        args.push("--tls-key", setting.certificate.keyFile);
      }
      const edge = await startIsochrone(args, { env: { ISOCHRONE_LOG: "error" } });
      dieWithUs(edge.pid);
      const port = Number(/:(\d+)\b/.exec(edge.readyLine)?.[1]);
      return {
        port,
        tlsPort,
        pids: [edge.pid],
        stop: async () => void (await edge.stop()),
      };
    },
    isHit: (headers) => /;\s*hit\b/.test(header(headers, "cache-status")),
    // One that is compressed as it goes by has no length yet.
    isSettled: (headers) => header(headers, "content-length") !== "",
  };
}

export const isochrone: readonly Server[] = [
  form("default", "as started by `isochrone edge --origin`, with --access-log", true),
  form("no-log", "the same without --access-log", false),
];

/** Only for what it changes: hits over clear HTTP/1.1. */
export const isochroneWithoutRing: Server = form("libuv", "as default, with --io-uring off", true, [
  "--io-uring",
  "off",
]);

/** Only for what it changes: HTTP/2. */
export const isochroneByNode: Server = form("http2-node", "as default, with --http2-direct off", true, [
  "--http2-direct",
  "off",
]);
