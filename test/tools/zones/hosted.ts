/** Zones from text, and a name server of them without sockets. */
import { readZoneFile, zoneDataOf, type ZoneData } from "#kit";
import type { DnsContext, DnsDecision } from "../../../mapping/core/dns/decision.ts";
import { nameFromText } from "../../../mapping/core/dns/name.ts";
import { respond } from "../../../mapping/core/dns/respond.ts";
import { readMessage, writeMessage } from "../../../mapping/core/dns/wire.ts";
import type { DnsMessage } from "../../../mapping/core/dns/message.ts";
import { HostedZone } from "../../../mapping/core/zone/hosted-zone.ts";
import { nameFromLabels } from "#kit";
import { ZoneTable } from "../../../mapping/core/dns/zone-table.ts";
import { context, resolver, topology, properties } from "../../unit/mapping-dns/fixture.ts";

/** Throws with what was wrong. */
export function zoneFrom(text: string, origin?: string): ZoneData {
  const { records, origin: apex } = readZoneFile(text, {
    origin: origin === undefined ? undefined : nameFromText(origin),
  });
  const read = zoneDataOf(apex, records);
  if (!read.ok) throw new Error(JSON.stringify(read.problem));
  return read.zone;
}

/** The fixture's deployment with these zones beside its own. */
export function hostedContext(zones: readonly ZoneData[]): DnsContext {
  const hostedZones = zones.map((zone) => HostedZone.of(zone));
  return { ...context(), zones: new ZoneTable({ topology, properties, hostedZones, serial: 7 }) };
}

/** A query in octets; labels of the name may hold any octets. */
export function queryFor(labels: readonly string[], type: number, id = 0x1234): Uint8Array {
  const name = nameFromLabels(labels.map((label) => Uint8Array.from(label, (char) => char.charCodeAt(0))));
  if (name === undefined) throw new Error(`no name: ${labels.join(".")}`);
  const bytes = writeMessage({
    header: {
      id,
      isResponse: false,
      opcode: 0,
      isAuthoritative: false,
      isTruncated: false,
      isRecursionDesired: false,
      isRecursionAvailable: false,
      isAuthenticData: false,
      isCheckingDisabled: false,
      rcode: 0,
    },
    questions: [{ name, type, class: 1 }],
    answers: [],
    authorities: [],
    additionals: [],
    edns: { udpPayloadBytes: 1_232, version: 0, isDnssecOk: false, options: [] },
  });
  return bytes as Uint8Array;
}

export function askHosted(
  state: DnsContext,
  query: Uint8Array,
  transport: "udp" | "tcp" = "udp",
): { readonly decision: Extract<DnsDecision, { action: "reply" }>; readonly message: DnsMessage } {
  const decision = respond({ bytes: query, transport, resolverAddress: resolver }, state);
  if (decision.action !== "reply") throw new Error(decision.reason);
  const read = readMessage(decision.bytes);
  if (!read.ok) throw new Error(read.fault);
  return { decision, message: read.message };
}
