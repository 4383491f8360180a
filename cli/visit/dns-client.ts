/** A stub resolver that says for whom it asks (RFC 7871): one UDP query, one answer, a deadline. */
import { createSocket } from "node:dgram";
import { addressToBytes, formatAddress, type IpPrefix, maskAddress } from "#kit";
import { dnsTypes, ednsOptionCodes, rcodeText } from "../../mapping/core/dns/constants.ts";
import { type ClientSubnet, ecsFamilies, encodeEcs } from "../../mapping/core/dns/ecs.ts";
import { queryMessage } from "../../mapping/core/dns/message.ts";
import { nameFromText } from "../../mapping/core/dns/name.ts";
import { readMessage, writeMessage } from "../../mapping/core/dns/wire.ts";

export interface ResolvedAddresses {
  readonly addresses: readonly string[];
  readonly ttlSeconds: number;
}

/** IPv4 addresses of `host` for clients in `subnet`. Rejects with what went wrong, in one sentence. */
export function resolveFor(
  server: { readonly address: string; readonly port: number },
  host: string,
  subnet: IpPrefix,
  id: number,
  timeoutMs = 2_000,
): Promise<ResolvedAddresses> {
  const name = nameFromText(host);
  if (name === undefined) return Promise.reject(new Error(`${JSON.stringify(host)} is no host name`));
  const options = [{ code: ednsOptionCodes.ECS, data: encodeEcs(ecsOf(subnet)) }];
  const edns = { udpPayloadBytes: 1_232, version: 0, isDnssecOk: false, options };
  const query = writeMessage(queryMessage({ id, name, type: dnsTypes.A, isRecursionDesired: false, edns }));
  if (query === undefined) return Promise.reject(new Error(`Cannot write a query for ${host}`));
  return new Promise((resolve, reject) => {
    const socket = createSocket("udp4");
    const finish = (error: Error | undefined, result?: ResolvedAddresses) => {
      clearTimeout(timer);
      socket.close();
      if (result === undefined) reject(error ?? new Error("no answer"));
      else resolve(result);
    };
    const at = `${server.address}:${server.port}`;
    const timer = setTimeout(
      () => finish(new Error(`Name server ${at} did not answer for ${host} in ${timeoutMs} ms`)),
      timeoutMs,
    );
    socket.on("error", (error) => finish(error));
    socket.on("message", (bytes) => {
      const read = readMessage(bytes);
      if (!read.ok || read.message.header.id !== id) return;
      const { header, answers } = read.message;
      const addresses = answers.flatMap((record) =>
        record.data.kind === "address" ? [formatAddress(record.data.address)] : [],
      );
      if (header.rcode !== 0 || addresses.length === 0) {
        finish(new Error(`Name server ${at} has no address for ${host}: ${rcodeText(header.rcode)}`));
        return;
      }
      finish(undefined, { addresses, ttlSeconds: Math.min(...answers.map((record) => record.ttlSeconds)) });
    });
    socket.connect(server.port, server.address, () => socket.send(query));
  });
}

/** As a resolver would tell it: no more than 24 or 56 bits of an address (RFC 7871 section 11.1). */
function ecsOf({ address, prefixLength }: IpPrefix): ClientSubnet {
  const sourcePrefixLength = Math.min(prefixLength, address.family === 4 ? 24 : 56);
  return {
    family: address.family === 4 ? ecsFamilies.ipv4 : ecsFamilies.ipv6,
    sourcePrefixLength,
    scopePrefixLength: 0,
    address: addressToBytes(maskAddress(address, sourcePrefixLength)).subarray(
      0,
      Math.ceil(sourcePrefixLength / 8),
    ),
  };
}
