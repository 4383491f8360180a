/** What dnsperf sends: queries as bytes (its `-B` form: each with the two-octet length of TCP), so that each has a client subnet of its own. */
import { Random } from "#kit";
import type { Deployment, DrawnNetwork } from "./deployment.ts";

export interface QueryShape {
  /** Share of AAAA queries, which get "no data" from every server here; the rest are A. */
  readonly aaaaRatio: number;
  readonly hasEcs: boolean;
  /** Names that policies decide, in place of those of the map. */
  readonly isOfPolicies?: boolean;
}

export function namesAsked({ hostnames, policies }: Deployment, shape: QueryShape): readonly string[] {
  return shape.isOfPolicies === true ? policies.flatMap(({ names }) => names) : hostnames;
}

const TYPES = { A: 1, AAAA: 28 } as const;
const EDNS_PAYLOAD_BYTES = 1232;

export function queryBytes(options: {
  readonly id: number;
  readonly name: string;
  readonly type: number;
  readonly ecs: DrawnNetwork | undefined;
  readonly hasEdns: boolean;
}): Buffer {
  const { id, name, type, ecs } = options;
  const labels = name.split(".").map((label) => Buffer.from(`${String.fromCharCode(label.length)}${label}`));
  const question = Buffer.concat([...labels, Buffer.from([0, type >> 8, type & 255, 0, 1])]);
  const header = Buffer.from([id >> 8, id & 255, 0, 0, 0, 1, 0, 0, 0, 0, 0, options.hasEdns ? 1 : 0]);
  if (!options.hasEdns) return Buffer.concat([header, question]);
  // RFC 7871 section 11.1: resolvers tell 24 bits of IPv4 and 56 of IPv6.
  const option =
    ecs === undefined
      ? []
      : [
          0,
          8,
          0,
          4 + ecs.ecsOctets.length,
          0,
          ecs.family === 4 ? 1 : 2,
          ecs.ecsOctets.length * 8,
          0,
          ...ecs.ecsOctets,
        ];
  const opt = [
    0,
    0,
    41,
    EDNS_PAYLOAD_BYTES >> 8,
    EDNS_PAYLOAD_BYTES & 255,
    0,
    0,
    0,
    0,
    0,
    option.length,
    ...option,
  ];
  return Buffer.concat([header, question, Buffer.from(opt)]);
}

/** A file's worth of queries; the same for every server. */
export function queryFile(deployment: Deployment, shape: QueryShape, count: number, seed: number): Buffer {
  const random = new Random(seed);
  const { networks } = deployment;
  const names = namesAsked(deployment, shape);
  const parts: Buffer[] = [];
  for (let index = 0; index < count; index++) {
    const bytes = queryBytes({
      id: index & 0xffff,
      name: random.pick(names),
      type: random.chance(shape.aaaaRatio) ? TYPES.AAAA : TYPES.A,
      ecs: shape.hasEcs ? random.pick(networks) : undefined,
      hasEdns: shape.hasEcs,
    });
    parts.push(Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes);
  }
  return Buffer.concat(parts);
}

/** IPv4 addresses in the answer section of a reply to one of our queries; undefined when it is no such reply. */
export function addressesOf(query: Buffer, reply: Buffer): string[] | undefined {
  if (reply.length < 12 || reply.readUInt16BE(0) !== query.readUInt16BE(0) || (reply[3] ?? 0) % 16 !== 0)
    return undefined;
  let at = 12;
  const skipName = (): void => {
    for (let length = reply[at]; length !== undefined && length !== 0; length = reply[at]) {
      if (length >= 0xc0) {
        at += 2;
        return;
      }
      at += 1 + length;
    }
    at += 1;
  };
  skipName();
  at += 4;
  const addresses: string[] = [];
  for (let left = reply.readUInt16BE(6); left > 0; left--) {
    skipName();
    if (at + 10 > reply.length) return undefined;
    const type = reply.readUInt16BE(at);
    const length = reply.readUInt16BE(at + 8);
    at += 10;
    if (type === TYPES.A) addresses.push([...reply.subarray(at, at + 4)].join("."));
    at += length;
  }
  return addresses;
}
