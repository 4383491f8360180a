/** The name server's metrics in Prometheus text. Labels come from closed lists only: no name, no address. */
import Counter from "prom-client/lib/counter.js";
import Gauge from "prom-client/lib/gauge.js";
import Registry from "prom-client/lib/registry.js";
import { collectProcessMetrics } from "#kit/io";
import type { DnsCounters } from "../core/dns/counters.ts";

export interface DnsMetricsSource {
  readonly counters: DnsCounters;
  /** Of the sockets, by event. */
  readonly socketCounters: () => Readonly<Record<string, number>>;
  /** Batches of datagrams by size; undefined without batches. */
  readonly batches: () => Readonly<Record<string, number>> | undefined;
  readonly tcpConnections: () => number;
  /** Processes that serve. */
  readonly workers: () => number;
  /** Null while there is no map. */
  readonly map: () => { readonly version: number; readonly term: number; readonly ageSeconds: number } | null;
  /** What became of documents that control sent, by outcome; null in alone mode. */
  readonly documents: () => Readonly<Record<string, number>> | null;
  /** Documents that wait for their time; null in alone mode. */
  readonly documentsHeld: () => number | null;
  readonly isStandingBy: () => boolean;
  /** Tests of policies' targets by outcome, and who takes part; null in alone mode. */
  readonly tests: () => Readonly<Record<string, number>> | null;
  /** Questions for the targets of ALIAS records by what became of them; null in alone mode. */
  readonly aliases: () => Readonly<Record<string, number>> | null;
  /** Questions for the DS at zones' parents by what became of them; null in alone mode. */
  readonly parents: () => Readonly<Record<string, number>> | null;
  /** Secondary zones: questions to primaries by what came of them, and zones by state; null in alone mode. */
  readonly secondaries: () => {
    readonly events: Readonly<Record<string, number>>;
    readonly states: Readonly<Record<string, number>>;
  } | null;
  /** Null without own probes. */
  readonly servers: () => { readonly probed: number; readonly up: number } | null;
  readonly zones: () => { readonly zones: number; readonly names: number };
  /** Signatures by what became of them. */
  readonly signatures: () => Readonly<Record<string, number>>;
  readonly zonesSigned: () => number;
  /** Null in alone mode. */
  readonly control: () => boolean | null;
}

/** Everything is read when it is scraped; a query costs one increment in the core's own counters. */
export function dnsMetrics(source: DnsMetricsSource): Registry {
  const register = new Registry();
  collectProcessMetrics(register);
  const registers = [register];
  const gauge = (name: string, help: string, read: () => number | null): void => {
    const one: Gauge = new Gauge({
      name,
      help,
      registers,
      collect() {
        const value = read();
        if (value === null) this.remove();
        else this.set(value);
      },
    });
    void one;
  };
  const counter = (
    name: string,
    help: string,
    labelNames: readonly string[],
    read: (add: (labels: Record<string, string>, value: number) => void) => void,
  ): void => {
    const one: Counter = new Counter({
      name,
      help,
      labelNames: [...labelNames],
      registers,
      collect() {
        this.reset();
        read((labels, value) => this.inc(labels, value));
      },
    });
    void one;
  };
  counter(
    "isochrone_dns_queries_total",
    "Queries by what was decided; rcode none: not answered",
    ["transport", "reason", "rcode", "type", "map"],
    (add) => {
      for (const { labels, count } of source.counters.entries()) add({ ...labels }, count);
    },
  );
  counter("isochrone_dns_truncated_total", "Answers with TC set", [], (add) => {
    add({}, source.counters.truncated);
  });
  counter("isochrone_dns_ecs_total", "Answers that echoed a client subnet", [], (add) => {
    add({}, source.counters.withEcs);
  });
  counter(
    "isochrone_dns_socket_events_total",
    "What happened at the sockets and to the query log",
    ["event"],
    (add) => {
      for (const [event, count] of Object.entries(source.socketCounters())) add({ event }, count);
    },
  );
  counter(
    "isochrone_dns_batches_total",
    "Batches of datagrams, by how many were received at once",
    ["size"],
    (add) => {
      for (const [size, count] of Object.entries(source.batches() ?? {})) add({ size }, count);
    },
  );
  gauge("isochrone_dns_tcp_connections", "Open TCP connections", source.tcpConnections);
  gauge("isochrone_dns_workers", "Processes that serve", source.workers);
  gauge("isochrone_dns_map_version", "Version of the map in force", () => source.map()?.version ?? null);
  gauge("isochrone_dns_map_term", "Term of its publisher", () => source.map()?.term ?? null);
  counter(
    "isochrone_dns_documents_total",
    "Documents of control by what became of them; fenced: of a publisher whose term is over",
    ["outcome"],
    (add) => {
      for (const [outcome, count] of Object.entries(source.documents() ?? {})) add({ outcome }, count);
    },
  );
  counter(
    "isochrone_dns_policy_tests_total",
    "Tests of policies' targets by outcome; refused: of special addresses or by scripts that are not permitted",
    ["outcome"],
    (add) => {
      const { ok, failed, refused, loads, loadsFailed } = source.tests() ?? {};
      for (const [outcome, count] of Object.entries({ ok, failed, refused, loads, loadsFailed }))
        if (count !== undefined) add({ outcome }, count);
    },
  );
  counter(
    "isochrone_dns_alias_questions_total",
    "Questions for names outside that ALIAS records lead to; loops: answers that led back to an ALIAS; expired: not answered for a day",
    ["outcome"],
    (add) => {
      const { names: _names, dropped: _dropped, ...outcomes } = source.aliases() ?? {};
      for (const [outcome, count] of Object.entries(outcomes)) add({ outcome }, count);
    },
  );
  counter(
    "isochrone_dns_parent_questions_total",
    "Questions for the DS that the parents of signed zones have, of zones that wait for it",
    ["outcome"],
    (add) => {
      for (const [outcome, count] of Object.entries(source.parents() ?? {})) add({ outcome }, count);
    },
  );
  counter(
    "isochrone_dns_secondary_events_total",
    "Looks at the primaries of secondary zones: asked, upToDate, taken (axfr, ixfr; ixfrFellBack: AXFR since IXFR was of no use), failed; expired zones; NOTIFY heeded and of nothing new",
    ["event"],
    (add) => {
      for (const [event, count] of Object.entries(source.secondaries()?.events ?? {})) add({ event }, count);
    },
  );
  const zones: Gauge = new Gauge({
    name: "isochrone_dns_secondary_zones",
    help: "Secondary zones: waiting (never fetched) and expired ones get SERVFAIL; unconfirmed: no primary answers",
    labelNames: ["state"],
    registers,
    collect() {
      for (const [state, count] of Object.entries(source.secondaries()?.states ?? {}))
        this.set({ state }, count);
    },
  });
  void zones;
  gauge(
    "isochrone_dns_policy_agents",
    "Agents whose opinions on policies' targets are heard, this one among them",
    () => source.tests()?.["agents"] ?? null,
  );
  gauge(
    "isochrone_dns_policy_agents_suspected",
    "Of these, agents that see nothing live while others do",
    () => source.tests()?.["suspected"] ?? null,
  );
  gauge("isochrone_dns_map_age_seconds", "Age of the map in force", () => source.map()?.ageSeconds ?? null);
  gauge(
    "isochrone_dns_servers_probed",
    "Edge servers that are probed",
    () => source.servers()?.probed ?? null,
  );
  gauge("isochrone_dns_servers_up", "Edge servers that may be named", () => source.servers()?.up ?? null);
  gauge("isochrone_dns_documents_held", "Documents that wait for --input-delay", source.documentsHeld);
  gauge("isochrone_dns_standing_by", "1: it refuses, since others answer", () =>
    Number(source.isStandingBy()),
  );
  gauge("isochrone_dns_zones", "Zones that are served", () => source.zones().zones);
  gauge("isochrone_dns_zones_signed", "Zones that have keys", source.zonesSigned);
  counter(
    "isochrone_dns_signatures_total",
    "Signatures of answers: made, taken from those that were kept, made anew in time, dropped for want of room; limited: denials that were cut to TC instead",
    ["event"],
    (add) => {
      for (const [event, count] of Object.entries(source.signatures())) add({ event }, count);
    },
  );
  gauge("isochrone_dns_names", "Names in those zones", () => source.zones().names);
  gauge("isochrone_dns_control_connected", "Whether control's stream stands", () => {
    const isConnected = source.control();
    return isConnected === null ? null : Number(isConnected);
  });
  return register;
}
