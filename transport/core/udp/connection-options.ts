/** What a connection is given, and what it counts. */
import type { Redundancy } from "./redundancy.ts";
import type { PacketProtection } from "./words.ts";

export interface UdpConnectionOptions {
  readonly protection: PacketProtection;
  /** Names of 64 random bits, agreed on where the keys were: under which this side, and the other one, are addressed. */
  readonly localName: Uint8Array;
  readonly remoteName: Uint8Array;
  /** Address and port of the other side, `address:port`, and whether it is known to be there. */
  readonly remote: string;
  readonly isRemoteValidated: boolean;
  readonly congestion?: "bbr" | "cubic";
  readonly redundancy?: Redundancy;
  /** CHALLENGE_BYTES that nobody can guess. */
  readonly unpredictable: () => Uint8Array;
  /** Packets under one key; for tests. */
  readonly sealedMax?: number;
}

export interface UdpCounters {
  sentPackets: number;
  sentBytes: number;
  receivedPackets: number;
  /** Numbers that the other side has used as far as is known: those that are neither received nor late are lost on their way here. */
  expectedPackets: number;
  lostPackets: number;
  /** Lost by the path, and restored by the other side. */
  restoredPackets: number;
  repairPackets: number;
  probeTimeouts: number;
  droppedDatagrams: number;
}
