/** RDATA out of a message, where names may be compressed, to octets that stand by themselves (RFC 3597 section 4). */
import { readName } from "./name.ts";
import { fieldsOfType } from "./record-types.ts";

const fixedLengths: Readonly<Record<string, number>> = { u8: 1, u16: 2, u32: 4, time: 4, ipv4: 4, ipv6: 16 };

/**
 * @returns RDATA with its names whole; undefined when `bytes` from `at` to `end` are too short for the type or a name in them leads
 *   nowhere. Types without names, and those known by number only, come as they are. Never throws.
 */
export function expandRdata(
  type: number,
  bytes: Uint8Array,
  at: number,
  end: number,
): Uint8Array | undefined {
  const fields = fieldsOfType(type) ?? [];
  const lastName = fields.lastIndexOf("name");
  if (lastName < 0) return bytes.slice(at, end);
  const parts: number[] = [];
  for (const field of fields.slice(0, lastName + 1)) {
    if (field === "name") {
      const read = readName(bytes, at);
      if (!read.ok || read.next > end) return undefined;
      parts.push(...read.name.wire);
      at = read.next;
      continue;
    }
    const next = at + (fixedLengths[field] ?? 1 + (bytes[at] ?? 0));
    if (next > end) return undefined;
    parts.push(...bytes.subarray(at, next));
    at = next;
  }
  parts.push(...bytes.subarray(at, end));
  return Uint8Array.from(parts);
}
