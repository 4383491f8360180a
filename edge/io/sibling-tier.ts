/** The workers that share the cache with this one, as far as a request needs them. */
import type { CacheKey } from "../core/cache-key.ts";
import type { Coding } from "../core/compression/accept-encoding.ts";
import type { Answer, Inbound } from "./exchange.ts";
import type { Coded, ObjectBody } from "./object-body.ts";
import type { PrefetchNews } from "./prefetch-news.ts";
import type { RequestPlan } from "./request-plan.ts";

export interface SiblingTier {
  /** Workers that live, this one among them. */
  readonly living: number;
  /** Whether another worker, which lives, owns the key. */
  isElsewhere(key: CacheKey): boolean;
  /** Takes over what the owner has stored under the plan's key; false when that is nothing that may be used. Never rejects. */
  copy(plan: RequestPlan): Promise<boolean>;
  /** The owner's answer; undefined when the request has to go on here. Never rejects. */
  ask(inbound: Inbound, plan: RequestPlan): Promise<Answer | undefined>;
  /**
   * The form of a copy's content that the owner of its key has or makes; undefined: to be made here. Undefined at once: no other worker
   * owns the key. Never rejects.
   */
  form(key: CacheKey, coding: Coding, body: ObjectBody): Promise<Coded | undefined> | undefined;
  /** Renews a stale copy in the background. */
  refresh(inbound: Inbound, plan: RequestPlan): void;
  /** Tells every other worker. Never rejects. */
  tellPrefetched(news: PrefetchNews): Promise<void>;
}
