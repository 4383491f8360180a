/** Which server of a cluster owns a cache key: it stores it and asks for it on behalf of the others. */
import { type RendezvousNode, rendezvousOrder, rendezvousPick, type ServerId } from "#kit";

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
  return rendezvousOrder(key, livePeers(peers, self, isUp)).map((peer) => peer.id);
}

/** Requests that one server may have at another before their number says anything: a burst for one key stays together. */
const LOAD_FREE = 256;

/**
 * The server that answers for a key now: its owner, but for one that has so many more requests from here than the others
 * that the next in order takes what is above (bounded load, kit/rendezvous.ts). Undefined when none is live.
 *
 * @param inFlight requests that this server has at another one
 */
export function placeOf(
  key: string,
  peers: readonly ClusterPeer[],
  self: ServerId | undefined,
  isUp: (id: ServerId) => boolean,
  inFlight: (id: ServerId) => number,
): ServerId | undefined {
  const load = (id: string): number => Math.max(0, inFlight(id as ServerId) - LOAD_FREE);
  return rendezvousPick(key, livePeers(peers, self, isUp), load)?.id;
}

function livePeers(
  peers: readonly ClusterPeer[],
  self: ServerId | undefined,
  isUp: (id: ServerId) => boolean,
): readonly ClusterPeer[] {
  return peers.filter((peer) => peer.id === self || isUp(peer.id));
}
