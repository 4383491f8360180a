/** Has the keys of signed zones take their steps, each as a new version of the document that they stand in. */
import { type Clock, type DnssecDocument, dnssecDocument, type TopologyDocument } from "#kit";
import type { RollStep } from "../core/key-roll.ts";
import { KeyRolls, type ZoneRoll } from "../core/key-rolls.ts";
import type { ReportBoard } from "../core/report-board.ts";
import type { DocumentStore } from "./store.ts";

/** A longer one is cut: with many zones, many steps are due at once. */
const NOTE_MAX = 200;

/** Keys of one deployment in the version in force. */
interface FollowedKeys {
  readonly rolls: KeyRolls;
  readonly version: number;
  readonly document: DnssecDocument;
  zones: readonly ZoneRoll[];
}

export interface KeyRollerOptions {
  readonly store: DocumentStore;
  readonly clock: Clock;
  readonly board: ReportBoard;
  readonly topology: (name: string) => TopologyDocument | undefined;
  /** Puts a version in force; throws when it could not be made. */
  readonly append: (id: string, document: DnssecDocument, expectedVersion: number, note: string) => void;
}

export class KeyRoller {
  readonly #options: KeyRollerOptions;
  readonly #followed = new Map<string, FollowedKeys>();
  /** Steps that keys have taken. */
  readonly counters: Record<RollStep, number> = {
    delegate: 0,
    activate: 0,
    undelegate: 0,
    remove: 0,
    unsign: 0,
  };

  constructor(options: KeyRollerOptions) {
    this.#options = options;
  }

  /**
   * Has the steps taken that are due; to be called now and then.
   *
   * @returns the steps taken now, for the log
   */
  roll(): readonly ZoneRoll[] {
    const moved: ZoneRoll[] = [];
    const ids = this.#options.store.documents("dnssec").map(({ id }) => id);
    for (const id of this.#followed.keys()) if (!ids.includes(id)) this.#followed.delete(id);
    for (const id of ids) moved.push(...this.#rollOf(id));
    return moved;
  }

  /** Where the rolls of a deployment stand, as of the last {@link roll}; empty before it. */
  zones(id: string): readonly ZoneRoll[] {
    return this.#followed.get(id)?.zones ?? [];
  }

  /** Origins of the zones that name servers sign. */
  signedZones(): ReadonlySet<string> {
    const { store } = this.#options;
    const documents = store.documents("dnssec").flatMap(({ id }) => {
      const stored = store.document("dnssec", id);
      return stored === undefined ? [] : [dnssecDocument.parse(JSON.parse(stored.bodyText))];
    });
    return new Set(documents.flatMap(({ zones }) => zones.map(({ zone }) => zone)));
  }

  #rollOf(id: string): readonly ZoneRoll[] {
    const { store, clock, board, topology, append } = this.#options;
    const stored = store.document("dnssec", id);
    if (stored === undefined) return [];
    const { version } = stored.summary;
    let followed = this.#followed.get(id);
    if (followed?.version !== version) {
      const document = dnssecDocument.parse(JSON.parse(stored.bodyText));
      followed = { rolls: followed?.rolls ?? new KeyRolls(), version, document, zones: [] };
      this.#followed.set(id, followed);
    }
    const { document, zones } = followed.rolls.handle({
      document: followed.document,
      version,
      topology: topology(id),
      hostedOrigins: () =>
        new Set(store.activeZones().flatMap(({ isActive, origin }) => (isActive ? [origin] : []))),
      reports: board.reports(clock.monotonic()),
      nowEpochMs: Math.floor(clock.epoch()),
    });
    followed.zones = zones;
    if (document === followed.document) return [];
    const newest = store.versions("dnssec", id).at(-1);
    const taken = zones.filter((zone) => zone.taken.length > 0);
    const steps = taken.flatMap((zone) =>
      zone.taken.map(({ step, keyId }) => `${zone.zone} ${step} ${keyId}`),
    );
    append(id, document, newest?.version ?? 0, steps.join(", ").slice(0, NOTE_MAX));
    for (const zone of taken) for (const { step } of zone.taken) this.counters[step]++;
    return taken;
  }
}
