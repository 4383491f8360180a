/** Edge: HTTP in, cache, tiers, prefetch, HTTP out. The face for cli, sim and tests; other rooms meet it on documents. */
export { edgeDefaults, type EdgeSettings } from "./config.ts";
export { type CacheKey, cacheKey, parseAbsoluteUri, purgeKeys } from "./core/cache-key.ts";
export {
  type CacheStatus,
  formatCacheStatus,
} from "./core/cache-status.ts";
export {
  decideRequest,
  decideResponse,
  type RequestContext,
  type RequestDecision,
  type ResponseContext,
  type ResponseDecision,
  type UpstreamOutcome,
} from "./core/decide.ts";
export { type Freshness, freshness, type Lifetime } from "./core/freshness.ts";
export type { FormExplanation } from "./core/compression/form-choice.ts";
export { formatReference, parseReference } from "./core/diagnosis/reference.ts";
export type { Field, Fields } from "./core/headers.ts";
export type { ExchangeTimes, RequestHead, ResponseHead, StoredHead } from "./core/messages.ts";
export { type ClusterPeer, ownersOf } from "./core/owner.ts";
export { PLAIN_POLICY, type RequestPolicy } from "./core/policy.ts";
export { explainedFields, explainRules, type RuleExplanation } from "./core/rules/explanation.ts";
export { isOfNoPage } from "./core/rules/extensions.ts";
export { policyFor } from "./core/rules/policy-for.ts";
export { PurgeIndex, type PurgeState } from "./core/purge-index.ts";
export type { HopFields } from "./core/tiers.ts";
export { NOT_STORED_REASONS, type NotStoredReason } from "./core/storable.ts";
export { makeClientCertificate, OriginIdentities } from "./io/origin-identities.ts";
export { AccessKeys, makeAccessKey, makeToken } from "./io/access-keys.ts";
export { type AloneOptions, type RunningEdge, startAlone } from "./io/alone.ts";
export { codedStream, codedWhole, decodedWhole } from "./io/compression/coders.ts";
export { Diagnosis, type KnownFault, makeDebugToken } from "./io/diagnosis.ts";
export { type DiskOptions, DiskStore } from "./io/disk-store.ts";
export { Edge } from "./io/edge.ts";
export type { Answer, HitMemo } from "./io/exchange.ts";
export { FillBudget } from "./io/fill-budget.ts";
export { HotTable } from "./io/hot-table.ts";
export { type HeadBlock, isBeyondReading, mayBecomeCanonical, readHeadBlock } from "./io/http1/head-block.ts";
export { bindListeners, Listeners, portOf } from "./io/listening.ts";
export { MemoryStore, type StoredObject } from "./io/memory-store.ts";
export { Http1Connection, type Http1Context } from "./io/http1/connection.ts";
export { SocketReads } from "./io/socket-reads.ts";
export { Siblings, type SiblingParts } from "./io/siblings.ts";
export { requireRing, sharedRing } from "./io/uring/shared-ring.ts";
export { type RingOperations, RingReads } from "./io/uring/ring-reads.ts";
export { RingSockets } from "./io/uring/ring-sockets.ts";
export { EdgeMetrics } from "./io/metrics.ts";
export { NodeRouting } from "./io/node-routing.ts";
export { ObjectBody } from "./io/object-body.ts";
export { WINDOW_BYTES_MAX, WINDOW_BYTES_MIN, WindowTotal } from "./io/window-total.ts";
export { PurgeJournal } from "./io/purge-journal.ts";
export { HEAP_FLAGS, withHeapFlags, withMallocEnvironment } from "./io/process-memory.ts";
export type { Hop, PropertyView, Routing } from "./io/routing.ts";
export { SegmentFiles } from "./io/segment-files.ts";
export { certificateWarning, parseCertificate } from "./io/tls/certificate.ts";
export { makeCertificateDocument } from "./io/tls/certificate-documents.ts";
export { TICKET_PERIOD_MS, TicketKeys, useTicketKeys } from "./io/tls/ticket-keys.ts";
export type { TlsOptions } from "./io/tls/serve-tls.ts";
export type { Upstream } from "./io/upstream.ts";
export { EdgeServer } from "./io/server.ts";
