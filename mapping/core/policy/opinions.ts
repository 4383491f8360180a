/**
 * What several agents hold of the targets of policies, brought to one belief: by majority of those that are heard and know, without one that
 * holds everything for down while others do not. Loads become the part of what it would be sent that a target takes. Sans-IO.
 */
import type { MonotonicMs, PolicyDocument, PolicyOpinions, TargetOpinion } from "#kit";
import type { TargetBelief, TargetBeliefs } from "./view.ts";

export interface OpinionSettings {
  /** An agent that was not heard of for so long does not count. */
  readonly silentAfterMs: number;
  readonly agentsMax: number;
  /** Part of the way that is gone at each step towards what a load asks for. */
  readonly damping: number;
  /** However loaded, a target keeps this part, so that its load is seen to fall. */
  readonly acceptedMin: number;
}
export const opinionDefaults: OpinionSettings = {
  silentAfterMs: 6_000,
  agentsMax: 10_000,
  damping: 0.3,
  acceptedMin: 0.05,
};

interface Heard {
  readonly opinions: PolicyOpinions;
  readonly at: MonotonicMs;
}

/** What an agent holds of the targets of one policy. */
interface Voice {
  readonly agentId: string;
  readonly targets: PolicyOpinions[string];
}

export class OpinionBoard {
  readonly #settings: OpinionSettings;
  readonly #agents = new Map<string, Heard>();
  /** By policy and target: the part that it takes, and when it was last set. */
  readonly #accepted = new Map<string, { part: number; at: MonotonicMs }>();
  #suspected: readonly string[] = [];
  readonly counters = { heard: 0, refused: 0 };

  constructor(settings: OpinionSettings = opinionDefaults) {
    this.#settings = settings;
  }

  handleOpinions(agentId: string, opinions: PolicyOpinions, now: MonotonicMs): void {
    if (!this.#agents.has(agentId) && this.#agents.size >= this.#settings.agentsMax) {
      this.counters.refused++;
      return;
    }
    this.counters.heard++;
    this.#agents.set(agentId, { opinions, at: now });
  }

  /** Agents that hold everything for down while another one does not; by the last `beliefs`. */
  get suspected(): readonly string[] {
    return this.#suspected;
  }
  /** Agents that were heard of lately; by the last `beliefs`. */
  get agents(): readonly string[] {
    return [...this.#agents.keys()];
  }

  /** What to go by from now on; what is not named lives and takes all. */
  beliefs(policies: readonly PolicyDocument[], now: MonotonicMs): TargetBeliefs {
    for (const [agentId, { at }] of this.#agents)
      if (now - at > this.#settings.silentAfterMs) this.#agents.delete(agentId);
    const voices = this.#voices();
    this.#suspected = suspectedOf([...this.#agents.keys()], voices, policies);
    const suspected = new Set(this.#suspected);
    const beliefs: Record<string, Record<string, TargetBelief>> = {};
    const loaded = new Set<string>();
    for (const policy of policies) {
      const { policyId, isActive, targets, loadFeedback } = policy;
      if (!isActive) continue;
      const of: Record<string, TargetBelief> = {};
      const heard = (voices.get(policyId) ?? []).filter(({ agentId }) => !suspected.has(agentId));
      for (const { targetId } of targets) {
        const opinions = heard.map((one) => opinionOf(one, targetId));
        const downSinceEpochMs = downSince(opinions);
        const key = `${policyId} ${targetId}`;
        let accepted = 1;
        if (loadFeedback !== null) {
          loaded.add(key);
          const loads = opinions.flatMap(({ load }) => load ?? []);
          accepted = this.#accept(key, median(loads), loadFeedback.loadTarget, loadFeedback.intervalMs, now);
        }
        const isUnknown = opinions.length > 0 && opinions.every(({ state }) => state === "unknown");
        if (downSinceEpochMs !== undefined || isUnknown || accepted < 1)
          of[targetId] = {
            accepted,
            ...(downSinceEpochMs !== undefined && { downSinceEpochMs }),
            ...(isUnknown && { isUnknown }),
          };
      }
      if (Object.keys(of).length > 0) beliefs[policyId] = of;
    }
    for (const key of this.#accepted.keys()) if (!loaded.has(key)) this.#accepted.delete(key);
    return beliefs;
  }

  /** Who says something of each policy: few of the agents do, however many there are. */
  #voices(): ReadonlyMap<string, readonly Voice[]> {
    const voices = new Map<string, Voice[]>();
    for (const [agentId, { opinions }] of this.#agents)
      for (const [policyId, targets] of Object.entries(opinions)) {
        const known = voices.get(policyId);
        if (known === undefined) voices.set(policyId, [{ agentId, targets }]);
        else known.push({ agentId, targets });
      }
    return voices;
  }

  /** A step an interval: towards the part at which the load would be the one that is wanted. Without a load it takes all again. */
  #accept(
    key: string,
    load: number | undefined,
    target: number,
    intervalMs: number,
    now: MonotonicMs,
  ): number {
    const known = this.#accepted.get(key);
    if (known === undefined) {
      this.#accepted.set(key, { part: 1, at: now });
      return 1;
    }
    if (now - known.at >= intervalMs) {
      const { damping, acceptedMin } = this.#settings;
      const wanted =
        load === undefined
          ? 1
          : Math.min(1, Math.max(acceptedMin, (known.part * target) / Math.max(load, 1e-9)));
      known.part += damping * (wanted - known.part);
      // The last bit of the way is not worth a change of every answer.
      if (wanted === 1 && known.part > 0.98) known.part = 1;
      known.at = now;
    }
    // In steps, so that answers do not change with each report.
    return Math.round(known.part * 64) / 64;
  }
}

const UP: TargetOpinion = { state: "up", sinceEpochMs: 0 };

function opinionOf({ targets }: Voice, targetId: string): TargetOpinion {
  return (Object.hasOwn(targets, targetId) ? targets[targetId] : undefined) ?? UP;
}

/** Since when it is down, by more than half of those that know; undefined: it is not. */
function downSince(opinions: readonly TargetOpinion[]): number | undefined {
  const known = opinions.filter(({ state }) => state !== "unknown");
  const down = known.filter(({ state }) => state === "down");
  if (down.length * 2 <= known.length) return undefined;
  return median(down.map(({ sinceEpochMs }) => sinceEpochMs));
}

/**
 * Agents that hold everything that they test for down, two targets at least, while another one has one of these for up: it is their own
 * network that is at fault.
 */
function suspectedOf(
  agentIds: readonly string[],
  voices: ReadonlyMap<string, readonly Voice[]>,
  policies: readonly PolicyDocument[],
): readonly string[] {
  /** Targets that somebody holds for up, those who hold any for up, and what each holds for down. */
  const up = new Set<string>();
  const seeing = new Set<string>();
  const downOf = new Map<string, string[]>();
  for (const { policyId, isActive, tests, targets } of policies) {
    if (!isActive || tests.length === 0) continue;
    for (const { targetId, addresses } of targets) {
      if (addresses.length === 0) continue;
      const key = `${policyId} ${targetId}`;
      for (const voice of voices.get(policyId) ?? []) {
        const { state } = opinionOf(voice, targetId);
        if (state === "up") {
          up.add(key);
          seeing.add(voice.agentId);
        } else if (state === "down") {
          const down = downOf.get(voice.agentId);
          if (down === undefined) downOf.set(voice.agentId, [key]);
          else down.push(key);
        }
      }
    }
  }
  return agentIds.filter((agentId) => {
    const down = downOf.get(agentId) ?? [];
    return down.length >= 2 && !seeing.has(agentId) && down.some((key) => up.has(key));
  });
}

/** The lower one of two in the middle; undefined: there is none. */
function median(values: readonly number[]): number | undefined {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)];
}
