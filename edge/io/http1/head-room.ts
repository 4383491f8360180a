/**
 * Where the pieces of a long head are put together. Joined anew with each piece, a head of 17 KB that comes in pieces of 4 KB, as a ring
 * reads them, leaves six times its bytes behind; a burst of such heads, refused in the end, took what the collector had not yet come to, some
 * 50 MiB. So a few of them share room that is used again.
 */

/** Shorter heads are joined as they are: clients that drip must not hold more than they have sent, bytes. */
const JOINED_BYTES_MAX = 4 * 1_024;
/** The longest head that is read, and a piece. Whatever is longer is joined without it, bytes. */
const ROOM_BYTES = 24 * 1_024;
/** Heads that have room at once: all of it, 1.5 MiB, is nothing to a process. */
const ROOMS_MAX = 64;

const rooms = new Set<ArrayBufferLike>();
const free: Buffer[] = [];

/** `pending` with `chunk` behind it. It may lie in a room, and then `pending` did not or was its beginning: it ends with {@link leaveRoom}. */
export function joinHead(pending: Buffer, chunk: Buffer): Buffer {
  const bytes = pending.byteLength + chunk.byteLength;
  const isInRoom = hasRoom(pending);
  const room = bytes > ROOM_BYTES ? undefined : isInRoom ? Buffer.from(pending.buffer) : takeRoom(bytes);
  if (room === undefined) {
    const joined = Buffer.concat([pending, chunk]);
    if (isInRoom) leaveRoom(pending);
    return joined;
  }
  if (!isInRoom) pending.copy(room);
  chunk.copy(room, pending.byteLength);
  return room.subarray(0, bytes);
}

/** Whether the bytes lie in a room, and stay as they are until {@link leaveRoom}. */
export function hasRoom(bytes: Buffer): boolean {
  return rooms.has(bytes.buffer);
}

/** Nobody looks at these bytes any more. Without effect where they lie in no room. */
export function leaveRoom(bytes: Buffer): void {
  if (hasRoom(bytes)) free.push(Buffer.from(bytes.buffer));
}

function takeRoom(bytes: number): Buffer | undefined {
  if (bytes <= JOINED_BYTES_MAX) return undefined;
  const known = free.pop();
  if (known !== undefined || rooms.size >= ROOMS_MAX) return known;
  const room = Buffer.allocUnsafeSlow(ROOM_BYTES);
  rooms.add(room.buffer);
  return room;
}
