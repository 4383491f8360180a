/** What the edge needs of transport: the face that #transport's Transport has, small enough to stand in for in a test. */
import type { LinkReport, ServerId } from "#kit";
import type { PathExplanation, TransportRequest, TransportResponse, TransportTarget } from "#transport";

export interface Upstream {
  /** Rejects with IsochroneError when no answer came; resolves with any final status. */
  request(target: TransportTarget, request: TransportRequest): Promise<TransportResponse>;
  /** Whether a request that `target` failed may be asked of another one: takes it out of the target's retry budget. */
  takeRetry(target: TransportTarget): boolean;
  /** Why a request to `target` goes the way it goes now. */
  explainPath(target: TransportTarget): PathExplanation;
  linkReports(): readonly LinkReport[];
  /** Liveness as seen from here; a server without evidence counts as up. */
  isServerUp(serverId: ServerId): boolean;
}
