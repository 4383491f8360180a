/**
 * Names that are asked for once: a page fetches something under one, so that a name server and an edge see the same name, and who
 * knows both sides knows that the client asks through the resolver. The label says when it ends and for which network it was made;
 * both are sealed, so that nobody makes labels but us, and no client uses one that another network was given.
 */

/** 32 octets or so by a key that every server of the deployment has; which texts it has seen must not help anybody to foretell another one. */
export type LabelMac = (text: string) => Uint8Array;

const PREFIX = "once-";
/** Digits of base 16: names are asked for in any case (RFC 4343), and some resolvers mix it. */
const SECONDS_DIGITS = 8;
const NONCE_DIGITS = 12;
const NETWORK_DIGITS = 12;
const SEAL_DIGITS = 20;
const LABEL = new RegExp(
  `^${PREFIX}([0-9a-f]{${SECONDS_DIGITS}})([0-9a-f]{${NONCE_DIGITS}})([0-9a-f]{${NETWORK_DIGITS}})([0-9a-f]{${SEAL_DIGITS}})$`,
);
export const oneTimeNonceBytes = NONCE_DIGITS / 2;

/** What a label that is one of ours says. */
export interface OneTimeLabel {
  /** What both sides tell of it: names this label and gives nothing away of the network. 20 characters. */
  readonly id: string;
  readonly expiresAtSeconds: number;
  /** Whether it was made for the network. */
  readonly isOf: (network: string) => boolean;
}

/**
 * @param network what it is made for, in the form in which it is asked for later
 * @param nonce {@link oneTimeNonceBytes} octets that nobody can guess
 * @returns 57 characters: a label of a domain name (RFC 1035 section 2.3.4 allows 63)
 */
export function makeOneTimeLabel(
  mac: LabelMac,
  network: string,
  expiresAtSeconds: number,
  nonce: Uint8Array,
): string {
  const seconds = (expiresAtSeconds >>> 0).toString(16).padStart(SECONDS_DIGITS, "0");
  const id = seconds + hex(nonce, NONCE_DIGITS);
  const of = networkDigits(mac, id, network);
  return PREFIX + id + of + sealDigits(mac, id + of);
}

/** Whether it has the form of one, whoever made it. */
export function isOneTimeLabel(label: string): boolean {
  return label.startsWith(PREFIX) && LABEL.test(label);
}

/** Undefined: it is none of ours, or has ended. @param label in lower case */
export function readOneTimeLabel(
  mac: LabelMac,
  label: string,
  epochSeconds: number,
): OneTimeLabel | undefined {
  const [, seconds, nonce, of, seal] = LABEL.exec(label) ?? [];
  if (seconds === undefined || nonce === undefined || of === undefined || seal === undefined)
    return undefined;
  const expiresAtSeconds = Number.parseInt(seconds, 16);
  if (epochSeconds > expiresAtSeconds) return undefined;
  const id = seconds + nonce;
  if (!isEqual(seal, sealDigits(mac, id + of))) return undefined;
  return { id, expiresAtSeconds, isOf: (network) => isEqual(of, networkDigits(mac, id, network)) };
}

function networkDigits(mac: LabelMac, id: string, network: string): string {
  return hex(mac(`network ${id} ${network}`), NETWORK_DIGITS);
}

function sealDigits(mac: LabelMac, digits: string): string {
  return hex(mac(`label ${digits}`), SEAL_DIGITS);
}

function hex(bytes: Uint8Array, digits: number): string {
  let text = "";
  for (const octet of bytes.subarray(0, digits / 2)) text += octet.toString(16).padStart(2, "0");
  return text;
}

/** Of equal length; in a time that does not tell where they differ. */
function isEqual(a: string, b: string): boolean {
  let difference = a.length ^ b.length;
  for (let at = 0; at < a.length; at++) difference |= a.charCodeAt(at) ^ b.charCodeAt(at);
  return difference === 0;
}
