/** The one ring of this process, opened when the first server wants it. Where there is none, connections go on through libuv. */
import type { Logger } from "#kit/io";
import type { EdgeMetrics } from "../metrics.ts";
import { RingSockets } from "./ring-sockets.ts";

let opening: Promise<RingSockets | Error> | undefined;
const told = new WeakSet<EdgeMetrics>();

/** Undefined, with a warning that says why, where the system or the package refuses. Never rejects. */
export async function sharedRing(metrics: EdgeMetrics, logger: Logger): Promise<RingSockets | undefined> {
  opening ??= RingSockets.open().catch((error: unknown) =>
    error instanceof Error ? error : new Error(String(error)),
  );
  const ring = await opening;
  if (ring instanceof Error) {
    logger.warn("io-uring-unavailable", { error: ring, effect: "connections are read through libuv" });
    return undefined;
  }
  if (told.has(metrics)) return ring;
  told.add(metrics);
  const { counters } = ring;
  metrics.gauge("ring_connections", "Connections that are read through io_uring", () => ring.connections);
  metrics.total("ring_receives_total", "Reads that came through io_uring", () => counters.receives);
  metrics.total("ring_sends_total", "Answers that left through io_uring", () => counters.sends);
  metrics.total(
    "ring_sends_elsewhere_total",
    "Answers that libuv wrote as they are too long for io_uring's slots or none was free",
    () => counters.sendsElsewhere,
  );
  metrics.total(
    "ring_send_failures_total",
    "Answers that the system did not take whole; libuv wrote the rest",
    () => counters.sendFailures,
  );
  metrics.total(
    "ring_buffers_exhausted_total",
    "Reads that had to begin anew since no buffer was free",
    () => counters.buffersExhausted,
  );
  return ring;
}
