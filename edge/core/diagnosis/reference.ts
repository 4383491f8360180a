/**
 * What an error page names: the server that gave up and the request, `sin-1.Xy12ab340007`. All tiers of one request have
 * its id, so that one reference finds what each of them knows.
 */
export interface Reference {
  readonly server: string;
  readonly requestId: string;
}

export function formatReference({ server, requestId }: Reference): string {
  return `${server}.${requestId}`;
}

/** Undefined: the text is none. */
export function parseReference(text: string): Reference | undefined {
  const match = /^([A-Za-z0-9_-]{1,64})\.([A-Za-z0-9_-]{8,64})$/.exec(text);
  return match === null ? undefined : { server: match[1] ?? "", requestId: match[2] ?? "" };
}
