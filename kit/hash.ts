import xxhash from "xxhash-wasm";
import type { Steps } from "./steps.ts";

/**
 * xxHash, the one hash of the kit for placement, sharding, checksums and seeds: fast, well mixed, the same on every
 * machine. It is not a cryptographic hash: an attacker can choose inputs that collide.
 * Source: Y. Collet, xxHash fast digest algorithm, version 0.1.1 (doc/xxhash_spec.md of Cyan4973/xxHash).
 *
 * Text is hashed as UTF-8; a lone surrogate hashes as U+FFFD, as TextEncoder has it.
 */
const wasm = await xxhash();

/** The 32-bit xxHash of `input`, 0..2^32-1. `seed` is taken modulo 2^32. Never throws. */
export function xxh32(input: string | Uint8Array, seed = 0): number {
  return typeof input === "string" ? wasm.h32(input, seed >>> 0) : wasm.h32Raw(input, seed >>> 0);
}

/** The 64-bit xxHash of `input`, 0..2^64-1. `seed` is taken modulo 2^64. Never throws. */
export function xxh64(input: string | Uint8Array, seed = 0n): bigint {
  const seed64 = BigInt.asUintN(64, seed);
  return typeof input === "string" ? wasm.h64(input, seed64) : wasm.h64Raw(input, seed64);
}

/** Bytes between two pauses: a millisecond at most. */
const STEP_BYTES = 2 ** 20;

/** As {@link xxh64} with seed 0, in steps, of all pieces one after the other. */
export function* xxh64InSteps(...pieces: readonly Uint8Array[]): Steps<bigint> {
  const state = wasm.create64();
  for (const piece of pieces)
    for (let at = 0; at < piece.length; at += STEP_BYTES) {
      yield;
      state.update(piece.subarray(at, at + STEP_BYTES));
    }
  return state.digest();
}

/** The 64-bit xxHash of `input` with seed 0 as 16 lower-case hexadecimal digits, high digit first. */
export function xxh64Hex(input: string | Uint8Array): string {
  return xxh64(input).toString(16).padStart(16, "0");
}
