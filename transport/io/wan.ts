/**
 * The emulated wide-area network of this process. One per process, because every connection to another server must feel
 * it; none is installed unless a world run says so (env ISOCHRONE_WAN).
 */
import { readFileSync } from "node:fs";
import { type ClusterId, IsochroneError, ParseError } from "#kit";
import { type WanLink, type WanState, wanRoute, wanState } from "../core/wan-state.ts";

/** Beyond it the file is no WAN state of ours. */
const FILE_BYTES_MAX = 256 * 1024 * 1024;

let state: WanState | undefined;
let random: () => number = Math.random;
const listeners = new Set<() => void>();
let isListeningToParent = false;

/** The link of one connection, as it is now and when it changes. */
export type WanView = {
  readonly link: () => { readonly link: WanLink; readonly isCut: boolean };
  /** The listener is called on every change; call the result to stop. */
  readonly onChange: (listener: () => void) => () => void;
  readonly random: () => number;
};

/**
 * Reads the state that env ISOCHRONE_WAN names (a JSON file) and follows `{type: "wan", state}` messages of the parent
 * process. Every main calls it first. Without the variable it does nothing. Throws IsochroneError of source
 * "configuration" when the file cannot be read or is refused.
 */
export function installWanFromEnvironment(environment: NodeJS.ProcessEnv = process.env): void {
  const path = environment["ISOCHRONE_WAN"];
  if (path === undefined || path === "") return;
  let text: string;
  try {
    const bytes = readFileSync(path);
    if (bytes.length > FILE_BYTES_MAX) throw new Error(`it has ${bytes.length} bytes`);
    text = bytes.toString("utf8");
  } catch (error) {
    throw refused(path, error);
  }
  try {
    installWan(wanState.parse(JSON.parse(text)));
  } catch (error) {
    throw refused(path, error);
  }
  if (isListeningToParent) return;
  isListeningToParent = true;
  process.on("message", (message: unknown) => {
    if (typeof message !== "object" || message === null || !("type" in message) || message.type !== "wan")
      return;
    try {
      installWan(wanState.parse("state" in message ? message.state : undefined));
    } catch (error) {
      // The last good state stays in force; the supervisor sees why on standard error.
      if (!(error instanceof ParseError)) throw error;
      process.stderr.write(`isochrone: refused a wan message: ${error.message}\n`);
    }
  });
  // Listening must not keep a process alive that has nothing else to do.
  process.channel?.unref();
}

/** Puts a state in force (undefined: no emulation for new connections). `randomFloat` (0..1) decides losses. */
export function installWan(next: WanState | undefined, randomFloat?: () => number): void {
  state = next;
  if (randomFloat) random = randomFloat;
  for (const listener of listeners) listener();
}

/** What is in force. */
export function installedWan(): WanState | undefined {
  return state;
}

/** The site of this process in the emulated world; undefined without emulation. */
export function wanSelf(): ClusterId | undefined {
  return state?.self;
}

/** The view of a connection to an address, or undefined when nothing is emulated for it. */
export function wanViewOf(address: string, port: number): WanView | undefined {
  if (state === undefined) return undefined;
  const atStart = wanRoute(state, address, port);
  if (atStart === undefined) return undefined;
  return {
    link: () => {
      const route = state && wanRoute(state, address, port);
      // A healed or removed link: what is on the way arrives without further delay.
      return route ?? { link: { rttMs: 0, lossRatio: 0, bandwidthMbps: 1_000_000 }, isCut: false };
    },
    onChange: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    random: () => random(),
  };
}

function refused(path: string, error: unknown): IsochroneError {
  const why = error instanceof Error ? error.message : String(error);
  return new IsochroneError(
    `Cannot use the emulated network of ISOCHRONE_WAN=${JSON.stringify(path)}: ${why}; unset the variable or let "isochrone up" write the file`,
    { code: "wan-state-refused", source: "configuration", retry: "never", cause: error },
  );
}
