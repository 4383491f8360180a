/**
 * Zones of customers whose primaries are the customers' own: fetched, kept on the disk, served while they may be. Drives `Secondaries`; each
 * name server fetches for itself.
 */
import {
  type Clock,
  nameFromText,
  parseAddress,
  Random,
  rootName,
  setsOfZone,
  type ZoneData,
  type ZoneDocument,
  zoneDocument,
  zoneOfDocument,
} from "#kit";
import type { Logger } from "#kit/io";
import type { DnsRecord } from "../../core/dns/message.ts";
import { isGlobalAddress } from "../../core/measurements/global-address.ts";
import { HostedZone } from "../../core/zone/hosted-zone.ts";
import type { HeardNotify } from "../../core/zone/notify.ts";
import {
  type FetchOutcome,
  Secondaries,
  type SecondarySettings,
  type SecondaryState,
  secondaryDefaults,
  type ZoneFetch,
} from "../../core/zone/secondary.ts";
import { type SoaTimers, soaTimersOf } from "../../core/zone/transfer-in.ts";
import type { TsigKeys } from "../../core/zone/tsig.ts";
import { sha1 } from "../zone-key.ts";
import { ZoneDisk } from "./zone-disk.ts";
import { type FetchLimits, fetchLimits, fetchZone } from "./zone-fetch.ts";

export interface SecondaryZonesOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly stateDirectory: string;
  readonly keys: TsigKeys;
  /** Primaries may stand at private and other special addresses. */
  readonly mayAskPrivate: boolean;
  readonly seed: string;
  /** Whether a zone, by lower-case origin, is signed with keys of this deployment. */
  readonly isSignedHere: (origin: string) => boolean;
  /** What is to be served of a zone from now on: with its records, or without, which is SERVFAIL. */
  readonly onZone: (document: ZoneDocument, version: number) => void;
  readonly settings?: SecondarySettings;
  readonly limits?: FetchLimits;
}

/** As it is told to who asks for the state of a name server. */
export interface SecondaryReport {
  readonly state: SecondaryState;
  readonly serial?: number;
  readonly confirmedAtEpochMs?: number;
  readonly problem?: string;
}

interface Entry {
  /** As control has it. */
  document: ZoneDocument;
  version: number;
  /** What was fetched; undefined: nothing ever. */
  held: Held | undefined;
  isServed: boolean;
}

interface Held {
  readonly sets: ZoneDocument["sets"];
  readonly soa: DnsRecord;
  readonly timers: SoaTimers;
  /** By its primary. */
  readonly isSigned: boolean;
}

const PROBLEM_CHARACTERS_MAX = 200;
/** Told in a report, those with problems first. */
const REPORTED_MAX = 1_000;
const TURN_MS_MIN = 5;

export class SecondaryZones {
  readonly #options: SecondaryZonesOptions;
  readonly #machine: Secondaries;
  readonly #disk: ZoneDisk;
  readonly #zones = new Map<string, Entry>();
  readonly #ending = new AbortController();
  readonly #underWay = new Set<Promise<void>>();
  #isAsking = false;
  #timer: NodeJS.Timeout | undefined;
  readonly #forms = { axfr: 0, ixfr: 0, ixfrFellBack: 0 };

  constructor(options: SecondaryZonesOptions) {
    this.#options = options;
    this.#machine = new Secondaries(new Random(options.seed), options.settings ?? secondaryDefaults);
    this.#disk = new ZoneDisk(options.stateDirectory, options.logger);
  }

  /** Whether primaries are asked: not before it is known that this server answers for customers' zones. */
  setAsking(isAsking: boolean): void {
    this.#isAsking = isAsking;
    this.#turn();
  }

  /** Each zone's document as it comes into force. @returns whether the zone is a secondary one, which is served by `onZone` */
  setZone(document: ZoneDocument, version: number): boolean {
    const { zoneId, origin, secondary, isActive } = document;
    const known = this.#zones.get(zoneId);
    if (secondary === undefined || !isActive) {
      if (known !== undefined || secondary !== undefined) this.#forget(zoneId);
      return false;
    }
    const now = this.#options.clock.monotonic();
    if (known !== undefined && known.document.origin !== origin) this.#forget(zoneId);
    const entry = this.#zones.get(zoneId) ?? this.#restored(document, version);
    entry.document = document;
    entry.version = version;
    if (this.#zones.has(zoneId)) this.#machine.set(zoneId, secondary.primaries, undefined, now);
    this.#zones.set(zoneId, entry);
    this.#serve(entry);
    this.#turn();
    return true;
  }

  #restored(document: ZoneDocument, version: number): Entry {
    const { zoneId, origin, secondary } = document;
    const { clock } = this.#options;
    const read = this.#disk.read(zoneId);
    const kept = read?.document.origin === origin && read.document.sets.length > 0 ? read : undefined;
    const held = kept && heldOf(zoneOfDocument(kept.document), kept.document.sets);
    this.#machine.set(
      zoneId,
      secondary?.primaries ?? [],
      kept && held && { timers: held.timers, ageMs: Math.max(0, clock.epoch() - kept.confirmedAtEpochMs) },
      clock.monotonic(),
    );
    return { document, version, held, isServed: false };
  }

  #forget(zoneId: string): void {
    this.#zones.delete(zoneId);
    this.#machine.delete(zoneId);
    this.#disk.delete(zoneId);
  }

  handleNotify({ zoneId, serial }: HeardNotify): void {
    this.#machine.handleNotify(zoneId, serial, this.#options.clock.monotonic());
    this.#turn();
  }

  /** What came of questions to primaries, and zones by state. */
  get counters(): Readonly<Record<string, number>> {
    return { ...this.#machine.counters, ...this.#forms };
  }
  get states(): Readonly<Record<SecondaryState, number>> {
    return this.#machine.states;
  }

  /** By zone; undefined: there is none. */
  reports(): Readonly<Record<string, SecondaryReport>> | undefined {
    if (this.#zones.size === 0 || !this.#isAsking) return undefined;
    const all = [...this.#zones.keys()].flatMap((zoneId) => {
      const status = this.#reportOf(zoneId);
      return status === undefined ? [] : [[zoneId, status] as const];
    });
    const isWell = ({ state }: SecondaryReport): number => Number(state === "current");
    if (all.length > REPORTED_MAX) all.sort(([, a], [, b]) => isWell(a) - isWell(b));
    return Object.fromEntries(all.slice(0, REPORTED_MAX));
  }

  #reportOf(zoneId: string): SecondaryReport | undefined {
    const { clock } = this.#options;
    const status = this.#machine.status(zoneId);
    if (status === undefined) return undefined;
    const { state, serial, confirmedAt, problem } = status;
    return {
      state,
      ...(serial !== undefined && { serial }),
      ...(confirmedAt !== undefined && {
        confirmedAtEpochMs: Math.round(clock.epoch() - (clock.monotonic() - confirmedAt)),
      }),
      ...(problem !== undefined && { problem: problem.slice(0, PROBLEM_CHARACTERS_MAX) }),
    };
  }

  async close(): Promise<void> {
    this.#ending.abort();
    clearTimeout(this.#timer);
    await Promise.all(this.#underWay);
    clearTimeout(this.#timer);
    await this.#disk.close();
  }

  /** With its records while they may be told. */
  #serve(entry: Entry): void {
    const isExpired = this.#machine.status(entry.document.zoneId)?.state === "expired";
    const { document, version, held } = entry;
    entry.isServed = held !== undefined && !isExpired;
    this.#options.onZone(entry.isServed && held ? { ...document, sets: held.sets } : document, version);
  }

  #turn(): void {
    if (this.#ending.signal.aborted) return;
    const { clock, logger } = this.#options;
    const now = clock.monotonic();
    for (let isMore = this.#isAsking; isMore; ) {
      const fetch = this.#machine.pollTransmit(now);
      if (fetch !== undefined) this.#begin(fetch);
      isMore = fetch !== undefined;
    }
    this.#machine.handleTimeout(now);
    for (let event = this.#machine.pollEvent(); event !== undefined; event = this.#machine.pollEvent()) {
      const entry = this.#zones.get(event.zoneId);
      if (entry === undefined || entry.isServed === (event.kind === "revived")) continue;
      logger.warn(`secondary-zone-${event.kind}`, { zone: entry.document.origin });
      this.#serve(entry);
    }
    clearTimeout(this.#timer);
    const dueAt = this.#machine.pollTimeout();
    if (dueAt === undefined) return;
    // Timers of Node's hold 24 days.
    const waitMs = Math.min(86_400_000, Math.max(TURN_MS_MIN, Math.ceil(dueAt - now)));
    this.#timer = setTimeout(() => this.#turn(), waitMs);
  }

  #begin(fetch: ZoneFetch): void {
    const work = this.#fetch(fetch).then((outcome) => {
      this.#underWay.delete(work);
      this.#machine.handleOutcome(fetch, outcome, this.#options.clock.monotonic());
      this.#turn();
    });
    this.#underWay.add(work);
  }

  /** Never rejects. */
  async #fetch({ zoneId, primary }: ZoneFetch): Promise<FetchOutcome> {
    const { keys, logger, mayAskPrivate, limits = fetchLimits, clock } = this.#options;
    const entry = this.#zones.get(zoneId);
    const origin = nameFromText(entry?.document.origin ?? "") ?? rootName;
    if (entry === undefined) return { kind: "failed", why: "the zone is gone" };
    const address = parseAddress(primary.address);
    if (!mayAskPrivate && (address === undefined || !isGlobalAddress(address)))
      return { kind: "failed", why: "a special address, which is asked only with --private-primaries" };
    const key = primary.keyName === undefined ? undefined : keys.get(primary.keyName);
    if (primary.keyName !== undefined && key === undefined)
      return { kind: "failed", why: `there is no key "${primary.keyName}" in the file of --tsig-keys` };
    const { held } = entry;
    try {
      const fetched = await fetchZone({
        origin,
        primary,
        key,
        held: held && {
          soa: held.soa,
          serial: held.timers.serial,
          zone: () => zoneOfDocument({ ...entry.document, sets: held.sets }),
        },
        limits,
        signal: this.#ending.signal,
      });
      if (this.#zones.get(zoneId) !== entry) return { kind: "failed", why: "the zone is another one by now" };
      if (fetched.kind === "failed") {
        logger.warn("secondary-zone-not-fetched", { zone: origin.text, ...primary, why: fetched.why });
        return fetched;
      }
      const epochMs = Math.floor(clock.epoch());
      if (fetched.kind === "up-to-date") {
        this.#disk.confirm(zoneId, epochMs);
        return fetched;
      }
      const { zone, form, why } = fetched;
      // Read as strictly as a document of control is: what a worker would refuse is refused here, and the zone before stays.
      const document = zoneDocument.parse({ ...entry.document, sets: setsOfZone(zone) });
      const taken = heldOf(zone, document.sets);
      // Its parent has the DS of our keys: validators would take what the primary signs for forged.
      if (taken.isSigned && held?.isSigned !== true && this.#options.isSignedHere(origin.text))
        throw new Error('signed by its primary, and signed here: "isochrone dnssec unsign" first');
      entry.held = taken;
      entry.isServed = true;
      this.#forms[form]++;
      if (why !== undefined) this.#forms.ixfrFellBack++;
      this.#options.onZone(document, entry.version);
      this.#disk.write(document, epochMs);
      const { timers } = entry.held;
      logger.info("secondary-zone-fetched", {
        zone: origin.text,
        serial: timers.serial,
        form,
        why,
        from: primary.address,
      });
      return { kind: "taken", timers };
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      logger.warn("secondary-zone-refused", { zone: origin.text, ...primary, why });
      return { kind: "failed", why };
    }
  }
}

function heldOf(zone: ZoneData, sets: ZoneDocument["sets"]): Held {
  const { soa, signatures } = HostedZone.of(zone, sha1);
  return { sets, soa, timers: soaTimersOf(zone), isSigned: signatures !== undefined };
}
