/**
 * Why a cache sent a request on instead of answering it (RFC 9211 section 2.2): one list for the header, the access record and
 * the metric. `bypass` is ours to mean: the property forbids caching here.
 */
export const forwardReasons = [
  "bypass",
  "method",
  "uri-miss",
  "vary-miss",
  "miss",
  "request",
  "stale",
  "partial",
] as const;
export type ForwardReason = (typeof forwardReasons)[number];
