/** `isochrone purge`: forget what is named at every server, and see that each has. */
import { parseArgs } from "node:util";
import { ControlError } from "#control";
import { ParseError, purgeRequest } from "#kit";
import { withControl } from "./resolve-control.ts";
import { UsageError } from "./usage.ts";
import { controlOptions } from "./options.ts";

const help = `Usage: isochrone purge --property ID (--url URL | --tag TAG | --prefix URL | --host NAME)...
       isochrone purge --property ID --everything
       (each with [--soft] [--json])

Every edge and parent forgets the URLs (all variants), what carries the tags, what stands at and below
the prefixes (whatever scheme and query; one that ends with / means only what is below), or everything
of the hosts or of the property, and says so.
--soft makes it stale instead: it may be served while it is validated again.
--json prints each step as one JSON line.
Options: --control URL, or ISOCHRONE_CONTROL_URL (token by ISOCHRONE_CONTROL_TOKEN; without it the world that runs here), --state DIR
Exit code: 0 every server acknowledged, 1 not all did or control is not there, 2 bad usage.

Examples:
  isochrone purge --property shop-www --url http://www.shop.example/a.css
  isochrone purge --property shop-www --tag product-17 --tag product-18 --soft
  isochrone purge --property shop-www --prefix http://www.shop.example/img/`;

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      ...controlOptions,
      property: { type: "string" },
      url: { type: "string", multiple: true },
      tag: { type: "string", multiple: true },
      prefix: { type: "string", multiple: true },
      host: { type: "string", multiple: true },
      everything: { type: "boolean" },
      soft: { type: "boolean" },
    },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  const request = parseRequest(values);
  const isJson = values.json ?? false;
  try {
    const result = await withControl(values, (client) =>
      client.purge(request, (progress) => {
        if (isJson) console.log(JSON.stringify(progress));
        else if (progress.type === "accepted") {
          console.log(`purge ${progress.purgeSeq}: sent to ${progress.servers.length} servers`);
          if (progress.missing.length > 0) console.log(`not heard of lately: ${progress.missing.join(", ")}`);
        } else if (progress.type === "ack") {
          console.log(
            `  ${progress.serverId}: ${progress.removed} removed after ${formatMs(progress.elapsedMs)}`,
          );
        }
      }),
    );
    if (!isJson) {
      if (result.unacknowledged.length > 0)
        console.log(`not acknowledged: ${result.unacknowledged.join(", ")}`);
      console.log(`${result.acked}/${result.expected} servers in ${formatMs(result.elapsedMs)}`);
    }
    return result.acked === result.expected ? 0 : 1;
  } catch (error) {
    if (error instanceof ControlError) throw new UsageError(error.message, error.code === "refused" ? 2 : 1);
    throw error;
  }
}

function parseRequest(values: {
  readonly property?: string | undefined;
  readonly url?: string[] | undefined;
  readonly tag?: string[] | undefined;
  readonly prefix?: string[] | undefined;
  readonly host?: string[] | undefined;
  readonly everything?: boolean | undefined;
  readonly soft?: boolean | undefined;
}) {
  if (values.property === undefined) throw new UsageError("--property ID is missing; see --help");
  try {
    return purgeRequest.parse({
      propertyId: values.property,
      urls: values.url ?? [],
      tags: values.tag ?? [],
      prefixes: values.prefix,
      hosts: values.host?.map((name) => name.toLowerCase()),
      isWholeProperty: values.everything,
      mode: values.soft === true ? "soft" : "hard",
    });
  } catch (error) {
    if (error instanceof ParseError) throw new UsageError(`${error.message}; see --help`);
    throw error;
  }
}

/** `41 ms`; a purge of less than 1 ms is no news, so whole ones, rounded up. */
function formatMs(ms: number): string {
  return `${Math.ceil(ms)} ms`;
}
