/** One question of DNS and what an answer says of it: as much as a liveness test needs (RFC 1035, section 4.1). */
import { type DomainName, readName } from "#kit";

const HEADER_BYTES = 12;
const CLASS_IN = 1;
const RECURSION_DESIRED = 0x01;

export function dnsQuestion(id: number, name: DomainName, type: number): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + name.wire.length + 4);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, id);
  bytes[2] = RECURSION_DESIRED;
  view.setUint16(4, 1);
  bytes.set(name.wire, HEADER_BYTES);
  view.setUint16(HEADER_BYTES + name.wire.length, type);
  view.setUint16(HEADER_BYTES + name.wire.length + 2, CLASS_IN);
  return bytes;
}

/**
 * Whether it answers NOERROR with a record of the type; a cut answer says that there are some. Undefined: no answer to this question.
 * Never throws.
 */
export function dnsAnswerIsWell(
  bytes: Uint8Array,
  question: { readonly id: number; readonly name: DomainName; readonly type: number },
): boolean | undefined {
  if (bytes.length < HEADER_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const flags = view.getUint16(2);
  const isResponse = (flags & 0x8000) !== 0;
  if (view.getUint16(0) !== question.id || !isResponse || view.getUint16(4) !== 1) return undefined;
  const asked = readName(bytes, HEADER_BYTES);
  if (!asked.ok || asked.name.text !== question.name.text) return undefined;
  if (asked.next + 4 > bytes.length || view.getUint16(asked.next) !== question.type) return undefined;
  const isCut = (flags & 0x0200) !== 0;
  const rcode = flags & 0x0f;
  if (rcode !== 0) return false;
  if (isCut) return true;
  let at = asked.next + 4;
  for (let left = view.getUint16(6); left > 0; left--) {
    const owner = readName(bytes, at);
    if (!owner.ok || owner.next + 10 > bytes.length) return false;
    if (view.getUint16(owner.next) === question.type) return true;
    at = owner.next + 10 + view.getUint16(owner.next + 8);
  }
  return false;
}
