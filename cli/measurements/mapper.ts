/** Asking mappers: the one that is named, or those of the running world. */
import { quoteValue } from "#kit";
import { findRunningWorld } from "../runtime.ts";
import { askServer } from "../ask-server.ts";
import { messageOf, UsageError } from "../usage.ts";

const TIMEOUT_MS = 30_000;

export interface Mapper {
  readonly url: string;
  readonly token: string;
}

/** At least one. Throws {@link UsageError} when there is none, or no token for it. */
export function mappersOf(url: string | undefined, state: string | undefined): readonly Mapper[] {
  const running =
    url === undefined || process.env["ISOCHRONE_CONTROL_TOKEN"] === undefined
      ? findRunningWorld(state)
      : undefined;
  const token = process.env["ISOCHRONE_CONTROL_TOKEN"] ?? running?.token;
  const urls = url === undefined ? running?.mapperAdminUrls : [url];
  if (urls === undefined)
    throw new UsageError(
      "No running world; name the mapper with --mapper URL, or start a world with: isochrone up",
      1,
    );
  if (token === undefined)
    throw new UsageError("ISOCHRONE_CONTROL_TOKEN is not set; give it the mapper's token");
  return urls.map((one) => {
    if (!URL.canParse(one) || !/^https?:$/.test(new URL(one).protocol))
      throw new UsageError(`--mapper: got ${quoteValue(one)}, expected http://ADDRESS:PORT`);
    return { url: one, token };
  });
}

/** What the first of them says that can be asked: each keeps the same measurements. Throws what the last one failed with. */
export async function askFirst<T>(
  mappers: readonly Mapper[],
  ask: (mapper: Mapper) => Promise<T>,
): Promise<T> {
  let failure: unknown = new UsageError("There is no mapper to ask", 1);
  for (const mapper of mappers) {
    try {
      return await ask(mapper);
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

/** Undefined as body: what was answered is no JSON. Throws {@link UsageError}. */
export async function askMapper(
  { url, token }: Mapper,
  path: string,
  init: {
    readonly method?: string;
    readonly headers?: Readonly<Record<string, string>>;
    readonly body?: string;
  },
): Promise<{ readonly status: number; readonly body: unknown }> {
  const who = `the mapper at ${url}`;
  return await askServer({ who, url: new URL(path, url), token, timeoutMs: TIMEOUT_MS, ...init });
}

/** What `parse` makes of an answer of status 200; throws {@link UsageError} for every other. */
export function parseAnswer<T>({ url }: Mapper, status: number, parse: () => T): T {
  try {
    if (status !== 200) throw new Error(`status ${status}`);
    return parse();
  } catch (error) {
    throw new UsageError(
      `Cannot read the answer of ${url}: ${messageOf(error)}; is it a mapper of this version?`,
      1,
    );
  }
}
