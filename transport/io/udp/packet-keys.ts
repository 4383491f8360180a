/**
 * Keys and names of a UDP connection, from the TLS 1.3 session of its two ends (RFC 8446, section 7.5; RFC 5705). Packets are sealed by AES-128-GCM, each by
 * itself, as in QUIC (RFC 9001, section 5.3): the nonce is the packet number, XORed to a secret start value; each direction and epoch has a key of its own.
 */
import { createCipheriv, createDecipheriv, createSecretKey, hkdfSync, type KeyObject } from "node:crypto";
import type { TLSSocket } from "node:tls";
import { CONNECTION_BYTES, type PacketProtection, TAG_BYTES } from "../../core/udp/words.ts";

const EXPORTER_LABEL = "EXPORTER-isochrone-udp-1";
const SECRET_BYTES = 32;
const KEY_BYTES = 16;
const NONCE_BYTES = 12;
const CIPHER = "aes-128-gcm";

export type UdpRole = "client" | "server";
const otherOf = (role: UdpRole): UdpRole => (role === "client" ? "server" : "client");

/** Undefined: it is no TLS 1.3 session whose handshake is done. `context` tells connections of one session apart: none may come twice. */
export function exportUdpSecret(socket: TLSSocket, context: number): Buffer | undefined {
  if (socket.getProtocol() !== "TLSv1.3") return undefined;
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(context);
  return socket.exportKeyingMaterial(SECRET_BYTES, EXPORTER_LABEL, bytes);
}

function derive(secret: Uint8Array, label: string, bytes: number): Buffer {
  return Buffer.from(hkdfSync("sha256", secret, "", `isochrone udp 1 ${label}`, bytes));
}

/** The name under which a role is addressed. */
export function udpNameOf(secret: Uint8Array, role: UdpRole): Uint8Array {
  return derive(secret, `${role} name`, CONNECTION_BYTES);
}

interface EpochKey {
  readonly key: KeyObject;
  readonly nonce: Buffer;
}

/** Keys of older epochs than the newest that are kept: that of packets which come late, and one more, since a stranger can have the next one made. */
const OLDER_EPOCHS = 2;

/** The keys of one direction: each epoch's secret gives the next one, and not the one before. */
class KeyChain {
  /** Of epoch `#nextEpoch`, whose keys are not made. */
  #secret: Buffer;
  #nextEpoch = 0;
  readonly #keys = new Map<number, EpochKey>();

  constructor(secret: Uint8Array, role: UdpRole) {
    this.#secret = derive(secret, `${role} traffic`, SECRET_BYTES);
  }

  /** Undefined: it is gone. */
  keyOf(epoch: number): EpochKey | undefined {
    while (this.#nextEpoch <= epoch) {
      this.#keys.set(this.#nextEpoch, {
        key: createSecretKey(derive(this.#secret, "key", KEY_BYTES)),
        nonce: derive(this.#secret, "nonce", NONCE_BYTES),
      });
      this.#secret = derive(this.#secret, "next", SECRET_BYTES);
      this.#keys.delete(this.#nextEpoch - OLDER_EPOCHS - 1);
      this.#nextEpoch++;
    }
    return this.#keys.get(epoch);
  }
}

export class PacketKeys implements PacketProtection {
  readonly #sealing: KeyChain;
  readonly #opening: KeyChain;
  readonly #nonce = Buffer.alloc(NONCE_BYTES);

  constructor(secret: Uint8Array, role: UdpRole) {
    this.#sealing = new KeyChain(secret, role);
    this.#opening = new KeyChain(secret, otherOf(role));
  }

  seal(packet: Uint8Array, headerBytes: number, payloadEnd: number, number: number, epoch: number): void {
    const { key, nonce } = this.#sealing.keyOf(epoch) as EpochKey;
    const cipher = createCipheriv(CIPHER, key, this.#nonceOf(nonce, number), { authTagLength: TAG_BYTES });
    cipher.setAAD(packet.subarray(0, headerBytes));
    packet.set(cipher.update(packet.subarray(headerBytes, payloadEnd)), headerBytes);
    cipher.final();
    packet.set(cipher.getAuthTag(), payloadEnd);
  }

  open(packet: Uint8Array, headerBytes: number, end: number, number: number, epoch: number): boolean {
    const epochKey = this.#opening.keyOf(epoch);
    if (epochKey === undefined) return false;
    const { key, nonce } = epochKey;
    const decipher = createDecipheriv(CIPHER, key, this.#nonceOf(nonce, number), {
      authTagLength: TAG_BYTES,
    });
    decipher.setAAD(packet.subarray(0, headerBytes));
    decipher.setAuthTag(packet.subarray(end - TAG_BYTES, end));
    const opened = decipher.update(packet.subarray(headerBytes, end - TAG_BYTES));
    try {
      decipher.final();
    } catch {
      return false;
    }
    packet.set(opened, headerBytes);
    return true;
  }

  /** RFC 9001, section 5.3; numbers have 48 bits. */
  #nonceOf(start: Buffer, number: number): Buffer {
    const nonce = this.#nonce;
    start.copy(nonce);
    const at = NONCE_BYTES - 6;
    nonce.writeUIntBE((start.readUIntBE(at, 2) ^ Math.floor(number / 2 ** 32)) & 0xffff, at, 2);
    nonce.writeUInt32BE((start.readUInt32BE(at + 2) ^ (number >>> 0)) >>> 0, at + 2);
    return nonce;
  }
}
