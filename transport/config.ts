/** Transport's settings: one table with unit, range and reason; `io/transport.ts` takes a partial of it. */
import { type CarrierSettings, carrierDefaults } from "./core/carrier-choice.ts";
import { type PathChooserSettings, pathChooserDefaults } from "./core/path-settings.ts";
import { type HedgeSettings, hedgeDefaults } from "./core/hedge-policy.ts";
import { type RetryBudgetSettings, retryBudgetDefaults } from "./core/retry-budget.ts";

export type TransportSettings = {
  /**
   * Open connections to one target over one path, 1..10,000. HTTP/1.1 carries one request at a time on each. More than the edge
   * ever forwards to one hop: waiting here would look to its limiter as if the origin had too much.
   */
  readonly connectionsPerPath: number;
  /**
   * Over HTTP/2, requests at once on a connection: as many as servers are expected to allow at least (RFC 9113 section 6.5.2); more get
   * another one.
   */
  readonly http2StreamsMax: number;
  /**
   * What an HTTP/2 origin may send ahead of its reader, bytes. Of a stream: a round trip at full rate, 350 Mbit/s at 96 ms. Of a connection:
   * several of them, so that a few readers who stand still do not stop the others.
   */
  readonly http2StreamWindowBytes: number;
  readonly http2ConnectionWindowBytes: number;
  /** Whether servers of ours are asked by the link protocol where they speak it, else by HTTP/1.1 alone. */
  readonly link: boolean;
  /** Whether small requests go by UDP to those that offer it, where that pays. */
  readonly linkUdp: boolean;
  /** Requests that may wait for one of them; more fail at once with "pool-full". */
  readonly waitingPerPath: number;
  /** Free connections that are kept open to a target in use over its path and the next best: at least, and at most however busy it was. */
  readonly connectionsWarmMin: number;
  readonly connectionsWarmMax: number;
  /** Idle time after which a connection is closed, ms. Long: a warm connection saves several round trips. */
  readonly keepAliveMs: number;
  /** Until a connection is open, ms. With a measured path the time is derived from its srtt and this is the limit. */
  readonly connectTimeoutMs: number;
  /** From the request on the wire to the response head, ms. */
  readonly headersTimeoutMs: number;
  /** Longest pause within a response body, ms. */
  readonly bodyTimeoutMs: number;
  /** Response head bytes, at most. */
  readonly headerBytesMax: number;
  /** Tries of one request, the first included, 1..5. */
  readonly attemptsMax: number;
  /** Resumptions of one body by Range, 0..10. */
  readonly resumesMax: number;
  /** Path probes a second of all targets together; intervals stretch beyond it. One costs both ends and a relay CPU time. */
  readonly probesPerSecondMax: number;
  /** A target that no request asked for this long is probed at a tenth of the pace, ms. */
  readonly idleTargetMs: number;
  /** Health checks of origins a second, of all properties together. */
  readonly originChecksPerSecondMax: number;
  /** An origin that nobody asked for this long is not checked, ms. */
  readonly originCheckIdleMs: number;
  /** Liveness of parents and relays: interval and timeout (without travel time), ms; losses until down, answers until up. */
  readonly livenessIntervalMs: number;
  readonly livenessTimeoutMs: number;
  readonly livenessDownThreshold: number;
  readonly livenessOkThreshold: number;
  /** Certification authorities for TLS to origins in place of the system's, PEM. */
  readonly ca: string | readonly string[] | undefined;
  readonly paths: Partial<PathChooserSettings>;
  readonly retry: Partial<RetryBudgetSettings>;
  /** Second attempts of late small requests. */
  readonly hedging: Partial<HedgeSettings>;
  /** TCP or UDP below a link. */
  readonly carriers: Partial<CarrierSettings>;
};

export const transportDefaults: TransportSettings = {
  connectionsPerPath: 1_024,
  http2StreamsMax: 100,
  http2StreamWindowBytes: 4 * 1024 * 1024,
  http2ConnectionWindowBytes: 32 * 1024 * 1024,
  link: true,
  linkUdp: true,
  waitingPerPath: 1_024,
  connectionsWarmMin: 2,
  connectionsWarmMax: 16,
  keepAliveMs: 300_000,
  connectTimeoutMs: 5_000,
  headersTimeoutMs: 30_000,
  bodyTimeoutMs: 30_000,
  headerBytesMax: 65_536,
  attemptsMax: 3,
  resumesMax: 3,
  probesPerSecondMax: 25,
  idleTargetMs: 60_000,
  originChecksPerSecondMax: 50,
  originCheckIdleMs: 600_000,
  livenessIntervalMs: 1_000,
  livenessTimeoutMs: 1_000,
  livenessDownThreshold: 2,
  livenessOkThreshold: 2,
  ca: undefined,
  paths: pathChooserDefaults,
  retry: retryBudgetDefaults,
  hedging: hedgeDefaults,
  carriers: carrierDefaults,
};
