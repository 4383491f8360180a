/**
 * Keys of a deployment's signed zones, each with the times at which it took its steps. What is in force follows from which steps were
 * taken, never from a clock: name servers that hold the same version answer alike. Private parts are sealed under the deployment's
 * peer key, so that neither control nor its backups, logs or readers ever hold them.
 */
import { hostname, id } from "../ids.ts";
import {
  array,
  defaulted,
  integer,
  object,
  optional,
  type Parsed,
  type Path,
  refine,
  string,
} from "../schema.ts";

const at = () => integer({ min: 1, max: 8.64e15, unit: "ms since 1970" });
const ttl = () => integer({ min: 1, max: 604_800, unit: "seconds" });

/** ECDSA P-256 with SHA-256 (algorithm 13), flags 257: it signs the zone and is what the parent's DS names. */
const key = object({
  keyId: string({
    max: 63,
    pattern: /^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/,
    expected: "a name of lower-case letters, digits and hyphens, starting with a letter",
  }),
  /** x and y of the point, base64 of 64 octets. */
  publicKey: string({
    max: 88,
    pattern: /^[A-Za-z0-9+/]{86}==$/,
    expected: "64 octets of a P-256 public key in base64",
  }),
  /** `v1.` and base64url of nonce, ciphertext and tag (AES-256-GCM). Made by `isochrone dnssec`. */
  sealedKey: string({
    max: 1_024,
    pattern: /^v1\.[A-Za-z0-9_-]{40,}$/,
    expected: 'a sealed private key as "isochrone dnssec" makes it, never a plain one',
  }),
  /** In the DNSKEY set, which it signs, from here to its end. */
  publishedAtEpochMs: at(),
  /** Signs the zone. */
  activeAtEpochMs: optional(at()),
  /** Signs the zone no more: another one does. */
  retiredAtEpochMs: optional(at()),
  /** In CDS and CDNSKEY: the parent is to have its DS. */
  delegatedAtEpochMs: optional(at()),
  /** The parent was seen to have its DS. */
  dsSeenAtEpochMs: optional(at()),
  /** Out of CDS and CDNSKEY. */
  undelegatedAtEpochMs: optional(at()),
  /** The parent was seen to have its DS no more. */
  dsGoneAtEpochMs: optional(at()),
});
export type DnssecKey = Parsed<typeof key>;

const zone = object({
  zone: hostname(),
  /** Of the DNSKEY, CDS and CDNSKEY sets. */
  dnskeyTtlSeconds: defaulted(ttl(), 3_600),
  /** The largest TTL in the zone: signatures of a retired key live in caches for so long. */
  zoneTtlSecondsMax: defaulted(ttl(), 86_400),
  /** TTL of the DS set at the parent. */
  dsTtlSeconds: defaulted(ttl(), 86_400),
  /** Until every name server answers from a new version, parent's secondaries included. */
  propagationSeconds: defaulted(ttl(), 300),
  /**
   * It is to be signed no more: CDS and CDNSKEY ask the parent to take every DS away (RFC 8078 section 4), and it stays signed until no
   * cache holds one.
   */
  withdrawnAtEpochMs: optional(at()),
  /** In the order in which they were made; two while one takes the other's place. */
  keys: array(key, { min: 1, max: 2, uniqueBy: (entry) => entry.keyId }),
});
export type DnssecZone = Parsed<typeof zone>;

/** The first of a key's steps that comes without the one that it rests on. */
function stepProblem(one: DnssecKey): string | undefined {
  if (one.retiredAtEpochMs !== undefined && one.activeAtEpochMs === undefined) return "retiredAtEpochMs";
  if (one.dsSeenAtEpochMs !== undefined && one.delegatedAtEpochMs === undefined) return "dsSeenAtEpochMs";
  if (one.undelegatedAtEpochMs !== undefined && one.delegatedAtEpochMs === undefined)
    return "undelegatedAtEpochMs";
  if (one.dsGoneAtEpochMs !== undefined && one.undelegatedAtEpochMs === undefined) return "dsGoneAtEpochMs";
  return undefined;
}

function problemOf(zones: readonly DnssecZone[]) {
  for (const [z, { keys, withdrawnAtEpochMs }] of zones.entries()) {
    const path: Path = ["zones", z, "keys"];
    for (const [k, one] of keys.entries()) {
      const step = stepProblem(one);
      if (step !== undefined) return { at: [...path, k, step], value: step, expected: "the step before it" };
    }
    const signing = keys.filter(
      (one) => one.activeAtEpochMs !== undefined && one.retiredAtEpochMs === undefined,
    );
    if (signing.length !== 1)
      return { at: path, value: signing.length, expected: "one key that is active and not retired" };
    const delegated = keys.filter((one) => one.delegatedAtEpochMs !== undefined);
    const kept = delegated.filter((one) => one.undelegatedAtEpochMs === undefined);
    if (withdrawnAtEpochMs !== undefined && (kept.length > 0 || keys.length > 1))
      return { at: path, value: kept.length, expected: "one key, out of CDS, in a zone that is withdrawn" };
    if (withdrawnAtEpochMs === undefined && delegated.length > 0 && kept.length === 0)
      return { at: path, value: 0, expected: "a key that the parent is to have a DS of" };
  }
  return undefined;
}

export const dnssecDocument = refine(
  object({
    /** Of the deployment, like the topology's. */
    name: id(),
    zones: array(zone, { max: 1_000, uniqueBy: (entry) => entry.zone }),
  }),
  ({ zones }) => problemOf(zones),
);
export type DnssecDocument = Parsed<typeof dnssecDocument>;
