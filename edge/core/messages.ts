/**
 * Messages as the core sees them: plain data, no sockets. What reads bytes from the network makes these, so that the
 * same decisions serve any parser (RFC 9110, section 6).
 */
import type { EpochMs } from "#kit";
import type { Fields } from "./headers.ts";

/** The control data and header section of a request, checked and in its canonical form. */
export interface RequestHead {
  /** Case-sensitive (RFC 9110, section 9.1). */
  readonly method: string;
  readonly scheme: "http" | "https";
  /** Authority in lower case; the port stands there only when it is not the scheme's default. */
  readonly host: string;
  /** Origin form: path and query, starts with "/" (RFC 9112, section 3.2.1); "*" only with OPTIONS. */
  readonly target: string;
  readonly fields: Fields;
}

/** The status and header section of a final response. */
export interface ResponseHead {
  readonly status: number;
  readonly fields: Fields;
}

/** When a response was asked for and when its head arrived (RFC 9111, section 4.2.3: request_time, response_time). */
export interface ExchangeTimes {
  readonly requestTime: EpochMs;
  readonly responseTime: EpochMs;
}

/**
 * Content that is kept in slices, each under a key of its own (core/slices.ts): the stored response is then their head and
 * has no content itself.
 */
export interface SlicedContent {
  /** Complete length of the representation, bytes. */
  readonly totalBytes: number;
  /** Length of each slice but the last, bytes: as it was when the head was stored, whatever the setting is now. */
  readonly sliceBytes: number;
  /**
   * The strong validator that ties the slices together (RFC 9110, sections 8.8.1 and 15.3.7.3): an entity tag with its quotes,
   * or a Last-Modified date as it was received.
   */
  readonly validator: string;
}

/** One part of a representation, of which nothing else is kept (core/parts.ts): the stored content is that part. */
export interface PartialContent {
  /** First and last byte of the part, inclusive. */
  readonly first: number;
  readonly last: number;
  /** Complete length of the representation, bytes. */
  readonly totalBytes: number;
}

/** A stored response without its content (RFC 9111, section 3). Immutable: freshening makes a new one. */
export interface StoredHead extends ResponseHead, ExchangeTimes {
  /** Field names that Vary nominates, lower case, sorted, unique (RFC 9111, section 4.1). */
  readonly nominatedFields: readonly string[];
  /** The original request's normalised values of them, in the same order; null: the field was absent. */
  readonly nominatedValues: readonly (string | null)[];
  /** Number of the newest purge that was applied before this response was generated; see purge-index.ts. */
  readonly generation: number;
  /** From Surrogate-Key and Cache-Tag. */
  readonly tags: readonly string[];
  /** Set by an unsafe request to the same URI (RFC 9111, section 4.4): must be validated before reuse. */
  readonly isInvalidated: boolean;
  /** Null: the content is with the stored response. */
  readonly sliced: SlicedContent | null;
  /** Null: the content is whole. Never beside `sliced`. */
  readonly part: PartialContent | null;
}
