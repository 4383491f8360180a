/** Bulk transfers between hosts of a network (see bulk.ts). */
import { join } from "node:path";
import { startProgram, type WideAreaNetwork } from "./network.ts";

const PROGRAM = join(import.meta.dirname, "bulk.ts");

export interface Transfer {
  readonly bytes: number;
  readonly seconds: number;
  readonly mbit: number;
  /** Bytes that were not the sender's. */
  readonly wrong: number;
}

/** A sender on a host. */
export interface Sender {
  readonly address: string;
  readonly port: number;
  stop(): Promise<void>;
}

/** Resolves when it listens. */
export async function startSender(network: WideAreaNetwork, host: string, port = 5001): Promise<Sender> {
  const { stop } = await startProgram(network, host, "bulk.ts", ["serve", String(port)]);
  return { address: network.addressOf(host), port, stop };
}

/** What one connection carries to a host in some seconds, connection set-up and slow start included. */
export async function receive(
  network: WideAreaNetwork,
  host: string,
  sender: Sender,
  seconds: number,
): Promise<Transfer> {
  const argv = [PROGRAM, "fetch", sender.address, String(sender.port), String(seconds)];
  const result = JSON.parse(await network.run(host, process.execPath, argv)) as Omit<Transfer, "mbit">;
  return { ...result, mbit: (result.bytes * 8) / 1e6 / result.seconds };
}
