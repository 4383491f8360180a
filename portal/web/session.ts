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

let stream: EventSource | undefined;

export async function start(): Promise<void> {
  whenLoggedOut(forget);
  try {
    const answer = await read<{ viewer: Viewer | null }>("/session");
    enter(answer.viewer);
  } catch (error) {
    startFault.value = error instanceof Error ? error.message : String(error);
  }
}

export async function logIn(name: string, password: string): Promise<void> {
  const answer = await write<{ viewer: Viewer }>("POST", "/session", { name, password });
  enter(answer.viewer);
}

export async function logOut(): Promise<void> {
  forget();
  await write("DELETE", "/session");
}

function enter(who: Viewer | null): void {
  viewer.value = who;
  if (who !== null) openStream();
}

function forget(): void {
  stream?.close();
  stream = undefined;
  viewer.value = null;
  live.value = undefined;
  isLive.value = false;
}

function openStream(): void {
  stream?.close();
  const opened = new EventSource("/api/v1/live");
  stream = opened;
  opened.addEventListener("state", (event) => {
    live.value = JSON.parse((event as MessageEvent<string>).data) as LiveState;
    isLive.value = true;
  });
  opened.addEventListener("error", () => {
    isLive.value = false;
    if (opened.readyState !== EventSource.CLOSED) return;
    // The browser has given up: the session is over, or the portal restarted. One question tells which.
    setTimeout(() => {
      if (stream === opened) void start().catch(() => {});
    }, 2_000);
  });
}
