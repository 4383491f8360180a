import { type CachingPolicy, type EpochMs, epochMs } from "#kit";
import type { Fields } from "../../../edge/core/headers.ts";
import type { RequestHead, ResponseHead, StoredHead } from "../../../edge/core/messages.ts";
import { PLAIN_POLICY, type RequestPolicy } from "../../../edge/core/policy.ts";
import { nominatedFields, nominatedValues } from "../../../edge/core/vary.ts";

/** 2026-01-01T00:00:00Z. */
export const T0: EpochMs = epochMs(1_767_225_600_000);
export const at = (seconds: number): EpochMs => epochMs(T0 + seconds * 1_000);

export const get = (fields: Fields = [], more: Partial<RequestHead> = {}): RequestHead => ({
  method: "GET",
  scheme: "http",
  host: "a.example",
  target: "/x",
  fields,
  ...more,
});

export const ok = (fields: Fields, status = 200): ResponseHead => ({ status, fields });

export const policy = (more: Partial<RequestPolicy & CachingPolicy> = {}): RequestPolicy & CachingPolicy => ({
  ...PLAIN_POLICY,
  ...more,
});

/** A response as it would be stored at T0. */
export function stored(
  fields: Fields,
  more: Partial<StoredHead> = {},
  requestFields: Fields = [],
): StoredHead {
  const names = nominatedFields(fields);
  const nominated = names === "any" ? [] : names;
  return {
    status: 200,
    fields,
    requestTime: T0,
    responseTime: T0,
    nominatedFields: nominated,
    nominatedValues: nominatedValues(requestFields, nominated),
    generation: 0,
    tags: [],
    isInvalidated: false,
    sliced: null,
    part: null,
    ...more,
  };
}
