/** The caching proxies that hostile input is also sent to, for comparison: started here, in their plainest honest form. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { existsSync } from "node:fs";
import { freePort, waitFor } from "../processes.ts";

export interface Peer {
  readonly name: string;
  readonly port: number;
  readonly pid: number;
  stop(): Promise<void>;
}

const STARTED_WITHIN_MS = 20_000;

function onPath(program: string): string | undefined {
  return (process.env["PATH"] ?? "")
    .split(delimiter)
    .concat("/usr/sbin")
    .map((directory) => join(directory, program))
    .find((path) => existsSync(path));
}

/** nginx with proxy_cache and kept connections to the origin; timeouts are its defaults. Undefined when not installed. */
export async function startNginx(originPort: number): Promise<Peer | undefined> {
  const program = onPath("nginx");
  if (program === undefined) return undefined;
  const port = await freePort();
  return await launch("nginx", program, port, async (directory) => {
    await writeFile(
      join(directory, "nginx.conf"),
      `daemon off;
${process.getuid?.() === 0 ? "user root;" : ""}
worker_processes 1;
pid ${directory}/pid;
error_log ${directory}/error.log;
worker_rlimit_nofile 20000;
events { worker_connections 9000; }
http {
  access_log off;
  client_body_temp_path ${directory}/body;
  proxy_temp_path ${directory}/proxy;
  fastcgi_temp_path ${directory}/fastcgi;
  uwsgi_temp_path ${directory}/uwsgi;
  scgi_temp_path ${directory}/scgi;
  proxy_cache_path ${directory}/cache keys_zone=c:10m;
  upstream origin { server 127.0.0.1:${originPort} max_fails=0; keepalive 64; }
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location / {
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_cache c;
    }
  }
}
`,
    );
    return ["-p", directory, "-e", join(directory, "error.log"), "-c", join(directory, "nginx.conf")];
  });
}

/** Varnish with its built-in VCL and defaults. Undefined when not installed. */
export async function startVarnish(originPort: number): Promise<Peer | undefined> {
  const program = onPath("varnishd");
  if (program === undefined) return undefined;
  const port = await freePort();
  return await launch("varnish", program, port, (directory) =>
    Promise.resolve([
      "-F",
      "-j",
      "none",
      "-n",
      join(directory, "work"),
      "-a",
      `127.0.0.1:${port}`,
      "-b",
      `127.0.0.1:${originPort}`,
      "-s",
      "malloc,128m",
    ]),
  );
}

async function launch(
  name: string,
  program: string,
  port: number,
  argumentsFor: (directory: string) => Promise<readonly string[]>,
): Promise<Peer> {
  const directory = await mkdtemp(join(tmpdir(), `isochrone-${name}-`));
  const child = spawn(program, await argumentsFor(directory), { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr.on("data", (bytes: Buffer) => {
    said = (said + bytes.toString()).slice(-4_096);
  });
  const ended = once(child, "exit");
  const kill = (): void => {
    child.kill("SIGKILL");
  };
  process.once("exit", kill);
  const stop = async (): Promise<void> => {
    child.kill("SIGTERM");
    const timer = setTimeout(kill, 5_000);
    await ended;
    clearTimeout(timer);
    process.off("exit", kill);
    await rm(directory, { recursive: true, force: true });
  };
  try {
    await waitFor(() => (child.exitCode === null ? isListening(port) : Promise.reject(new Error(said))), {
      timeoutMs: STARTED_WITHIN_MS,
      what: `${name} to listen`,
    });
  } catch (error) {
    await stop();
    throw error;
  }
  return { name, port, pid: child.pid ?? -1, stop };
}

function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
