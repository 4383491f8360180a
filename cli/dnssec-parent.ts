/** What the parent of a zone has for it, as a resolver that is named on the command line sees it. */
import { parseAddress } from "#kit";
import type { ListenAddress } from "#kit/io";
import { askDs } from "#mapping";
import { UsageError } from "./usage.ts";

const DNS_PORT = 53;

/**
 * DS records as `dsTextOf` writes them; empty when there are none. Throws {@link UsageError} when the resolver does not say.
 *
 * @param resolver ADDRESS or ADDRESS:PORT, [ADDRESS]:PORT for IPv6
 */
export async function dsAtParent(resolver: string, zone: string): Promise<readonly string[]> {
  const at = resolverOf(resolver);
  try {
    return await askDs(at, zone);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new UsageError(`Cannot ask ${resolver} for the DS of "${zone}": ${why}`, 1);
  }
}

function resolverOf(text: string): ListenAddress {
  const [, host = text, port] =
    /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text)?.filter((one) => one !== undefined) ?? [];
  const number = port === undefined ? DNS_PORT : Number(port);
  if (parseAddress(host) === undefined || number < 1 || number > 65_535)
    throw new UsageError(
      `--check: got ${JSON.stringify(text)}, expected ADDRESS or ADDRESS:PORT of a resolver`,
    );
  return { host, port: number };
}
