/** What the edge needs of transport: the face that #transport's Transport has, small enough to stand in for in a test. */
import type { LinkReport, ServerId } from "#kit";
import type {
  OriginServerState,
  PathExplanation,
  TransportRequest,
  TransportResponse,
  TransportTarget,
} from "#transport";

export interface Upstream {
  /** Rejects with IsochroneError when no answer came; resolves with any final status. */
  request(target: TransportTarget, request: TransportRequest): Promise<TransportResponse>;
  /** Whether a request that `target` failed may be asked of another one: takes it out of the target's retry budget. */
  takeRetry(target: TransportTarget): boolean;
  /** Why a request to `target` goes the way it goes now. */
  explainPath(target: TransportTarget): PathExplanation;
  /** The servers of origins, by the group that a hop names. */
  readonly origins: {
    /**
     * Places of the servers to ask, best first; throws OriginUnavailableError when none can be asked now. Undefined: no such
     * group. `isRepeatable`: it could be asked of another one if the first fails.
     */
    order(group: string, isRepeatable: boolean): readonly number[] | undefined;
    /** Whether a request that one server answered with `status` is to be asked of another. */
    isRepeated(group: string, status: number): boolean;
    /** How each is seen now; undefined: no such group. */
    states(group: string): readonly OriginServerState[] | undefined;
  };
  linkReports(): readonly LinkReport[];
  /** Liveness as seen from here; a server without evidence counts as up. */
  isServerUp(serverId: ServerId): boolean;
}
