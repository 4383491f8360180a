/** A name server of ours that hands zones out and takes them, and what BIND and Knot have to say to do so with it: zone moved.test, one key. */
import { createLogger } from "#kit/io";
import { DnsCounters, DnsServer, type DnsState, hmac, tsigKeysOf } from "#mapping";

export const SECRET = Buffer.from("0123456789abcdef0123456789abcdef").toString("base64");
export const keys = tsigKeysOf([
  { name: "xfer.example", algorithm: "hmac-sha256", secret: SECRET },
  { name: "other.example", algorithm: "hmac-sha256", secret: SECRET },
]);
export const logger = createLogger({ role: "nameserver", id: "test" }, { level: "silent" });

type ListenOptions = Parameters<typeof DnsServer.listen>[0];

/** @param state asked for each query: it may be replaced */
export async function listenForTransfers(
  state: () => DnsState,
  onNotify?: ListenOptions["onNotify"],
): Promise<DnsServer> {
  return await DnsServer.listen({
    address: "127.0.0.1",
    port: 0,
    context: () => state().context(),
    counters: new DnsCounters(),
    logger,
    service: { tsig: { keys, hmac } },
    ...(onNotify !== undefined && { onNotify }),
  });
}

/** @param zone what stands in named.conf for the zone */
export function namedSections(zone: string): string {
  return `key "xfer.example" { algorithm hmac-sha256; secret "${SECRET}"; };\nzone "moved.test" { ${zone} };`;
}

/** Key, us as `us`, and what we may do to it as `them`. */
export function knotSections(ourPort: number, action: "transfer" | "notify"): string {
  return `key:
  - id: xfer.example
    algorithm: hmac-sha256
    secret: ${SECRET}
remote:
  - id: us
    address: 127.0.0.1@${ourPort}
    key: xfer.example
acl:
  - id: them
    key: xfer.example
    action: ${action}
`;
}
