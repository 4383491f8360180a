/** The page for a request that could not be answered: what happened, and a reference by which the operator finds out why. */

export interface ErrorPage {
  readonly status: number;
  /** One sentence for the user. Plain ASCII of our own: it is put into HTML as it is. */
  readonly text: string;
  readonly reference: string;
}

/** Whether HTML is wanted: browsers name it, programs take anything (RFC 9110, section 12.5.1). */
export function wantsHtml(accept: string | undefined): boolean {
  return accept !== undefined && /(?:^|,)\s*text\/html\s*(?:[,;]|$)/i.test(accept.slice(0, 512));
}

export function textPage({ text, reference }: ErrorPage): string {
  return `${text}\nReference: ${reference}\n`;
}

export function htmlPage({ status, text, reference }: ErrorPage): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>${status}</title>
<style>
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 20vh auto 0; padding: 0 1.5rem; }
h1 { font-size: 3rem; line-height: 1; margin: 0 0 1rem; }
code { font-size: 0.9rem; user-select: all; overflow-wrap: anywhere; }
</style>
<h1>${status}</h1>
<p>${text}</p>
<p>If this goes on, tell the site's operator this reference:<br><code>${reference}</code></p>
</html>
`;
}
