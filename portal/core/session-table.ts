/**
 * Who is logged in. Sessions live in memory: a restart logs everybody out, and no stolen disk holds one. Ids are made by
 * the caller (256 random bits); the table holds only what it is keyed by, so the caller passes a digest of the cookie.
 */
import type { MonotonicMs } from "#kit";
import type { Viewer } from "./wire.ts";

export interface SessionLimits {
  readonly lifetimeMs: number;
  readonly sessionsMax: number;
  /** Of one account: an older one gives way, so that one account cannot push out the others. */
  readonly sessionsPerAccountMax: number;
}

export interface Session {
  readonly key: string;
  readonly viewer: Viewer;
  readonly endsAt: MonotonicMs;
}

export type SessionEnd = "logout" | "expired" | "displaced";

export class SessionTable {
  readonly #limits: SessionLimits;
  /** Insertion order is age order: the first is the oldest. */
  readonly #sessions = new Map<string, Session>();
  readonly #ended: Record<SessionEnd, number> = { logout: 0, expired: 0, displaced: 0 };

  constructor(limits: SessionLimits) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#sessions.size;
  }

  /** How many ended, by reason, since the start. */
  get ended(): Readonly<Record<SessionEnd, number>> {
    return this.#ended;
  }

  /** Begins a session; at a limit the oldest one of the account, then the oldest of all, ends ("displaced"). */
  begin(key: string, viewer: Viewer, now: MonotonicMs): Session {
    this.handleTimeout(now);
    const own = [...this.#sessions.values()].filter((session) => session.viewer.name === viewer.name);
    if (own.length >= this.#limits.sessionsPerAccountMax) this.#end(own[0], "displaced");
    if (this.#sessions.size >= this.#limits.sessionsMax)
      this.#end(this.#sessions.values().next().value, "displaced");
    const session: Session = { key, viewer, endsAt: (now + this.#limits.lifetimeMs) as MonotonicMs };
    this.#sessions.set(key, session);
    return session;
  }

  /** The session of a key; undefined when there is none or its time is over. */
  find(key: string, now: MonotonicMs): Session | undefined {
    const session = this.#sessions.get(key);
    if (session === undefined) return undefined;
    if (now < session.endsAt) return session;
    this.#end(session, "expired");
    return undefined;
  }

  /** Log-out. False: there was none. */
  end(key: string): boolean {
    return this.#end(this.#sessions.get(key), "logout");
  }

  /** Removes what has expired. All live equally long, so the oldest come first. */
  handleTimeout(now: MonotonicMs): void {
    for (const session of this.#sessions.values()) {
      if (now < session.endsAt) return;
      this.#end(session, "expired");
    }
  }

  #end(session: Session | undefined, reason: SessionEnd): boolean {
    if (session === undefined || !this.#sessions.delete(session.key)) return false;
    this.#ended[reason] += 1;
    return true;
  }
}
