/** Reading Cache-Status (RFC 9211) as a client of our servers. */

/** What became of a request in the cluster that was asked, from the field's value. Members stand nearest last (section 2). */
export function clusterCacheStatus(text: string): {
  /** Answered from a store of the cluster. */
  readonly isHit: boolean;
  /** Stored by this request, or by the one that it waited with. */
  readonly isStored: boolean;
  /** Why not, in the server's own word; undefined: it says nothing. */
  readonly detail: string | undefined;
} {
  const [own = "", owner = ""] = text.split(",").reverse();
  // A server that does not own the key hands on what the owner answered.
  const member = /;\s*detail=not-owner\b/.test(own) ? owner : own;
  return {
    isHit: /;\s*hit\b/.test(member),
    isStored: /;\s*stored\b/.test(member),
    detail: /;\s*detail="?([\w-]+)/.exec(member)?.[1],
  };
}
