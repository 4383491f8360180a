/**
 * Domain names on the wire (RFC 1035 sections 3.1 and 4.1.4). A name keeps its octets as they came, so that a reply repeats
 * the letter case of the question (0x20), and carries the lower-case text by which it is looked up (RFC 4343).
 */

/** RFC 1035 section 2.3.4: a name on the wire, with its length octets and the root label. */
export const nameBytesMax = 255;
/** RFC 1035 section 2.3.4. */
export const labelBytesMax = 63;

export interface DomainName {
  /** Uncompressed, case kept, with the root label at its end: 1 to 255 octets. */
  readonly wire: Uint8Array;
  /**
   * Lower-case text without trailing dot; "" is the root. Octets other than letters, digits, hyphen and underscore are
   * written `\DDD` (RFC 4343 section 2.1), so no odd name can look like a host name.
   */
  readonly text: string;
}

/** Why a name could not be read. */
export const nameFaults = ["name-truncated", "name-label-type", "name-too-long", "name-pointer"] as const;
export type NameFault = (typeof nameFaults)[number];

export type NameRead =
  | { readonly ok: true; readonly name: DomainName; readonly next: number }
  | { readonly ok: false; readonly fault: NameFault; readonly at: number };

/** The root: the owner of every OPT record (RFC 6891 section 6.1.2). */
export const rootName: DomainName = { wire: Uint8Array.of(0), text: "" };

/** A name has at most 127 labels, so a chain of more pointers than that does no honest work. */
const POINTERS_MAX = 127;

/** Where a name is put together; only {@link readName} uses it, and never across a call. */
const scratch = new Uint8Array(nameBytesMax);

/**
 * Reads the name at `offset`. A pointer must lead before the place where the present run of labels began and not into the
 * header, so every jump goes strictly backwards and reading ends (RFC 1035 section 4.1.4: "a prior occurrence").
 * Never throws. `next` is the offset after the name in the record that holds it.
 */
export function readName(bytes: Uint8Array, offset: number): NameRead {
  const wire = scratch;
  let length = 0;
  let text = "";
  let at = offset;
  let runStart = offset;
  let next = -1;
  let pointers = 0;
  for (;;) {
    const octet = bytes[at];
    if (octet === undefined) return { ok: false, fault: "name-truncated", at };
    if (octet === 0) {
      wire[length++] = 0;
      if (next < 0) next = at + 1;
      return { ok: true, name: { wire: wire.slice(0, length), text }, next };
    }
    if (octet >= 0xc0) {
      const low = bytes[at + 1];
      if (low === undefined) return { ok: false, fault: "name-truncated", at };
      const target = ((octet & 0x3f) << 8) | low;
      if (target >= runStart || target < 12 || ++pointers > POINTERS_MAX) {
        return { ok: false, fault: "name-pointer", at };
      }
      if (next < 0) next = at + 2;
      at = target;
      runStart = target;
      continue;
    }
    // 01 and 10 are reserved; extended label types are gone (RFC 6891 section 5).
    if (octet > labelBytesMax) return { ok: false, fault: "name-label-type", at };
    if (at + 1 + octet > bytes.length) return { ok: false, fault: "name-truncated", at };
    // One octet must stay for the root label.
    if (length + 1 + octet >= nameBytesMax) return { ok: false, fault: "name-too-long", at };
    wire[length++] = octet;
    if (text !== "") text += ".";
    for (let index = at + 1; index <= at + octet; index++) {
      const value = bytes[index] as number;
      wire[length++] = value;
      text += octetTexts[value] as string;
    }
    at += 1 + octet;
  }
}

const octetTexts: readonly string[] = Array.from({ length: 256 }, (_, value) => {
  const char = String.fromCharCode(value);
  return /[A-Za-z0-9_-]/.test(char) ? char.toLowerCase() : `\\${String(value).padStart(3, "0")}`;
});

const HOST_LABEL = /^[A-Za-z0-9_-]{1,63}$/;

/**
 * The name of a host name, with or without trailing dot, case kept; undefined when it is none (empty label, label over 63
 * octets, name over 255, other characters).
 */
export function nameFromText(host: string): DomainName | undefined {
  const bare = host.endsWith(".") ? host.slice(0, -1) : host;
  if (bare === "") return host === "" ? undefined : rootName;
  if (bare.length > nameBytesMax - 2) return undefined;
  const labels = bare.split(".");
  const wire = new Uint8Array(bare.length + 2);
  let length = 0;
  for (const label of labels) {
    if (!HOST_LABEL.test(label)) return undefined;
    wire[length++] = label.length;
    for (let index = 0; index < label.length; index++) wire[length++] = label.charCodeAt(index);
  }
  return { wire, text: bare.toLowerCase() };
}

/** The text of the name one label up; undefined for the root. A dot in the text always parts labels (others are `\046`). */
export function parentText(text: string): string | undefined {
  if (text === "") return undefined;
  const dot = text.indexOf(".");
  return dot < 0 ? "" : text.slice(dot + 1);
}

/** Octets of the labels, without the root's. */
export function labelsOf(name: DomainName): Uint8Array[] {
  const labels: Uint8Array[] = [];
  const { wire } = name;
  for (let at = 0; wire[at] !== 0; at += 1 + (wire[at] as number))
    labels.push(wire.subarray(at + 1, at + 1 + (wire[at] as number)));
  return labels;
}

/** The name of these labels, octets kept; undefined when one is empty or over 63 octets, or all together over 255. */
export function nameFromLabels(labels: readonly Uint8Array[]): DomainName | undefined {
  let length = 1;
  for (const label of labels) {
    if (label.length === 0 || label.length > labelBytesMax) return undefined;
    length += 1 + label.length;
  }
  if (length > nameBytesMax) return undefined;
  const wire = new Uint8Array(length);
  let at = 0;
  for (const label of labels) {
    wire[at] = label.length;
    wire.set(label, at + 1);
    at += 1 + label.length;
  }
  const read = readName(wire, 0);
  return read.ok ? read.name : undefined;
}

/** Whether `name` is `origin` or below it; both are lower-case texts. */
export function isAtOrBelow(name: string, origin: string): boolean {
  if (origin === "" || name === origin) return true;
  return name.endsWith(origin) && name[name.length - origin.length - 1] === ".";
}

/** Where labels begin; only {@link compareCanonically} uses them, and never across a call. */
const leftAt = new Uint8Array(nameBytesMax);
const rightAt = new Uint8Array(nameBytesMax);

/** RFC 4034 section 6.1: by labels from the right, octets of lower-case letters; a name stands before those below it. */
export function compareCanonically({ wire: a }: DomainName, { wire: b }: DomainName): number {
  const [left, right] = [findLabels(a, leftAt), findLabels(b, rightAt)];
  for (let n = 1; n <= left && n <= right; n++) {
    const order = compareLabels(a, leftAt[left - n] as number, b, rightAt[right - n] as number);
    if (order !== 0) return order;
  }
  return left - right;
}

/** @returns how many there are, without the root's */
function findLabels(wire: Uint8Array, into: Uint8Array): number {
  let count = 0;
  for (let at = 0; wire[at] !== 0; at += 1 + (wire[at] as number)) into[count++] = at;
  return count;
}

function compareLabels(a: Uint8Array, aAt: number, b: Uint8Array, bAt: number): number {
  const [left, right] = [a[aAt] as number, b[bAt] as number];
  for (let at = 1; at <= left && at <= right; at++) {
    const difference = lowered(a[aAt + at] as number) - lowered(b[bAt + at] as number);
    if (difference !== 0) return difference;
  }
  return left - right;
}

function lowered(octet: number): number {
  return octet >= 0x41 && octet <= 0x5a ? octet + 0x20 : octet;
}

/** A name as a zone file writes it, case kept and absolute: with its trailing dot. */
export function nameToText(name: DomainName): string {
  const labels = labelsOf(name);
  if (labels.length === 0) return ".";
  return labels.map((label) => `${labelText(label)}.`).join("");
}

function labelText(label: Uint8Array): string {
  let text = "";
  for (const octet of label) {
    const char = String.fromCharCode(octet);
    if (/[A-Za-z0-9_*/+=-]/.test(char)) text += char;
    else if (octet > 0x20 && octet < 0x7f) text += `\\${char}`;
    else text += `\\${String(octet).padStart(3, "0")}`;
  }
  return text;
}
