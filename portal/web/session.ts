/** Who is logged in, and the live state while somebody is. */
import { signal } from "@preact/signals";
import type { LiveState, Viewer } from "../core/wire.ts";
import { read, whenLoggedOut, write } from "./api.ts";

/** Undefined until the portal has said. */
export const viewer = signal<Viewer | null | undefined>(undefined);
export const live = signal<LiveState | undefined>(undefined);
/** Whether live states come in now. */
export const isLive = signal(false);
export const startFault = signal("");

/** The session of `viewer` is over: the page stays as it is, drafts and all, until somebody logs in again. */
export const isExpired = signal(false);
/** Why logging out failed; "" else. */
export const logOutFault = signal("");

let stream: EventSource | undefined;
let heardAtMs = 0;

/** States come each second: after so long without one what is shown is old, whatever the socket says (a frozen portal, a lost route). */
const SILENT_MS = 4_000;
/** How often a portal that is away is asked whether it is back. */
const RETRY_MS = 2_000;

export async function start(): Promise<void> {
  whenLoggedOut(expire);
  try {
    const answer = await read<{ viewer: Viewer | null }>("/session");
    startFault.value = "";
    if (answer.viewer === null && viewer.value) expire();
    else enter(answer.viewer);
  } catch (error) {
    startFault.value = error instanceof Error ? error.message : String(error);
    setTimeout(() => void start(), RETRY_MS);
  }
}

export async function logIn(name: string, password: string): Promise<void> {
  const answer = await write<{ viewer: Viewer }>("POST", "/session", { name, password });
  enter(answer.viewer);
}

export async function logOut(): Promise<void> {
  logOutFault.value = "";
  try {
    await write("DELETE", "/session");
  } catch (error) {
    // The cookie is still good: a page that looks logged out would be a lie on a shared machine.
    logOutFault.value = `You are still logged in: ${error instanceof Error ? error.message : String(error)}`;
    return;
  }
  closeStream();
  viewer.value = null;
  isExpired.value = false;
}

function enter(who: Viewer | null): void {
  // The same person again: pages keep what they hold.
  const { value: before } = viewer;
  if (before?.name !== who?.name || before?.customerId !== who?.customerId) viewer.value = who;
  else if (before === undefined) viewer.value = who;
  isExpired.value = false;
  if (who !== null) openStream();
}

function expire(): void {
  closeStream();
  if (viewer.value) isExpired.value = true;
  else viewer.value = null;
}

function closeStream(): void {
  stream?.close();
  stream = undefined;
  live.value = undefined;
  isLive.value = false;
}

function openStream(): void {
  stream?.close();
  const opened = new EventSource("/api/v1/live");
  stream = opened;
  heardAtMs = performance.now();
  opened.addEventListener("state", (event) => {
    heardAtMs = performance.now();
    live.value = JSON.parse((event as MessageEvent<string>).data) as LiveState;
    isLive.value = true;
  });
  opened.addEventListener("error", () => {
    isLive.value = false;
    if (opened.readyState !== EventSource.CLOSED) return;
    // The browser has given up: the session is over, or the portal restarted. One question tells which.
    setTimeout(() => {
      if (stream === opened) void start();
    }, RETRY_MS);
  });
}

setInterval(() => {
  if (stream === undefined || performance.now() - heardAtMs < SILENT_MS) return;
  isLive.value = false;
  // A connection whose other end is gone without a word never errs: ask anew.
  if (performance.now() - heardAtMs > 3 * SILENT_MS) openStream();
}, 1_000);
