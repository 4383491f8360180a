/**
 * What operators say against the map: weights of clusters, client networks that are pinned to one, clusters and servers that are to be
 * emptied. A document of its own beside the topology: it is written by hand, in haste, by others than those who describe the
 * deployment, each entry ends by itself, and publishing a topology again must not undo it.
 */
import { type ClientNetworkId, type ClusterId, id, type ServerId } from "../ids.ts";
import {
  array,
  defaulted,
  integer,
  line,
  number,
  object,
  oneOf,
  optional,
  type Parsed,
  type Path,
  refine,
} from "../schema.ts";
import { trafficClasses } from "./property.ts";
import { coordinates, prefixText, type TopologyDocument } from "./topology.ts";

const note = () => optional(line(200));
/** Milliseconds since 1970; from then on the entry says nothing. */
const until = () => integer({ min: 1, max: 8.64e15, unit: "ms since 1970" });

const weight = object({
  clusterId: id<ClusterId>(),
  /**
   * Multiplies the cluster's scores: 2 makes it as unattractive as twice the travel time, 0.5 draws clients from afar. On the
   * score and not on the capacity, which the topology states: a weight has to work while there is room, too.
   */
  factor: number({ min: 0.1, max: 10 }),
  untilEpochMs: optional(until()),
  note: note(),
});

/** Whose traffic: one of the three; of several pins that fit the narrowest counts, a client network by name before all. */
const pin = object({
  clientNetworkId: optional(id<ClientNetworkId>()),
  /** Client networks that have a prefix within this one. A prefix that is narrower than a network's does not split it. */
  prefix: optional(prefixText()),
  /** Client networks whose label stands within a circle. */
  around: optional(object({ coordinates, radiusKm: number({ min: 1, max: 20_100, unit: "km" }) })),
  /** All classes unless named. */
  trafficClass: optional(oneOf(trafficClasses)),
  clusterId: id<ClusterId>(),
  /** A pin that nobody remembers is a fault in waiting: each has an end. */
  untilEpochMs: until(),
  note: note(),
});
export type MapPin = Parsed<typeof pin>;

/** Takes no new clients, and loses those that it has with the next map; it goes on serving who still comes. */
const drain = object({
  clusterId: optional(id<ClusterId>()),
  serverId: optional(id<ServerId>()),
  untilEpochMs: optional(until()),
  note: note(),
});

export const mapOverrides = refine(
  object({
    /** Of the deployment, like the topology's. */
    name: id(),
    weights: defaulted(array(weight, { max: 5_000, uniqueBy: (entry) => entry.clusterId }), []),
    pins: defaulted(array(pin, { max: 1_000 }), []),
    drains: defaulted(
      array(drain, { max: 5_000, uniqueBy: (entry) => `${entry.clusterId ?? ""} ${entry.serverId ?? ""}` }),
      [],
    ),
  }),
  ({ pins, drains }) => {
    for (const [n, one] of pins.entries())
      if ([one.clientNetworkId, one.prefix, one.around].filter((named) => named !== undefined).length !== 1)
        return { at: ["pins", n], value: one, expected: "one of clientNetworkId, prefix and around" };
    for (const [n, one] of drains.entries())
      if ((one.clusterId === undefined) === (one.serverId === undefined))
        return { at: ["drains", n], value: one, expected: "either clusterId or serverId" };
    return undefined;
  },
);
export type MapOverrides = Parsed<typeof mapOverrides>;

/** The first entry that names an edge cluster or a server that the topology does not have: a typing error would do nothing, silently. */
export function overridesProblem(
  { weights, pins, drains }: MapOverrides,
  topology: TopologyDocument,
): { readonly at: Path; readonly value: unknown; readonly expected: string } | undefined {
  const clusters = new Map(topology.clusters.map((cluster) => [cluster.clusterId, cluster]));
  const servers = new Set(topology.clusters.flatMap((one) => one.servers.map(({ serverId }) => serverId)));
  for (const [list, entries] of [
    ["weights", weights],
    ["pins", pins],
  ] as const)
    for (const [n, { clusterId }] of entries.entries())
      if (clusters.get(clusterId)?.role !== "edge")
        return { at: [list, n, "clusterId"], value: clusterId, expected: "an edge cluster of the topology" };
  for (const [n, { clusterId, serverId }] of drains.entries()) {
    if (clusterId !== undefined && !clusters.has(clusterId))
      return { at: ["drains", n, "clusterId"], value: clusterId, expected: "a cluster of the topology" };
    if (serverId !== undefined && !servers.has(serverId))
      return { at: ["drains", n, "serverId"], value: serverId, expected: "a server of the topology" };
  }
  return undefined;
}
