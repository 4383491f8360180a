/**
 * Signatures made when they are asked for (RFC 4035 section 2.2) and kept for as long as they are good: a zone's answers have few
 * distinct sets, so nearly all questions are answered with a signature that is there. Time is an argument.
 */
import { dnsClasses, dnsTypes } from "../constants.ts";
import type { DnsRecord } from "../message.ts";
import type { DomainName } from "../name.ts";
import { canonicalSet, lowerName, Octets, rrsigLabels } from "./canonical.ts";
import {
  ecdsaP256Sha256,
  type KeyRecords,
  keyRecords,
  keyTagOf,
  type ZoneKey,
  type ZoneKeySet,
} from "./keys.ts";

/** Lives of signatures, seconds (RFC 6781 section 4.4.2). */
export interface SignatureTiming {
  /** Inception lies this far back: clocks of validators that are behind by less are content. */
  readonly skewSeconds: number;
  /** From now to expiration at most. */
  readonly lifeSeconds: number;
  /** Up to this share of the life is taken off, by the set: not all signatures end at once. */
  readonly jitterRatio: number;
  /** A signature is made anew when less than this share of the life is left. Above the largest TTL, so that no cache outlives it. */
  readonly renewRatio: number;
}

export const signatureTiming: SignatureTiming = {
  skewSeconds: 3_600,
  lifeSeconds: 7 * 86_400,
  jitterRatio: 0.1,
  renewRatio: 0.25,
};

export interface SignatureFigures {
  /** Signatures made. */
  readonly signed: number;
  /** Signatures that were there. */
  readonly reused: number;
  /** Of those made, the ones that replaced an older one in time. */
  readonly renewed: number;
  /** Let go for want of room. */
  readonly evicted: number;
  /** Denials, and what wildcards make, that were not signed: too many new ones in one second. */
  readonly limited: number;
  readonly entries: number;
}

interface Kept {
  /** RRSIG RDATA. */
  readonly data: Uint8Array;
  /** Not used before, with a clock that jumped back. */
  readonly inceptionSeconds: number;
  readonly renewAtSeconds: number;
}

/** FNV-1a over octets, 0 to 1. */
function shareOf(bytes: Uint8Array): number {
  let hash = 0x811c_9dc5;
  for (const octet of bytes) hash = Math.imul(hash ^ octet, 0x0100_0193);
  return (hash >>> 0) / 2 ** 32;
}

/** Octets as a flat string: one put together by `+=` is flattened, slowly, when it becomes a key. */
function textOf(bytes: Uint8Array): string {
  if (bytes.length <= TEXT_BYTES_AT_ONCE)
    return String.fromCharCode.apply(undefined, bytes as unknown as number[]);
  let text = "";
  for (let at = 0; at < bytes.length; at += TEXT_BYTES_AT_ONCE)
    text += textOf(bytes.subarray(at, at + TEXT_BYTES_AT_ONCE));
  return text;
}
const TEXT_BYTES_AT_ONCE = 4_096;

/**
 * What is least recently used goes, in halves: the older half is dropped when the younger one is full. Answers are kept apart from denials
 * and from what wildcards make, so that a flood of random names takes no answer's place.
 */
class Generations {
  readonly #halfMax: number;
  #young = new Map<string, Kept>();
  #old = new Map<string, Kept>();
  evicted = 0;

  constructor(entriesMax: number) {
    this.#halfMax = Math.max(1, entriesMax >>> 1);
  }

  get size(): number {
    return this.#young.size + this.#old.size;
  }

  find(key: string): Kept | undefined {
    const kept = this.#young.get(key);
    if (kept !== undefined) return kept;
    const older = this.#old.get(key);
    if (older === undefined) return undefined;
    this.#old.delete(key);
    this.put(key, older);
    return older;
  }

  put(key: string, kept: Kept): void {
    this.#old.delete(key);
    if (this.#young.size >= this.#halfMax && !this.#young.has(key)) {
      this.evicted += this.#old.size;
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(key, kept);
  }
}

/** Too many denials, or sets made from wildcards, were asked for that had to be signed anew. */
export class SigningLimit extends Error {
  constructor() {
    super("more new denials in a second than are signed for who may be forged");
    this.name = "SigningLimit";
  }
}

/**
 * New denials a second, in one process, for askers that have shown neither a cookie nor a connection: a signature is 30 us of CPU, a
 * forged question for a random name costs nothing. 2,000 take less than a tenth of a core; resolvers ask for each name once a minute.
 */
const DENIALS_PER_SECOND_MAX = 2_000;

/** Signatures of all zones of a server; outlives zone tables and maps. */
export class SignatureCache {
  readonly #answers: Generations;
  readonly #denials: Generations;
  signed = 0;
  reused = 0;
  renewed = 0;
  limited = 0;
  readonly #denialsPerSecondMax: number;
  #second = 0;
  #denialsInSecond = 0;

  /** By public key: a key's number, which stands for it in the entries' keys. */
  readonly #numbers = new Map<string, string>();

  /** @param entriesMax of answers and as many of denials; 0.4 to 0.6 KB each */
  constructor(entriesMax: number, denialsPerSecondMax = DENIALS_PER_SECOND_MAX) {
    this.#denialsPerSecondMax = denialsPerSecondMax;
    this.#answers = new Generations(entriesMax);
    this.#denials = new Generations(entriesMax);
  }

  /** A short text that is one key's alone; key tags may be shared by several. */
  numberOf(publicKey: Uint8Array): string {
    const text = textOf(publicKey);
    let number = this.#numbers.get(text);
    if (number === undefined) {
      number = `${this.#numbers.size} `;
      this.#numbers.set(text, number);
    }
    return number;
  }

  /** Throws {@link SigningLimit} when the second has had its share. */
  takeDenial(nowSeconds: number): void {
    if (nowSeconds !== this.#second) {
      this.#second = nowSeconds;
      this.#denialsInSecond = 0;
    }
    if (++this.#denialsInSecond <= this.#denialsPerSecondMax) return;
    this.limited++;
    throw new SigningLimit();
  }

  of(isFleeting: boolean): Generations {
    return isFleeting ? this.#denials : this.#answers;
  }

  get figures(): SignatureFigures {
    return {
      signed: this.signed,
      reused: this.reused,
      renewed: this.renewed,
      evicted: this.#answers.evicted + this.#denials.evicted,
      limited: this.limited,
      entries: this.#answers.size + this.#denials.size,
    };
  }
}

/** RRSIG records, and how long they may be given out before they are asked for again. */
export interface Signatures {
  readonly records: readonly DnsRecord[];
  readonly renewAtSeconds: number;
}

interface Signer extends ZoneKey {
  readonly keyTag: number;
  readonly number: string;
}

/** Signs for one zone with the keys that are in force; made anew when they change. */
export class ZoneSigner {
  readonly origin: DomainName;
  readonly records: KeyRecords;
  readonly #lowerOrigin: Uint8Array;
  readonly #apexSigners: readonly Signer[];
  readonly #signers: readonly Signer[];
  readonly #cache: SignatureCache;
  readonly #timing: SignatureTiming;
  /** Of records that are signed again and again as the same object: a zone's SOA stands in every denial. */
  readonly #ofRecord = new WeakMap<DnsRecord, Signatures & { readonly madeAtSeconds: number }>();

  constructor(
    keys: ZoneKeySet,
    sha256: (bytes: Uint8Array) => Uint8Array,
    cache: SignatureCache,
    timing: SignatureTiming = signatureTiming,
  ) {
    this.origin = keys.origin;
    this.records = keyRecords(keys, sha256);
    this.#lowerOrigin = lowerName(keys.origin.wire);
    const tagged = (key: ZoneKey): Signer => ({
      publicKey: key.publicKey,
      sign: key.sign,
      keyTag: keyTagOf(key.publicKey),
      number: cache.numberOf(key.publicKey),
    });
    this.#apexSigners = keys.apexSigners.map(tagged);
    this.#signers = keys.signers.map(tagged);
    this.#cache = cache;
    this.#timing = timing;
  }

  /**
   * Signatures over a set of one owner, type and class, which lies in this zone. Throws what `sign` throws.
   *
   * @param records not empty, all with one TTL
   * @param isLimited the asker may be forged: a denial that is new counts against the limit, {@link SigningLimit}
   * @param isMade for the question, from a wildcard or a DNAME: as good as a denial for who wants many signatures
   */
  sign(records: readonly DnsRecord[], nowSeconds: number, isLimited = false, isMade = false): Signatures {
    const [record] = records as readonly [DnsRecord];
    const isAlone = records.length === 1 && record.type === dnsTypes.SOA;
    const kept = isAlone ? this.#ofRecord.get(record) : undefined;
    if (kept !== undefined && nowSeconds >= kept.madeAtSeconds && nowSeconds < kept.renewAtSeconds) {
      this.#cache.reused++;
      return kept;
    }
    const isFleeting = isMade || record.type === dnsTypes.NSEC;
    const made = this.#sign(records, nowSeconds, isLimited, isFleeting);
    if (isAlone) this.#ofRecord.set(record, { ...made, madeAtSeconds: nowSeconds });
    return made;
  }

  #sign(
    records: readonly DnsRecord[],
    nowSeconds: number,
    isLimited: boolean,
    isFleeting: boolean,
  ): Signatures {
    const { type, name, ttlSeconds } = records[0] as DnsRecord;
    const set = canonicalSet(records);
    const text = textOf(set);
    const signers =
      type === dnsTypes.DNSKEY || type === dnsTypes.CDS || type === dnsTypes.CDNSKEY
        ? this.#apexSigners
        : this.#signers;
    let renewAtSeconds = Number.POSITIVE_INFINITY;
    const signatures = signers.map((signer): DnsRecord => {
      const kept = this.#signature(
        signer,
        type,
        name,
        ttlSeconds,
        set,
        text,
        nowSeconds,
        isLimited,
        isFleeting,
      );
      renewAtSeconds = Math.min(renewAtSeconds, kept.renewAtSeconds);
      return {
        name,
        type: dnsTypes.RRSIG,
        class: dnsClasses.IN,
        ttlSeconds,
        data: { kind: "opaque", bytes: kept.data },
      };
    });
    return { records: signatures, renewAtSeconds };
  }

  #signature(
    signer: Signer,
    type: number,
    name: DomainName,
    ttlSeconds: number,
    set: Uint8Array,
    text: string,
    nowSeconds: number,
    isLimited: boolean,
    isFleeting: boolean,
  ): Kept {
    const cache = this.#cache;
    const entries = cache.of(isFleeting);
    const key = signer.number + text;
    const kept = entries.find(key);
    if (kept !== undefined && nowSeconds >= kept.inceptionSeconds && nowSeconds < kept.renewAtSeconds) {
      cache.reused++;
      return kept;
    }
    if (isLimited && isFleeting) cache.takeDenial(nowSeconds);
    const { skewSeconds, lifeSeconds, jitterRatio, renewRatio } = this.#timing;
    const life = Math.floor(lifeSeconds * (1 - jitterRatio * shareOf(set)));
    const inceptionSeconds = nowSeconds - skewSeconds;
    const head = new Octets();
    head.u16(type);
    head.u8(ecdsaP256Sha256);
    head.u8(rrsigLabels(name.wire));
    head.u32(ttlSeconds);
    // RFC 4034 section 3.1.5: modulo 2^32.
    head.u32((nowSeconds + life) >>> 0);
    head.u32(inceptionSeconds >>> 0);
    head.u16(signer.keyTag);
    head.put(this.#lowerOrigin);
    const data = head.bytes();
    const signed = new Octets();
    signed.put(data);
    signed.put(set);
    const signature = signer.sign(signed.bytes());
    const whole = new Uint8Array(data.length + signature.length);
    whole.set(data);
    whole.set(signature, data.length);
    const made = {
      data: whole,
      inceptionSeconds,
      renewAtSeconds: nowSeconds + Math.floor(life * (1 - renewRatio)),
    };
    entries.put(key, made);
    cache.signed++;
    if (kept !== undefined) cache.renewed++;
    return made;
  }
}
