/** In which form a stored content goes out to a client, and why in no better one. */
import {
  type Acceptance,
  type AsStoredWish,
  CODINGS,
  type Coding,
  type DictionaryCoding,
} from "./accept-encoding.ts";
import type { NotCodedReason } from "./codable.ts";
import { isWithDictionary, STREAM_ORDER } from "./levels.ts";

/** The form without any coding, of content that came with one. */
export const PLAIN = "identity";

/**
 * Why content goes out as it is stored. `off`: the property has it so; `peer`: it goes to a server of ours; `not-accepted`: the client takes no coding, or prefers none;
 * `smallest`: it came in a coding that the client takes, and no form is smaller; `useless`: a compressor has made nothing smaller of it;
 * `busy`: as many answers as may be are being compressed; `too-long`: to be compressed as it goes by.
 */
export type AsStoredReason =
  | "off"
  | "peer"
  | NotCodedReason
  | AsStoredWish
  | "not-accepted"
  | "smallest"
  | "useless"
  | "busy"
  | "too-long";

export type FormChoice =
  | { readonly kind: "as-stored"; readonly reason: AsStoredReason }
  /** In a form that is kept; `name` is what it is called among the forms of the content. */
  | {
      readonly kind: "kept";
      readonly name: string;
      readonly coding: Coding | DictionaryCoding | typeof PLAIN;
      readonly bytes: number;
    }
  /** Coded as it goes by. */
  | { readonly kind: "stream"; readonly coding: Coding | DictionaryCoding }
  /** Decoded: the client does not take what it came in. */
  | { readonly kind: "decode"; readonly coding: Coding };

/** A form of a content: its bytes when it is there; on its way; or known to be of no use. */
export type FormState = number | "pending" | "useless" | undefined;

export interface FormContext {
  readonly accepted: Acceptance;
  /** What the content came in. */
  readonly sourceCoding: Coding | typeof PLAIN;
  /** Its length; undefined: not known yet. */
  readonly bytes: number | undefined;
  /** SHA-256 of the client's dictionary, base64; undefined: it has none that is known here. */
  readonly dictionary: string | undefined;
  readonly stateOf: (name: string) => FormState;
  /** Why nothing may be coded as it goes by; undefined: it may. */
  readonly streamRefusal: "busy" | "too-long" | undefined;
}

/** What a form is called: one with a dictionary is one for each dictionary. */
export function formName(coding: Coding | DictionaryCoding, dictionary: string | undefined): string {
  return dictionary !== undefined && isWithDictionary(coding) ? `${coding}:${dictionary}` : coding;
}

/** Codings with a dictionary that the client takes and has one for, its best first. */
export function withDictionary({ accepted, dictionary }: FormContext): readonly DictionaryCoding[] {
  return dictionary === undefined ? [] : accepted.rankedWithDictionary;
}

/** The form for a client: the smallest that is there, else coded as it goes by. */
export function chooseForm(context: FormContext): FormChoice {
  const { accepted, sourceCoding, bytes, dictionary, stateOf } = context;
  const dictionaryCodings = withDictionary(context);
  const kept = smallestKept([...dictionaryCodings, ...accepted.ranked], context);
  if (sourceCoding !== PLAIN && !accepted.acceptable.has(sourceCoding)) {
    if (kept !== undefined) return kept;
    const plain = stateOf(PLAIN);
    return typeof plain === "number"
      ? { kind: "kept", name: PLAIN, coding: PLAIN, bytes: plain }
      : { kind: "decode", coding: sourceCoding };
  }
  if (sourceCoding !== PLAIN)
    return kept !== undefined && kept.bytes < (bytes ?? Number.POSITIVE_INFINITY)
      ? kept
      : asStored("smallest");
  const useful = dictionaryCodings.filter((coding) => stateOf(formName(coding, dictionary)) !== "useless");
  // A form without a dictionary is many times what one with it is.
  if (useful.length > 0 && (kept === undefined || !isWithDictionary(kept.coding)))
    return stream(useful.includes("dcz") ? "dcz" : "dcb", kept, context);
  if (kept !== undefined) return kept;
  // What one compressor could not make smaller the others cannot.
  if (accepted.ranked.some((coding) => stateOf(coding) === "useless")) return asStored("useless");
  const coding = STREAM_ORDER.find((one) => accepted.ranked.includes(one));
  return coding === undefined ? asStored("not-accepted") : stream(coding, undefined, context);
}

export function asStored(reason: AsStoredReason): FormChoice {
  return { kind: "as-stored", reason };
}

/** Coded as it goes by where that may be; else `instead`, or as it is stored. */
function stream(
  coding: Coding | DictionaryCoding,
  instead: FormChoice | undefined,
  { streamRefusal }: FormContext,
): FormChoice {
  return streamRefusal === undefined ? { kind: "stream", coding } : (instead ?? asStored(streamRefusal));
}

type Kept = Extract<FormChoice, { kind: "kept" }>;

/** Of the forms that are there the one with the fewest bytes; of equal ones the first. */
function smallestKept(
  codings: readonly (Coding | DictionaryCoding)[],
  { dictionary, stateOf }: FormContext,
): Kept | undefined {
  let smallest: Kept | undefined;
  for (const coding of codings) {
    const name = formName(coding, dictionary);
    const bytes = stateOf(name);
    if (typeof bytes === "number" && (smallest === undefined || bytes < smallest.bytes))
      smallest = { kind: "kept", name, coding, bytes };
  }
  return smallest;
}

/** A choice as it is told to an operator, with how each coding stands. */
export interface FormExplanation {
  /** What goes out. */
  readonly coding: Coding | DictionaryCoding | typeof PLAIN | "other";
  readonly from: FormChoice["kind"];
  /** Why as it is stored; null: it does not go out so. */
  readonly reason: AsStoredReason | null;
  readonly forms: readonly {
    readonly coding: Coding;
    /** Whether the client prefers it to none. */
    readonly isAccepted: boolean;
    readonly state: "stored" | "kept" | "pending" | "useless" | "not-made";
    /** Null: not known. */
    readonly bytes: number | null;
  }[];
}

export function explainForm(
  choice: FormChoice,
  {
    accepted,
    sourceCoding,
    bytes,
    stateOf,
  }: Omit<FormContext, "sourceCoding"> & {
    readonly sourceCoding: FormContext["sourceCoding"] | "other";
  },
): FormExplanation {
  return {
    coding: choice.kind === "as-stored" ? sourceCoding : choice.kind === "decode" ? PLAIN : choice.coding,
    from: choice.kind,
    reason: choice.kind === "as-stored" ? choice.reason : null,
    forms: CODINGS.map((coding) => {
      const isAccepted = accepted.ranked.includes(coding);
      if (coding === sourceCoding) return { coding, isAccepted, state: "stored", bytes: bytes ?? null };
      const state = stateOf(coding);
      return typeof state === "number"
        ? { coding, isAccepted, state: "kept", bytes: state }
        : { coding, isAccepted, state: state ?? "not-made", bytes: null };
    }),
  };
}
