/** A browser and RFC 9842: what an update of a script costs it, with the version that it has as the dictionary. */
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { script } from "../tools/text-samples.ts";
import { startEdge, type TestEdge, TestOrigin, until } from "./edge-support.ts";
import { chromiumPath, launch } from "./portal-browser.ts";

describe.skipIf(chromiumPath === undefined)("Chromium", () => {
  const origin = new TestOrigin();
  let edge: TestEdge;
  let browser: Browser;
  const versions = [script(146_000, 1), script(146_000, 2)] as const;

  beforeAll(async () => {
    await origin.start();
    origin.answer = (request, response) => {
      const version = /^\/app\/([12])\.js(?:\?|$)/.exec(request.url ?? "")?.[1];
      if (version === undefined) {
        response.writeHead(200, { "content-type": "text/html" });
        response.end("<!doctype html><title>page</title>");
        return;
      }
      response.writeHead(200, { "content-type": "text/javascript", "cache-control": "max-age=3600" });
      response.end(versions[Number(version) - 1]);
    };
    edge = await startEdge(origin, {}, undefined, undefined, {
      compression: { isEnabled: true, dictionaries: ["/app/*.js"] },
    });
    browser = await launch();
  }, 60_000);
  afterAll(async () => {
    await browser?.close();
    await edge?.running.close();
    await origin.stop();
  });

  test("the next version of a script comes as its difference to the one that it has", async () => {
    const context = await browser.newContext();
    const page = await context.newPage();
    const session = await context.newCDPSession(page);
    await session.send("Network.enable");
    const urls = new Map<string, string>();
    /** Content as it crossed the wire, by URL's end. */
    const received = new Map<string, { readonly bytes: number; readonly coding: string | undefined }>();
    const codings = new Map<string, string | undefined>();
    session.on("Network.responseReceived", ({ requestId, response }) => {
      urls.set(requestId, new URL(response.url).pathname);
      codings.set(
        requestId,
        Object.entries(response.headers).find(([name]) => name.toLowerCase() === "content-encoding")?.[1],
      );
    });
    session.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => {
      received.set(urls.get(requestId) ?? "", { bytes: encodedDataLength, coding: codings.get(requestId) });
    });
    // Loopback is a secure context, so plain HTTP will do.
    await page.goto(`http://127.0.0.1:${edge.port}/`);
    const load = async (path: string): Promise<string> =>
      await page.evaluate(async (target) => {
        const answer = await fetch(target);
        return await answer.text();
      }, path);
    expect(await load("/app/1.js")).toBe(versions[0].toString());
    await until(async () => (await edge.metric("dictionaries")) === 1, "kept at the edge");
    // The browser has it once it is written to its cache: until then it asks as anybody would.
    let text = "";
    let tries = 0;
    await until(
      async () => {
        text = await load(`/app/2.js?${++tries}`);
        await until(() => received.has("/app/2.js"), "received");
        const { coding } = received.get("/app/2.js") ?? {};
        if (coding === "dcz" || coding === "dcb") return true;
        received.delete("/app/2.js");
        return false;
      },
      "a difference",
      20_000,
    );
    expect(text).toBe(versions[1].toString());
    const whole = received.get("/app/1.js")?.bytes ?? 0;
    const difference = received.get("/app/2.js")?.bytes ?? 0;
    expect(whole).toBeGreaterThan(10_000);
    expect(difference).toBeLessThan(1_500);
    console.log(
      `Chromium: a script of ${versions[1].byteLength} bytes came in ${whole} bytes with its head, its next version in ${difference}`,
    );
    await context.close();
  }, 60_000);
});
