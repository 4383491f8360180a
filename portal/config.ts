/** The portal's settings: one table, each with unit and reason. Tests change some; nothing here comes from the environment. */
export const settings = {
  /** A working day: nobody logs in twice, and a forgotten browser is not open for ever. */
  sessionLifetimeMs: 12 * 3_600_000,
  /** All accounts together; about 300 bytes each. */
  sessionsMax: 10_000,
  sessionsPerAccountMax: 50,
  /** Wrong passwords of one account: ten at once, then one each 30 s (2,880 a day: hopeless against 8 characters). */
  accountAttempts: { burst: 10, refillMs: 30_000, keysMax: 10_000 },
  /** Wrong passwords from one address: an office behind one address has more than one account. */
  addressAttempts: { burst: 30, refillMs: 4_000, keysMax: 10_000 },
  /** Password hashes at the same time: each takes 19 MiB and about 30 ms of a core. */
  hashesMax: 4,
  /** Log-ins that may wait for one; more are turned away. */
  hashesWaitingMax: 64,
  /** A request body: the largest property document is far below. */
  bodyBytesMax: 512 * 1024,
  /** Text of a draft, in UTF-16 units. */
  draftCharactersMax: 256 * 1024,
  /** Live streams in all, of one account (or it could take everybody's), and of one session (one for each open page). */
  streamsMax: 500,
  streamsPerAccountMax: 50,
  streamsPerSessionMax: 8,
  /** Between two states on a live stream. */
  tickMs: 1_000,
  /** Purges under way at the same time, of all accounts: each holds a connection to control for up to 15 s. */
  purgesMax: 16,
  /** Properties with a graph (about 30 KB each), pairs of server and property (about 1 KB each), servers with a report. */
  graphedPropertiesMax: 2_000,
  pairsMax: 50_000,
  serversMax: 10_000,
  /** Bins that are still being filled by reports under way are not shown. */
  seriesLagMs: 2_000,
  /** A build takes about two seconds; on a machine at full load more. */
  buildTimeoutMs: 120_000,
  /** How long a drain may take before open streams are cut. */
  drainMs: 2_000,
} as const;

type Widen<T> = T extends number ? number : { readonly [K in keyof T]: Widen<T[K]> };
export type PortalSettings = Widen<typeof settings>;
