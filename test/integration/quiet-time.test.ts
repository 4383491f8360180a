/** For how long a connection has brought nothing, as the kernel knows it, on real sockets. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { Duplex } from "node:stream";
import { connect as connectTls, createServer as createTlsServer } from "node:tls";
import { afterEach, expect, test } from "vitest";
import { carriedBy, loadQuietTime, quietMsOf } from "#transport";
import { makeCertificate } from "../tools/certificates.ts";
import { until } from "./transport-support.ts";

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const one of cleanups.splice(0)) one();
});

async function pair(): Promise<{ readonly ours: Socket; readonly theirs: Socket }> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const ours = connect((server.address() as AddressInfo).port, "127.0.0.1");
  const [theirs] = (await once(server, "connection")) as [Socket];
  await once(ours, "connect");
  cleanups.push(() => {
    ours.destroy();
    theirs.destroy();
    server.close();
  });
  return { ours, theirs };
}

test.skipIf(process.platform !== "linux")(
  "grows while nothing comes, and begins anew with what does",
  async () => {
    await loadQuietTime();
    const { ours, theirs } = await pair();
    // Nobody reads it: it counts all the same.
    ours.pause();
    await until(() => (quietMsOf(ours) ?? 0) >= 200);
    theirs.write("here");
    await until(() => (quietMsOf(ours) ?? Infinity) < 200);
  },
);

test.skipIf(process.platform !== "linux")("is that of what carries a stream without a socket", async () => {
  await loadQuietTime();
  const { ours } = await pair();
  const inner = new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => done() });
  expect(quietMsOf(inner)).toBeUndefined();
  carriedBy(inner, ours);
  expect(quietMsOf(inner)).toBeGreaterThanOrEqual(0);
});

test.skipIf(process.platform !== "linux")("is known of TLS, and of nothing that has ended", async () => {
  await loadQuietTime();
  const { certPem, keyPem } = makeCertificate({ names: ["a.example"] });
  const server = createTlsServer({ cert: certPem, key: keyPem }).listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanups.push(() => server.close());
  const { port } = server.address() as AddressInfo;
  const secured = connectTls({ port, host: "127.0.0.1", servername: "a.example", ca: certPem });
  await once(secured, "secureConnect");
  expect(quietMsOf(secured)).toBeGreaterThanOrEqual(0);
  secured.destroy();
  await once(secured, "close");
  expect(quietMsOf(secured)).toBeUndefined();
  expect(quietMsOf(undefined)).toBeUndefined();
});
