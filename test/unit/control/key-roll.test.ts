/** Rolls of keys in simulated time: whatever caches hold in whatever mix of ages, a validator finds a chain. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { dnssecDocument, type DnssecKey, type DnssecZone, type ServerId } from "#kit";
import { advance, enteringKey, mayRoll, signedAgain, withdrawn } from "../../../control/core/key-roll.ts";
import { isParentIn, KeyRolls } from "../../../control/core/key-rolls.ts";
import { topology } from "../mapping-dns/fixture.ts";

const publicKey = `${"A".repeat(86)}==`;
const sealedKey = `v1.${"a".repeat(60)}`;
const T0 = 1_800_000_000_000;
const made = (keyId: string) => ({ keyId, publicKey, sealedKey });
const zoneOf = (keys: readonly DnssecKey[], more: Partial<DnssecZone> = {}): DnssecZone => ({
  zone: "shop.example",
  dnskeyTtlSeconds: 3_600,
  zoneTtlSecondsMax: 86_400,
  dsTtlSeconds: 86_400,
  propagationSeconds: 300,
  keys,
  ...more,
});

/** What a server gives out at some time: the DNSKEY set, who signs, and what the parent is to have. */
interface Face {
  readonly dnskey: readonly string[];
  readonly signer: string;
}
const faceOf = ({ keys }: DnssecZone): Face => ({
  dnskey: keys.map(({ keyId }) => keyId),
  signer: keys.find((one) => one.activeAtEpochMs !== undefined && one.retiredAtEpochMs === undefined)!.keyId,
});
const cdsOf = ({ keys }: DnssecZone): string[] =>
  keys
    .filter((one) => one.delegatedAtEpochMs !== undefined && one.undelegatedAtEpochMs === undefined)
    .map(({ keyId }) => keyId);

/** Values by the second from which on they hold. */
class History<T> {
  readonly #steps: { readonly from: number; readonly value: T }[] = [];
  set(from: number, value: T): void {
    this.#steps.push({ from, value });
  }
  /** All that were given out between two times. */
  between(from: number, to: number): T[] {
    return this.#steps
      .filter((step, n) => step.from <= to && (this.#steps[n + 1]?.from ?? Number.POSITIVE_INFINITY) > from)
      .map(({ value }) => value);
  }
}

interface World {
  readonly dnskeyTtl: number;
  readonly zoneTtl: number;
  readonly dsTtl: number;
  readonly propagation: number;
  /** Seconds that one name server takes for a new version; beyond `propagation` it says so late. */
  readonly lag: number;
  /** Seconds that the parent takes to follow CDS, and that its change takes to be seen. */
  readonly parentLag: number;
  readonly tick: number;
}

/** Two name servers (one is late), a parent, rolls one after the other; every tick each mix of what caches may hold is looked at. */
function simulate(world: World, plant?: (zone: DnssecZone) => DnssecZone) {
  const { dnskeyTtl, zoneTtl, dsTtl, propagation, lag, parentLag, tick } = world;
  let zone = zoneOf([{ ...enteringKey(made("k1"), true, T0), delegatedAtEpochMs: T0, dsSeenAtEpochMs: T0 }], {
    dnskeyTtlSeconds: dnskeyTtl,
    zoneTtlSecondsMax: zoneTtl,
    dsTtlSeconds: dsTtl,
    propagationSeconds: propagation,
  });
  const faces = new History<Face>();
  const ds = new History<readonly string[]>();
  faces.set(0, faceOf(zone));
  ds.set(0, cdsOf(zone));
  let parent = cdsOf(zone);
  let parentChange: { at: number; to: string[] } | undefined;
  let changedAt = 0;
  let rolls = 0;
  const bogus: string[] = [];
  const steps: string[] = [];
  const end = 6 * (dnskeyTtl + zoneTtl + dsTtl + propagation + lag + parentLag);
  for (let now = tick; now < end && rolls < 3; now += tick) {
    const nowEpochMs = T0 + now * 1_000;
    if (zone.keys.length === 1 && mayRoll(zone)) {
      if (rolls++ === 2) break;
      zone = { ...zone, keys: [...zone.keys, enteringKey(made(`k${rolls + 1}`), false, nowEpochMs)] };
      changedAt = now;
    }
    const everywhere = changedAt + lag;
    const result = advance(zone, {
      nowEpochMs,
      isParentOurs: false,
      everywhereSinceEpochMs: now >= everywhere ? T0 + everywhere * 1_000 : undefined,
    });
    let next = result.zone as DnssecZone;
    for (const { step, keyId } of result.taken) steps.push(`${step} ${keyId}`);
    if (plant !== undefined) next = plant(next);
    if (next !== zone) changedAt = now;
    zone = next;
    // One server answers from it at once, the late one `lag` later.
    faces.set(now, faceOf(zone));
    const cds = cdsOf(zone);
    if (parentChange === undefined && cds.join() !== parent.join())
      parentChange = { at: now + parentLag, to: cds };
    if (parentChange !== undefined && now >= parentChange.at) {
      parent = parentChange.to;
      parentChange = undefined;
      ds.set(now, parent);
      zone = {
        ...zone,
        keys: zone.keys.map((one) => ({
          ...one,
          ...(parent.includes(one.keyId) && { dsSeenAtEpochMs: one.dsSeenAtEpochMs ?? nowEpochMs }),
          ...(one.undelegatedAtEpochMs !== undefined &&
            !parent.includes(one.keyId) && { dsGoneAtEpochMs: one.dsGoneAtEpochMs ?? nowEpochMs }),
        })),
      };
      changedAt = now;
    }
    for (const anchors of ds.between(now - dsTtl, now))
      for (const keys of faces.between(now - dnskeyTtl - lag, now)) {
        if (!keys.dnskey.some((keyId) => anchors.includes(keyId)))
          bogus.push(`${now}: DS ${anchors.join()} and DNSKEY ${keys.dnskey.join()}`);
        for (const { signer } of faces.between(now - zoneTtl - lag, now))
          if (!keys.dnskey.includes(signer))
            bogus.push(`${now}: signed by ${signer}, DNSKEY ${keys.dnskey.join()}`);
      }
  }
  return { bogus, steps, rolls };
}

const world = fc.record({
  dnskeyTtl: fc.integer({ min: 5, max: 60 }),
  zoneTtl: fc.integer({ min: 5, max: 60 }),
  dsTtl: fc.integer({ min: 5, max: 60 }),
  propagation: fc.integer({ min: 1, max: 10 }),
  lag: fc.integer({ min: 0, max: 30 }),
  parentLag: fc.integer({ min: 0, max: 60 }),
  tick: fc.integer({ min: 1, max: 7 }),
});

describe("a roll", () => {
  it("leaves no mix of cached DS, DNSKEY and signatures without a chain, and ends", () => {
    fc.assert(
      fc.property(world, (one) => {
        const { bogus, steps, rolls } = simulate(one);
        expect(bogus).toEqual([]);
        expect(rolls).toBe(3);
        expect(steps).toEqual([
          "activate k2",
          "undelegate k1",
          "remove k1",
          "activate k3",
          "undelegate k2",
          "remove k2",
        ]);
      }),
      { numRuns: 25 },
    );
  });

  it.each([
    ["signs before the key is known", (one: DnssecKey, at: number) => ({ ...one, activeAtEpochMs: at })],
    ["withdraws the old DS at once", undefined],
  ] as const)("is found out when it %s", (_, activate) => {
    const plant = (zone: DnssecZone): DnssecZone => {
      const [older, newest] = zone.keys;
      if (older === undefined || newest === undefined || older.retiredAtEpochMs !== undefined) return zone;
      const at = newest.publishedAtEpochMs;
      return activate === undefined
        ? { ...zone, keys: [{ ...newest, activeAtEpochMs: at }] }
        : { ...zone, keys: [{ ...older, retiredAtEpochMs: at }, activate(newest, at)] };
    };
    const slow = { dnskeyTtl: 30, zoneTtl: 20, dsTtl: 40, propagation: 2, lag: 1, parentLag: 5, tick: 1 };
    expect(simulate(slow, plant).bogus.length).toBeGreaterThan(0);
  });

  it("is the way back, too: signed until no cache holds a DS, and again at once where that is taken back", () => {
    const key = { ...enteringKey(made("k1"), true, T0), delegatedAtEpochMs: T0, dsSeenAtEpochMs: T0 };
    expect(withdrawn(zoneOf([enteringKey(made("k1"), true, T0)]), T0)).toBeUndefined();
    const zone = withdrawn(zoneOf([key]), T0)!;
    expect(mayRoll(zone)).toBe(false);
    const facts = { isParentOurs: false, everywhereSinceEpochMs: T0 };
    const late = { ...facts, nowEpochMs: T0 + 10 * 86_400_000 };
    expect(advance(zone, late)).toEqual({
      zone,
      taken: [],
      waits: [{ step: "unsign", keyId: "k1", for: "ds-gone-at-parent" }],
    });
    const goneAt = T0 + 5_000_000;
    const gone = advance(zone, { ...facts, nowEpochMs: goneAt, isDsAtParent: () => false }).zone!;
    const untilEpochMs = goneAt + (300 + 86_400) * 1_000;
    expect(advance(gone, { ...facts, nowEpochMs: untilEpochMs - 1 })).toEqual({
      zone: gone,
      taken: [],
      waits: [{ step: "unsign", keyId: "k1", for: "time", untilEpochMs }],
    });
    // Nobody who has not said that it asks for the end of the DS may be believed to.
    expect(advance(gone, { ...late, everywhereSinceEpochMs: undefined }).zone).toBe(gone);
    expect(advance(gone, { ...facts, nowEpochMs: untilEpochMs })).toMatchObject({
      zone: undefined,
      taken: [{ step: "unsign", keyId: "k1" }],
    });
    expect(signedAgain(gone, T0 + 7)).toEqual(
      zoneOf([{ ...enteringKey(made("k1"), true, T0), delegatedAtEpochMs: T0 + 7 }]),
    );
  });

  it("of the first key: no DS before caches know that the zone is signed; then it waits for the parent for ever", () => {
    const zone = zoneOf([enteringKey(made("k1"), true, T0)]);
    const facts = { isParentOurs: false, everywhereSinceEpochMs: T0 + 1_000 };
    const untilEpochMs = T0 + (300 + 86_400) * 1_000;
    expect(advance(zone, { ...facts, nowEpochMs: untilEpochMs - 1 })).toEqual({
      zone,
      taken: [],
      waits: [{ step: "delegate", keyId: "k1", for: "time", untilEpochMs }],
    });
    const silent = advance(zone, { ...facts, nowEpochMs: untilEpochMs, everywhereSinceEpochMs: undefined });
    expect(silent.waits).toEqual([{ step: "delegate", keyId: "k1", for: "name-servers" }]);
    const moved = advance(zone, { ...facts, nowEpochMs: untilEpochMs });
    expect(moved.taken).toEqual([{ step: "delegate", keyId: "k1" }]);
    expect(moved.zone && mayRoll(moved.zone)).toBe(false);
    const rolling = zoneOf([
      { ...moved.zone!.keys[0]!, dsSeenAtEpochMs: untilEpochMs },
      { ...enteringKey(made("k2"), false, untilEpochMs), activeAtEpochMs: untilEpochMs },
    ]);
    expect(advance(rolling, { ...facts, nowEpochMs: untilEpochMs * 2 }).waits).toEqual([
      { step: "undelegate", keyId: "k1", for: "ds-at-parent" },
    ]);
  });
});

describe("KeyRolls", () => {
  const report = (serverId: string, version: number) => ({
    serverId: serverId as ServerId,
    applied: { "dnssec/test": version },
  });
  const document = dnssecDocument.parse({
    name: "test",
    zones: [
      zoneOf([enteringKey(made("k1"), true, T0)], { zoneTtlSecondsMax: 60 }),
      zoneOf([enteringKey(made("k1"), true, T0)], { zone: "sub.shop.example", zoneTtlSecondsMax: 60 }),
    ],
  });

  it("counts from when the last name server has said that it has the entry; a zone below takes the parent's steps itself", () => {
    const rolls = new KeyRolls();
    const handle = (seconds: number, versions: readonly [number, number], of = document, version = 3) =>
      rolls.handle({
        document: of,
        version,
        topology,
        reports: [report("ns-1", versions[0]), report("ns-2", versions[1])] as never,
        nowEpochMs: T0 + seconds * 1_000,
      });
    expect(handle(0, [3, 2]).zones[0]?.missing).toEqual(["ns-2"]);
    // A version that was taken back is no newer one.
    expect(handle(350, [3, 4]).zones[0]?.missing).toEqual(["ns-2"]);
    expect(handle(400, [3, 2]).zones[0]?.waits).toMatchObject([{ for: "name-servers" }]);
    expect(handle(500, [3, 3]).zones[0]?.waits).toMatchObject([{ for: "time", untilEpochMs: T0 + 560_000 }]);
    expect(handle(559, [3, 3]).document).toBe(document);
    const moved = handle(560, [3, 3]).document;
    expect(moved.zones.map(({ keys }) => keys[0]?.delegatedAtEpochMs)).toEqual([T0 + 560_000, T0 + 560_000]);
    const again = handle(561, [4, 4], moved, 4).document;
    expect(again.zones.map(({ keys }) => keys[0]?.dsSeenAtEpochMs)).toEqual([undefined, T0 + 561_000]);
    expect(dnssecDocument.parse(JSON.parse(JSON.stringify(again)))).toEqual(again);
    expect(isParentIn("shop.example", new Set(["shop.example", "op.example"]))).toBe(false);
    const ours = new Set(["example"]);
    expect(isParentIn("a.b.example", ours)).toBe(true);
    // The DS of a zone below a customer's is what the customer writes there.
    expect(isParentIn("a.b.example", ours, () => new Set(["b.example"]))).toBe(false);
    expect(isParentIn("b.example", ours, () => new Set(["b.example"]))).toBe(true);
  });

  it("takes a DS for there, or gone, when all who have looked since the key's last step say so", () => {
    const seen = (serverId: string, keyIds: readonly string[], atSeconds: number) => ({
      ...report(serverId, 3),
      dsAtParent: { "shop.example": { keyIds, atEpochMs: T0 + atSeconds * 1_000 } },
    });
    const key = { ...enteringKey(made("k1"), true, T0), delegatedAtEpochMs: T0 + 10_000 };
    const { zones } = dnssecDocument.parse({ name: "test", zones: [zoneOf([key])] });
    const [zone] = zones as [DnssecZone];
    const keyAfter = (of: DnssecZone, ...reports: readonly object[]) =>
      new KeyRolls().handle({
        document: dnssecDocument.parse({ name: "test", zones: [of] }),
        version: 3,
        topology: undefined,
        reports: reports as never,
        nowEpochMs: T0 + 60_000,
      }).document.zones[0]?.keys[0];
    const said = { dsSeenAtEpochMs: T0 + 60_000 };
    expect(keyAfter(zone, seen("ns-1", ["k1"], 20))).toMatchObject(said);
    expect(keyAfter(zone, seen("ns-1", ["k1"], 20), report("ns-2", 3))).toMatchObject(said);
    expect(keyAfter(zone, seen("ns-1", ["k1"], 20), seen("ns-2", [], 20))).toEqual(zone.keys[0]);
    // Of a resolver that was asked before.
    expect(keyAfter(zone, seen("ns-1", ["k1"], 9))).toEqual(zone.keys[0]);
    const leaving = withdrawn({ ...zone, keys: [{ ...key, ...said }] }, T0 + 30_000)!;
    const gone = { dsGoneAtEpochMs: T0 + 60_000 };
    expect(keyAfter(leaving, seen("ns-1", [], 31))).toMatchObject(gone);
    expect(keyAfter(leaving, seen("ns-1", [], 31), seen("ns-2", ["k1"], 31))).not.toMatchObject(gone);
    expect(keyAfter(leaving, seen("ns-1", [], 29))).not.toMatchObject(gone);
  });

  it("a zone that is withdrawn leaves the document once its DS is gone and forgotten, others stay", () => {
    const key = { ...enteringKey(made("k1"), true, T0), delegatedAtEpochMs: T0, dsSeenAtEpochMs: T0 };
    const leaving = withdrawn(zoneOf([key], { zone: "sub.shop.example", dsTtlSeconds: 60 }), T0)!;
    const other = zoneOf([key]);
    const rolls = new KeyRolls();
    const handle = (seconds: number, of: DnssecZone[], version: number) =>
      rolls.handle({
        document: dnssecDocument.parse({ name: "test", zones: of }),
        version,
        topology,
        reports: [report("ns-1", version), report("ns-2", version)] as never,
        nowEpochMs: T0 + seconds * 1_000,
      });
    const seen = handle(1, [leaving, other], 3).document.zones;
    expect(seen[0]?.keys[0]?.dsGoneAtEpochMs).toBe(T0 + 1_000);
    expect(handle(300, [...seen], 4).document.zones).toHaveLength(2);
    const left = handle(361, [...seen], 4);
    expect(left.zones[0]).toMatchObject({
      zone: "sub.shop.example",
      taken: [{ step: "unsign", keyId: "k1" }],
    });
    expect(left.document.zones.map(({ zone }) => zone)).toEqual(["shop.example"]);
  });

  it.each([
    [{ activeAtEpochMs: undefined }, "keys"],
    [{ retiredAtEpochMs: T0 }, "keys"],
    [{ dsSeenAtEpochMs: T0 }, "dsSeenAtEpochMs"],
    [{ delegatedAtEpochMs: T0, undelegatedAtEpochMs: T0 }, "keys"],
    [{ delegatedAtEpochMs: T0, withdrawn: T0 }, "keys"],
    [{ sealedKey: "-----BEGIN PRIVATE KEY-----" }, "sealedKey"],
    [{ publicKey: "AAAA" }, "publicKey"],
  ])("refuses a document whose key says %o", (change, path) => {
    const { withdrawn: withdrawnAtEpochMs, ...of } = { withdrawn: undefined, ...change };
    const body = {
      name: "test",
      zones: [
        {
          ...zoneOf([{ ...enteringKey(made("k1"), true, T0), ...of } as DnssecKey]),
          ...(withdrawnAtEpochMs !== undefined && { withdrawnAtEpochMs }),
        },
      ],
    };
    expect(() => dnssecDocument.parse(JSON.parse(JSON.stringify(body)))).toThrow(path);
  });
});
