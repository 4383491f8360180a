/** A process that answers over the UDP carrier: each request of 4 bytes, a count, by as many bytes that name the channel. Told the secret by its argument; sends its port. */
import { UdpEndpoint } from "#transport";

const endpoint = await UdpEndpoint.bind("127.0.0.1", 0);
const link = endpoint.open({
  secret: Buffer.from(process.argv[2] ?? "", "hex"),
  role: "server",
  address: "127.0.0.1",
  // It learns where the client is from its first packet.
  port: 9,
  isRemoteValidated: false,
  onEvent: (event) => {
    if (event.kind !== "data") return;
    const bytes = Buffer.from(event.bytes).readUInt32BE(0);
    link?.send(event.channel, Buffer.alloc(bytes, `channel ${event.channel} `));
  },
});
process.send?.({ port: endpoint.port });
