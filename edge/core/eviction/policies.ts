/** The eviction policies by name, and which one is the default. */
import { LruPolicy } from "./lru.ts";
import type { EvictionNode, EvictionPolicy } from "./policy.ts";
import { S3FifoPolicy } from "./s3-fifo.ts";
import { ScaledLfuPolicy } from "./scaled-lfu.ts";
import { WTinyLfuPolicy } from "./w-tinylfu.ts";

/** What a store may be told to use; `w-tinylfu` is the paper's, `w-tinylfu-scaled` ours. */
export const EVICTION_POLICIES = ["w-tinylfu-scaled", "w-tinylfu", "s3-fifo", "lru"] as const;
export type EvictionPolicyName = (typeof EVICTION_POLICIES)[number];

/**
 * A policy for a store of `bytesMax`, > 0, its own memory included. `onEvicted` is told of every node that the policy lets
 * go, also of one that it does not admit; it must not call the policy.
 */
export function evictionPolicy<Node extends EvictionNode>(
  name: EvictionPolicyName,
  bytesMax: number,
  onEvicted: (node: Node) => void,
): EvictionPolicy<Node> {
  switch (name) {
    case "lru":
      return new LruPolicy(bytesMax, onEvicted);
    case "s3-fifo":
      return new S3FifoPolicy(bytesMax, onEvicted);
    case "w-tinylfu":
      return new WTinyLfuPolicy(bytesMax, onEvicted);
    case "w-tinylfu-scaled":
      return new ScaledLfuPolicy(bytesMax, onEvicted);
    default:
      return name satisfies never;
  }
}
