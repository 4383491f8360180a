/** Which addresses a world may take on this machine, and whether they are free: asked before thirty processes find out. */
import { createSocket } from "node:dgram";
import { createServer } from "node:net";
import { listenErrorHint } from "#kit/io";
import type { AddressPlan, AddressPlanOptions } from "#kit/world";
import { UsageError } from "../usage.ts";

export const defaultAddresses: AddressPlanOptions = { loopback: "127.10", port: 8080, dnsPort: 5300 };

/** Undefined: free. The error otherwise. */
function tryTcp(address: string, port: number): Promise<unknown> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", resolve);
    server.listen({ host: address, port, exclusive: true }, () => server.close(() => resolve(undefined)));
  });
}

function tryUdp(address: string, port: number): Promise<unknown> {
  return new Promise((resolve) => {
    const socket = createSocket("udp4");
    socket.once("error", resolve);
    socket.bind({ address, port, exclusive: true }, () => socket.close(() => resolve(undefined)));
  });
}

/** Whether 127.0.0.0/8 is bound to the loopback interface as a whole: true on Linux, false on macOS. */
export async function hasLoopbackRange(loopback: string): Promise<boolean> {
  return (await tryTcp(`${loopback}.0.1`, 0)) === undefined;
}

/** Throws {@link UsageError} for the first address of the plan that cannot be had, with what to do. */
export async function requireFreeAddresses(plan: AddressPlan): Promise<void> {
  const endpoints = [plan.control, ...plan.mappers, plan.portal, ...plan.servers];
  for (const { address, port } of endpoints) {
    const error = await tryTcp(address, port);
    if (error !== undefined) {
      throw new UsageError(
        `${listenErrorHint(error, address, port)}; \`isochrone up --port N\` moves the whole world`,
      );
    }
  }
  for (const { address, dnsPort } of plan.servers) {
    if (dnsPort === null) continue;
    const error = (await tryUdp(address, dnsPort)) ?? (await tryTcp(address, dnsPort));
    if (error !== undefined) {
      throw new UsageError(
        `${listenErrorHint(error, address, dnsPort)}; \`isochrone up --dns-port N\` moves the name servers`,
      );
    }
  }
}
