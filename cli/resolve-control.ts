/** Which control a command speaks to: the one named, else the one of the world that runs on this machine. */
import { ControlClient } from "#control";
import { createLogger } from "#kit/io";
import { findRunningWorld } from "./runtime.ts";
import { UsageError } from "./usage.ts";

export interface ControlChoice {
  /** `--control URL`. */
  readonly control?: string | undefined;
  /** `--state DIR` of a running world, when several run. */
  readonly state?: string | undefined;
}

export interface ResolvedControl {
  readonly url: string;
  readonly token: string;
}

/**
 * `--control` (else ISOCHRONE_CONTROL_URL) with the token of ISOCHRONE_CONTROL_TOKEN; without either the running world's own.
 * A token is never sent to a URL that it was not given for: a named control needs a named token.
 * Throws {@link UsageError} that says what is missing.
 */
export function resolveControl(choice: ControlChoice): ResolvedControl {
  const url = choice.control ?? process.env["ISOCHRONE_CONTROL_URL"];
  const token = process.env["ISOCHRONE_CONTROL_TOKEN"];
  if (url !== undefined) {
    if (token === undefined || token === "") {
      throw new UsageError(
        `The control at ${url} wants a token; set ISOCHRONE_CONTROL_TOKEN to the one that it was started with`,
      );
    }
    return { url, token };
  }
  const world = findRunningWorld(choice.state);
  if (world === undefined) {
    throw new UsageError(
      "No control to speak to: no world runs here (isochrone up); name one with --control URL and set ISOCHRONE_CONTROL_TOKEN",
      1,
    );
  }
  return { url: world.controlUrl, token: world.token };
}

/** Runs `work` with a client that is closed afterwards, however it ends. */
export async function withControl<T>(
  choice: ControlChoice,
  work: (client: ControlClient) => Promise<T>,
): Promise<T> {
  const logger = createLogger({ role: "cli", id: "cli" }, { level: "silent" });
  const client = new ControlClient({ ...resolveControl(choice), nodeId: "cli", logger });
  try {
    return await work(client);
  } finally {
    await client.close();
  }
}
