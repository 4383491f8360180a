/** HTTP/3 by the sidecar of deploy/http3: a browser over QUIC, the client's address, Alt-Svc, trusted and untrusted claims. */
import { type ChildProcess, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "node:tls";
import { type Browser, chromium } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeCertificate } from "../tools/certificates.ts";
import { requireProgram } from "../tools/processes.ts";
import { startEdge, type TestEdge, TestOrigin, until } from "./edge-support.ts";

const caddyPath = requireProgram("caddy");
const chromiumPath = requireProgram("chromium", "chromium-browser", "google-chrome");
const HOST = "h3.example";

const directory = mkdtempSync(join(tmpdir(), "isochrone-http3-"));
const certificate = makeCertificate({ names: [HOST] });
const pair = { certificateFile: join(directory, "h3.crt"), keyFile: join(directory, "h3.key") };
const origin = new TestOrigin();

async function edgeWith(trustedProxies: readonly string[], altSvc?: string): Promise<TestEdge> {
  return await startEdge(origin, { trustedProxies, altSvc }, undefined, {
    host: "127.0.0.1",
    port: 0,
    pairs: [pair],
    unknownName: "default",
    ticketSecret: Buffer.alloc(32),
  });
}

beforeAll(async () => {
  writeFileSync(pair.certificateFile, certificate.certPem);
  writeFileSync(pair.keyFile, certificate.keyPem);
  await origin.start();
  origin.answer = (request, response) =>
    response
      .writeHead(200, {
        "content-type": "text/html",
        "cache-control": "max-age=60",
        "alt-svc": 'h3=":1"',
      })
      .end(`<p>${String(request.headers["x-forwarded-for"])}</p>`);
});
afterAll(async () => {
  await origin.stop();
  rmSync(directory, { recursive: true });
});

describe.each([
  ["trusted", ["127.0.0.1"], "192.0.2.7"],
  ["anybody's", [], "127.0.0.1"],
] as const)("X-Forwarded-For of a proxy that is %s", (_name, trustedProxies, expected) => {
  test.each(["/a", "/b"])(
    `tells the origin ${expected}, and upstream's Alt-Svc goes no further (%s)`,
    async (path) => {
      const edge = await edgeWith(trustedProxies, 'h3=":443"; ma=60');
      const socket = connect({
        port: edge.running.tlsPort ?? 0,
        host: "127.0.0.1",
        servername: HOST,
        rejectUnauthorized: false,
      });
      const head = `GET ${path} HTTP/1.1\r\nHost: ${HOST}\r\nX-Forwarded-For: 203.0.113.9, 192.0.2.7\r\n`;
      for (const isLast of [false, true]) {
        socket.write(`${head}${isLast ? "Connection: close\r\n" : ""}\r\n`);
        let text = "";
        while (!text.includes("</p>")) text += String((await once(socket, "data"))[0]);
        expect(text).toContain(`<p>${expected}</p>`);
        expect(text.match(/^alt-svc: .*$/gim)).toEqual(['Alt-Svc: h3=":443"; ma=60']);
      }
      socket.destroy();
      await edge.running.stop();
    },
  );
});

test("plain HTTP is told of no alternative", async () => {
  const edge = await edgeWith([], 'h3=":443"');
  const response = await fetch(`http://127.0.0.1:${edge.port}/plain`);
  expect(response.headers.get("alt-svc")).toBeNull();
  await response.text();
  await edge.running.stop();
});

describe.skipIf(caddyPath === undefined || chromiumPath === undefined)("the sidecar", () => {
  let edge: TestEdge;
  let caddy: ChildProcess;
  let browser: Browser;
  let port: number;

  beforeAll(async () => {
    edge = await edgeWith(["127.0.0.1"]);
    port = await freePort();
    caddy = spawn(
      caddyPath ?? "",
      [
        "run",
        "--adapter",
        "caddyfile",
        "--config",
        join(import.meta.dirname, "../../deploy/http3/Caddyfile"),
      ],
      {
        env: {
          PATH: process.env["PATH"],
          HOME: directory,
          EDGE_TLS: `127.0.0.1:${edge.running.tlsPort}`,
          HTTP3_PORT: String(port),
          CERTIFICATE: pair.certificateFile,
          KEY: pair.keyFile,
        },
        stdio: ["ignore", "ignore", "pipe"],
      },
    );
    let log = "";
    caddy.stderr?.on("data", (chunk: Buffer) => {
      log += chunk.toString();
    });
    await until(() => log.includes("serving initial configuration"), "caddy serves", 20_000).catch(() => {
      throw new Error(`caddy did not start: ${log}`);
    });
    browser = await chromium.launch({
      executablePath: chromiumPath ?? "",
      headless: true,
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--enable-quic",
        `--origin-to-force-quic-on=${HOST}:${port}`,
        `--host-resolver-rules=MAP ${HOST} 127.0.0.1`,
        `--ignore-certificate-errors-spki-list=${certificate.spkiHash}`,
      ],
    });
  }, 60_000);
  afterAll(async () => {
    await browser?.close();
    caddy?.kill("SIGKILL");
    await edge?.running.stop();
  });

  test("a browser fetches over HTTP/3; the answer is a hit the second time", async () => {
    const page = await browser.newPage();
    const first = await page.goto(`https://${HOST}:${port}/page`);
    expect(first?.status()).toBe(200);
    expect(await page.textContent("p")).toBe("127.0.0.1");
    const second = await page.goto(`https://${HOST}:${port}/page?2`);
    expect(second?.status()).toBe(200);
    const protocol = await page.evaluate(
      () => (performance.getEntriesByType("navigation")[0] as PerformanceResourceTiming).nextHopProtocol,
    );
    expect(protocol).toBe("h3");
    // Between sidecar and edge it is HTTP/2, whose scheme reaches the origin.
    expect(await edge.metric("http2_sessions_total")).toBeGreaterThan(0);
    expect(origin.seen.at(-1)?.headers["x-forwarded-proto"]).toBe("https");
    await page.close();
  }, 60_000);
});

/** A port that is free for TCP and UDP. */
async function freePort(): Promise<number> {
  for (;;) {
    const tcp = createServer().listen(0, "127.0.0.1");
    await once(tcp, "listening");
    const { port } = tcp.address() as AddressInfo;
    const udp = createSocket("udp4");
    const isFree = await new Promise<boolean>((resolve) => {
      udp.once("error", () => resolve(false));
      udp.bind(port, "127.0.0.1", () => resolve(true));
    });
    if (isFree) await new Promise<void>((resolve) => udp.close(() => resolve()));
    tcp.close();
    await once(tcp, "close");
    if (isFree) return port;
  }
}
