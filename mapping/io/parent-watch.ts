/**
 * What the parents of signed zones have for them, as a resolver sees it: steps of keys wait for it. Asked over TCP, so that nobody forges an
 * answer who does not see the question.
 */
import { randomInt } from "node:crypto";
import { type DnssecDocument, type DnssecZone, nameFromText, type ServerReport } from "#kit";
import { type ListenAddress, systemClock } from "#kit/io";
import { dnsTypes, rcodes, rcodeText } from "../core/dns/constants.ts";
import { queryMessage } from "../core/dns/message.ts";
import { readMessage, writeMessage } from "../core/dns/wire.ts";
import { askOverTcp } from "./dns-exchange.ts";
import { dsTextOf } from "./zone-key.ts";

const TIMEOUT_MS = 5_000;
const UDP_PAYLOAD_BYTES = 1_232;
/** Parents take minutes, and what a resolver has kept of them lives longer. */
const LOOK_INTERVAL_MS = 30_000;
/** Zones that are asked for at once. */
const UNDER_WAY_MAX = 16;

/** DS records as `dsTextOf` writes them; empty when there are none. Throws an Error that says why where the resolver does not say. */
export async function askDs({ host, port }: ListenAddress, zone: string): Promise<readonly string[]> {
  const name = nameFromText(zone);
  const id = randomInt(65_536);
  const edns = { udpPayloadBytes: UDP_PAYLOAD_BYTES, version: 0, isDnssecOk: false, options: [] };
  const query =
    name && writeMessage(queryMessage({ id, name, type: dnsTypes.DS, isRecursionDesired: true, edns }));
  if (query === undefined) throw new Error(`"${zone}" is no domain name`);
  const message = await askOverTcp({
    host,
    port,
    query,
    timeoutMs: TIMEOUT_MS,
    read: (bytes) => {
      const read = readMessage(bytes);
      if (!read.ok || read.message.header.id !== id || !read.message.header.isResponse) return undefined;
      const [asked] = read.message.questions;
      return asked?.name.text === name?.text && asked?.type === dnsTypes.DS ? read.message : undefined;
    },
  });
  if (message === undefined) throw new Error("it gives no answer over TCP");
  const { rcode } = message.header;
  if (rcode !== rcodes.NOERROR) throw new Error(`it answers ${rcodeText(rcode)}`);
  return message.answers.flatMap(({ type, data }) => {
    if (type !== dnsTypes.DS || data.kind !== "opaque" || data.bytes.length < 5) return [];
    const bytes = Buffer.from(data.bytes);
    const digest = bytes.subarray(4).toString("hex").toUpperCase();
    return [`${zone}. IN DS ${bytes.readUInt16BE(0)} ${bytes[2]} ${bytes[3]} ${digest}`];
  });
}

type Seen = NonNullable<ServerReport["dsAtParent"]>;

/** Looks for the zones whose keys wait for their parent, and for no others. */
export class ParentWatch {
  readonly #resolvers: readonly ListenAddress[];
  #zones: readonly DnssecZone[] = [];
  #seen: Seen = {};
  #isLooking = false;
  #isOld = false;
  #isClosed = false;
  readonly #timer: NodeJS.Timeout;
  readonly counters = { answered: 0, failed: 0 };

  /** @param resolvers asked in turn until one answers; with none nothing is seen */
  constructor(resolvers: readonly ListenAddress[]) {
    this.#resolvers = resolvers;
    this.#timer = setInterval(() => this.#lookSoon(), LOOK_INTERVAL_MS);
    this.#timer.unref();
  }

  /** The keys in force: those that wait are looked for at once. */
  setKeys({ zones }: DnssecDocument): void {
    this.#zones = zones.filter(isWaiting);
    const waiting = new Set(this.#zones.map(({ zone }) => zone));
    this.#seen = Object.fromEntries(Object.entries(this.#seen).filter(([zone]) => waiting.has(zone)));
    this.#lookSoon();
  }

  /** For the report; undefined: nothing to say. */
  get seen(): Seen | undefined {
    return Object.keys(this.#seen).length === 0 ? undefined : this.#seen;
  }

  close(): void {
    this.#isClosed = true;
    clearInterval(this.#timer);
  }

  #lookSoon(): void {
    this.#isOld = true;
    if (!this.#isLooking) void this.#look();
  }

  /** What comes while it looks is looked at next. */
  async #look(): Promise<void> {
    this.#isLooking = true;
    while (this.#isOld && !this.#isClosed) {
      this.#isOld = false;
      const zones = this.#zones;
      for (let at = 0; at < zones.length; at += UNDER_WAY_MAX)
        await Promise.all(zones.slice(at, at + UNDER_WAY_MAX).map((zone) => this.#lookFor(zone)));
    }
    this.#isLooking = false;
  }

  async #lookFor({ zone, keys }: DnssecZone): Promise<void> {
    for (const resolver of this.#resolvers) {
      if (this.#isClosed) return;
      const atEpochMs = Math.floor(systemClock.epoch());
      try {
        const there = await askDs(resolver, zone);
        this.counters.answered++;
        if (!this.#zones.some((one) => one.zone === zone)) return;
        const keyIds = keys
          .filter(({ publicKey }) => there.includes(dsTextOf(zone, publicKey)))
          .map(({ keyId }) => keyId);
        this.#seen = { ...this.#seen, [zone]: { keyIds, atEpochMs } };
        return;
      } catch {
        this.counters.failed++;
      }
    }
    // What was seen once may be otherwise by now.
    const { [zone]: _old, ...rest } = this.#seen;
    this.#seen = rest;
  }
}

function isWaiting({ keys }: DnssecZone): boolean {
  return keys.some(
    (one) =>
      (one.delegatedAtEpochMs !== undefined && one.dsSeenAtEpochMs === undefined) ||
      (one.undelegatedAtEpochMs !== undefined && one.dsGoneAtEpochMs === undefined),
  );
}
