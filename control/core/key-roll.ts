/**
 * When a zone's keys take their next step. One key does what KSK and ZSK do (a combined signing key, RFC 6781 section 3.1): every name
 * server signs on line, so a KSK beside the ZSK would lie on the same machines and guard nothing, while each answer with DNSKEY would
 * be larger and there would be two kinds of rolls. A roll is the union of both: for the answers the key is published before it signs
 * (RFC 7583 section 3.2.1), for the delegation both keys and both DS stand side by side (Double-RRset, section 3.3.3). At no time does
 * a validator hold, in whatever mix of ages that TTLs allow, a DS set, a DNSKEY set and a signature that do not fit.
 * Pure: time and what was seen are arguments, and a step that was taken is in the document.
 */
import type { DnssecKey, DnssecZone } from "#kit";

/** What is seen of the world outside of the document. */
export interface RollFacts {
  readonly nowEpochMs: number;
  /** The zone above is of this deployment: its DS set follows from the same document. */
  readonly isParentOurs: boolean;
  /** Since when every name server is known to answer from the zone's present entry; undefined: not all have said so. */
  readonly everywhereSinceEpochMs: number | undefined;
  /** Whether the parent has the DS of a key, as it is seen there; undefined: nobody has looked since the key's last step, or views differ. */
  readonly isDsAtParent?: (key: DnssecKey) => boolean | undefined;
}

export const rollSteps = ["delegate", "activate", "undelegate", "remove", "unsign"] as const;
export type RollStep = (typeof rollSteps)[number];

/** What the zone waits for: a time, the parent, or name servers that have not said that they have the present version. */
export interface RollWait {
  readonly step: RollStep;
  readonly keyId: string;
  readonly for: "time" | "ds-at-parent" | "ds-gone-at-parent" | "name-servers";
  readonly untilEpochMs?: number;
}

export interface Advance {
  /** Undefined: it is signed no more. */
  readonly zone: DnssecZone | undefined;
  /** Steps that were taken now; the zone is the same object when there is none. */
  readonly taken: readonly { readonly step: RollStep; readonly keyId: string }[];
  readonly waits: readonly RollWait[];
}

/** Whether a key may be added: one is there, and the parent has its DS. */
export function mayRoll(zone: DnssecZone): boolean {
  return (
    zone.keys.length === 1 &&
    zone.keys[0]?.dsSeenAtEpochMs !== undefined &&
    zone.withdrawnAtEpochMs === undefined
  );
}

/**
 * The zone on its way to be signed no more; undefined where the parent was never to have a DS: then it may be at once. Not while a roll is
 * under way: whose DS the parent has is not known then.
 */
export function withdrawn(zone: DnssecZone, nowEpochMs: number): DnssecZone | undefined {
  if (zone.keys.every((one) => one.delegatedAtEpochMs === undefined)) return undefined;
  const keys = zone.keys.map((one) => ({ ...one, undelegatedAtEpochMs: nowEpochMs }));
  return { ...zone, keys, withdrawnAtEpochMs: nowEpochMs };
}

/** A zone that was withdrawn, as if it had just been delegated: it was signed all the while, so no cache can be at odds with its DS. */
export function signedAgain(zone: DnssecZone, nowEpochMs: number): DnssecZone {
  const { withdrawnAtEpochMs: _withdrawn, ...rest } = zone;
  const keys = zone.keys.map(
    ({ undelegatedAtEpochMs: _end, dsSeenAtEpochMs: _seen, dsGoneAtEpochMs: _gone, ...one }) => ({
      ...one,
      delegatedAtEpochMs: nowEpochMs,
    }),
  );
  return { ...rest, keys };
}

/** A key that was just made, as it enters a zone: beside another one it is delegated at once, else when caches know of signatures. */
export function enteringKey(
  made: Pick<DnssecKey, "keyId" | "publicKey" | "sealedKey">,
  isFirst: boolean,
  nowEpochMs: number,
): DnssecKey {
  return {
    ...made,
    publishedAtEpochMs: nowEpochMs,
    ...(isFirst ? { activeAtEpochMs: nowEpochMs } : { delegatedAtEpochMs: nowEpochMs }),
  };
}

type Ready =
  | { readonly isReady: true }
  | { readonly isReady: false; readonly wait: Omit<RollWait, "step" | "keyId"> };
const READY: Ready = { isReady: true };

/** Takes every step that is due, each key at most one. Never throws for a parsed zone. */
export function advance(zone: DnssecZone, facts: RollFacts): Advance {
  const taken: { step: RollStep; keyId: string }[] = [];
  const waits: RollWait[] = [];
  const due = (step: RollStep, { keyId }: DnssecKey, ready: Ready): boolean => {
    if (ready.isReady) taken.push({ step, keyId });
    else waits.push({ step, keyId, ...ready.wait });
    return ready.isReady;
  };
  const newest = zone.keys.at(-1) as DnssecKey;
  const older = zone.keys.length > 1 ? zone.keys[0] : undefined;
  const { nowEpochMs } = facts;
  let keys = zone.keys.map((one) => withParentSeen(one, facts));
  const isSeen = keys.some((one, k) => one !== zone.keys[k]);
  const edit = (keyId: string, change: Partial<DnssecKey>): void => {
    keys = keys.map((one) => (one.keyId === keyId ? { ...one, ...change } : one));
  };

  if (zone.withdrawnAtEpochMs !== undefined) {
    if (due("unsign", newest, unsignReady(zone, newest, facts))) return { zone: undefined, taken, waits };
  } else if (newest.delegatedAtEpochMs === undefined) {
    if (due("delegate", newest, delegateReady(zone, newest, facts)))
      edit(newest.keyId, { delegatedAtEpochMs: nowEpochMs });
  } else if (newest.activeAtEpochMs === undefined) {
    if (due("activate", newest, activateReady(zone, newest, facts))) {
      edit(newest.keyId, { activeAtEpochMs: nowEpochMs });
      if (older !== undefined) edit(older.keyId, { retiredAtEpochMs: nowEpochMs });
    }
  } else if (older !== undefined && older.undelegatedAtEpochMs === undefined) {
    if (due("undelegate", older, undelegateReady(zone, newest, facts)))
      edit(older.keyId, { undelegatedAtEpochMs: nowEpochMs });
  } else if (older !== undefined && due("remove", older, removeReady(zone, older, facts)))
    keys = keys.filter((one) => one.keyId !== older.keyId);
  return { zone: taken.length === 0 && !isSeen ? zone : { ...zone, keys }, taken, waits };
}

/** Of a parent of ours the DS set says what the document says; of another one what was seen there. */
function withParentSeen(one: DnssecKey, { isParentOurs, isDsAtParent, nowEpochMs }: RollFacts): DnssecKey {
  const { delegatedAtEpochMs, dsSeenAtEpochMs, undelegatedAtEpochMs, dsGoneAtEpochMs } = one;
  const isThere = isParentOurs ? undelegatedAtEpochMs === undefined : isDsAtParent?.(one);
  if (isThere === undefined) return one;
  const isNew = isThere && delegatedAtEpochMs !== undefined && dsSeenAtEpochMs === undefined;
  const isOld = !isThere && undelegatedAtEpochMs !== undefined && dsGoneAtEpochMs === undefined;
  if (!isNew && !isOld) return one;
  return {
    ...one,
    ...(isNew && { dsSeenAtEpochMs: nowEpochMs }),
    ...(isOld && { dsGoneAtEpochMs: nowEpochMs }),
  };
}

/** Before a DS is anywhere, no cache may hold an answer of the zone without signatures. */
function delegateReady(zone: DnssecZone, key: DnssecKey, facts: RollFacts): Ready {
  return after(zone, facts, key.publishedAtEpochMs, zone.zoneTtlSecondsMax);
}

/** Before it signs, no cache may hold a DNSKEY set without it (RFC 7583 section 3.2.1, Ipub). */
function activateReady(zone: DnssecZone, key: DnssecKey, facts: RollFacts): Ready {
  return after(zone, facts, key.publishedAtEpochMs, zone.dnskeyTtlSeconds);
}

/** Before signatures go, no cache may hold a DS (RFC 6781 section 4.3.5 the other way about). */
function unsignReady(zone: DnssecZone, key: DnssecKey, facts: RollFacts): Ready {
  const { dsGoneAtEpochMs: goneAt } = key;
  if (goneAt === undefined) return { isReady: false, wait: { for: "ds-gone-at-parent" } };
  return after(zone, facts, goneAt, zone.dsTtlSeconds);
}

/** Before the old DS goes, no cache may hold a DS set without the new one (RFC 7583 section 3.3.3, IpubP). */
function undelegateReady(zone: DnssecZone, newest: DnssecKey, facts: RollFacts): Ready {
  const { dsSeenAtEpochMs: seenAt } = newest;
  if (seenAt === undefined) return { isReady: false, wait: { for: "ds-at-parent" } };
  return after(zone, facts, seenAt, zone.dsTtlSeconds);
}

/** Before the old key goes, no cache may hold its DS alone or a signature by it (RFC 7583 section 3.2.1, Iret). */
function removeReady(zone: DnssecZone, older: DnssecKey, facts: RollFacts): Ready {
  const { dsGoneAtEpochMs: goneAt, retiredAtEpochMs: retiredAt = facts.nowEpochMs } = older;
  if (goneAt === undefined) return { isReady: false, wait: { for: "ds-gone-at-parent" } };
  const ds = after(zone, facts, goneAt, zone.dsTtlSeconds);
  const signatures = after(zone, facts, retiredAt, zone.zoneTtlSecondsMax);
  if (ds.isReady) return signatures;
  if (signatures.isReady) return ds;
  return (signatures.wait.untilEpochMs ?? 0) > (ds.wait.untilEpochMs ?? 0) ? signatures : ds;
}

/** When a change of `startEpochMs` is on all name servers, and what caches held of before is over its TTL. */
function after(zone: DnssecZone, facts: RollFacts, startEpochMs: number, ttlSeconds: number): Ready {
  const { nowEpochMs, everywhereSinceEpochMs: sinceEpochMs } = facts;
  const servedEpochMs = Math.max(startEpochMs + zone.propagationSeconds * 1_000, sinceEpochMs ?? 0);
  const untilEpochMs = servedEpochMs + ttlSeconds * 1_000;
  if (nowEpochMs < untilEpochMs) return { isReady: false, wait: { for: "time", untilEpochMs } };
  return sinceEpochMs === undefined ? { isReady: false, wait: { for: "name-servers" } } : READY;
}
