/** Which server of a cluster owns a cache key: it stores it and asks for it on behalf of the others. */
import { type RendezvousNode, rendezvousOrder, type ServerId } from "#kit";

/** A server of the own cluster. */
export interface ClusterPeer extends RendezvousNode {
  readonly id: ServerId;
}

/**
 * The live servers of the cluster in the key's order (rendezvous hashing): the first owns it. A server that dies gives up
 * only the keys that it owned. Empty when none is live. `self` always counts as live.
 */
export function ownersOf(
  key: string,
  peers: readonly ClusterPeer[],
  self: ServerId | undefined,
  isUp: (id: ServerId) => boolean,
): readonly ServerId[] {
  return rendezvousOrder(
    key,
    peers.filter((peer) => peer.id === self || isUp(peer.id)),
  ).map((peer) => peer.id);
}
