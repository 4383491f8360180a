/** What the targets of a policy are held for when answers are made: live or not, after the share that is never left out, and the part that each takes. */
import type { CompiledPolicy } from "./compile.ts";

/** By number of the target. Immutable; of another view there is another one. */
export interface PolicyView {
  /** 1: handed out, as far as tests and the share that is never left out say. */
  readonly isLive: Uint8Array;
  /** Part of what it would be sent that it takes, 0..1. */
  readonly accepted: Float64Array;
  /** Since when it is found down; undefined: it is not. */
  readonly downSinceEpochMs: readonly (number | undefined)[];
  /** Found down, and handed out all the same: so many may be left out and no more. */
  readonly spared: readonly number[];
  /** Nobody who is heard of knows anything of them: they are taken to live. */
  readonly unknown: readonly number[];
}

/** What is believed of one target. */
export interface TargetBelief {
  /** Since when it is down; undefined: it is not. */
  readonly downSinceEpochMs?: number | undefined;
  /** Nobody may test it, or has yet. */
  readonly isUnknown?: true | undefined;
  /** 0..1. */
  readonly accepted: number;
}

/** By policy and target; whoever is not named lives and takes all that it is sent. Plain, so that it can be told to other processes. */
export type TargetBeliefs = Readonly<Record<string, Readonly<Record<string, TargetBelief>>>>;

const everythingLives = new WeakMap<CompiledPolicy, PolicyView>();

/** The view of who knows nothing: everything lives. */
export function viewOfNothing(policy: CompiledPolicy): PolicyView {
  let view = everythingLives.get(policy);
  if (view === undefined) {
    const { length } = policy.targets;
    view = {
      isLive: new Uint8Array(length).fill(1),
      accepted: new Float64Array(length).fill(1),
      spared: [],
      unknown: [],
      downSinceEpochMs: [],
    };
    everythingLives.set(policy, view);
  }
  return view;
}

/**
 * Those that are down are left out, longest first (ties by name), until no more may be: `liveRatioMin` of the targets stay. So one that goes down later
 * never brings an earlier one back.
 */
export function viewOf(policy: CompiledPolicy, beliefs: Readonly<Record<string, TargetBelief>>): PolicyView {
  const { targets, document } = policy;
  const isLive = new Uint8Array(targets.length).fill(1);
  const accepted = new Float64Array(targets.length).fill(1);
  const unknown: number[] = [];
  const down: { readonly number: number; readonly since: number; readonly targetId: string }[] = [];
  for (const [number, { targetId }] of targets.entries()) {
    const belief = Object.hasOwn(beliefs, targetId) ? beliefs[targetId] : undefined;
    if (belief === undefined) continue;
    const { downSinceEpochMs } = belief;
    accepted[number] = belief.accepted;
    if (belief.isUnknown) unknown.push(number);
    if (downSinceEpochMs !== undefined) down.push({ number, since: downSinceEpochMs, targetId });
  }
  down.sort((a, b) => a.since - b.since || (a.targetId < b.targetId ? -1 : 1));
  const leftOutMax = Math.floor(targets.length * (1 - document.liveRatioMin) + 1e-9);
  for (const { number } of down.slice(0, leftOutMax)) isLive[number] = 0;
  const downSinceEpochMs = targets.map((_, number) => down.find((one) => one.number === number)?.since);
  const spared = down.slice(leftOutMax).map(({ number }) => number);
  return { isLive, accepted, downSinceEpochMs, spared, unknown };
}
