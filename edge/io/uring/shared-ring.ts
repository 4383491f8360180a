/** The one ring of this process, opened when the first server wants it. Where there is none, connections go on through libuv. */
import { IsochroneError } from "#kit";
import type { Logger } from "#kit/io";
import type { EdgeMetrics } from "../metrics.ts";
import { RingSockets } from "./ring-sockets.ts";

let opening: Promise<RingSockets | Error> | undefined;
let isRefusalTold = false;
const told = new WeakSet<EdgeMetrics>();

async function open(): Promise<RingSockets | Error> {
  opening ??= RingSockets.open().catch((error: unknown) =>
    error instanceof Error ? error : new Error(String(error)),
  );
  return await opening;
}

/** Rejects with an IsochroneError of the source "configuration" where the system or the package refuses. */
export async function requireRing(): Promise<void> {
  const ring = await open();
  if (!(ring instanceof Error)) return;
  throw new IsochroneError(
    `Cannot use io_uring, which --io-uring on asks for: ${ring.message}; with --io-uring auto connections are read through libuv then`,
    { code: "io-uring-unavailable", source: "configuration", retry: "never", cause: ring },
  );
}

/** Undefined, with one warning that says why, where the system or the package refuses. Never rejects. */
export async function sharedRing(metrics: EdgeMetrics, logger: Logger): Promise<RingSockets | undefined> {
  const ring = await open();
  if (ring instanceof Error) {
    if (!isRefusalTold)
      logger.warn("io-uring-unavailable", {
        error: ring,
        effect:
          "connections are read through libuv, hits take a third more CPU; --io-uring off says that this is wanted",
      });
    isRefusalTold = true;
  }
  if (!told.has(metrics)) {
    told.add(metrics);
    show(ring instanceof Error ? undefined : ring, metrics);
  }
  if (ring instanceof Error) return undefined;
  ring.onFailure ??= (error) =>
    logger.error("io-uring-failed", {
      error,
      effect: "connections that were read through it are cut, new ones are read through libuv",
    });
  return ring;
}

function show(ring: RingSockets | undefined, metrics: EdgeMetrics): void {
  metrics.gauge(
    "ring_whole",
    "1: clear HTTP/1.1 is read through io_uring; 0: it is not to be had, or broke",
    () => (ring?.isWhole === true ? 1 : 0),
  );
  if (ring === undefined) return;
  const { counters } = ring;
  metrics.gauge("ring_connections", "Connections that are read through io_uring", () => ring.connections);
  metrics.total("ring_receives_total", "Reads that came through io_uring", () => counters.receives);
  metrics.total("ring_sends_total", "Answers that left through io_uring", () => counters.sends);
  metrics.total(
    "ring_long_sends_total",
    "Answers of them whose content the system read where it is stored",
    () => counters.longSends,
  );
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
}
