/** Reads a tar archive in memory: just enough to take a data file out of one, strictly and within bounds. */

export interface TarMember {
  readonly name: string;
  readonly body: Uint8Array;
}

const BLOCK = 512;
const MEMBERS_MAX = 10_000;
const CHECKSUM_AT = 148;
const CHECKSUM_LENGTH = 8;
const latin1 = new TextDecoder("latin1");

/**
 * The regular files of an archive in ustar form (POSIX.1-1988, IEEE Std 1003.1 "ustar Interchange Format"); directories,
 * links and extended headers are skipped. Throws RangeError on a broken header, a wrong checksum or a cut file.
 */
export function readTar(archive: Uint8Array): TarMember[] {
  const members: TarMember[] = [];
  for (let at = 0; at + BLOCK <= archive.length; ) {
    const header = archive.subarray(at, at + BLOCK);
    // Two blocks of zeros end an archive; one is enough to know it.
    if (header.every((byte) => byte === 0)) return members;
    checkSum(header, at);
    const size = octal(header, 124, 12, at);
    const bodyAt = at + BLOCK;
    if (bodyAt + size > archive.length)
      throw new RangeError(
        `the archive is cut: its member at byte ${at} has ${size} bytes, ${archive.length - bodyAt} are left`,
      );
    const type = header[156];
    if (type === 0 || type === 0x30) {
      if (members.length >= MEMBERS_MAX)
        throw new RangeError(`the archive has more than ${MEMBERS_MAX} files`);
      const prefix = textField(header, 345, 155);
      const name = textField(header, 0, 100);
      members.push({
        name: prefix === "" ? name : `${prefix}/${name}`,
        body: archive.subarray(bodyAt, bodyAt + size),
      });
    }
    at = bodyAt + Math.ceil(size / BLOCK) * BLOCK;
  }
  throw new RangeError("the archive is cut: it has no end mark");
}

/** Whether it looks like an archive: the magic of ustar (POSIX) and of GNU tar begins alike. */
export function isTar(bytes: Uint8Array): boolean {
  return bytes.length >= BLOCK && latin1.decode(bytes.subarray(257, 262)) === "ustar";
}

function textField(header: Uint8Array, at: number, length: number): string {
  const field = header.subarray(at, at + length);
  const end = field.indexOf(0);
  return latin1.decode(end < 0 ? field : field.subarray(0, end));
}

function octal(header: Uint8Array, at: number, length: number, headerAt: number): number {
  const text = textField(header, at, length).trim();
  if (!/^[0-7]{1,12}$/.test(text))
    throw new RangeError(`the archive's header at byte ${headerAt} has ${JSON.stringify(text)} for a number`);
  return Number.parseInt(text, 8);
}

/** The sum of the header's bytes, with the checksum field itself counted as blanks. */
function checkSum(header: Uint8Array, headerAt: number): void {
  let sum = 0;
  for (const [index, byte] of header.entries())
    sum += index >= CHECKSUM_AT && index < CHECKSUM_AT + CHECKSUM_LENGTH ? 0x20 : byte;
  if (sum !== octal(header, CHECKSUM_AT, CHECKSUM_LENGTH, headerAt))
    throw new RangeError(`the archive's header at byte ${headerAt} does not match its checksum`);
}
