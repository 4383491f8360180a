/** What connections through io_uring must not get wrong whatever the moment: bytes of one client never reach another. */
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { expect, test } from "vitest";
import { RingSockets } from "#edge";

const ring = await RingSockets.open().catch(() => undefined);
if (ring === undefined) console.log("io_uring is not to be had here, its test is skipped");

interface WithHandle {
  readonly _handle: { readonly fd: number };
}

test.skipIf(ring === undefined).for(["destroy", "resetAndDestroy"] as const)(
  "an answer that was written before its connection went by %s goes to nobody else, though the descriptor is used again",
  async (close) => {
    if (ring === undefined) return;
    const server = createServer();
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const accepted = async (): Promise<[Socket, Socket]> => {
      const client = connect(port, "127.0.0.1");
      const [[served]] = await Promise.all([
        once(server, "connection") as Promise<[Socket]>,
        once(client, "connect"),
      ]);
      return [client, served];
    };
    const [client, served] = await accepted();
    client.on("error", () => {});
    const [bystander, other] = await accepted();
    const handle = (served as unknown as WithHandle)._handle;
    const { fd } = handle;
    const reads = ring.take(handle);
    reads.attach(served);
    const heard: Buffer[] = [];
    const late = createServer((socket) => socket.on("data", (bytes) => heard.push(bytes)));
    late.listen(0, "127.0.0.1");
    await once(late, "listening");

    expect(reads.send(Buffer.from("of the first client alone"))).toBe(true);
    served[close]();
    // In the same turn of the event loop: this one gets the number that has become free.
    const next = connect((late.address() as AddressInfo).port, "127.0.0.1");
    await new Promise<void>((resolve) => process.nextTick(resolve));
    expect((next as unknown as WithHandle)._handle.fd).toBe(fd);
    await once(next, "connect");
    next.write("own");
    while (heard.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(Buffer.concat(heard).toString()).toBe("own");
    while (ring.connections > 0) await new Promise((resolve) => setTimeout(resolve, 5));

    for (const socket of [client, bystander, other, next]) socket.destroy();
    server.close();
    late.close();
  },
);
