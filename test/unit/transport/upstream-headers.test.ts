import { describe, expect, it } from "vitest";
import { upstreamHeaders } from "../../../transport/core/upstream-headers.ts";

describe("upstreamHeaders", () => {
  it("puts Host first, keeps order, case and repetitions", () => {
    const given = [
      ["Accept", "*/*"],
      ["X-Twice", "1"],
      ["x-twice", "2"],
    ] as const;
    expect(upstreamHeaders(given, "www.shop.example")).toEqual([["Host", "www.shop.example"], ...given]);
  });

  it.each([
    "Host",
    "connection",
    "Keep-Alive",
    "Proxy-Connection",
    "Proxy-Authorization",
    "Proxy-Authenticate",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    "Expect",
    "Isochrone-Peer",
  ])("does not pass %s on (RFC 9110 section 7.6.1)", (name) => {
    expect(upstreamHeaders([[name, "x"]], "a")).toEqual([["Host", "a"]]);
    expect(upstreamHeaders([[name.toUpperCase(), "x"]], "a")).toEqual([["Host", "a"]]);
  });

  it("drops what any Connection field names (RFC 9110 section 7.6.1)", () => {
    const headers = upstreamHeaders(
      [
        ["X-Before", "1"],
        ["Connection", "close, x-before"],
        ["CONNECTION", " X-After ,"],
        ["X-After", "2"],
        ["X-Kept", "3"],
      ],
      "a",
    );
    expect(headers).toEqual([
      ["Host", "a"],
      ["X-Kept", "3"],
    ]);
  });
});
