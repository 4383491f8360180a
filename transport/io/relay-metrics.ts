/** The relay's metrics (prom-client). Labels come from closed lists; never a host, address or peer. */
import type { Registry } from "prom-client";
import Counter from "prom-client/lib/counter.js";
import Gauge from "prom-client/lib/gauge.js";
import type { ServerReport } from "#kit";
import { systemClock } from "#kit/io";
import type { RelayServer } from "./relay-server.ts";

/** Registers what `server` counts; read at each scrape. */
export function registerRelayMetrics(
  registry: Registry,
  server: RelayServer,
  certificate: () => ServerReport["certificate"],
): void {
  const registers = [registry];
  const { counters } = server;
  const byLabel = (
    name: string,
    helpText: string,
    label: string,
    source: ReadonlyMap<string, number>,
  ): void => {
    const last = new Map<string, number>();
    // oxlint-disable-next-line no-new -- registers itself
    new Counter({
      name,
      help: helpText,
      labelNames: [label],
      registers,
      collect() {
        for (const [key, value] of source) {
          this.inc({ [label]: key }, value - (last.get(key) ?? 0));
          last.set(key, value);
        }
      },
    });
  };
  byLabel("isochrone_relay_tunnels_total", "CONNECT requests by outcome.", "outcome", counters.outcomes);
  byLabel(
    "isochrone_relay_peers_total",
    "Connections of servers of ours (known), and of those that were none, by why not.",
    "verdict",
    counters.peers,
  );
  let lastHeld = 0;
  // oxlint-disable-next-line no-new -- registers itself
  new Counter({
    name: "isochrone_relay_held_back_total",
    help: "Times that a tunnel waited for its customer's share of the rate.",
    registers,
    collect() {
      this.inc(server.heldBack - lastHeld);
      lastHeld = server.heldBack;
    },
  });
  let lastUp = 0;
  let lastDown = 0;
  // oxlint-disable-next-line no-new -- registers itself
  new Counter({
    name: "isochrone_relay_bytes_total",
    help: "Bytes forwarded.",
    labelNames: ["direction"],
    registers,
    collect() {
      this.inc({ direction: "up" }, counters.bytesUp - lastUp);
      this.inc({ direction: "down" }, counters.bytesDown - lastDown);
      lastUp = counters.bytesUp;
      lastDown = counters.bytesDown;
    },
  });
  // oxlint-disable-next-line no-new -- registers itself
  new Gauge({
    name: "isochrone_relay_tunnels_open",
    help: "Open tunnels.",
    registers,
    collect() {
      this.set(counters.tunnels);
    },
  });
  // oxlint-disable-next-line no-new -- registers itself
  new Gauge({
    name: "isochrone_relay_node_certificate_seconds_left",
    help: "How long the certificate is good by which other servers of ours know this one; 0 without one.",
    registers,
    collect() {
      this.set(Math.max(0, ((certificate()?.notAfterEpochMs ?? 0) - systemClock.epoch()) / 1_000));
    },
  });
  let lastExpired = 0;
  let lastRemoved = 0;
  // oxlint-disable-next-line no-new -- registers itself
  new Counter({
    name: "isochrone_relay_tunnels_ended_total",
    help: "Open tunnels that the relay ended, because their peer's certificate did or its place in the topology.",
    labelNames: ["reason"],
    registers,
    collect() {
      this.inc({ reason: "certificate-ended" }, counters.expiredClosed - lastExpired);
      this.inc({ reason: "peer-removed" }, counters.removedClosed - lastRemoved);
      lastExpired = counters.expiredClosed;
      lastRemoved = counters.removedClosed;
    },
  });
  // oxlint-disable-next-line no-new -- registers itself
  new Gauge({
    name: "isochrone_relay_permitted_targets",
    help: "Targets that tunnels may reach.",
    registers,
    collect() {
      this.set(server.permittedTargets);
    },
  });
}
