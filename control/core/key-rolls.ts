/**
 * Follows which name server answers from which version of the keys, and has each zone take the steps that are due. What it remembers is
 * lost with the process: everything is then taken to have begun at its start, and waits longer, never shorter.
 */
import type { DnssecDocument, DnssecKey, DnssecZone, ServerId, ServerReport, TopologyDocument } from "#kit";
import { advance, type RollStep, type RollWait } from "./key-roll.ts";

export interface RollsInput {
  readonly document: DnssecDocument;
  /** The version in force. */
  readonly version: number;
  readonly topology: TopologyDocument | undefined;
  /** Origins of the customers' zones that are in force. */
  readonly hostedOrigins?: () => ReadonlySet<string>;
  /** The newest of each server. */
  readonly reports: readonly ServerReport[];
  readonly nowEpochMs: number;
}

export interface ZoneRoll {
  readonly zone: string;
  readonly taken: readonly { readonly step: RollStep; readonly keyId: string }[];
  readonly waits: readonly RollWait[];
  /** Name servers that have not said that they answer from the zone's present entry. */
  readonly missing: readonly ServerId[];
}

export interface RollsResult {
  /** The same object when no step was taken. */
  readonly document: DnssecDocument;
  readonly zones: readonly ZoneRoll[];
}

interface Followed {
  readonly entryText: string;
  /** The version in which the entry came to be what it is, as far as is known here. */
  readonly sinceVersion: number;
  /** Once it has it, a server does not go back: it keeps what it has on its disk. */
  readonly confirmed: Set<ServerId>;
  everywhereSinceEpochMs: number | undefined;
}

export class KeyRolls {
  readonly #followed = new Map<string, Followed>();

  handle(input: RollsInput): RollsResult {
    const { document } = input;
    const names = new Set(document.zones.map((one) => one.zone));
    for (const zone of this.#followed.keys()) if (!names.has(zone)) this.#followed.delete(zone);
    const ours = new Set(input.topology?.nameService.zones ?? []);
    const results = document.zones.map((one) => {
      const { missing, everywhereSinceEpochMs } = this.#follow(one, input);
      const isParentOurs = isParentIn(one.zone, ours, input.hostedOrigins);
      const isDsAtParent = (key: DnssecKey) => dsSeen(one.zone, key, input.reports);
      const { nowEpochMs } = input;
      const moved = advance(one, { nowEpochMs, isParentOurs, everywhereSinceEpochMs, isDsAtParent });
      return { ...moved, missing };
    });
    const isSame = results.every(({ zone }, z) => zone === document.zones[z]);
    return {
      document: isSame ? document : { ...document, zones: results.flatMap(({ zone }) => zone ?? []) },
      zones: results.map(({ taken, waits, missing }, z) => ({
        zone: (document.zones[z] as DnssecZone).zone,
        taken,
        waits,
        missing,
      })),
    };
  }

  #follow(
    zone: DnssecZone,
    { document, version, topology, reports, nowEpochMs }: RollsInput,
  ): { readonly missing: readonly ServerId[]; readonly everywhereSinceEpochMs: number | undefined } {
    const entryText = JSON.stringify(zone);
    let followed = this.#followed.get(zone.zone);
    if (followed?.entryText !== entryText) {
      followed = {
        entryText,
        sinceVersion: version,
        confirmed: new Set(),
        everywhereSinceEpochMs: undefined,
      };
      this.#followed.set(zone.zone, followed);
    }
    const { sinceVersion, confirmed } = followed;
    for (const { serverId, applied } of reports) {
      const has = applied[`dnssec/${document.name}`];
      // A version above the one in force is one that was taken back.
      if (has !== undefined && has >= sinceVersion && has <= version) confirmed.add(serverId);
    }
    const nameServers = topology?.nameService.nameServers ?? [];
    const missing = nameServers
      .map(({ serverId }) => serverId)
      .filter((serverId) => !confirmed.has(serverId));
    if (nameServers.length === 0 || missing.length > 0) followed.everywhereSinceEpochMs = undefined;
    else followed.everywhereSinceEpochMs ??= nowEpochMs;
    return { missing, everywhereSinceEpochMs: followed.everywhereSinceEpochMs };
  }
}

/**
 * Whether a zone of `ours` holds the delegation of `zone`: there the DS is the signer's. In a customer's zone, which may lie between, it is
 * what the customer writes.
 *
 * @param hosted origins of customers' zones; asked where there are names between, for it takes long
 */
export function isParentIn(
  zone: string,
  ours: ReadonlySet<string>,
  hosted: () => ReadonlySet<string> = () => new Set(),
): boolean {
  const between: string[] = [];
  for (let dot = zone.indexOf("."); dot >= 0; dot = zone.indexOf(".", dot + 1)) {
    const above = zone.slice(dot + 1);
    if (ours.has(above)) {
      const origins = between.length === 0 ? undefined : hosted();
      return !between.some((name) => origins?.has(name));
    }
    between.push(above);
  }
  return false;
}

/** What all name servers say that have looked since the key's last step; undefined: none has, or they differ. */
function dsSeen(zone: string, key: DnssecKey, reports: readonly ServerReport[]): boolean | undefined {
  const since = Math.max(key.delegatedAtEpochMs ?? 0, key.undelegatedAtEpochMs ?? 0);
  const said = new Set<boolean>();
  for (const { dsAtParent = {} } of reports) {
    const seen = Object.hasOwn(dsAtParent, zone) ? dsAtParent[zone] : undefined;
    if (seen !== undefined && seen.atEpochMs >= since) said.add(seen.keyIds.includes(key.keyId));
  }
  const [only] = said;
  return said.size === 1 ? only : undefined;
}
