/** TLS of a server of several processes: one session for all workers, certificates at SIGHUP, a successor on the same port. */
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type ConnectionOptions, type TLSSocket } from "node:tls";
import { afterAll, beforeAll, expect, test } from "vitest";
import { makeCertificate, type TestCertificate } from "../tools/certificates.ts";
import { freePort, type IsochroneProcess, runIsochrone, startIsochrone } from "../tools/processes.ts";
import { TestOrigin, until } from "./edge-support.ts";

const env = { ISOCHRONE_LOG: "error" };
const directory = mkdtempSync(join(tmpdir(), "isochrone-tls-process-"));
const chain = join(directory, "a.crt");
const key = join(directory, "a.key");
const origin = new TestOrigin();
const first = makeCertificate({ names: ["a.example"] });
let edge: IsochroneProcess;
let tlsPort: number;
let argv: readonly string[];
let successor: number | undefined;

function keep({ certPem, keyPem }: TestCertificate): void {
  writeFileSync(chain, certPem);
  writeFileSync(key, keyPem);
}

async function open(options: ConnectionOptions = {}): Promise<TLSSocket> {
  const socket = connect({
    port: tlsPort,
    host: "127.0.0.1",
    servername: "a.example",
    rejectUnauthorized: false,
    ...options,
  });
  await once(socket, "secureConnect");
  return socket;
}

async function get(socket: TLSSocket): Promise<string> {
  socket.write("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
  const [chunk] = (await once(socket, "data")) as [Buffer];
  return chunk.toString();
}

const fingerprint = async (): Promise<string> => {
  const socket = await open();
  const found = socket.getPeerCertificate().fingerprint256;
  socket.destroy();
  return found;
};

beforeAll(async () => {
  keep(first);
  await origin.start();
  origin.answer = (_request, response) =>
    response.writeHead(200, { "cache-control": "max-age=60" }).end("hello");
  const port = await freePort();
  tlsPort = await freePort();
  argv =
    `edge --workers 2 --run ${join(directory, "run")} --listen 127.0.0.1:${port} --origin http://127.0.0.1:${origin.port} --tls-listen 127.0.0.1:${tlsPort} --tls-certificate ${chain} --tls-key ${key}`.split(
      " ",
    );
  edge = await startIsochrone(argv, { env });
});
afterAll(async () => {
  if (successor !== undefined) process.kill(successor, "SIGTERM");
  await edge.stop();
  await origin.stop();
  rmSync(directory, { recursive: true, force: true });
});

test("a session begun at one worker is resumed at every one", async () => {
  const socket = await open();
  const session = once(socket, "session");
  expect(await get(socket)).toMatch(/^HTTP\/1\.1 200 /);
  const [ticket] = (await session) as [Buffer];
  socket.destroy();
  // Twelve connections all at one of two workers: one time in two thousand.
  for (let n = 0; n < 12; n++) {
    const resumed = await open({ session: ticket });
    expect(resumed.isSessionReused()).toBe(true);
    resumed.destroy();
  }
});

test("SIGHUP puts a renewed certificate in force at every worker", async () => {
  const renewed = makeCertificate({ names: ["a.example"] });
  keep(renewed);
  process.kill(edge.pid, "SIGHUP");
  await until(async () => {
    for (let n = 0; n < 8; n++) if ((await fingerprint()) !== renewed.fingerprint) return false;
    return true;
  }, "every worker serves it");
});

test("a successor takes the TLS port over: nobody is refused meanwhile, an open connection ends in order", async () => {
  const before = await open();
  expect(await get(before)).toMatch(/^HTTP\/1\.1 200 /);
  let isOver = false;
  let served = 0;
  const clients = [1, 2, 3].map(async () => {
    while (!isOver) {
      const socket = await open();
      expect(await get(socket)).toMatch(/^HTTP\/1\.1 200 /);
      socket.destroy();
      served++;
    }
  });
  const { code, stdout } = await runIsochrone([...argv, "--replace"], { env });
  successor = Number(/by process (\d+)/.exec(stdout)?.[1]);
  expect(code).toBe(0);
  // One more request on the old connection is answered, and says that it ends.
  expect(await get(before)).toMatch(/^Connection: close\r$/m);
  const servedThen = served;
  await until(() => served > servedThen + 20, "the successor serves");
  isOver = true;
  await Promise.all(clients);
  before.destroy();
});
