/** unbound as a resolver of its own, with what it is told to trust; for suites that show what a validator makes of our answers. */
import { execFile, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

export interface ResolverSetting {
  readonly program: string;
  /** Lines of the `server:` section, as unbound.conf(5) has them. */
  readonly server: readonly string[];
  /** What follows it: stub zones and the like. */
  readonly more: readonly string[];
}

/** What a resolver said. */
export interface Resolved {
  readonly status: string;
  /** AD: it has validated. */
  readonly isAuthentic: boolean;
  readonly answers: readonly string[];
  readonly text: string;
}

const PORT_TRIES = 10;

async function freePort(): Promise<number> {
  const socket = createSocket("udp4").bind(0, "127.0.0.1");
  await once(socket, "listening");
  const { port } = socket.address();
  socket.close();
  await once(socket, "close");
  return port;
}

export class ValidatingResolver {
  readonly port: number;
  readonly #dig: string;
  readonly #stop: () => Promise<void>;

  private constructor(port: number, dig: string, stop: () => Promise<void>) {
    this.port = port;
    this.#dig = dig;
    this.#stop = stop;
  }

  /** Resolves when it answers; rejects with what it wrote when it does not start. */
  static async start(setting: ResolverSetting, dig: string): Promise<ValidatingResolver> {
    for (let tried = 1; ; tried++)
      try {
        return await ValidatingResolver.#startOnce(setting, dig);
      } catch (error) {
        // A port that is free for UDP may be taken for TCP, or taken meanwhile.
        if (tried === PORT_TRIES || !String(error).includes("already in use")) throw error;
      }
  }

  static async #startOnce(
    { program, server, more }: ResolverSetting,
    dig: string,
  ): Promise<ValidatingResolver> {
    const directory = mkdtempSync(join(tmpdir(), "isochrone-unbound-"));
    const port = await freePort();
    const file = join(directory, "unbound.conf");
    writeFileSync(
      file,
      [
        "server:",
        ...[
          `directory: "${directory}"`,
          'chroot: ""',
          'username: ""',
          'pidfile: ""',
          "use-syslog: no",
          'logfile: ""',
          "num-threads: 1",
          "interface: 127.0.0.1",
          `port: ${port}`,
          "do-ip6: no",
          "do-not-query-localhost: no",
          // Names under .example and .test are unbound's own otherwise.
          "local-zone: example. nodefault",
          "local-zone: test. nodefault",
          "val-log-level: 2",
          ...server,
        ].map((line) => `  ${line}`),
        "remote-control:",
        "  control-enable: no",
        ...more,
        "",
      ].join("\n"),
    );
    const child = spawn(program, ["-d", "-c", file], { stdio: ["ignore", "ignore", "pipe"] });
    let log = "";
    child.stderr.on("data", (data: Buffer) => (log = `${log}${data.toString()}`.slice(-8_192)));
    const started = Promise.withResolvers<void>();
    child.stderr.on("data", () => log.includes("start of service") && started.resolve());
    child.once("exit", (code) => started.reject(new Error(`unbound ended with ${code}: ${log}`)));
    child.once("error", started.reject);
    const timer = setTimeout(() => started.reject(new Error(`unbound did not start: ${log}`)), 20_000);
    const stop = async (): Promise<void> => {
      child.removeAllListeners("exit");
      if (child.exitCode === null && child.kill("SIGKILL")) await once(child, "exit");
      rmSync(directory, { recursive: true, force: true });
    };
    try {
      await started.promise;
    } catch (error) {
      await stop();
      throw error;
    } finally {
      clearTimeout(timer);
    }
    return new ValidatingResolver(port, dig, stop);
  }

  async ask(name: string, type = "A", ...args: readonly string[]): Promise<Resolved> {
    const { stdout } = await promisify(execFile)(this.#dig, [
      "@127.0.0.1",
      "-p",
      String(this.port),
      "+time=8",
      "+tries=1",
      "+dnssec",
      name,
      type,
      ...args,
    ]);
    return {
      status: /status: ([A-Z]+)/.exec(stdout)?.[1] ?? "",
      isAuthentic: / ad[ ;]/.test(/;; flags:[^\n]*/.exec(stdout)?.[0] ?? ""),
      answers: (/;; ANSWER SECTION:\n([^]*?)\n\n/.exec(stdout)?.[1] ?? "")
        .split("\n")
        .filter((line) => line !== "" && !/\sRRSIG\s/.test(line))
        .map((line) => line.split(/\s+/).slice(4).join(" ")),
      text: stdout,
    };
  }

  stop(): Promise<void> {
    return this.#stop();
  }
}
