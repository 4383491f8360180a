/** Settings of the scripted origin: limits only, because what it serves is decided by path and by world. */
export const originSettings = {
  /** Request head bytes; Node refuses longer ones with 431. */
  headerBytesMax: 32_768,
  /** A client that has not sent its head by then is cut off, ms. */
  headersTimeoutMs: 10_000,
  /** Idle time of a kept connection, ms. Longer than a CDN keeps its side, so that the pool and not we decide. */
  keepAliveMs: 310_000,
  /** Open connections; more are closed at once. */
  connectionsMax: 10_000,
  /** Bytes of a request body that are read (and hashed by /echo); more is answered 413. */
  requestBodyBytesMax: 1_073_741_824,
  /** Bytes of one generated object: beyond it no test learns more. */
  objectBytesMax: 4_294_967_296,
  /** Longest delay that a path or fault may ask for, ms. */
  delayMsMax: 60_000,
  /** A hang ends by then, ms: no request is held for ever. */
  hangMsMax: 120_000,
  /** Requests that are delayed or hung at one time; more are answered 503. */
  heldRequestsMax: 10_000,
  /** Different (method, host, target) that are counted one by one; further ones only in the total. */
  countedTargetsMax: 10_000,
  /** Longest target that is counted by name. */
  countedTargetLengthMax: 512,
  /** Admin request bodies, bytes. */
  adminBodyBytesMax: 65_536,
  /** How long open requests may take to end once asked to stop, ms. */
  drainMs: 5_000,
} as const;
