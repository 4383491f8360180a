/** Sessions of the link protocol without sockets, and frames made by hand: not by the code that is tested. */
import { type MonotonicMs, monotonicMs } from "#kit";
import { LinkSession } from "../../transport/core/link/session.ts";
import {
  type LinkEvent,
  type LinkLimits,
  type LinkRequestHead,
  linkDefaults,
} from "../../transport/core/link/words.ts";

/** A number of the wire in its shortest form. */
export function wireNumber(value: number): Buffer {
  if (value < 0x40) return Buffer.of(value);
  if (value < 0x4000) return Buffer.of(0x40 | (value >> 8), value & 0xff);
  return Buffer.of(0x80 | (value >>> 24), (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff);
}

export function wireFrame(first: number, id: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  return Buffer.concat([Buffer.of(first), wireNumber(id), wireNumber(payload.byteLength), payload]);
}

/** Version 1, and no settings. */
export const HELLO = wireFrame(1, 0, Buffer.of(1));

/** A head's payload: its structure, then its text. */
export function wireHead(structure: readonly (number | Buffer)[], text: string): Buffer {
  const bytes = Buffer.concat(structure.map((part) => (typeof part === "number" ? Buffer.of(part) : part)));
  return Buffer.concat([wireNumber(bytes.byteLength), bytes, Buffer.from(text, "latin1")]);
}

/** GET, normal urgency, of "/" at "a". */
export const GET_ROOT = wireHead([0x11, 1, 1], "a/");
/** Status 200, no fields. */
export const OK = wireHead([0, 200], "");

export const at = (ms: number): MonotonicMs => monotonicMs(ms);

export function get(path = "/", more: Partial<LinkRequestHead> = {}): LinkRequestHead {
  return { method: "GET", authority: "a", path, urgency: "normal", fields: [], ...more };
}

export function eventsOf(session: LinkSession): LinkEvent[] {
  const events: LinkEvent[] = [];
  for (let event = session.pollEvent(); event; event = session.pollEvent()) events.push(event);
  return events;
}

/** All that a session has to say, `room` bytes at a time. */
export function outputOf(session: LinkSession, room = 65_536): Buffer {
  const pieces: Buffer[] = [];
  for (;;) {
    const into = Buffer.alloc(room);
    const bytes = session.pollTransmit(into);
    if (bytes === 0) return Buffer.concat(pieces);
    pieces.push(into.subarray(0, bytes));
  }
}

export class LinkPair {
  readonly client: LinkSession;
  readonly server: LinkSession;

  constructor(limits: Partial<LinkLimits> = {}, nowMs = 0) {
    this.client = new LinkSession("client", { ...linkDefaults, ...limits }, at(nowMs));
    this.server = new LinkSession("server", { ...linkDefaults, ...limits }, at(nowMs));
  }

  /** Carries bytes both ways until there are none. */
  settle(nowMs = 0): void {
    while (this.client.hasOutput || this.server.hasOutput) {
      this.server.handleBytes(outputOf(this.client), at(nowMs));
      this.client.handleBytes(outputOf(this.server), at(nowMs));
    }
  }

  /** After both HELLOs, with nothing left to be told. */
  static open(limits: Partial<LinkLimits> = {}): LinkPair {
    const pair = new LinkPair(limits);
    pair.settle();
    eventsOf(pair.client);
    eventsOf(pair.server);
    return pair;
  }
}

/** A session that has read the other side's HELLO, and has said its own. */
export function openedSession(role: "client" | "server", limits: Partial<LinkLimits> = {}): LinkSession {
  const session = new LinkSession(role, { ...linkDefaults, ...limits }, at(0));
  session.handleBytes(HELLO, at(0));
  outputOf(session);
  eventsOf(session);
  return session;
}
