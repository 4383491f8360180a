/** EDNS options of queries and answers: client subnet (RFC 7871), cookie (RFC 7873), server id (RFC 5001), extended error (RFC 8914). */
import type { IpAddress } from "#kit";
import { ednsOptionCodes } from "./constants.ts";
import { checkCookie, type CookieCheck } from "./cookie.ts";
import type { DnsService, ReplyReason } from "./decision.ts";
import { type ClientSubnet, type EcsFault, echoEcs, parseEcs } from "./ecs.ts";
import type { EdnsOption } from "./message.ts";

/** What of a query's options has a meaning here. */
export interface AskedOptions {
  readonly ecs: ClientSubnet | undefined;
  readonly cookie: CookieCheck | undefined;
  readonly isNsidAsked: boolean;
}

export type OptionsRead =
  | { readonly ok: true; readonly options: AskedOptions }
  | { readonly ok: false; readonly reason: "ecs-malformed"; readonly fault: EcsFault }
  | { readonly ok: false; readonly reason: "cookie-malformed"; readonly fault: undefined };

/** Unknown options are ignored (RFC 6891 section 6.1.2). Never throws. */
export function readAskedOptions(
  all: readonly EdnsOption[],
  client: IpAddress,
  service: DnsService,
  epochSeconds: number,
): OptionsRead {
  let ecs: ClientSubnet | undefined;
  let cookie: CookieCheck | undefined;
  let isNsidAsked = false;
  for (const { code, data } of all) {
    if (code === ednsOptionCodes.ECS) {
      const parsed = parseEcs(data, "query");
      if (!parsed.ok) return { ok: false, reason: "ecs-malformed", fault: parsed.fault };
      // Two client subnets have no common meaning and only one could be echoed.
      if (ecs !== undefined) return { ok: false, reason: "ecs-malformed", fault: "ecs-duplicate" };
      ecs = parsed.ecs;
    } else if (code === ednsOptionCodes.NSID) isNsidAsked = true;
    // RFC 7873 section 5.2: of several cookies the first one counts.
    else if (code === ednsOptionCodes.COOKIE && service.cookieSecret !== undefined && cookie === undefined) {
      cookie = checkCookie(data, client, service.cookieSecret, epochSeconds);
      if (cookie.state === "malformed") return { ok: false, reason: "cookie-malformed", fault: undefined };
    }
  }
  return { ok: true, options: { ecs, cookie, isNsidAsked } };
}

/** RFC 8914 section 4, by our reasons; a resolver's operator reads there why. */
const extendedErrors: Partial<Record<ReplyReason, number>> = {
  "no-documents": 14, // Not Ready
  "standing-by": 14,
  "zone-transfer": 18, // Prohibited
  "outside-zones": 20, // Not Authoritative
  "zone-expired": 24, // Invalid Data
  class: 21, // Not Supported
  "meta-type": 30, // Invalid Query Type (RFC 9824 section 3.5)
};

export function replyOptions(
  asked: AskedOptions | undefined,
  scopePrefixLength: number | undefined,
  reason: ReplyReason,
  service: DnsService,
): EdnsOption[] {
  const options: EdnsOption[] = [];
  if (asked?.ecs !== undefined)
    options.push({ code: ednsOptionCodes.ECS, data: echoEcs(asked.ecs, scopePrefixLength ?? 0) });
  if (asked?.cookie?.answer !== undefined)
    options.push({ code: ednsOptionCodes.COOKIE, data: asked.cookie.answer });
  if (asked?.isNsidAsked === true && service.nsid !== undefined)
    options.push({ code: ednsOptionCodes.NSID, data: service.nsid });
  const error = extendedErrors[reason];
  if (error !== undefined)
    options.push({ code: ednsOptionCodes.EDE, data: Uint8Array.of(error >> 8, error & 0xff) });
  return options;
}
