/** Who visits what: drawn from a seed, weighted by the demand that the world states. Pure. */
import { type IpPrefix, parsePrefix, type Random } from "#kit";
import { SEGMENT_SECONDS } from "../../origin-sim/core/content.ts";
import type { WorldDescription } from "../world.ts";

export interface Visit {
  readonly city: string;
  readonly subnet: IpPrefix;
  readonly host: string;
  /** Asked in this order: a page, then what it needs. */
  readonly paths: readonly string[];
}

type ClientNetwork = WorldDescription["clientNetworks"][number];

/** Few objects that many want, many that few want: the shape that a cache lives on. */
const PAGES = 40;

export class VisitPlan {
  readonly #networks: readonly ClientNetwork[];
  readonly #properties: WorldDescription["properties"];
  readonly #random: Random;
  readonly #demand: number;

  /** @param city only visitors of this city; throws RangeError when no client network is there */
  constructor(world: WorldDescription, random: Random, city?: string) {
    const wanted = city?.toLowerCase();
    this.#networks = world.clientNetworks.filter(
      (one) => wanted === undefined || one.city.toLowerCase() === wanted || one.id === wanted,
    );
    this.#properties = world.properties.filter((one) => one.content !== null);
    this.#random = random;
    this.#demand = this.#networks.reduce((sum, one) => sum + one.demandPerSecond, 0);
    if (this.#networks.length === 0 || this.#demand === 0) {
      const known = world.clientNetworks.map((one) => one.city).join(", ");
      throw new RangeError(
        `No visitors in ${JSON.stringify(city ?? "this world")}; there are some in ${known}`,
      );
    }
    if (this.#properties.length === 0)
      throw new RangeError("No property of this world says what content it has");
  }

  /** `nowEpochMs` decides which segments of a live stream exist. */
  next(nowEpochMs: number): Visit {
    const network = this.#network();
    const property = this.#random.pick(this.#properties);
    const subnet = parsePrefix(this.#random.pick(network.prefixes));
    if (subnet === undefined) throw new RangeError(`${network.id} has a prefix that is none`);
    return {
      city: network.city,
      subnet,
      host: property.hostnames[0] ?? "",
      paths: this.#paths(property.content ?? "static", nowEpochMs),
    };
  }

  #network(): ClientNetwork {
    let left = this.#random.float() * this.#demand;
    for (const network of this.#networks) {
      left -= network.demandPerSecond;
      if (left < 0) return network;
    }
    return this.#networks[0] as ClientNetwork;
  }

  #paths(content: string, nowEpochMs: number): string[] {
    // A rank drawn as u^3 of the pages: the first tenth of them gets nearly half of the visits.
    const rank = Math.floor(this.#random.float() ** 3 * PAGES);
    switch (content) {
      case "page":
        return [`/app/${rank}/`];
      case "download":
        return [`/files/${rank}-256KiB.bin`];
      case "hls": {
        const newest = Math.floor(nowEpochMs / (SEGMENT_SECONDS * 1_000));
        return ["/live/index.m3u8", `/live/segment-${newest - 1}.ts`];
      }
      default:
        return [rank === 0 ? "/" : `/pages/${rank}/`, "/assets/style.css"];
    }
  }
}
