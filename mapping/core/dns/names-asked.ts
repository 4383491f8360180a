/** Who asked for names that are asked for once, until the next report says so: bounded, and nobody is told of twice. */
import {
  addressFromBytes,
  formatAddress,
  formatPrefix,
  type IpAddress,
  maskAddress,
  type NameAsked,
  RecentCounts,
} from "#kit";
import type { ClientSubnet } from "./ecs.ts";

/** A report holds as many; it is a second away. */
const WAITING_MAX = 400;
/** Names, and pairs of name and asker, that are told apart: a label is good for minutes. */
const RECENT_MAX = 8_192;
/** Askers of one name: who has one name and many resolvers could fill the report. */
const PER_NAME_MAX = 4;

export class NamesAsked {
  #waiting: NameAsked[] = [];
  readonly #pairs = new RecentCounts(RECENT_MAX);
  readonly #names = new RecentCounts(RECENT_MAX);
  /** All only grow. */
  readonly counters = { "name-asked": 0, "name-asked-again": 0, "name-asked-dropped": 0 };

  /** @param id of a label of ours that has not ended; the asker has shown that it is where it says that it is */
  handleQuery(id: string, resolver: IpAddress, subnet: ClientSubnet | undefined): void {
    const asker = formatAddress(resolver);
    if (this.#pairs.count(`${id} ${asker}`) > 1 || this.#names.count(id) > PER_NAME_MAX) {
      this.counters["name-asked-again"]++;
      return;
    }
    const clientSubnet = subnet && prefixOf(subnet);
    this.take([{ id, resolver: asker, ...(clientSubnet !== undefined && { clientSubnet }) }]);
  }

  /** What another process was asked. */
  take(asked: readonly NameAsked[]): void {
    const taken = asked.slice(0, WAITING_MAX - this.#waiting.length);
    this.#waiting.push(...taken);
    this.counters["name-asked"] += taken.length;
    this.counters["name-asked-dropped"] += asked.length - taken.length;
  }

  /** What waits; it is told of once. */
  drain(): readonly NameAsked[] {
    const waiting = this.#waiting;
    this.#waiting = [];
    return waiting;
  }
}

/** Undefined: of nobody (RFC 7871 section 7.1.2, a source prefix of 0). */
function prefixOf({ family, sourcePrefixLength, address }: ClientSubnet): string | undefined {
  if (family === 0 || sourcePrefixLength === 0) return undefined;
  const full = addressFromBytes(family === 1 ? 4 : 6, address);
  return formatPrefix({
    address: maskAddress(full, sourcePrefixLength),
    prefixLength: sourcePrefixLength,
  });
}
