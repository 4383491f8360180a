/** One stream of a session: what is to be sent, what may come, and how far its message has come. */
import type { MonotonicMs } from "#kit";
import { parseContentLength } from "./field-rules.ts";
import type { Incoming, ReceiveWindows } from "./incoming.ts";
import type { Outgoing } from "./outgoing.ts";
import type { FlatFields, StreamReason, Urgency } from "./words.ts";

export interface Stream extends Outgoing, Incoming {
  /** The answer to HEAD has no content, whatever length it states (RFC 9110, section 9.3.2). */
  readonly isForHead: boolean;
  /** The head that content follows has been there, from the other side and from us. */
  hasHead: boolean;
  hasSentHead: boolean;
  /** Content that has to come still; undefined: its length was not stated. */
  contentLeft: number | undefined;
}

export function beginStream(
  id: number,
  urgency: Urgency,
  isForHead: boolean,
  sendCredit: number,
  windows: ReceiveWindows,
  now: MonotonicMs,
): Stream {
  return {
    id,
    urgency,
    isForHead,
    hasHead: false,
    hasSentHead: false,
    contentLeft: undefined,
    sendCredit,
    sentBytes: 0,
    queue: undefined,
    queueAt: 0,
    queuedBytes: 0,
    standsIn: -1,
    isEndQueued: false,
    hasEnded: false,
    lastFrame: undefined,
    receiveCredit: windows.windowBytes,
    unreadBytes: 0,
    owedBytes: 0,
    windowBytes: windows.windowBytes,
    grantedAt: now,
    hasRemoteEnded: false,
  };
}

/** The length that a head states: undefined: none. A string: it states none that can be, or several. */
export function contentLengthOf(fields: FlatFields): number | undefined | StreamReason {
  let length: number | undefined;
  for (let index = 0; index < fields.length; index += 2) {
    if (fields[index] !== "content-length") continue;
    const stated = parseContentLength(fields[index + 1] as string);
    if (stated === undefined || length !== undefined) return "content-length";
    length = stated;
  }
  return length;
}

/** Takes a head's word for its content. A reason: it cannot be true. */
export function expectContent(
  stream: Stream,
  fields: FlatFields,
  isEnd: boolean,
  hasNone: boolean,
): StreamReason | undefined {
  const length = contentLengthOf(fields);
  if (typeof length === "string") return length;
  stream.hasHead = true;
  stream.contentLeft = hasNone ? 0 : length;
  return isEnd && !hasNone && length !== undefined && length > 0 ? "content-length" : undefined;
}

/** RFC 9110, sections 15.3.5 and 15.4.5. */
export const isWithoutContent = (status: number): boolean => status === 204 || status === 304;
