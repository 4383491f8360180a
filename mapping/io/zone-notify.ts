/** Tells other name servers that a zone has changed (RFC 1996): over UDP, again until they answer, signed. */
import { randomInt } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import { isIPv6 } from "node:net";
import type { ZoneDocument } from "#kit";
import { type Logger, systemClock } from "#kit/io";
import type { HostedZone } from "../core/zone/hosted-zone.ts";
import { notifyMessage } from "../core/zone/transfer.ts";
import { type TsigKeys, TsigSigner } from "../core/zone/tsig.ts";
import { hmac } from "./tsig-keys.ts";

/** RFC 1996 section 3.6: a minute apart and five times is much for a peer that is near; the zone's refresh timer stays. */
const WAITS_MS = [1_000, 2_000, 4_000, 8_000, 16_000] as const;
const UNDER_WAY_MAX = 10_000;

interface Pending {
  readonly address: string;
  readonly id: number;
  timer: NodeJS.Timeout | undefined;
}

export class ZoneNotifier {
  readonly #keys: TsigKeys;
  readonly #logger: Logger;
  readonly #sockets = new Map<"udp4" | "udp6", Socket>();
  /** By zone and peer: a newer change takes the place of one that is under way. */
  readonly #pending = new Map<string, Pending>();
  readonly counters = { sent: 0, answered: 0, unanswered: 0, dropped: 0 };

  constructor(keys: TsigKeys, logger: Logger) {
    this.#keys = keys;
    this.#logger = logger;
  }

  notify({ zoneId, transfer }: ZoneDocument, zone: HostedZone): void {
    const key = transfer === undefined ? undefined : this.#keys.get(transfer.keyName);
    if (transfer === undefined || key === undefined) return;
    for (const { address, port } of transfer.notify) {
      const name = `${zoneId} ${address} ${port}`;
      clearTimeout(this.#pending.get(name)?.timer);
      this.#pending.delete(name);
      if (this.#pending.size >= UNDER_WAY_MAX) {
        this.counters.dropped++;
        continue;
      }
      const pending: Pending = { address, id: randomInt(65_536), timer: undefined };
      this.#pending.set(name, pending);
      const send = (tried: number): void => {
        const waitMs = WAITS_MS[tried];
        if (waitMs === undefined) {
          this.#pending.delete(name);
          this.counters.unanswered++;
          this.#logger.warn("zone-notify-unanswered", { zone: zone.origin.text, peer: `${address}:${port}` });
          return;
        }
        const bytes = notifyMessage(pending.id, zone.origin, zone.soa);
        const signer = new TsigSigner(key, hmac, new Uint8Array());
        this.#socketFor(address).send(
          signer.sign(bytes, Math.floor(systemClock.epoch() / 1_000)),
          port,
          address,
        );
        this.counters.sent++;
        pending.timer = setTimeout(send, waitMs, tried + 1);
      };
      send(0);
    }
  }

  close(): void {
    for (const { timer } of this.#pending.values()) clearTimeout(timer);
    this.#pending.clear();
    for (const socket of this.#sockets.values()) socket.close();
    this.#sockets.clear();
  }

  #socketFor(address: string): Socket {
    const family = isIPv6(address) ? "udp6" : "udp4";
    const known = this.#sockets.get(family);
    if (known !== undefined) return known;
    const socket = createSocket(family);
    socket.unref();
    // A peer that is not there is seen by its silence.
    socket.on("error", () => {});
    socket.on("message", (bytes, from) => this.#handleAnswer(bytes, from.address));
    this.#sockets.set(family, socket);
    return socket;
  }

  /** An answer ends the asking, whatever it says: who forges one spares a peer a repetition, and the zone's timers stay. */
  #handleAnswer(bytes: Buffer, address: string): void {
    if (bytes.length < 12 || (bytes.readUInt16BE(2) & 0xf800) !== 0xa000) return;
    const id = bytes.readUInt16BE(0);
    for (const [name, pending] of this.#pending) {
      if (pending.id !== id || pending.address !== address) continue;
      clearTimeout(pending.timer);
      this.#pending.delete(name);
      this.counters.answered++;
    }
  }
}
