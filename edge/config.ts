/** The one table of the edge's settings: value, unit, range and why. Flags set the few that users turn. */
import type { CountryTable } from "#kit";
import { EVICTION_POLICIES, type EvictionPolicyName } from "./core/eviction/policies.ts";

export const IO_URING = ["off", "auto", "on"] as const;
export type IoUring = (typeof IO_URING)[number];

/** `auto`: from the number of the TCP port on, the first that is free. Both ends of a range belong to it. */
export type LinkUdp = "auto" | "off" | { readonly from: number; readonly to: number };

export interface EdgeSettings {
  /** Bytes of the memory store. 1 MiB..: flag --memory. A quarter of a GiB serves a small site and starts anywhere. */
  readonly memoryBytes: number;
  /** What leaves the memory store first: flag --eviction. The default keeps more objects and bytes than LRU on most traces (bench policies). */
  readonly evictionPolicy: EvictionPolicyName;
  /** Part of `memoryBytes` that holds rendered answers of hot objects, 0..0.5: one write and no decision a hit. */
  readonly hotShare: number;
  /** Part of `memoryBytes` for dictionaries that clients have (RFC 9842), 0..0.5: some thirty scripts of 128 KiB by default. */
  readonly dictionaryShare: number;
  /**
   * What is compressed in the background, once for each coding that clients ask for: longest content, bytes; jobs that wait; the share
   * of one core that it may take, 0.01..1.
   */
  readonly codingJobBytesMax: number;
  readonly codingQueueMax: number;
  readonly codingCpuShare: number;
  /** What is compressed while a client waits: longest content, bytes, and streams at once; beyond it goes out as it is. */
  readonly codingStreamBytesMax: number;
  readonly codingStreamsMax: number;
  /** What is decoded may grow to so many bytes, and to so many times its length (1 MiB is always allowed): decompression bombs. */
  readonly decodedBytesMax: number;
  readonly decodedRatioMax: number;
  /**
   * Whether clear HTTP/1.1 is read and answered through io_uring: flag --io-uring. `auto`: where a try at the start succeeds, else through
   * libuv; `on`: a server does not start without it.
   */
  readonly ioUring: IoUring;
  /** Bytes of the disk store, when there is one. 1 MiB..: flag --disk-size. */
  readonly diskBytes: number;
  /** Request line and header section, bytes; larger is 431. Node's own default; CDNs allow 16..32 KiB. */
  readonly headerBytesMax: number;
  /** Field lines in a request; more is 431. Browsers send about 20. */
  readonly headerFieldsMax: number;
  /** Longest request target, characters; longer is 414 (RFC 9110, section 15.5.15 asks for at least 8000 octets). */
  readonly targetCharactersMax: number;
  /** From the first byte of a request to the end of its head, ms; slower is 408: slow-header attacks. */
  readonly headersTimeoutMs: number;
  /** The whole request with its content, ms: node:http's own default; `bodyBytesPerSecondMin` ends slow ones sooner. */
  readonly requestTimeoutMs: number;
  /** Content of a request: its least rate, bytes a second on the mean, after a grace, ms; slower is 408: slow-body attacks. */
  readonly bodyBytesPerSecondMin: number;
  readonly bodyGraceMs: number;
  /** How long an idle connection is kept, ms: longer than common balancers' 60 s, so that they close first. */
  readonly keepAliveTimeoutMs: number;
  /** A response that no client byte is read from for so long is given up, ms: slow readers. */
  readonly writeStallMs: number;
  /** Open client connections, of the plain port and of the TLS port each; more are closed. A server: workers divide it. */
  readonly connectionsMax: number;
  /**
   * Requests that wait for another's fill at once; more are shed with 503. Each holds some 10 KiB. Answers from the store never
   * count, here or below. A process: workers divide it, as the four that follow.
   */
  readonly joinedMax: number;
  /** Fills in flight at once, in memory: with what they hold. */
  readonly fillsMax: number;
  /**
   * What a fill may still bring once its last reader has left early, bytes, 0..: one of which more is missing ends, so that downloads that
   * were broken off hold no connection of the origin. A slice's length, which goes on in the same way. Of one key only the first: who
   * comes again wants it.
   */
  readonly unreadFillBytesMax: number;
  /** Requests to next hops at once, those in a queue included. 1..: what a process can move without its hits noticing. */
  readonly forwardsMax: number;
  /** Of one property, beside what its document states (`forwardsMax`): half, so that one customer's storm leaves room for the others'. */
  readonly propertyForwardsMax: number;
  /** Part of what a document allows a server that this process may use, 0..1: workers divide it, rounded up. */
  readonly serverShare: number;
  /** To one next hop, long answers included. The adaptive limit of an origin stays below. Under transport's own bound. */
  readonly hopForwardsMax: number;
  /** Places in the queue of one next hop; one property gets half of them at most. 0: nobody waits. */
  readonly hopQueueMax: number;
  /**
   * An origin's adaptive limit: least, >= 1, and before anything is known. Two, so that one slow answer does not stop the rest; 64
   * is what a browser's page or two ask at once, and an origin of 200 a second is behind by a third of a second with it.
   */
  readonly hopForwardsMin: number;
  readonly hopForwardsInitial: number;
  /**
   * As many as may go to an origin that gives no sign of having too much when they come in one instant, whatever its limit: they cannot have
   * waited for each other, and would wait for a whole answer otherwise.
   */
  readonly hopBurst: number;
  /**
   * How long a request may have to wait for its turn as it looks when it comes, ms: in a queue that stands, and in a burst. At an
   * origin that gives no sign of having too much, longer: twice what its answers take.
   */
  readonly queueDelayMs: number;
  readonly queueDelayBurstMs: number;
  /** How long requests may wait inside an origin, ms: keeps it busy over a round trip, and its clients do not notice. */
  readonly originWaitMs: number;
  /** While an origin's requests are held back: from one measurement of what it can do to the next, ms. */
  readonly originProbeIntervalMs: number;
  /**
   * How late the event loop may be for all that it does, ms; while its own work makes it later a growing share of what is not in the store is shed. 1..:
   * a miss needs several turns of the loop, a hit one.
   */
  readonly loopDelayTargetMs: number;
  /** Longest Retry-After before jitter doubles it at most, seconds. */
  readonly retryAfterSecondsMax: number;
  /** Next hop: until connected, until the head, longest pause in the content; ms. Without a head: 504. */
  readonly connectTimeoutMs: number;
  readonly responseTimeoutMs: number;
  readonly bodyTimeoutMs: number;
  /**
   * How long a client waits for a next hop while what is stored may be served in its place (stale-if-error), ms. Longer than a
   * slow answer across the earth, shorter than a user waits; then the hop counts as silent until it answers, 10 s at most.
   */
  readonly staleWaitMs: number;
  /**
   * A key of another server that is asked for here so often within about a second is hot, 1..15: its answers are kept here for
   * `hotKeyCopyMs`, in an eighth of memory at most. An owner gets about so many requests a second for a key from each peer.
   */
  readonly hotKeyRequestsMin: number;
  readonly hotKeyCopyMs: number;
  /** For how long a key whose answers cannot be shared is not collapsed, ms: its requests would wait for each other in vain. */
  readonly uncacheableMemoryMs: number;
  /**
   * Length of the slices that large objects are stored and asked for in, bytes: a one-byte range costs the origin no more.
   * nginx and CDNs use 1 MiB; smaller ones cost requests, larger ones memory for each reader. 4 KiB.. .
   */
  readonly sliceBytes: number;
  /** Slices that are asked for while the one before them is read, 0..8: hides the next hop's latency. */
  readonly sliceReadAheadMax: number;
  /** A key, or a slice of it, for which no next hop could be reached gets that answer for so long without another try, ms. 0: every time. */
  readonly failureMemoryMs: number;
  /** Prefetch requests at once, of all properties and of one; what does not fit is left out and counted: clients come first. */
  readonly prefetchConcurrency: number;
  readonly prefetchPropertyMax: number;
  /** From SIGTERM until connections that are still busy are cut, ms: downloads of half a minute end in peace. */
  readonly drainTimeoutMs: number;
  /** From SIGTERM until the listener closes, ms: balancers and name servers see 503 on /readyz first. 0: at once. */
  readonly drainNoticeMs: number;
  /** From the TCP connection to the end of the TLS handshake, ms: three round trips around the earth and a lost packet. */
  readonly tlsHandshakeTimeoutMs: number;
  /** TLS handshakes in flight, a process; more are cut. Each costs about a millisecond of CPU: so many are a second's work. */
  readonly tlsHandshakesMax: number;
  /** From the start of a successor (--replace) until it has to serve, ms: else it is ended and this process goes on. */
  readonly replaceReadyMs: number;
  /** Value of Alt-Svc in answers over TLS, such as 'h3=":443"; ma=86400' where a sidecar speaks HTTP/3; undefined: none. */
  readonly altSvc: string | undefined;
  /** Addresses of proxies in front whose X-Forwarded-For is believed, such as that sidecar's; nobody's by default. */
  readonly trustedProxies: readonly string[];
  /** Countries of client addresses, for rules; undefined: none is known. */
  readonly countries: CountryTable | undefined;
  /** Where the programs of script tests of policies lie; undefined: none is run here. */
  readonly testScripts: string | undefined;
  /** Streams that an HTTP/2 client may have open at once. RFC 9113, section 6.5.2, advises no fewer than 100. */
  readonly http2StreamsMax: number;
  /** Content of a request that an HTTP/2 client may send ahead of its being read, bytes a stream: 100 ms at 20 Mbit/s. */
  readonly http2WindowBytes: number;
  /** Whether we speak the frames of HTTP/2 ourselves: flag --http2-direct. Off, node:http2 does. */
  readonly http2Direct: boolean;
  /** Whether the link protocol is offered to servers of ours, and spoken with those that offer it: flag --link. */
  readonly link: boolean;
  /** On which UDP ports small answers of links are offered, one for each process: flag --link-udp. Off, none is asked for by UDP either. */
  readonly linkUdp: LinkUdp;
  /** Servers of one parent cluster, and parent clusters, that are asked before the origin. */
  readonly serversPerParentMax: number;
  readonly parentClustersMax: number;
}

export const edgeDefaults: EdgeSettings = {
  memoryBytes: 256 * 2 ** 20,
  evictionPolicy: EVICTION_POLICIES[0],
  hotShare: 1 / 16,
  dictionaryShare: 1 / 64,
  codingJobBytesMax: 4 * 2 ** 20,
  codingQueueMax: 1_000,
  codingCpuShare: 0.5,
  codingStreamBytesMax: 16 * 2 ** 20,
  codingStreamsMax: 32,
  decodedBytesMax: 32 * 2 ** 20,
  decodedRatioMax: 200,
  diskBytes: 10 * 2 ** 30,
  headerBytesMax: 16 * 1_024,
  headerFieldsMax: 200,
  targetCharactersMax: 8_192,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 300_000,
  bodyBytesPerSecondMin: 500,
  bodyGraceMs: 10_000,
  keepAliveTimeoutMs: 65_000,
  writeStallMs: 30_000,
  connectionsMax: 10_000,
  joinedMax: 5_000,
  fillsMax: 2_000,
  unreadFillBytesMax: 2 ** 20,
  forwardsMax: 4_000,
  propertyForwardsMax: 2_000,
  serverShare: 1,
  hopForwardsMax: 1_000,
  hopQueueMax: 1_000,
  hopForwardsMin: 2,
  hopForwardsInitial: 64,
  hopBurst: 128,
  queueDelayMs: 100,
  queueDelayBurstMs: 250,
  originWaitMs: 50,
  originProbeIntervalMs: 10_000,
  loopDelayTargetMs: 100,
  retryAfterSecondsMax: 30,
  connectTimeoutMs: 5_000,
  responseTimeoutMs: 30_000,
  bodyTimeoutMs: 30_000,
  staleWaitMs: 1_500,
  hotKeyRequestsMin: 8,
  hotKeyCopyMs: 1_000,
  uncacheableMemoryMs: 30_000,
  sliceBytes: 2 ** 20,
  sliceReadAheadMax: 2,
  failureMemoryMs: 1_000,
  ioUring: "auto",
  prefetchConcurrency: 128,
  prefetchPropertyMax: 64,
  drainTimeoutMs: 60_000,
  drainNoticeMs: 0,
  tlsHandshakeTimeoutMs: 10_000,
  tlsHandshakesMax: 1_000,
  replaceReadyMs: 30_000,
  altSvc: undefined,
  trustedProxies: [],
  countries: undefined,
  testScripts: undefined,
  http2StreamsMax: 128,
  http2WindowBytes: 256 * 1_024,
  http2Direct: true,
  link: true,
  linkUdp: "auto",
  serversPerParentMax: 2,
  parentClustersMax: 2,
};
