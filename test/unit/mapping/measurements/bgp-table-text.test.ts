import { describe, expect, test } from "vitest";
import { formatPrefix } from "#kit";
import { BgpTableTextReader } from "#mapping";

/** Routes as `PREFIX next hop path`, one a line, and what was skipped. */
function read(text: string, chunk = 7) {
  const routes: string[] = [];
  const reader = new BgpTableTextReader({
    route: ({ prefix, peerAddress, peerAs, asPath, originAs }) =>
      routes.push(
        `${formatPrefix(prefix)} ${peerAddress} ${peerAs}: ${asPath.join(" ")} from ${originAs.join(",")}`,
      ),
  });
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length; at += chunk) reader.read(bytes.subarray(at, at + chunk));
  reader.end();
  const { taken, skipped, examples } = reader.tally.summary();
  return { routes, taken, skipped, why: examples.map((one) => one.why).join("; ") };
}

const HEAD = `route-views>show ip bgp
BGP table version is 95110, local router ID is 198.32.162.100
Status codes: s suppressed, d damped, h history, * valid, > best, i - internal,
              r RIB-failure, S Stale
Origin codes: i - IGP, e - EGP, ? - incomplete

   Network          Next Hop            Metric LocPrf Weight Path
`;

describe("a table of show ip bgp", () => {
  test("Cisco: repeated networks are blank, long ones go on in the next line, classes stand for lengths", () => {
    const { routes, taken, skipped } =
      read(`${HEAD}*  3.0.0.0          206.157.77.11          165             0 1673 701 703 80 i
*                   144.228.240.93           4             0 1239 701 703 80 i
*>                  4.0.4.90              2000    100      0 1 701 703 80 ?
*> 128.9.0.0        192.0.2.1                              0 64500 {64501,64502} e
*>i198.51.100.128/25
                    192.0.2.7                0             0 64500 64500 4.1 i
*                   192.0.2.8                0             0 (65001 65002) 64510 i
*> 192.0.2.0        192.0.2.9                0         32768 64511 i
`);
    expect(routes).toEqual([
      "3.0.0.0/8 206.157.77.11 1673: 1673 701 703 80 from 80",
      "3.0.0.0/8 144.228.240.93 1239: 1239 701 703 80 from 80",
      "3.0.0.0/8 4.0.4.90 1: 1 701 703 80 from 80",
      "128.9.0.0/16 192.0.2.1 64500: 64500 from 64501,64502",
      "198.51.100.128/25 192.0.2.7 64500: 64500 64500 262145 from 262145",
      "198.51.100.128/25 192.0.2.8 64510: 64510 from 64510",
      "192.0.2.0/24 192.0.2.9 64511: 64511 from 64511",
    ]);
    expect([taken, skipped]).toEqual([7, {}]);
  });

  test("Quagga and FRRouting: a wider margin, IPv6 over three lines, the router's own routes, a foot", () => {
    const { routes, skipped } = read(`BGP table version is 12, local router ID is 192.0.2.1, vrf id 0
Default local pref 100, local AS 65010
Status codes:  s suppressed, d damped, h history, * valid, > best, = multipath,
RPKI validation codes: V valid, I invalid, N Not found

     Network          Next Hop            Metric LocPrf Weight Path
 N*> 0.0.0.0/0        192.0.2.3(peer-a)        0             0 64496 i
  *=                  192.0.2.4                0             0 64497 i
  *> 2001:db8:ffff:ffff::/64
                      2001:db8:1234:5678:90ab:cdef:1234:5678
                                               0             0 64498 64499 i
  *> 10.7.0.0/16      0.0.0.0                  0         32768 i

Displayed 3 routes and 4 total paths
frr# exit
`);
    expect(routes).toEqual([
      "0.0.0.0/0 192.0.2.3 64496: 64496 from 64496",
      "0.0.0.0/0 192.0.2.4 64497: 64497 from 64497",
      "2001:db8:ffff:ffff::/64 2001:db8:1234:5678:90ab:cdef:1234:5678 64498: 64498 64499 from 64499",
      "10.7.0.0/16 0.0.0.0 65010:  from ",
    ]);
    expect(skipped).toEqual({});
  });

  test("what is not in use is left out and counted; so is the router's own route when nobody tells its AS", () => {
    const { routes, skipped } =
      read(`${HEAD}*d 3.0.0.0          206.157.77.11          165             0 1673 80 i
 s                  206.157.77.12          165             0 1674 80 i
*>                  206.157.77.13          165             0 1675 80 i
*> 4.0.0.0          0.0.0.0                  0         32768 i
`);
    expect(routes).toEqual(["3.0.0.0/8 206.157.77.13 1675: 1675 80 from 80"]);
    expect(skipped).toEqual({ "other-type": 2, "no-peer": 1 });
  });

  const path = "192.0.2.1                0             0 64500 i";
  test.each([
    [
      "a network that cannot be read takes those below with it",
      `*> 10.300.0.0       ${path}\n*                   ${path}\n`,
      { malformed: 2 },
    ],
    ["a network of no class and without a length", `*> 10.1.0.0         ${path}\n`, { malformed: 1 }],
    [
      "another next hop",
      `*> 10.0.0.0         nowhere                  0             0 64500 i\n`,
      { malformed: 1 },
    ],
    [
      "columns that have slipped",
      `*> 10.0.0.0         192.0.2.1         0               0   64500 64501 64502 i\n`,
      { malformed: 1 },
    ],
    [
      "no origin code",
      `*> 10.0.0.0         192.0.2.1                0             0 64500\n`,
      { malformed: 1 },
    ],
    [
      "an AS number that is none",
      `*> 10.0.0.0         192.0.2.1                0             0 99999999999 i\n`,
      { malformed: 1 },
    ],
    ["other status codes", `?? 10.0.0.0         ${path}\n`, { malformed: 1 }],
    ["a prompt in between", `route-views>\n*> 10.0.0.0         ${path}\n`, { malformed: 1 }],
    [
      "a second line that is missing",
      `*> 198.51.100.128/25\n*> 10.0.0.0         ${path}\n`,
      { "cut-off": 1 },
    ],
    ["an end in the middle", "*> 198.51.100.128/25\n", { "cut-off": 1 }],
    [
      "a line without an end",
      `*> 10.0.0.0 ${"x".repeat(70_000)}\n*                   ${path}\n`,
      { "too-long": 1, malformed: 1 },
    ],
  ])("%s", (_title, lines, skipped) => {
    const found = read(HEAD + lines, 4_096);
    expect(found.skipped).toEqual(skipped);
    for (const route of found.routes) expect(route).toBe("10.0.0.0/8 192.0.2.1 64500: 64500 from 64500");
  });

  test("without a heading there is no table", () => {
    expect(read("show ip bgp\n% BGP not active\n")).toMatchObject({ routes: [], taken: 0, skipped: {} });
  });
});
