/** Listening sockets that are let go while they are being taken up: a server that ends must leave no share of its port behind. */
import { connect } from "node:net";
import { expect, test } from "vitest";
import { bindListeners, Listeners, portOf } from "#edge";

const isOpen = async (port: number): Promise<boolean> =>
  await new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    const tell = (word: boolean) => () => {
      socket.destroy();
      resolve(word);
    };
    socket.once("connect", tell(true)).once("error", tell(false));
  });

test.for(["close", "remove"] as const)(
  "%s while the ring is being opened: nobody listens afterwards",
  async (way) => {
    const ring = Promise.withResolvers<undefined>();
    const listeners = new Listeners(
      (socket) => socket.destroy(),
      false,
      () => ring.promise,
    );
    const [handle] = await bindListeners("127.0.0.1", 0, 1);
    if (handle === undefined) throw new Error("Nothing was bound");
    const port = portOf(handle);
    const added = listeners.add(handle);
    if (way === "close") listeners.close();
    else listeners.remove(handle);
    ring.resolve(undefined);
    await added;
    expect(listeners.handles).toEqual([]);
    expect(await isOpen(port)).toBe(false);
  },
);

test("a socket that comes after the end is let go of at once", async () => {
  const listeners = new Listeners((socket) => socket.destroy());
  listeners.close();
  const [handle] = await bindListeners("127.0.0.1", 0, 1);
  if (handle === undefined) throw new Error("Nothing was bound");
  const port = portOf(handle);
  await listeners.add(handle);
  expect(listeners.handles).toEqual([]);
  expect(await isOpen(port)).toBe(false);
  // The port is free again: nobody holds the socket.
  const [again] = await bindListeners("127.0.0.1", port, 1);
  again?.close();
});

test("a socket that is kept is listened on once the ring is open", async () => {
  const listeners = new Listeners(
    (socket) => socket.destroy(),
    false,
    async () => await Promise.resolve(undefined),
  );
  const port = await listeners.open("127.0.0.1", 0);
  expect(await isOpen(port)).toBe(true);
  listeners.close();
  await expect.poll(async () => await isOpen(port)).toBe(false);
});
