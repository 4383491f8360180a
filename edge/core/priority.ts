/** What a client says of how urgent its request is (RFC 9218). */
import { fieldLines, type Fields } from "./headers.ts";

/**
 * Whether a request asks for the lowest urgency, 7, which is for background tasks (RFC 9218, section 4.1). The field is a
 * dictionary (RFC 9651, section 3.2), of which the last member of a name counts; anything else in it is ignored.
 */
export function isForBackground(fields: Fields): boolean {
  const members = fieldLines(fields, "priority").join(",").split(",");
  const urgency = members.findLast((member) => /^\s*u\s*(?:=|;|$)/.test(member));
  return urgency !== undefined && /^\s*u=7\s*(?:;|$)/.test(urgency);
}
