/** Which page is shown, from the address bar. */
import { signal } from "@preact/signals";

export type Route =
  | { readonly page: "overview" }
  | { readonly page: "properties" }
  | { readonly page: "property"; readonly propertyId: string }
  | { readonly page: "policies" }
  | { readonly page: "purge"; readonly propertyId: string | undefined }
  | { readonly page: "missing" };

function parse(path: string, query: string): Route {
  const [first = "", second] = path.split("/").filter((part) => part !== "");
  if (first === "") return { page: "overview" };
  if (first === "properties")
    return second === undefined ? { page: "properties" } : { page: "property", propertyId: decoded(second) };
  if (first === "policies" && second === undefined) return { page: "policies" };
  if (first === "purge")
    return { page: "purge", propertyId: new URLSearchParams(query).get("property") ?? undefined };
  return { page: "missing" };
}

/** A broken escape is an address of nothing, not an exception. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export const route = signal<Route>(parse(location.pathname, location.search));

/** Asked before the page is left; false keeps it. */
let mayLeave = (): boolean => true;
export function guardLeaving(guard: () => boolean): () => void {
  mayLeave = guard;
  return () => {
    mayLeave = () => true;
  };
}

export function go(href: string): void {
  if (!mayLeave()) return;
  history.pushState(null, "", href);
  shown = location.href;
  route.value = parse(location.pathname, location.search);
  scrollTo(0, 0);
  // A screen reader and the tab key go on from the top of the new page.
  requestAnimationFrame(() => document.querySelector<HTMLElement>("main h1")?.focus());
}

/** The address of what is shown: the browser has moved on already when it says that "back" was pressed. */
let shown = location.href;

addEventListener("popstate", () => {
  if (location.href === shown) return;
  if (!mayLeave()) {
    history.pushState(null, "", shown);
    return;
  }
  shown = location.href;
  route.value = parse(location.pathname, location.search);
});

/** Takes plain clicks on our own links; new tabs and other buttons stay the browser's. */
export function onLinkClick(event: MouseEvent): void {
  if (event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const link = (event.target as Element | null)?.closest("a[href^='/']");
  const href = link?.getAttribute("href");
  if (href === undefined || href === null || href.startsWith("/api/")) return;
  event.preventDefault();
  go(href);
}
