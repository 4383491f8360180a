/** The running picture: control's feed put into the fleet, and sent each second to every page that is open. */
import { monotonicMs, type Clock, type EpochMs, type MonotonicMs } from "#kit";
import type { Logger } from "#kit/io";
import type { PortalSettings } from "../config.ts";
import { Fleet } from "../core/fleet.ts";
import { hitRatioOf } from "../core/traffic-ledger.ts";
import { maySee } from "../core/tenancy.ts";
import type { LiveState, Rollout, SeriesAnswer, Viewer } from "../core/wire.ts";
import type { ControlFeed } from "./control-port.ts";
import { Fault } from "./fault.ts";

/** One open page. `send` returns false when the page reads too slowly: it then misses states, never grows a queue. */
export interface LiveListener {
  readonly viewer: Viewer;
  readonly sessionKey: string;
  /** False ends it: logged out, or the session is over. */
  readonly isEntitled: (now: MonotonicMs) => boolean;
  readonly send: (event: string) => boolean;
  readonly end: () => void;
}

export interface HubOptions {
  readonly feed: ControlFeed;
  readonly clock: Clock;
  readonly settings: PortalSettings;
  readonly logger: Logger;
}

export class Hub {
  readonly fleet: Fleet;
  readonly #feed: ControlFeed;
  readonly #clock: Clock;
  readonly #settings: PortalSettings;
  readonly #logger: Logger;
  readonly #listeners = new Set<LiveListener>();
  readonly #versions = new Map<string, number>();
  /** Wall clock less monotonic clock, fixed at the start: a step of the wall clock must not tear a graph. */
  readonly #epochOffsetMs: number;
  readonly #counters = { reports: 0, states: 0, slowSkips: 0 };
  #timer: NodeJS.Timeout | undefined;

  constructor(options: HubOptions) {
    const { feed, clock, settings, logger } = options;
    this.#feed = feed;
    this.#clock = clock;
    this.#settings = settings;
    this.#logger = logger;
    this.#epochOffsetMs = clock.epoch() - clock.monotonic();
    this.fleet = new Fleet({
      propertiesMax: settings.graphedPropertiesMax,
      pairsMax: settings.pairsMax,
      serversMax: settings.serversMax,
    });
  }

  get counters(): Readonly<{ reports: number; states: number; slowSkips: number }> {
    return this.#counters;
  }

  get streams(): number {
    return this.#listeners.size;
  }

  async start(): Promise<void> {
    await this.#feed.start({
      onTopology: (topology) => this.fleet.handleTopology(topology),
      onMap: (map) => this.fleet.handleMap(map),
      onProperty: (property, version) => {
        this.fleet.handleProperty(property);
        this.#versions.set(property.propertyId, version);
      },
      onReport: (report) => {
        this.#counters.reports += 1;
        this.fleet.handleReport(report, this.#clock.monotonic());
      },
      onConnection: (isConnected) => {
        this.#logger.info(isConnected ? "control-connected" : "control-disconnected");
        this.fleet.handleConnection(isConnected, this.#clock.monotonic());
      },
    });
    this.#timer = setInterval(() => this.#tick(), this.#settings.tickMs);
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    for (const listener of this.#listeners) listener.end();
    this.#listeners.clear();
    await this.#feed.close();
  }

  /** The version in force that was last heard of; for when control cannot be asked. */
  versionInForce(propertyId: string): number | null {
    return this.#versions.get(propertyId) ?? null;
  }

  state(viewer: Viewer): LiveState {
    const now = this.#clock.monotonic();
    return this.fleet.view(viewer, now, this.#epochOf(now));
  }

  /** How far a version in force has come. */
  rollout(propertyId: string, version: number | null): Rollout {
    return this.fleet.rollout(propertyId, version, this.#clock.monotonic());
  }

  /** Of each property with traffic, over the last ten seconds. */
  rates(): Map<string, { readonly requestsPerSecond: number; readonly hitRatio: number | null }> {
    const rates = this.fleet.ledger.propertyRates(this.#clock.monotonic());
    return new Map(
      [...rates].map(([id, rate]) => [
        id,
        { requestsPerSecond: round(rate.requestsPerSecond), hitRatio: hitRatioOf(rate) },
      ]),
    );
  }

  /** Null: everything that the viewer may see; for a customer the sum over its properties. */
  series(viewer: Viewer, propertyId: string | null, windowMs: number): SeriesAnswer {
    const until = monotonicMs(this.#clock.monotonic() - this.#settings.seriesLagMs);
    const ids: (string | null)[] =
      propertyId !== null || viewer.customerId === null
        ? [propertyId]
        : [...this.fleet.properties()]
            .filter((one) => maySee(viewer, one.customerId))
            .map((one) => one.propertyId);
    const all = ids.map((one) => this.fleet.ledger.series(one, windowMs, until));
    const [longest] = [...all].sort((a, b) => b.bins.length - a.bins.length);
    const stepMs = longest?.binMs ?? 1_000;
    const seconds = stepMs / 1_000;
    const answer = {
      propertyId,
      stepSeconds: seconds,
      atEpochSeconds: [] as number[],
      requestsPerSecond: [] as (number | null)[],
      hitRatio: [] as (number | null)[],
      bytesPerSecond: [] as (number | null)[],
      errorsPerSecond: [] as (number | null)[],
    };
    for (const [index, bin] of (longest?.bins ?? []).entries()) {
      let [isKnown, requests, hits, bytes, errors] = [false, 0, 0, 0, 0];
      for (const one of all) {
        const own = one.bins[index];
        if (own === undefined) continue;
        isKnown ||= own.isKnown;
        requests += own.requests;
        hits += own.hits;
        bytes += own.bytesDown;
        errors += own.errors5xx;
      }
      answer.atEpochSeconds.push(Math.round(this.#epochOf(bin.atMs as MonotonicMs) / 1_000));
      answer.requestsPerSecond.push(isKnown ? round(requests / seconds) : null);
      answer.hitRatio.push(isKnown && requests > 0 ? round(Math.min(1, hits / requests)) : null);
      answer.bytesPerSecond.push(isKnown ? Math.round(bytes / seconds) : null);
      answer.errorsPerSecond.push(isKnown ? round(errors / seconds) : null);
    }
    return answer;
  }

  /** Follows the state until the result is called. Throws {@link Fault} 429 when too many pages are open. */
  listen(listener: LiveListener): () => void {
    const { streamsMax, streamsPerAccountMax, streamsPerSessionMax } = this.#settings;
    const ofAccount = [...this.#listeners].filter((one) => one.viewer.name === listener.viewer.name);
    const own = ofAccount.filter((one) => one.sessionKey === listener.sessionKey).length;
    if (
      this.#listeners.size >= streamsMax ||
      ofAccount.length >= streamsPerAccountMax ||
      own >= streamsPerSessionMax
    ) {
      throw new Fault(
        429,
        "too-many-streams",
        `Too many live pages are open (${own} of this session, ${ofAccount.length} of this account); close one and reload`,
        {
          retryAfterSeconds: 5,
        },
      );
    }
    this.#listeners.add(listener);
    listener.send(this.#event(listener.viewer));
    return () => this.#listeners.delete(listener);
  }

  /** Ends the live streams of a session that logged out. */
  endSession(sessionKey: string): void {
    for (const listener of this.#listeners) if (listener.sessionKey === sessionKey) this.#end(listener);
  }

  #end(listener: LiveListener): void {
    this.#listeners.delete(listener);
    listener.end();
  }

  #tick(): void {
    // Accounts of one customer see the same: one view for each customer, not for each page.
    const events = new Map<string | null, string>();
    const now = this.#clock.monotonic();
    for (const listener of this.#listeners) {
      if (!listener.isEntitled(now)) {
        this.#end(listener);
        continue;
      }
      const { customerId } = listener.viewer;
      let event = events.get(customerId);
      if (event === undefined) events.set(customerId, (event = this.#event(listener.viewer)));
      this.#counters.states += 1;
      if (!listener.send(event)) this.#counters.slowSkips += 1;
    }
  }

  #event(viewer: Viewer): string {
    return `event: state\ndata: ${JSON.stringify(this.state(viewer), roundNumbers)}\n\n`;
  }

  #epochOf(at: MonotonicMs): EpochMs {
    return (at + this.#epochOffsetMs) as EpochMs;
  }
}

function round(value: number): number {
  return Math.round(value * 1_000) / 1_000;
}

/** Three decimals are more than a page shows, and half the bytes. */
function roundNumbers(_key: string, value: unknown): unknown {
  return typeof value === "number" && !Number.isInteger(value) ? round(value) : value;
}
