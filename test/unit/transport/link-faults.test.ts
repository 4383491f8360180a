/** Sessions of the link protocol over a connection that stands still, one way or both, in virtual time: as TCP has it, nothing is lost and all comes late. */
import { describe, expect, test } from "vitest";
import type { LinkSession } from "../../../transport/core/link/session.ts";
import { linkDefaults } from "../../../transport/core/link/words.ts";
import { at, eventsOf, get, LinkPair } from "../../tools/link-core.ts";

const RTT_MS = 48;
const STEP_MS = 4;
/** Each step lets so much through, bytes: 100 Mbit/s. */
const STEP_BYTES = 50_000;

type Cut = { readonly fromMs: number; readonly toMs: number; readonly way: "both" | "up" | "down" };

/** A client that asks every 100 ms for 20,000 bytes, a server that answers at once; how it went. */
function life(cuts: readonly Cut[], untilMs: number) {
  const pair = new LinkPair();
  const flights: { readonly to: LinkSession; dueMs: number; readonly bytes: Buffer }[] = [];
  const asked = new Map<
    number,
    { readonly atMs: number; bytes: number; wholeAtMs?: number; lostAtMs?: number }
  >();
  const endedAtMs: { client?: number; server?: number } = {};
  let stuckFromMs: number | undefined;
  for (let nowMs = 0; nowMs <= untilMs; nowMs += STEP_MS) {
    const now = at(nowMs);
    if (nowMs % 100 === 0) {
      const id = pair.client.request(get(`/${nowMs}`), true, now);
      if (typeof id === "number") asked.set(id, { atMs: nowMs, bytes: 0 });
    }
    for (const [name, from, to, way] of [
      ["client", pair.client, pair.server, "up"],
      ["server", pair.server, pair.client, "down"],
    ] as const) {
      const due = from.pollTimeout();
      if (due !== undefined && due <= nowMs) from.handleTimeout(now);
      const into = Buffer.alloc(from.hasOutput ? STEP_BYTES : 0);
      const bytes = from.pollTransmit(into);
      if (bytes > 0) flights.push({ to, dueMs: nowMs + RTT_MS / 2, bytes: into.subarray(0, bytes) });
      const isCut = cuts.some(
        (cut) => nowMs >= cut.fromMs && nowMs < cut.toMs && (cut.way === "both" || cut.way === way),
      );
      // In order: what comes late holds up what is behind it.
      for (let index = 0; !isCut && index < flights.length; ) {
        const flight = flights[index] as (typeof flights)[number];
        if (flight.to !== to || flight.dueMs > nowMs) index++;
        else {
          flights.splice(index, 1);
          to.handleBytes(flight.bytes, now);
        }
      }
      if (from.endReason !== undefined) endedAtMs[name] ??= nowMs;
    }
    if (pair.client.askingSince !== undefined && nowMs - pair.client.askingSince > 2 * RTT_MS + 100)
      stuckFromMs ??= nowMs;
    for (const event of eventsOf(pair.server))
      if (event.kind === "request") {
        pair.server.respond(event.id, { status: 200, fields: ["content-length", "20000"] }, false);
        pair.server.send(event.id, Buffer.alloc(20_000));
        pair.server.end(event.id);
      }
    for (const event of eventsOf(pair.client)) {
      const one = "id" in event ? asked.get(event.id) : undefined;
      if (one === undefined) continue;
      if (event.kind === "data") {
        one.bytes += event.bytes.byteLength;
        if (event.isEnd) one.wholeAtMs = nowMs;
      } else if (event.kind === "cancelled") one.lostAtMs = nowMs;
    }
  }
  const all = [...asked.values()];
  return {
    pair,
    endedAtMs,
    stuckFromMs,
    all,
    whole: all.filter(({ wholeAtMs }) => wholeAtMs !== undefined),
    lost: all.filter(({ lostAtMs }) => lostAtMs !== undefined),
  };
}

describe("a connection that stands still", () => {
  test("does not: every answer comes in a round trip and a bit", () => {
    const { all, whole, lost, endedAtMs, stuckFromMs } = life([], 5_000);
    expect(all.length).toBe(51);
    expect(whole.length).toBeGreaterThanOrEqual(50);
    for (const { atMs, wholeAtMs = Infinity, bytes } of whole)
      expect([wholeAtMs - atMs <= RTT_MS + 3 * STEP_MS, bytes]).toEqual([true, 20_000]);
    expect([lost.length, endedAtMs, stuckFromMs]).toEqual([0, {}, undefined]);
  });

  test("for 30 s: it is seen to be stuck within half a second, and given up after ten, by both sides, with all that was under way", () => {
    const cut: Cut = { fromMs: 2_000, toMs: 32_000, way: "both" };
    const { pair, all, whole, lost, endedAtMs, stuckFromMs = Infinity } = life([cut], 60_000);
    const { busyPingMs, silenceMs } = linkDefaults;
    const heardMs = RTT_MS + 100;
    expect(stuckFromMs).toBeLessThan(cut.fromMs + busyPingMs + 2 * RTT_MS + 100 + heardMs);
    const latestMs = cut.fromMs + heardMs + busyPingMs + silenceMs;
    expect(endedAtMs.client).toBeLessThan(latestMs);
    expect(endedAtMs.server).toBeLessThan(latestMs + linkDefaults.idlePingMs);
    expect([pair.client.endReason, pair.client.streams, pair.server.streams]).toEqual(["silent", 0, 0]);
    // Nothing is in doubt: each was answered whole, or its user was told.
    expect(whole.length + lost.length).toBe(all.length);
    expect(lost.length).toBeGreaterThan(80);
    expect([pair.client.keptBytes < 1_000, pair.client.grownBytes, pair.server.grownBytes]).toEqual([
      true,
      0,
      0,
    ]);
  });

  test("for 5 s: nothing is given up, and every byte comes", () => {
    const { pair, all, whole, lost } = life([{ fromMs: 2_000, toMs: 7_000, way: "both" }], 10_000);
    expect([pair.client.endReason, pair.server.endReason, lost.length]).toEqual([undefined, undefined, 0]);
    expect(whole.length).toBeGreaterThanOrEqual(all.length - 1);
    for (const { bytes } of whole) expect(bytes).toBe(20_000);
  });

  test("one way: answers that do not come are as good as silence, requests that do not arrive too", () => {
    for (const way of ["up", "down"] as const) {
      const {
        pair,
        all,
        whole,
        lost,
        stuckFromMs = Infinity,
      } = life([{ fromMs: 2_000, toMs: 32_000, way }], 60_000);
      expect(stuckFromMs).toBeLessThan(2_600);
      expect(pair.client.endReason).toBe("silent");
      expect(whole.length + lost.length).toBe(all.length);
    }
  });
});
