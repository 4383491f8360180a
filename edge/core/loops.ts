/** Who a message has passed: CDN-Loop (RFC 8586) and Via (RFC 9110, section 7.6.3). */
import { type Fields, fieldLines, fieldValue, listMembers } from "./headers.ts";

/** Members of CDN-Loop beyond which a request is refused: no honest chain of tiers and CDNs is that long. */
export const LOOP_MEMBERS_MAX = 20;

/** Times that this server's own name may stand in CDN-Loop already: none, each server sees a request once. */
export function isLoop(fields: Fields, cdnId: string): boolean {
  const lines = fieldLines(fields, "cdn-loop");
  if (lines.length === 0) return false;
  const members = lines.flatMap(listMembers);
  return (
    members.length >= LOOP_MEMBERS_MAX ||
    members.some((member) => member.split(";", 1)[0]?.trim().toLowerCase() === cdnId)
  );
}

/** CDN-Loop for the request to the next hop (RFC 8586, section 2): our id appended; never changed or removed. */
export function appendLoop(fields: Fields, cdnId: string): string {
  const present = fieldValue(fields, "cdn-loop");
  return present === undefined || present.trim() === "" ? cdnId : `${present}, ${cdnId}`;
}

/** Via with this server as the last recipient; `receivedVersion` is the protocol of the message received, "1.1". */
export function appendVia(fields: Fields, receivedVersion: string, pseudonym: string): string {
  const present = fieldValue(fields, "via");
  const own = `${receivedVersion} ${pseudonym}`;
  return present === undefined || present.trim() === "" ? own : `${present}, ${own}`;
}
