/** What the parent of a zone has for it, as a resolver sees it: one DS query over UDP, over TCP where the answer is cut. */
import { randomInt } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect } from "node:net";
import { parseAddress } from "#kit";
import { dnsTypes, rcodes, rcodeText } from "../mapping/core/dns/constants.ts";
import { type DnsMessage, queryMessage } from "../mapping/core/dns/message.ts";
import { nameFromText } from "../mapping/core/dns/name.ts";
import { readMessage, writeMessage } from "../mapping/core/dns/wire.ts";
import { UsageError } from "./usage.ts";

const TIMEOUT_MS = 5_000;
const UDP_PAYLOAD_BYTES = 1_232;
const DNS_PORT = 53;

/**
 * DS records as `dsTextOf` writes them; empty when there are none. Throws {@link UsageError} when the resolver does not say.
 *
 * @param resolver ADDRESS or ADDRESS:PORT, [ADDRESS]:PORT for IPv6
 */
export async function askDs(resolver: string, zone: string): Promise<readonly string[]> {
  const at = resolverOf(resolver);
  const id = randomInt(65_536);
  const query = dsQuery(zone, id);
  const say = (why: string): UsageError =>
    new UsageError(`Cannot ask ${resolver} for the DS of "${zone}": ${why}`, 1);
  let message: DnsMessage;
  try {
    message = answerOf(await overUdp(query, at), id);
    if (message.header.isTruncated) message = answerOf(await overTcp(query, at), id);
  } catch (error) {
    throw say(error instanceof Error ? error.message : String(error));
  }
  const { rcode } = message.header;
  if (rcode !== rcodes.NOERROR) throw say(`it answers ${rcodeText(rcode)}`);
  return message.answers.flatMap(({ type, data }) => {
    if (type !== dnsTypes.DS || data.kind !== "opaque" || data.bytes.length < 5) return [];
    const bytes = Buffer.from(data.bytes);
    const digest = bytes.subarray(4).toString("hex").toUpperCase();
    return [`${zone}. IN DS ${bytes.readUInt16BE(0)} ${bytes[2]} ${bytes[3]} ${digest}`];
  });
}

interface At {
  readonly host: string;
  readonly port: number;
}

function resolverOf(text: string): At {
  const [, host = text, port] =
    /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text)?.filter((one) => one !== undefined) ?? [];
  const number = port === undefined ? DNS_PORT : Number(port);
  if (parseAddress(host) === undefined || number < 1 || number > 65_535)
    throw new UsageError(
      `--check: got ${JSON.stringify(text)}, expected ADDRESS or ADDRESS:PORT of a resolver`,
    );
  return { host, port: number };
}

function dsQuery(zone: string, id: number): Uint8Array {
  const name = nameFromText(zone);
  const edns = { udpPayloadBytes: UDP_PAYLOAD_BYTES, version: 0, isDnssecOk: false, options: [] };
  const bytes =
    name && writeMessage(queryMessage({ id, name, type: dnsTypes.DS, isRecursionDesired: true, edns }));
  if (bytes === undefined) throw new UsageError(`"${zone}" is no domain name`);
  return bytes;
}

function answerOf(bytes: Uint8Array, id: number): DnsMessage {
  const read = readMessage(bytes);
  if (!read.ok) throw new Error(`what it answers cannot be read (${read.fault})`);
  if (read.message.header.id !== id || !read.message.header.isResponse)
    throw new Error("what it answers is not for us");
  return read.message;
}

async function overUdp(query: Uint8Array, { host, port }: At): Promise<Uint8Array> {
  const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
  try {
    const received = once(socket, "message", { signal: AbortSignal.timeout(TIMEOUT_MS) });
    socket.connect(port, host, () => socket.send(query));
    const [bytes] = (await received) as [Buffer];
    return bytes;
  } finally {
    socket.close();
  }
}

async function overTcp(query: Uint8Array, { host, port }: At): Promise<Uint8Array> {
  const socket = connect({ host, port, signal: AbortSignal.timeout(TIMEOUT_MS) });
  try {
    socket.write(Buffer.concat([Buffer.from([query.length >> 8, query.length & 0xff]), query]));
    let got = Buffer.alloc(0);
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      got = Buffer.concat([got, chunk]);
      if (got.length >= 2 && got.length >= 2 + got.readUInt16BE(0))
        return got.subarray(2, 2 + got.readUInt16BE(0));
    }
    throw new Error("it closes the connection");
  } finally {
    socket.destroy();
  }
}
