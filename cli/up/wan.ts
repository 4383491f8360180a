/** The links of a running world as its processes feel them: the generated delays, less what has been cut. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TopologyDocument } from "#kit";
import { makeDirectory } from "#kit/io";
import { type AddressPlan, type World, WorldLinks } from "#kit/world";
import { UsageError } from "../usage.ts";

export class WorldWan {
  readonly #plan: AddressPlan;
  readonly #topology: TopologyDocument;
  readonly #directory: string;
  readonly #linksFrom = new Map<string, Record<string, unknown>>();
  readonly #cuts = new Map<string, readonly [string, string]>();

  constructor(world: World, plan: AddressPlan, topology: TopologyDocument, stateDirectory: string) {
    this.#plan = plan;
    this.#topology = topology;
    this.#directory = join(stateDirectory, "wan");
    makeDirectory(this.#directory);
    for (const { from, to, ...link } of new WorldLinks(world).clusterPairs()) {
      const links = this.#linksFrom.get(from) ?? {};
      links[`${from}|${to}`] = link;
      this.#linksFrom.set(from, links);
    }
    for (const cluster of topology.clusters) this.#write(cluster.clusterId);
  }

  /** What a process at this cluster must know; the message of the supervisor and the content of its file. */
  stateFor(clusterId: string): object {
    return {
      siteOfAddress: this.#plan.siteOfAddress,
      self: clusterId,
      links: this.#linksFrom.get(clusterId) ?? {},
      cuts: this.cuts,
    };
  }

  fileOf(clusterId: string): string {
    return join(this.#directory, `${clusterId}.json`);
  }

  get cuts(): readonly (readonly [string, string])[] {
    return [...this.#cuts.values()];
  }

  /** Cluster ids that a person means: an id, or a city (all sites there). */
  resolveSite(name: string): string[] {
    const byId = this.#topology.clusters.filter((cluster) => cluster.clusterId === name);
    const wanted = foldCity(name);
    const found =
      byId.length > 0 ? byId : this.#topology.clusters.filter((one) => foldCity(one.city) === wanted);
    if (found.length > 0) return found.map((cluster) => cluster.clusterId);
    const known = this.#topology.clusters.map((cluster) => cluster.clusterId).join(", ");
    throw new UsageError(`No site ${JSON.stringify(name)}; the sites are ${known}`);
  }

  /** Cuts every pair of the two names' sites. @returns the pairs that are cut now and were not before. */
  cut(a: string, b: string): (readonly [string, string])[] {
    const added: (readonly [string, string])[] = [];
    for (const pair of this.#pairs(a, b)) {
      if (this.#cuts.has(pair.join("|"))) continue;
      this.#cuts.set(pair.join("|"), pair);
      added.push(pair);
    }
    if (added.length === 0 && this.#pairs(a, b).length === 0)
      throw new UsageError("A site cannot be cut from itself");
    this.#writeAll();
    return added;
  }

  /** Mends the pairs of two names, or all. @returns the pairs that were cut. */
  heal(names?: readonly [string, string]): (readonly [string, string])[] {
    const keys =
      names === undefined ? [...this.#cuts.keys()] : this.#pairs(...names).map((pair) => pair.join("|"));
    const mended = keys.flatMap((key) => {
      const pair = this.#cuts.get(key);
      this.#cuts.delete(key);
      return pair === undefined ? [] : [pair];
    });
    this.#writeAll();
    return mended;
  }

  #pairs(a: string, b: string): (readonly [string, string])[] {
    const right = this.resolveSite(b);
    const pairs = this.resolveSite(a).flatMap((one) =>
      right.filter((other) => other !== one).map((other) => [one, other].sort()),
    );
    return pairs.map(([one, other]) => [one as string, other as string] as const);
  }

  #writeAll(): void {
    for (const cluster of this.#topology.clusters) this.#write(cluster.clusterId);
  }

  #write(clusterId: string): void {
    writeFileSync(this.fileOf(clusterId), JSON.stringify(this.stateFor(clusterId)));
  }
}

/** Cities as people type them: case, accents and the way that accents are encoded do not tell two cities apart. */
function foldCity(city: string): string {
  return city.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
}
