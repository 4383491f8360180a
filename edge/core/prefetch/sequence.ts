/** Media in the order in which a player asks for it. */
import { type PageAddress, type Reference, resolveReference, type ReferenceScope } from "./reference.ts";

/** What a playlist or a manifest says. */
export interface MediaPlan {
  /** What a player asks for first, in order: other playlists, initialisation, first segments. */
  readonly first: readonly Reference[];
  /** Segments of each rendition in order; what follows the one that was asked for is asked for next. */
  readonly sequences: readonly (readonly Reference[])[];
}

/** Segments of a playlist, and of a rendition, that are kept. */
export const SEGMENTS_MAX = 2_000;

/** Resolves what manifests name; undefined for what is not the property's own. */
export function mediaReference(
  text: string,
  base: PageAddress,
  scope: ReferenceScope,
  role: "media" | "playlist",
  bytes?: { readonly from: number; readonly to: number },
): Reference | undefined {
  const address = resolveReference(text.trim(), base);
  if (address?.scheme !== scope.page.scheme || !scope.isOwnHost(address.host)) return undefined;
  return { ...address, role, ...(bytes !== undefined && { bytes }) };
}

/** Names a request among others: its address without what a player says of itself (CTA-5004), and the part of it. */
export function addressName(address: PageAddress & Pick<Reference, "bytes">): string {
  const { scheme, host, bytes } = address;
  const target = address.target.includes("CMCD=") ? withoutCmcd(address.target) : address.target;
  return bytes === undefined
    ? `${scheme}://${host}${target}`
    : `${scheme}://${host}${target} ${bytes.from}-${bytes.to}`;
}

function withoutCmcd(target: string): string {
  const mark = target.indexOf("?");
  if (mark === -1) return target;
  const kept = target
    .slice(mark + 1)
    .split("&")
    .filter((parameter) => !parameter.startsWith("CMCD="));
  return kept.length === 0 ? target.slice(0, mark) : `${target.slice(0, mark)}?${kept.join("&")}`;
}
