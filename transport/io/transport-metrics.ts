/** Transport's metrics (prom-client). Labels come from closed lists; never a host, address or URL. */
import type { Registry } from "prom-client";
import Counter from "prom-client/lib/counter.js";
import Gauge from "prom-client/lib/gauge.js";
import { dialCounters } from "./dial.ts";
import type { SpokenProtocol } from "./face.ts";
import type { OriginGroups } from "./origin-groups.ts";
import type { LinkPool } from "./link/pool.ts";
import type { UdpCarrier } from "./link/udp-carrier.ts";
import type { OriginResolver } from "./origin-resolver.ts";
import type { Prober } from "./prober.ts";
import type { Target } from "./target.ts";

/** All only grow. */
export type TransportCounters = {
  requests: number;
  retries: number;
  resumes: number;
  /** Of them, those of bodies that had fallen silent and not broken off. */
  rescues: number;
  /** By error code. */
  readonly failures: Map<string, number>;
  /** By "direct|reason" and "relay|reason". */
  readonly byPath: Map<string, number>;
  /** Answers. */
  readonly byProtocol: Map<SpokenProtocol, number>;
};

export function registerTransportMetrics(
  registry: Registry,
  sources: {
    readonly counters: TransportCounters;
    readonly resolver: OriginResolver;
    readonly prober: Prober;
    readonly origins: OriginGroups;
    readonly targets: () => readonly Target[];
  },
): void {
  const { counters, resolver, prober, origins, targets } = sources;
  const registers = [registry];
  let refused = 0;
  /** prom-client's counters add up; ours are totals already, so the difference is added at each scrape. */
  const total = (name: string, help: string, read: () => number): void => {
    let last = 0;
    // oxlint-disable-next-line no-new -- registers itself
    new Counter({
      name,
      help,
      registers,
      collect() {
        const now = read();
        this.inc(now - last);
        last = now;
      },
    });
  };
  total(
    "isochrone_transport_requests_total",
    "Requests sent upstream, repeats not counted.",
    () => counters.requests,
  );
  total("isochrone_transport_retries_total", "Requests sent again after a failure.", () => counters.retries);
  /** Totals by event of what comes and goes; who left took its counts with it: never step back. */
  const eventsOf = <T extends string>(
    name: string,
    help: string,
    events: readonly T[],
    read: (event: T) => number,
  ): void => {
    const last = new Map<T, number>();
    // oxlint-disable-next-line no-new -- registers itself
    new Counter({
      name,
      help,
      labelNames: ["event"],
      registers,
      collect() {
        for (const event of events) {
          const now = read(event);
          this.inc({ event }, Math.max(0, now - (last.get(event) ?? 0)));
          last.set(event, now);
        }
      },
    });
  };
  eventsOf(
    "isochrone_transport_hedging_total",
    "Second attempts of late requests: sent, answered first, refused by the budget; and paths left because of lost races.",
    ["hedges", "won", "refused", "pathsLeft"],
    (event) => targets().reduce((sum, target) => sum + target.hedges.counters[event], 0),
  );
  total("isochrone_transport_resumes_total", "Bodies resumed by Range.", () => counters.resumes);
  total(
    "isochrone_transport_rescues_total",
    "Of them, those that had fallen silent and not broken off.",
    () => counters.rescues,
  );
  total("isochrone_transport_retries_refused_total", "Repeats that a target's budget refused.", () => {
    // A target that left takes its count with it: never step back.
    refused = Math.max(
      refused,
      targets().reduce((sum, target) => sum + target.budget.refused, 0),
    );
    return refused;
  });
  total(
    "isochrone_transport_given_up_total",
    "Exchanges given up because their path failed.",
    () => prober.counters.gaveUp,
  );
  total(
    "isochrone_transport_dns_lookups_total",
    "Look-ups of origin names.",
    () => resolver.counters.lookups,
  );
  total("isochrone_transport_dns_failures_total", "Look-ups that failed.", () => resolver.counters.failures);
  total(
    "isochrone_transport_dns_stale_total",
    "Uses of an expired address.",
    () => resolver.counters.staleUses,
  );
  labelled(
    registers,
    "isochrone_transport_connection_attempts_total",
    "Addresses that were connected to, by what came of it.",
    ["outcome"],
    () => {
      const { connected, failed, overtaken } = dialCounters;
      return new Map(Object.entries({ connected, failed, overtaken }));
    },
  );
  labelled(
    registers,
    "isochrone_transport_failures_total",
    "Failed tries by error code.",
    ["code"],
    () => counters.failures,
  );
  total(
    "isochrone_transport_origin_checks_total",
    "Health checks of origins' servers.",
    () => origins.counters.checks,
  );
  labelled(
    registers,
    "isochrone_transport_origin_events_total",
    "Choices among origins' servers, and what happened to them: ejections, breakers, checks.",
    ["event"],
    () => origins.totals(),
  );
  // oxlint-disable-next-line no-new -- registers itself
  new Gauge({
    name: "isochrone_transport_origin_servers",
    help: "Servers of origins by what keeps them from being asked.",
    labelNames: ["bar"],
    registers,
    collect() {
      for (const [bar, count] of origins.counts()) this.set({ bar }, count);
    },
  });
  labelled(
    registers,
    "isochrone_transport_responses_total",
    "Response heads by kind of path and reason of its choice.",
    ["path", "reason"],
    () => counters.byPath,
  );
  const pathTotals = [
    "probesSent",
    "probesOk",
    "probesLost",
    "failures",
    "recoveries",
    "switches",
    "fallbacks",
  ] as const;
  eventsOf(
    "isochrone_transport_path_events_total",
    "What happened to paths: probes, failures, switches.",
    pathTotals,
    (event) => targets().reduce((sum, target) => sum + (target.chooser?.counters[event] ?? 0), 0),
  );
  const opening = ["connects", "connectFailures", "warmed", "retired", "refusedFull"] as const;
  eventsOf(
    "isochrone_transport_pool_total",
    "Connections: opened, failed, ahead of need, given up as slow; requests refused as too many.",
    opening,
    (name) =>
      targets().reduce(
        (sum, target) => sum + target.pools.reduce((all, pool) => all + pool.counters[name], 0),
        0,
      ),
  );
  const gauge = (name: string, help: string, read: (target: Target) => number): void => {
    // oxlint-disable-next-line no-new -- registers itself
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(targets().reduce((sum, target) => sum + read(target), 0));
      },
    });
  };
  gauge(
    "isochrone_transport_connections",
    "Open connections upstream, those of links not counted.",
    (target) => target.pools.reduce((all, pool) => all + pool.connections, 0),
  );
  labelled(
    registers,
    "isochrone_transport_answers_total",
    "Answers by what they were asked by.",
    ["protocol"],
    () => counters.byProtocol,
  );
  const ofLinks = (read: (link: LinkPool) => number) => (target: Target) =>
    target.links.reduce((all, link) => all + read(link), 0);
  gauge(
    "isochrone_transport_link_sessions",
    "Link sessions to servers of ours.",
    ofLinks(({ sessions }) => sessions),
  );
  gauge(
    "isochrone_transport_link_sessions_stuck",
    "Of them, those that do not answer.",
    ofLinks(({ stuckSessions }) => stuckSessions),
  );
  gauge(
    "isochrone_transport_link_streams",
    "Requests under way by link.",
    ofLinks(({ active }) => active),
  );
  const ofUdp = (read: (udp: UdpCarrier) => number) =>
    ofLinks(({ udp }) => (udp === undefined ? 0 : read(udp)));
  gauge(
    "isochrone_transport_link_udp_connections",
    "UDP carriers of links, those that take new requests.",
    ofUdp(({ isOpen }) => (isOpen ? 1 : 0)),
  );
  eventsOf(
    "isochrone_transport_link_udp_total",
    "UDP carriers: opened; requests by them, of them those that went by TLS too: raced, or unanswered for a probe timeout; large answers whose rest came by TLS; races won and lost; doubts, after which they are run anew; carriers given up, by why.",
    [
      "opened",
      "requests",
      "raced",
      "fallbacks",
      "moved",
      "won",
      "lost",
      "doubts",
      "blocked",
      "silent",
      "slower",
    ] as const,
    (event) => targets().reduce((sum, target) => sum + ofUdp(({ totals }) => totals[event])(target), 0),
  );
  eventsOf(
    "isochrone_transport_link_total",
    "Link sessions: opened, failed, refused by who speaks none, ended with requests under way, seen stuck; requests begun anew on another.",
    ["connects", "connectFailures", "refusals", "lost", "stuck", "moved"] as const,
    (event) =>
      targets().reduce(
        (sum, target) =>
          sum +
          (event === "refusals" ? target.linkRefusals : ofLinks((link) => link.counters[event])(target)),
        0,
      ),
  );
}

function labelled(
  registers: Registry[],
  name: string,
  help: string,
  labelNames: readonly string[],
  read: () => ReadonlyMap<string, number>,
): void {
  const last = new Map<string, number>();
  // oxlint-disable-next-line no-new -- registers itself
  new Counter({
    name,
    help,
    labelNames: [...labelNames],
    registers,
    collect() {
      for (const [key, value] of read()) {
        const parts = key.split("|");
        const labels = Object.fromEntries(labelNames.map((label, index) => [label, parts[index] ?? ""]));
        this.inc(labels, value - (last.get(key) ?? 0));
        last.set(key, value);
      }
    },
  });
}
