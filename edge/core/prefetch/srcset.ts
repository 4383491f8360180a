/** Which candidate of a `srcset` a browser will ask for (WHATWG HTML, section 4.8.4.3), as far as that can be known here. */

/** What the client's hints said of its screen. */
export interface Screen {
  /** Device pixels a CSS pixel (Sec-CH-DPR); 1 when it is not known. */
  readonly pixelRatio: number;
  /** CSS pixels (Sec-CH-Viewport-Width); undefined: not known. */
  readonly viewportWidth: number | undefined;
}

const CANDIDATES_MAX = 32;

interface Candidate {
  readonly url: string;
  /** Pixel density; of width candidates once the viewport is known. */
  readonly density: number | undefined;
  readonly width: number | undefined;
}

/** Undefined when it depends on a layout that is not known here, or nothing is named. `src` is a candidate of density 1. */
export function chosenCandidate(
  srcset: string,
  sizes: string | undefined,
  src: string | undefined,
  screen: Screen,
): string | undefined {
  const candidates = candidatesOf(srcset);
  const only = candidates[0];
  if (only === undefined) return src;
  const isByWidth = candidates.some(({ width }) => width !== undefined);
  if (isByWidth) {
    if (candidates.length === 1) return only.url;
    const isWholeWidth = sizes === undefined || sizes.trim().toLowerCase() === "100vw";
    if (!isWholeWidth || screen.viewportWidth === undefined) return undefined;
    const wanted = screen.viewportWidth * screen.pixelRatio;
    return bestOf(candidates, ({ width }) => width ?? 0, wanted);
  }
  const all =
    src === undefined || candidates.some(({ density }) => density === 1)
      ? candidates
      : [...candidates, { url: src, density: 1, width: undefined }];
  return bestOf(all, ({ density }) => density ?? 1, screen.pixelRatio);
}

/** The smallest that is enough, else the largest. */
function bestOf(
  candidates: readonly Candidate[],
  measure: (candidate: Candidate) => number,
  wanted: number,
): string | undefined {
  let best: Candidate | undefined;
  for (const one of candidates) {
    if (best === undefined) best = one;
    else if (
      measure(best) < wanted
        ? measure(one) > measure(best)
        : measure(one) >= wanted && measure(one) < measure(best)
    )
      best = one;
  }
  return best?.url;
}

/** Section 4.8.4.3.10: a URL is everything up to white space; a comma that ends it ends the candidate. */
function candidatesOf(srcset: string): readonly Candidate[] {
  const candidates: Candidate[] = [];
  let at = 0;
  while (at < srcset.length && candidates.length < CANDIDATES_MAX) {
    while (at < srcset.length && /[\s,]/.test(srcset[at] ?? "")) at++;
    const from = at;
    while (at < srcset.length && !/\s/.test(srcset[at] ?? "")) at++;
    let url = srcset.slice(from, at);
    if (url === "") break;
    let descriptor = "";
    if (url.endsWith(",")) url = trimmedCommas(url);
    else {
      const end = srcset.indexOf(",", at);
      descriptor = srcset.slice(at, end === -1 ? srcset.length : end).trim();
      at = end === -1 ? srcset.length : end + 1;
    }
    const match = /^(\d{1,6}(?:\.\d{1,4})?)([wx])$/.exec(descriptor);
    if (descriptor === "") candidates.push({ url, density: 1, width: undefined });
    else if (match?.[2] === "x") candidates.push({ url, density: Number(match[1]), width: undefined });
    else if (match?.[2] === "w") candidates.push({ url, density: undefined, width: Number(match[1]) });
  }
  return candidates;
}

function trimmedCommas(url: string): string {
  let end = url.length;
  while (end > 0 && url[end - 1] === ",") end--;
  return url.slice(0, end);
}
