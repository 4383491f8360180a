/** The batched socket and the event loop: what else the process has to do has its turn, however much comes. */
import { createSocket, Socket } from "node:dgram";
import { once } from "node:events";
import koffi from "koffi";
import { afterEach, describe, expect, it, vi } from "vitest";
import { createLogger } from "#kit/io";
import { DnsCounters, DnsServer, UdpListener } from "#mapping";

const QUERY = Buffer.alloc(32, 1);
const open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

async function connected(port: number): Promise<Socket> {
  const client = createSocket("udp4");
  open.push({ close: () => new Promise<void>((resolve) => client.close(resolve)) });
  client.connect(port, "127.0.0.1");
  await once(client, "connect");
  return client;
}

describe.skipIf(process.platform !== "linux")("datagrams in batches", () => {
  it("a socket that is never empty leaves the event loop its turns", async () => {
    let handled = 0;
    let client: Socket | undefined;
    // Each datagram that is looked at brings another one: the socket is never empty.
    const listener = await UdpListener.bind("127.0.0.1", 0, () => {
      handled++;
      client?.send(QUERY);
      return 0;
    });
    open.push(listener);
    expect(listener.isBatched).toBe(true);
    client = await connected(listener.port);
    for (let n = 0; n < 128; n++) client.send(QUERY);
    const atTurns: number[] = [];
    while (atTurns.length < 6) {
      await new Promise((resolve) => setImmediate(resolve));
      if (handled > 0) atTurns.push(handled);
    }
    client = undefined;
    const most = Math.max(...atTurns.map((at, turn) => at - (atTurns[turn - 1] ?? 0)));
    // A round of 64 batches of 64 that brings the turn to its end, and one batch for each of the 32 datagrams that libuv reads itself.
    expect(most).toBeGreaterThanOrEqual(64);
    expect(most).toBeLessThanOrEqual(2 * 64 * 64 + 32 * 64);
  });

  it("with any port, one that is taken for UDP is not ours, and memory to receive into is given out once", async () => {
    const bind = vi.spyOn(Socket.prototype, "bind").mockImplementationOnce(function (this: Socket) {
      setImmediate(() => this.emit("error", Object.assign(new Error("in use"), { code: "EADDRINUSE" })));
      return this;
    });
    const pieces: number[] = [];
    const box = {
      memory: (bytes: number) => {
        pieces.push(bytes);
        return Buffer.allocUnsafeSlow(bytes);
      },
      begin: () => {},
      beginMessage: () => {},
      end: () => {},
    } as unknown as NonNullable<Parameters<typeof DnsServer.listen>[0]["box"]>;
    const server = await DnsServer.listen({
      address: "127.0.0.1",
      port: 0,
      context: () => undefined,
      counters: new DnsCounters(),
      logger: createLogger({ role: "nameserver", id: "test" }, { level: "silent" }),
      box,
    });
    open.push(server);
    expect(bind).toHaveBeenCalledTimes(2);
    bind.mockRestore();
    expect(server.port).toBeGreaterThan(0);
    expect(new Set(pieces).size).toBe(pieces.length);
    expect(pieces).toHaveLength(2);
  });

  it.each([
    ["127.0.0.1", 0, 10],
    ["::1", 41, 23],
    // Dual-stack: answers over IPv4 as well.
    ["::", 0, 10],
  ])("never sends fragments from %s (level %i)", async (address, level, option) => {
    const listener = await UdpListener.bind(address, 0, () => 0);
    open.push(listener);
    const getsockopt = koffi
      .load(null)
      .func("int getsockopt(int fd, int level, int name, _Out_ int *value, _Inout_ uint32 *bytes)");
    const value = [0];
    const { fd } = listener.handle as { readonly fd: number };
    expect(getsockopt(fd, level, option, value, [4])).toBe(0);
    // IP_PMTUDISC_PROBE: DF is set, the path's MTU as ICMP tells it is not believed.
    expect(value).toEqual([3]);
  });

  it("answers each datagram of a stream once, in the order in which they came", async () => {
    const listener = await UdpListener.bind("127.0.0.1", 0, (query, at, end, _sender, out, outAt) => {
      out.set(query.subarray(at, end), outAt);
      return end - at;
    });
    open.push(listener);
    const client = await connected(listener.port);
    const [count, underWay] = [20_000, 100];
    const got: number[] = [];
    let sent = 0;
    const send = (): void => {
      const query = Buffer.alloc(4);
      query.writeUInt32LE(sent++);
      client.send(query);
    };
    await new Promise<void>((resolve) => {
      client.on("message", (answer) => {
        got.push(answer.readUInt32LE(0));
        if (sent < count) send();
        else if (got.length === count) resolve();
      });
      for (let n = 0; n < underWay; n++) send();
    });
    expect(got).toEqual(Array.from({ length: count }, (_, n) => n));
    const sizes = listener.counters.batches;
    expect(Object.values(sizes).reduce((sum, size) => sum + size, 0)).toBeLessThan(count / 2);
  });
});
