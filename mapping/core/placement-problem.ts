/** What is to be placed, under which limits: the input of `placement.ts`. */

/** What some clusters may take of one resource, all together: a cluster's own capacity, a region's uplink, a contract's share. */
export interface PlacementLimit {
  /** Index into `demands`. */
  readonly resource: number;
  /** In the unit of that resource, >= 0. */
  readonly max: number;
  /** Numbers of the clusters that share it. */
  readonly clusters: readonly number[];
}

/** All that does not change while units are placed. Unit `u` ranks the places `offsets[u]` up to `offsets[u + 1]`. */
export interface PlacementProblem {
  readonly clusterCount: number;
  /** For each resource what each unit takes of it wherever it is, >= 0. The first one is what "large" means. */
  readonly demands: readonly (Float32Array | Float64Array)[];
  readonly offsets: Uint32Array;
  /** The cluster of each place, best first for its unit. */
  readonly clusters: Uint16Array;
  /** Of each place, ascending for each unit: the difference of two is what it loses by going on to the next. */
  readonly costs: Float32Array | Float64Array;
  readonly limits: readonly PlacementLimit[];
  /** By cluster: 1 for those that take nobody, whoever ranks them; without it all take somebody. */
  readonly isClosed?: Uint8Array;
  /**
   * Who was where before: a unit at its cluster goes only for one that loses this much more by not coming. Without it units that lose
   * about as much change places for ever, because those who are let go to make room for a large one leave a gap behind that another one fills.
   */
  readonly incumbents?: { readonly clusters: Uint16Array; readonly yieldMargin: number };
  /**
   * Where to look when all that a unit ranks is full: orders of clusters, nearest first, and the order of each unit. Without it
   * such a unit stays among those it ranks, however full they are.
   */
  readonly fallback?: { readonly orders: readonly Uint16Array[]; readonly orderOf: Uint32Array };
}

/** @throws RangeError when the arrays do not fit each other or a number is out of its range */
export function checkPlacement({
  clusterCount,
  demands,
  offsets,
  clusters,
  costs,
  limits,
}: PlacementProblem): void {
  const refuse = (what: string): never => {
    throw new RangeError(`Cannot place units: ${what}`);
  };
  const unitCount = offsets.length - 1;
  if (unitCount < 0 || offsets[0] !== 0) refuse("offsets must begin with 0");
  if (offsets[unitCount] !== clusters.length || costs.length !== clusters.length)
    refuse(`${clusters.length} places, ${costs.length} costs and a last offset of ${offsets[unitCount]}`);
  for (let unit = 0; unit < unitCount; unit++) {
    const end = offsets[unit + 1] as number;
    if (end < (offsets[unit] as number)) refuse(`the offsets of unit ${unit} go back`);
    for (let place = offsets[unit] as number; place < end; place++) {
      if ((clusters[place] as number) >= clusterCount) refuse(`unit ${unit} ranks a cluster that is none`);
      const isAscending = place === offsets[unit] || (costs[place] as number) >= (costs[place - 1] as number);
      // A NaN is not ascending either; the first one is compared with itself.
      if (!isAscending || Number.isNaN(costs[place])) refuse(`the costs of unit ${unit} do not ascend`);
    }
  }
  if (demands.length === 0) refuse("there is no resource");
  for (const [resource, demand] of demands.entries()) {
    if (demand.length !== unitCount)
      refuse(`${demand.length} demands of resource ${resource} for ${unitCount} units`);
    for (const value of demand)
      if (!(value >= 0 && value < Number.POSITIVE_INFINITY)) refuse(`a demand of ${value}`);
  }
  for (const { resource, max, clusters: shared } of limits) {
    if (demands[resource] === undefined) refuse(`a limit on resource ${resource}, which is none`);
    if (!(max >= 0)) refuse(`a limit of ${max}`);
    for (const cluster of shared)
      if (!(Number.isInteger(cluster) && cluster >= 0 && cluster < clusterCount))
        refuse(`a limit on cluster ${cluster}, which is none`);
  }
}
