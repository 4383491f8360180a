import { xxh64 } from "../../hash.ts";
import type { ClientNetworkId } from "../../ids.ts";
import { formatPrefix, type IpFamily } from "../../ip.ts";
import type { PrefixColumns } from "../../prefix-ranges.ts";
import type { Steps } from "../../steps.ts";
import type { ClientNetworkTable } from "./client-network-table.ts";

/**
 * The name that a client network has when it is cut for the first time: `n` and the hash of its lowest prefix in base 36, at most 14
 * characters. Other `salt`s are for names that are in use already.
 */
export function networkNameOf(prefix: string, salt = 0): ClientNetworkId {
  return `n${xxh64(prefix, BigInt(salt)).toString(36)}` as ClientNetworkId;
}

/** By network the place of its lowest prefix: in the columns of IPv4, or behind their number in those of IPv6. */
export function lowestPrefixes(size: number, ipv4: PrefixColumns, ipv6: PrefixColumns): Uint32Array {
  const lowest = new Uint32Array(size);
  // Networks are numbered by it, so the first prefixes ascend with the numbers.
  let named = 0;
  for (let place = 0; place < ipv4.values.length; place++)
    if (ipv4.values[place] === named) lowest[named++] = place;
  for (let place = 0; place < ipv6.values.length; place++)
    if (ipv6.values[place] === named) lowest[named++] = ipv4.values.length + place;
  return lowest;
}

/** The name that the prefix at such a place would give. */
export function nameAtPlace(place: number, ipv4: PrefixColumns, ipv6: PrefixColumns): ClientNetworkId {
  const count = ipv4.lengths.length;
  return place < count ? nameIn(4, ipv4, place) : nameIn(6, ipv6, place - count);
}

function nameIn(family: IpFamily, { words, lengths }: PrefixColumns, at: number): ClientNetworkId {
  const wordCount = family === 4 ? 1 : 4;
  const address = { family, words: Array.from(words.subarray(at * wordCount, (at + 1) * wordCount)) };
  return networkNameOf(formatPrefix({ address, prefixLength: lengths[at] as number }));
}

/** Names that are made between two pauses: a millisecond or two. */
const NAMES_STEP = 512;

/** Whether a network has the name of its lowest prefix, by number. Tables do not change: each is asked once. */
const givenByTable = new WeakMap<ClientNetworkTable, Uint8Array>();

export function* givenNames(networks: ClientNetworkTable): Steps<Uint8Array> {
  let given = givenByTable.get(networks);
  if (given === undefined) {
    const { ids, ipv4, ipv6 } = networks;
    const lowest = lowestPrefixes(networks.size, ipv4, ipv6);
    given = new Uint8Array(networks.size);
    for (const [n, name] of ids.entries()) {
      if (n % NAMES_STEP === NAMES_STEP - 1) yield;
      given[n] = name === nameAtPlace(lowest[n] as number, ipv4, ipv6) ? 1 : 0;
    }
    givenByTable.set(networks, given);
  }
  return given;
}

/** For who has just read them. */
export function rememberGivenNames(networks: ClientNetworkTable, given: Uint8Array): void {
  givenByTable.set(networks, given);
}
