/** The name server's probes of edge servers when its process stood still: what it knew is asked again at once, and believed at once. */
import { createServer, type Server } from "node:http";
import { once } from "node:events";
import { connect } from "node:net";
import { afterEach, expect, it } from "vitest";
import { type Clock, monotonicMs, type ServerEntry } from "#kit";
import { createLogger, systemClock } from "#kit/io";
import { EdgeProber } from "#mapping";
import { waitFor } from "../tools/processes.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** A server that answers /livez. */
async function living(): Promise<{ readonly server: Server; readonly port: number }> {
  const server = createServer((_, response) => void response.end("live"));
  await once(server.listen(0, "127.0.0.1"), "listening");
  closers.push(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  return { server, port: (server.address() as { port: number }).port };
}

it("asks each server anew: a dead one is out at its first failure, one that lives stays, though its connection is gone", async () => {
  const [one, other] = [await living(), await living()];
  let aheadMs = 0;
  const clock: Clock = {
    epoch: () => systemClock.epoch(),
    monotonic: () => monotonicMs(systemClock.monotonic() + aheadMs),
  };
  /** Connections that were opened since the pause, by port. */
  let dialled: number[] = [];
  const down: string[] = [];
  const prober = new EdgeProber({
    clock,
    logger: createLogger({ role: "nameserver", id: "test" }, { level: "silent" }),
    settings: { intervalMs: 200, timeoutMs: 5_000, downThreshold: 3 },
    dial: async ({ host, port }) => {
      dialled.push(port);
      const socket = connect({ host, port });
      await once(socket, "connect");
      return socket;
    },
    onEvent: ({ id, state }) => down.push(`${id} ${state}`),
  });
  closers.push(() => prober.close());
  const entry = (serverId: string, port: number): ServerEntry =>
    ({ serverId, address: "127.0.0.1", port }) as unknown as ServerEntry;
  prober.setServers([entry("dead", one.port), entry("alive", other.port)]);
  await waitFor(() => (prober.counters["probesOk"] ?? 0) >= 4, {
    timeoutMs: 20_000,
    what: "both to be known",
  });

  // The process stands still for a minute: one server dies, the other one closes what lies idle.
  one.server.closeAllConnections();
  other.server.closeAllConnections();
  one.server.close();
  dialled = [];
  aheadMs = 60_000;
  await waitFor(() => down.length > 0, { timeoutMs: 20_000, what: "the dead one to be out" });
  expect(down).toEqual(["dead down"]);
  expect(dialled.filter((port) => port === one.port)).toHaveLength(1);
  const answered = prober.counters["probesOk"] ?? 0;
  await waitFor(() => (prober.counters["probesOk"] ?? 0) >= answered + 3, {
    timeoutMs: 20_000,
    what: "the other one to answer",
  });
  expect(down).toEqual(["dead down"]);
  expect(prober.counts).toEqual({ probed: 2, up: 1 });
});
