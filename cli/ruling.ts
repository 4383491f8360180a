/** What rules make of a request, in words: the same for a running server (`explain`) and a file (`config try`). */
import type { RuleExplanation } from "#edge";
import type { FieldEdits, OriginTarget } from "#kit";

/** `origins`: the property's own, asked where no rule names others; undefined: not known here. */
export function rulingLines(
  { rules, ruled, policy, key }: RuleExplanation,
  origins?: readonly OriginTarget[],
): string[] {
  const lines = rules.map(({ index, isMatched, failed }) =>
    row(`rule ${index}`, isMatched ? "holds" : `no: ${failed}`),
  );
  const { answer, deniedBy, token, rewrite, target, requestHeaders, responseHeaders } = ruled;
  if (deniedBy !== null) lines.push(row("denied", `403 by rule ${deniedBy}`));
  if (token !== null)
    lines.push(row("token", token === "valid" ? "required, valid" : `required: ${TOKENS[token]}`));
  if (answer !== null && answer.location !== null)
    lines.push(row("redirect", `${answer.status} ${answer.location}`));
  const asked = ruled.origins ?? origins;
  if (asked !== undefined)
    lines.push(row("origins", `${asked.map(nameOf).join(", ")}${ruled.origins === null ? "" : " by rule"}`));
  if (rewrite !== null) lines.push(row("rewrite", `${rewrite.prefix} -> ${rewrite.replacement}: ${target}`));
  lines.push(...edits("to origin", requestHeaders), ...edits("to client", responseHeaders));
  const { overrideTtlSeconds, defaultTtlSeconds } = policy;
  lines.push(
    row(
      "ttl",
      policy.bypass
        ? "never stored, never from the cache"
        : overrideTtlSeconds !== null
          ? `${overrideTtlSeconds} s, whatever the origin states`
          : `the origin's${defaultTtlSeconds === null ? "" : `, ${defaultTtlSeconds} s where it states none`}`,
    ),
  );
  if (!policy.bypass) {
    const { negativeTtlSeconds, notFoundTtlSeconds, goneTtlSeconds, serverErrorTtlSeconds } = policy;
    lines.push(
      row(
        "errors",
        `404 ${notFoundTtlSeconds ?? negativeTtlSeconds} s, 410 ${goneTtlSeconds ?? negativeTtlSeconds} s, 5xx ${serverErrorTtlSeconds ?? negativeTtlSeconds} s`,
      ),
      row(
        "stale",
        `while revalidating ${policy.staleWhileRevalidateSeconds} s, if error ${policy.staleIfErrorSeconds} s`,
      ),
    );
  }
  lines.push(
    row(
      "delivery",
      `compression ${ruled.isCompressed ? "on" : "off"}, prefetch ${ruled.isPrefetching ? "on" : "off"}${ruled.isRememberable ? "" : "; judged anew for each request"}`,
    ),
    row("key", key),
  );
  return lines;
}

const TOKENS = {
  missing: "403, there is none",
  malformed: "403, it is malformed",
  "unknown-key": "403, its key is not known",
  wrong: "403, its signature is wrong",
  expired: "403, it has expired",
  path: "403, it is for other paths",
  "not-judged": "not judged without ISOCHRONE_PEER_KEY",
} as const;

/** One line of an explanation. */
export function row(name: string, text: string): string {
  return `  ${name.padEnd(9)} ${text}`;
}

function edits(name: string, made: FieldEdits | null): string[] {
  return [
    ...(made?.set ?? []).map((one) => row(name, `${one.name}: ${one.value}`)),
    ...(made?.remove ?? []).map((one) => row(name, `without ${one}`)),
  ];
}

const nameOf = ({ scheme, host, port, hostHeader }: OriginTarget): string =>
  `${scheme}://${host.includes(":") ? `[${host}]` : host}:${port}${hostHeader === undefined ? "" : ` as ${hostHeader}`}`;
