/** BIND and Knot as processes of their own with zones from text, on a free port, for comparisons and transfers. */
import { type ChildProcess, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface PeerZone {
  readonly origin: string;
  readonly text: string;
}

export interface Peer {
  readonly name: string;
  readonly port: number;
  readonly directory: string;
  /** Reads its configuration and zones again. */
  readonly reload: () => void;
  /** The answer to a query over UDP; rejects after two seconds, tried twice. */
  readonly ask: (query: Uint8Array) => Promise<Uint8Array>;
  readonly close: () => Promise<void>;
}

const START_MS = 10_000;
const ASK_MS = 2_000;

/** A port that was free a moment ago, over TCP and UDP. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

function writeZones(directory: string, zones: readonly PeerZone[]): void {
  for (const { origin, text } of zones) writeFileSync(join(directory, `${origin}.zone`), text);
}

/** @param sections of named.conf, beside its options and the zones */
export async function startNamed(program: string, zones: readonly PeerZone[], sections = ""): Promise<Peer> {
  const directory = mkdtempSync(join(tmpdir(), "isochrone-named-"));
  chmodSync(directory, 0o777);
  writeZones(directory, zones);
  const port = await freePort();
  const config = `options {
  directory "${directory}"; pid-file none; session-keyfile none; listen-on port ${port} { 127.0.0.1; }; listen-on-v6 { none; };
  recursion no; minimal-responses yes; dnssec-validation no; notify explicit; max-records-per-type 0; max-types-per-name 0;
  querylog no; zero-no-soa-ttl no; check-names primary ignore; rate-limit { responses-per-second 0; };
};
controls { };
${zones.map(({ origin }) => `zone "${origin}" { type primary; file "${origin}.zone"; };`).join("\n")}
${sections}
`;
  writeFileSync(join(directory, "named.conf"), config);
  const child = spawn(program, ["-g", "-4", "-c", join(directory, "named.conf")], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  return await started("named", child, directory, port, /\brunning$/m);
}

/** @param sections of knot.conf before its zones; `moreZones`: list items after them */
export async function startKnot(
  program: string,
  zones: readonly PeerZone[],
  sections = "",
  moreZones = "",
): Promise<Peer> {
  const directory = mkdtempSync(join(tmpdir(), "isochrone-knot-"));
  writeZones(directory, zones);
  const port = await freePort();
  const config = `server:
    rundir: "${directory}"
    listen: 127.0.0.1@${port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: info
database:
    storage: "${directory}"
${sections}template:
  - id: default
    storage: "${directory}"
    semantic-checks: false
    zonefile-sync: -1
    zonefile-load: whole
    journal-content: none
zone:
${zones.map(({ origin }) => `  - domain: ${origin}\n    file: ${origin}.zone`).join("\n")}
${moreZones}
`;
  writeFileSync(join(directory, "knot.conf"), config);
  const child = spawn(program, ["-c", join(directory, "knot.conf")], { stdio: ["ignore", "pipe", "pipe"] });
  child.stdout?.resume();
  return await started("knotd", child, directory, port, /server started/);
}

async function started(
  name: string,
  child: ChildProcess,
  directory: string,
  port: number,
  isUp: RegExp,
): Promise<Peer> {
  let log = "";
  const up = Promise.withResolvers<void>();
  child.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
    if (log.length < 1_000_000) log += chunk;
    if (isUp.test(log)) up.resolve();
  });
  child.once("exit", (code) => up.reject(new Error(`${name} ended with ${code}: ${log.slice(-2_000)}`)));
  child.once("error", (error) => up.reject(error));
  const timer = setTimeout(() => up.reject(new Error(`${name} is not up: ${log.slice(-2_000)}`)), START_MS);
  const close = async (): Promise<void> => {
    socket.close();
    if (child.exitCode === null && child.signalCode === null) {
      child.kill("SIGTERM");
      await once(child, "exit");
    }
    rmSync(directory, { recursive: true, force: true });
  };
  const socket = createSocket("udp4");
  try {
    await up.promise;
  } catch (error) {
    await close();
    throw error;
  } finally {
    clearTimeout(timer);
  }
  const waiting = new Map<number, (bytes: Uint8Array) => void>();
  socket.on("message", (bytes) => waiting.get(bytes.readUInt16BE(0))?.(bytes));
  let nextId = 0;
  const askOnce = async (query: Uint8Array): Promise<Uint8Array | undefined> => {
    nextId = (nextId + 1) & 0xffff;
    const id = nextId;
    const bytes = Uint8Array.from(query);
    bytes.set([id >> 8, id & 255]);
    const answer = Promise.withResolvers<Uint8Array | undefined>();
    waiting.set(id, answer.resolve);
    const late = setTimeout(answer.resolve, ASK_MS, undefined);
    socket.send(bytes, port, "127.0.0.1");
    const got = await answer.promise;
    clearTimeout(late);
    waiting.delete(id);
    return got;
  };
  const ask = async (query: Uint8Array): Promise<Uint8Array> => {
    const got = (await askOnce(query)) ?? (await askOnce(query));
    if (got === undefined) throw new Error(`${name} does not answer`);
    return got;
  };
  return { name, port, directory, ask, close, reload: () => void child.kill("SIGHUP") };
}
