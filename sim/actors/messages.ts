/** What passes between edges, parents and origins: heads as edge's core sees them, and the truth about the content. */
import type { Fields } from "../../edge/core/headers.ts";
import type { RequestHead } from "../../edge/core/messages.ts";
import type { HopFields } from "../../edge/core/tiers.ts";
import type { Content } from "./catalog.ts";

export interface HttpRequest {
  readonly head: RequestHead;
  readonly hop: HopFields;
}

/** Of a client; to an origin it says nothing. */
export const NO_HOP: HopFields = { tier: undefined, isOwner: false };

/** The worst that a tier on the way did with time: nothing, or served stale under one of the two windows of RFC 5861. */
export type Staleness = "none" | "while-revalidate" | "if-error";

export interface HttpAnswer {
  readonly status: number;
  readonly fields: Fields;
  /** Undefined for errors. Also with 304, where it says what was vouched for. */
  readonly content: Content | undefined;
  /** Of a server of ours (see edge/core/purge-index.ts). */
  readonly generation: number | undefined;
  readonly staleness: Staleness;
}

export function errorAnswer(status: number): HttpAnswer {
  return {
    status,
    fields: [["Cache-Control", "no-store"]],
    content: undefined,
    generation: undefined,
    staleness: "none",
  };
}
