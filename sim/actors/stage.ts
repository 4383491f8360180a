/** What the actors of one run share: the environment, the documents that it began with, the judge, and the figures. */
import type { ClusterEntry, PolicyDocument, PropertyDocument, TopologyDocument } from "#kit";
import type { Bounds } from "../core/bounds.ts";
import type { Incidents } from "../core/incidents.ts";
import type { Judge } from "../core/invariants.ts";
import type { Statistics } from "../core/statistics.ts";
import type { Catalog } from "./catalog.ts";
import type { Environment } from "./host.ts";

export interface Stage extends Environment {
  readonly topology: TopologyDocument;
  readonly properties: readonly PropertyDocument[];
  readonly catalog: Catalog;
  readonly bounds: Bounds;
  readonly judge: Judge;
  readonly incidents: Incidents;
  readonly statistics: Statistics;
  /** Cluster of a server. */
  readonly clusterOf: ReadonlyMap<string, ClusterEntry>;
  /** Server id of the first origin of each property. */
  readonly originOf: ReadonlyMap<string, string>;
  /** Server ids of all its origins, in the document's order; of a property with origins outside of the world the first alone. */
  readonly originsOf: ReadonlyMap<string, readonly string[]>;
  /** Decides among the origins. */
  readonly policy: PolicyDocument;
  /** Servers that test its targets. */
  readonly testAgents: ReadonlySet<string>;
}
