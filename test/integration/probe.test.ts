import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttp } from "node:http";
import { createServer as createHttps } from "node:https";
import { type AddressInfo, createServer as createTcp, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#kit/io";
import { parseProbeTargets, ProbeReader, type ProbeRecord, probeRound } from "#mapping";
import { makeCertificate } from "../tools/certificates.ts";
import { runIsochroneHere } from "../tools/processes.ts";

const directory = mkdtempSync(join(tmpdir(), "isochrone-probe-"));
const servers: Server[] = [];
const path = process.env["PATH"];

/** The system's programs as a test can know them: what they print follows from their arguments. */
const PING = `#!/bin/sh
ttl=64; count=1
while [ $# -gt 1 ]; do case "$1" in -t) ttl=$2; shift;; -c) count=$2; shift;; esac; shift; done
[ "$1" = 198.51.100.9 ] && { echo "ping: connect: Network is unreachable" >&2; exit 2; }
if [ "$ttl" -lt 3 ]; then echo "From 192.0.2.$ttl icmp_seq=1 Time to live exceeded"
else echo "64 bytes from $1: icmp_seq=1 ttl=64 time=12.5 ms"; fi
echo "$count packets transmitted, 1 received"
`;

async function listen(server: Server, host = "127.0.0.1"): Promise<number> {
  servers.push(server);
  server.listen(0, host);
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

async function probe(targets: string, ca?: string): Promise<ProbeRecord[]> {
  const records: ProbeRecord[] = [];
  await probeRound({
    agent: "test",
    from: "203.0.113.1",
    targets: parseProbeTargets(targets),
    count: 2,
    concurrency: 4,
    timeoutMs: 400,
    clock: systemClock,
    signal: new AbortController().signal,
    onRecord: async (record) => void records.push(record),
    ca,
  });
  return records;
}

beforeAll(() => {
  writeFileSync(join(directory, "ping"), PING);
  chmodSync(join(directory, "ping"), 0o755);
});
afterAll(() => {
  process.env["PATH"] = path;
  for (const server of servers) server.close();
  rmSync(directory, { recursive: true });
});

describe("the probe agent", () => {
  test("times handshakes; a refusal was answered too, a name that is none says nothing", async () => {
    const port = await listen(createTcp());
    const closed = await listen(createTcp());
    servers.pop()?.close();
    const records = await probe(`tcp 127.0.0.1:${port}\ntcp 127.0.0.1:${closed}\ntcp nosuch.invalid:1`);
    const of = (target: string) => records.filter((one) => one.target === target);
    for (const one of [...of(`tcp 127.0.0.1:${port}`), ...of(`tcp 127.0.0.1:${closed}`)])
      expect(one).toMatchObject({
        method: "tcp",
        from: "203.0.113.1",
        to: "127.0.0.1",
        rttMs: expect.any(Number),
      });
    expect(of("tcp nosuch.invalid:1")).toMatchObject([{ to: null, rttMs: null, error: expect.any(String) }]);
    expect(records).toHaveLength(5);
  });

  test("times requests step by step, with TLS and without; silence is a loss, another protocol an error", async () => {
    const { keyPem: key, certPem: cert } = makeCertificate({ names: ["localhost"] });
    const http = await listen(createHttp((_, response) => response.writeHead(404).end()));
    const https = await listen(
      createHttps({ key, cert }, (request, response) => response.end(request.headers.host)),
      "localhost",
    );
    const silent = await listen(createTcp((socket) => socket.on("error", () => {})));
    const other = await listen(createTcp((socket) => socket.on("error", () => {}).end("SSH-2.0-x\r\n")));
    const records = await probe(
      [
        `http://127.0.0.1:${http}/`,
        `https://localhost:${https}/`,
        `http://127.0.0.1:${silent}/`,
        `http://127.0.0.1:${other}/`,
      ]
        .map((url) => `http ${url}`)
        .join("\n"),
      cert,
    );
    const of = (port: number) => records.filter(({ target }) => target.includes(`:${port}/`));
    expect(of(http)).toMatchObject([
      { http: { dnsMs: 0, tlsMs: null, status: 404 } },
      { http: { status: 404 } },
    ]);
    expect(of(https)).toMatchObject([
      { http: { tlsMs: expect.any(Number), status: 200 } },
      { http: { status: 200 } },
    ]);
    expect(of(silent).map(({ rttMs, error }) => [rttMs, error])).toEqual([
      [null, undefined],
      [null, undefined],
    ]);
    expect(of(other).map(({ rttMs, error }) => [rttMs, error])[0]).toEqual([
      null,
      "the answer is not HTTP/1.1",
    ]);
  });

  test("asks the system's ping: answers, losses, routers by their expired packets, no way out", async () => {
    process.env["PATH"] = directory;
    const records = await probe("icmp 192.0.2.77\ntrace 192.0.2.77\nicmp 198.51.100.9");
    process.env["PATH"] = path;
    const of = (target: string) => records.filter((one) => one.target === target);
    expect(of("icmp 192.0.2.77").map(({ rttMs }) => rttMs)).toEqual([12.5, null]);
    expect(of("trace 192.0.2.77")).toMatchObject([
      {
        rttMs: 12.5,
        hops: [
          { hop: 1, address: "192.0.2.1", rttMs: null },
          { hop: 2, address: "192.0.2.2", rttMs: null },
          { hop: 3, address: "192.0.2.77", rttMs: 12.5 },
        ],
      },
    ]);
    expect(of("icmp 198.51.100.9")).toMatchObject([
      { rttMs: null, error: "ping: connect: Network is unreachable" },
    ]);
    process.env["PATH"] = "/nonexistent";
    const without = await probe("icmp 192.0.2.77\ntrace 192.0.2.77");
    process.env["PATH"] = path;
    expect(without.map(({ error }) => error)).toEqual([
      "ping is not installed here",
      "ping is not installed here",
    ]);
  });

  test("isochrone probe: lines that can be read again; one line for what is wrong", async () => {
    const port = await listen(createTcp());
    const list = join(directory, "targets");
    writeFileSync(list, `tcp 127.0.0.1:${port}\n`);
    const run = await runIsochroneHere(["probe", "--targets", list, "--agent", "x", "--count", "2"]);
    const records: ProbeRecord[] = [];
    const reader = new ProbeReader((one) => records.push(one));
    reader.read(Buffer.from(run.stdout));
    reader.end();
    expect([run.code, reader.tally.summary().skipped, records.map(({ agent }) => agent)]).toEqual([
      0,
      {},
      ["x", "x"],
    ]);
    writeFileSync(list, "icmp -f\n");
    const wrong = await runIsochroneHere(["probe", "--targets", list]);
    expect([wrong.code, wrong.stdout]).toEqual([2, ""]);
    expect(wrong.stderr).toMatch(/^isochrone probe: --targets ".*": line 1: got "icmp -f", expected .*\n$/);
  });
});
