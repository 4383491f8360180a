/** The control process's settings: what each bounds, in which unit, and why it has this value. */
export const controlSettings = {
  /** A node hears something each second: three missed mean a dead stream, and it reconnects. */
  heartbeatMs: 1_000,
  /** How often keys of signed zones and roll-outs are looked at: reports come as often, and parents of ours take their steps at once. */
  stepIntervalMs: 1_000,
  /** Documents of one kind. A property is at most 1 MiB, so the active ones of one control fit on a small disk. */
  documentsPerKindMax: 10_000,
  /** A report: 10,000 links and 31,000 documents at most, as the kit's schema says. */
  reportBytesMax: 8 * 1024 * 1024,
  /** 1,000 URLs of 8 KiB, as the kit's schema says, and what JSON adds. */
  purgeBytesMax: 10 * 1024 * 1024,
  /** 1,000 acknowledgements of three fields. */
  acksBytesMax: 256 * 1024,
  /** Activations: a few fields. */
  smallBodyBytesMax: 16 * 1024,
  /** All request bodies that are being received at once: one full map and much of everything else. */
  bodiesBytesMax: 512 * 1024 * 1024,
  /** A node holds three streams, two connections for reports and acknowledgements, and a few requests; 3,000 servers fit. */
  connectionsMax: 20_000,
  /** Time for the head of a request; slow heads only hold connections. */
  headersTimeoutMs: 10_000,
  /** Time for a whole request: a full map over a slow link. */
  requestTimeoutMs: 60_000,
  /** How long open answers may take to end after SIGTERM before they are cut. */
  drainMs: 2_000,
  /** Events read from the store at a time for a watcher that catches up. */
  backlogBatch: 64,
} as const;
