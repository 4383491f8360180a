/** A small deployment and helpers to ask its name server in bytes. */
import {
  type MapSnapshot,
  type PropertyDocument,
  parseAddress,
  propertyDocument,
  type ServerId,
  type TopologyDocument,
  topologyDocument,
} from "#kit";
import { MapIndex } from "../../../mapping/core/map-index.ts";
import { TopologyIndex } from "../../../mapping/core/topology-index.ts";
import { dnsClasses, dnsTypes, ednsOptionCodes } from "../../../mapping/core/dns/constants.ts";
import type { DnsMessage, EdnsOption } from "../../../mapping/core/dns/message.ts";
import { nameFromText } from "../../../mapping/core/dns/name.ts";
import { respond } from "../../../mapping/core/dns/respond.ts";
import type {
  DnsContext,
  DnsDecision,
  DnsService,
  DnsTransport,
} from "../../../mapping/core/dns/decision.ts";
import { readMessage, writeMessage } from "../../../mapping/core/dns/wire.ts";
import { ZoneTable } from "../../../mapping/core/dns/zone-table.ts";
import { snapshotFrom, type WrittenSnapshot } from "../../tools/map-snapshot.ts";

const cluster = (clusterId: string, n: number, role = "edge", servers = 2) => ({
  clusterId,
  regionId: "world",
  role,
  city: clusterId,
  coordinates: { latitude: 0, longitude: 0 },
  servers: Array.from({ length: servers }, (_, s) => ({
    serverId: `${clusterId}-${s + 1}`,
    address: `127.10.${n}.${s + 1}`,
    port: 8080,
  })),
});

export const topology: TopologyDocument = topologyDocument.parse({
  name: "test",
  clusters: [cluster("fra", 1), cluster("nyc", 2), cluster("sin", 3), cluster("ns", 4, "nameserver", 2)],
  nameService: {
    zones: ["shop.example", "sub.shop.example", "media.example"],
    hostmaster: "hostmaster.shop.example",
    nameServers: [
      { serverId: "ns-1", name: "ns1.shop.example", address: "127.10.4.1", dnsPort: 53 },
      { serverId: "ns-2", name: "ns2.elsewhere.test", address: "127.10.4.2", dnsPort: 53 },
    ],
  },
});

export const properties: readonly PropertyDocument[] = [
  {
    propertyId: "shop",
    customerId: "acme",
    hostnames: ["www.shop.example", "deep.empty.shop.example", "media.example"],
    origins: [{ scheme: "http", host: "127.10.9.1", port: 80 }],
  },
  {
    propertyId: "outside",
    customerId: "acme",
    hostnames: ["www.other.test", "www.shop.example"],
    origins: [{ scheme: "http", host: "127.10.9.1", port: 80 }],
  },
  {
    propertyId: "withdrawn",
    customerId: "acme",
    hostnames: ["old.shop.example"],
    origins: [{ scheme: "http", host: "127.10.9.1", port: 80 }],
    isActive: false,
  },
  {
    propertyId: "tls",
    customerId: "acme",
    hostnames: ["tls.shop.example"],
    origins: [{ scheme: "http", host: "127.10.9.1", port: 80 }],
    httpsRecord: { port: 8_443 },
  },
].map((body) => propertyDocument.parse(body));

export const ranking = (...order: string[]) => {
  const ranked = order.map((clusterId, index) => ({
    clusterId: clusterId,
    score: 10 * (index + 1),
    terms: { rttMs: 10 * (index + 1), lossRatio: 0, load: 0.1, confidence: 1 },
  }));
  return { interactive: ranked, bulk: ranked, live: ranked };
};

export const written: WrittenSnapshot = {
  mapVersion: 7,
  createdAtEpochMs: 1_700_000_000_000,
  reason: "cycle",
  clientNetworks: [
    {
      clientNetworkId: "berlin",
      prefixes: ["192.0.2.0/24", "2001:db8:1::/48"],
      clusters: ranking("fra", "nyc", "sin"),
    },
    {
      clientNetworkId: "boston",
      prefixes: ["198.51.100.0/24", "2001:db8:2::/48"],
      clusters: ranking("nyc", "fra", "sin"),
    },
    {
      clientNetworkId: "tokyo",
      prefixes: ["203.0.113.0/25", "2001:db8:3::/48"],
      clusters: ranking("sin", "nyc", "fra"),
    },
  ],
  fallback: ranking("nyc", "fra", "sin"),
};
export const snapshot: MapSnapshot = snapshotFrom(written);

export const zones = new ZoneTable({ topology, properties, serial: 42 });

export function context(down: readonly string[] = [], map: MapSnapshot | null = snapshot): DnsContext {
  const dead = new Set<ServerId>(down as readonly ServerId[]);
  return {
    zones,
    topology: new TopologyIndex(topology),
    snapshot: map === null ? null : new MapIndex(map),
    isUp: (serverId) => !dead.has(serverId),
  };
}

export interface Ask {
  readonly name?: string;
  readonly type?: number;
  readonly class?: number;
  readonly opcode?: number;
  /** Data of an ECS option, in hex. */
  readonly ecs?: string;
  readonly options?: readonly EdnsOption[];
  readonly edns?: boolean;
  readonly version?: number;
  readonly udpPayloadBytes?: number;
  readonly isDnssecOk?: boolean;
  readonly id?: number;
  readonly isRecursionDesired?: boolean;
}

export const hex = (text: string): Uint8Array =>
  Uint8Array.from(Buffer.from(text.replaceAll(/[^0-9a-fA-F]/g, ""), "hex"));

export function query(ask: Ask = {}): Uint8Array {
  const name = nameFromText(ask.name ?? "www.shop.example");
  if (name === undefined) throw new Error(`bad name in a test: ${ask.name}`);
  const ecs = ask.ecs === undefined ? [] : [{ code: ednsOptionCodes.ECS, data: hex(ask.ecs) }];
  const hasEdns =
    ask.edns ??
    (ask.ecs !== undefined ||
      ask.options !== undefined ||
      ask.version !== undefined ||
      ask.udpPayloadBytes !== undefined);
  const bytes = writeMessage({
    header: {
      id: ask.id ?? 0x1234,
      isResponse: false,
      opcode: ask.opcode ?? 0,
      isAuthoritative: false,
      isTruncated: false,
      isRecursionDesired: ask.isRecursionDesired ?? false,
      isRecursionAvailable: false,
      isAuthenticData: false,
      isCheckingDisabled: false,
      rcode: 0,
    },
    questions: [{ name, type: ask.type ?? dnsTypes.A, class: ask.class ?? dnsClasses.IN }],
    answers: [],
    authorities: [],
    additionals: [],
    edns: hasEdns
      ? {
          udpPayloadBytes: ask.udpPayloadBytes ?? 1232,
          version: ask.version ?? 0,
          isDnssecOk: ask.isDnssecOk ?? false,
          options: [...ecs, ...(ask.options ?? [])],
        }
      : undefined,
  });
  if (bytes === undefined) throw new Error("a query in a test is too long");
  return bytes;
}

export const resolver = parseAddress("198.51.100.53")!;

export function decide(
  bytes: Uint8Array,
  options: {
    transport?: DnsTransport;
    context?: DnsContext | undefined;
    resolverAddress?: string;
    service?: DnsService;
    epochSeconds?: number;
  } = {},
): DnsDecision {
  const resolverAddress =
    options.resolverAddress === undefined ? resolver : parseAddress(options.resolverAddress)!;
  return respond(
    {
      bytes,
      transport: options.transport ?? "udp",
      resolverAddress,
      epochSeconds: options.epochSeconds ?? 0,
    },
    "context" in options ? options.context : context(),
    options.service,
  );
}

/** The reply as a message; throws when there is none or it does not parse. */
export function answerTo(
  bytes: Uint8Array,
  options: Parameters<typeof decide>[1] = {},
): { readonly message: DnsMessage; readonly decision: Extract<DnsDecision, { action: "reply" }> } {
  const decision = decide(bytes, options);
  if (decision.action === "drop") throw new Error(`dropped: ${decision.reason}`);
  const read = readMessage(decision.bytes);
  if (!read.ok) throw new Error(`reply does not parse: ${read.fault} at ${read.at}`);
  return { message: read.message, decision };
}

export function ecsOf(message: DnsMessage): string | undefined {
  const option = message.edns?.options.find(({ code }) => code === ednsOptionCodes.ECS);
  return option === undefined ? undefined : Buffer.from(option.data).toString("hex");
}

/** The same deployment with `count` name servers in shop.example. */
export function wideContext(count: number): DnsContext {
  const wide = {
    ...topology,
    nameService: {
      ...topology.nameService,
      nameServers: Array.from({ length: count }, (_, n) => ({
        serverId: `ns-${n}` as ServerId,
        name: `name-server-number-${n}.shop.example`,
        address: `127.20.0.${n + 1}`,
        dnsPort: 53,
      })),
    },
  };
  return { ...context(), zones: new ZoneTable({ topology: wide, properties, serial: 1 }) };
}
