/** Records of a message as lines that can be compared: names in lower case, RDATA as a zone file has it. */
import { nameToText, rdataText, typeText } from "#kit";
import type { DnsRecord } from "../../../mapping/core/dns/message.ts";
import { writeMessage } from "../../../mapping/core/dns/wire.ts";

export function recordLine(record: DnsRecord): string {
  return `${nameToText(record.name)} ${record.ttlSeconds} ${typeText(record.type)} ${dataText(record)}`.toLowerCase();
}

function dataText({ type, data }: DnsRecord): string {
  switch (data.kind) {
    case "name":
      return nameToText(data.name);
    case "soa": {
      const { soa } = data;
      return [
        nameToText(soa.primaryName),
        nameToText(soa.hostmasterName),
        soa.serial,
        soa.refreshSeconds,
        soa.retrySeconds,
        soa.expireSeconds,
        soa.minimumSeconds,
      ].join(" ");
    }
    case "opaque":
      return rdataText(type, data.bytes) ?? Buffer.from(data.bytes).toString("hex");
    case "address":
    case "strings":
      return rdataText(type, octetsOf({ type, data })) ?? "";
  }
}

/** RDATA of a record that holds no name: what the writer makes of it. */
function octetsOf({ type, data }: Pick<DnsRecord, "type" | "data">): Uint8Array {
  if (data.kind === "address" || data.kind === "strings") {
    const bytes = writeMessage({
      header: {
        id: 0,
        isResponse: true,
        opcode: 0,
        isAuthoritative: false,
        isTruncated: false,
        isRecursionDesired: false,
        isRecursionAvailable: false,
        isAuthenticData: false,
        isCheckingDisabled: false,
        rcode: 0,
      },
      questions: [],
      answers: [{ name: { wire: Uint8Array.of(0), text: "" }, type, class: 1, ttlSeconds: 0, data }],
      authorities: [],
      additionals: [],
      edns: undefined,
    }) as Uint8Array;
    return bytes.slice(12 + 11);
  }
  return new Uint8Array();
}

/** Every record of a message that a peer has sent; MX, SRV and the like compress their names there. */
export function linesOf(records: readonly DnsRecord[]): readonly string[] {
  return records.map(recordLine).toSorted((a, b) => (a < b ? -1 : 1));
}
