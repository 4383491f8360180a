/** Answers of customers' zones, a line each: what is asked, what is said, and which section wants it so. */
import { describe, expect, it } from "vitest";
import { nameFromText, parseAddress, typeFromText } from "#kit";
import { respond } from "../../../mapping/core/dns/respond.ts";
import { SignatureCache } from "../../../mapping/core/dns/dnssec/signer.ts";
import { isSurelyOver, readMessage, writeMessage } from "../../../mapping/core/dns/wire.ts";
import { resolver } from "../../unit/mapping-dns/fixture.ts";
import { keySet, newKey, signersOf } from "../../unit/mapping-dns/signed.ts";
import { askHosted, hostedContext, queryFor, zoneFrom } from "../../tools/zones/hosted.ts";
import { linesOf } from "../../tools/zones/records.ts";

const SOA = "z.test. 60 soa ns.z.test. hm.z.test. 9 7200 1800 1209600 60";
const ZONE = `$ORIGIN Z.test.
$TTL 300
@ 600 SOA ns hm 9 7200 1800 1209600 60
@ NS ns
@ NS ns.other.test.
@ MX 5 mail
@ MX 9 mail.other.test.
@ A 192.0.2.100
ns A 192.0.2.1
ns AAAA 2001:db8::1
mail 60 A 192.0.2.2
Host A 192.0.2.3
host A 192.0.2.4
host TXT "t"
multi.deep.er TXT "x"
; aliases
c1 CNAME c2
c2 CNAME host
cout CNAME www.out.test.
cnone CNAME nothing
cdeep CNAME deep.er
loop1 CNAME loop2
loop2 CNAME loop1
self CNAME self
cwild CNAME any.wild
csub CNAME www.sub
ctop CNAME @
cother CNAME host.y.test.
cmap CNAME www.shop.example.
cmapnone CNAME nothing.shop.example.
; wildcards (the zone of RFC 4592 section 2.2.1)
*.wild TXT "this is a wildcard"
*.wild MX 10 mail
sub.*.wild TXT "this is not a wildcard"
host1.wild A 192.0.2.11
_ssh._tcp.host1.wild SRV 0 0 22 host1.wild
_ssh._tcp.host2.wild SRV 0 0 22 host1.wild
subdel.wild NS ns.other.test.
*.cw CNAME host
*.dw CNAME any.wild
a.*.ew A 192.0.2.12
; delegations
sub NS ns.sub
sub NS ns.sib
sub NS ns
sub DS 1 13 2 abcd
ns.sub A 192.0.2.21
below.sub TXT "occluded"
*.sub TXT "occluded"
deeper.sub NS ns.deeper.sub
ns.deeper.sub A 192.0.2.22
sib NS ns.sub
ns.sib A 192.0.2.23
unsigned NS ns.other.test.
; DNAME
d DNAME target
d TXT "at the owner"
target TXT "at the target's top"
x.target A 192.0.2.31
*.y.target A 192.0.2.32
dout DNAME out.test.
dloop DNAME a.dloop
dchain DNAME d
dlong DNAME ${`${"l".repeat(60)}.`.repeat(3)}test.
; odd names
a\\.b A 192.0.2.41
\\000\\255 A 192.0.2.42
srv SRV 0 0 1 host
nsrec.x NS ns.x
`;
const OTHER =
  "$ORIGIN y.test.\n$TTL 300\n@ SOA ns.z.test. hm 1 2 1 4 30\n@ NS ns.z.test.\nhost A 192.0.2.90\n";
const CHILD =
  "$ORIGIN kid.z.test.\n$TTL 300\n@ SOA ns.z.test. hm 1 2 1 4 30\n@ NS ns.z.test.\n@ DNSKEY 257 3 13 q80=\n";
const MAPPED =
  '$ORIGIN other.test.\n$TTL 300\n@ SOA ns.z.test. hm 1 2 1 4 30\n@ NS ns.z.test.\nwww TXT "own"\n';
const state = hostedContext([zoneFrom(ZONE), zoneFrom(OTHER), zoneFrom(CHILD), zoneFrom(MAPPED)]);

const codes = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN"];
const labelsOf = (name: string): string[] =>
  name === "@"
    ? ["z", "test"]
    : (name.endsWith(".") ? name.slice(0, -1) : `${name}.z.test`)
        .split(".")
        .map((label) =>
          label.replaceAll(/\\(\d{3})/g, (_, code: string) => String.fromCharCode(Number(code))),
        );

type Vector = readonly [section: string, question: string, head: string, ...sections: string[]];

/** `an`, `au`, `ad` in front of a line name its section; names without a dot at their end are below z.test. */
const vectors: readonly Vector[] = [
  // Positive answers
  ["RFC 1034 4.3.2: exact match", "mail A", "NOERROR aa", "an mail.z.test. 60 a 192.0.2.2"],
  [
    "RFC 2181 5: a whole RRset",
    "host A",
    "NOERROR aa",
    "an host.z.test. 300 a 192.0.2.3",
    "an host.z.test. 300 a 192.0.2.4",
  ],
  [
    "RFC 4343: letters of the question do not matter",
    "HOST TXT",
    "NOERROR aa",
    'an host.z.test. 300 txt "t"',
  ],
  [
    "RFC 1034 4.2.1: SOA at the top",
    "@ SOA",
    "NOERROR aa",
    "an z.test. 600 soa ns.z.test. hm.z.test. 9 7200 1800 1209600 60",
  ],
  [
    "RFC 1035 3.3.11: addresses of name servers",
    "@ NS",
    "NOERROR aa",
    "an z.test. 300 ns ns.other.test.",
    "an z.test. 300 ns ns.z.test.",
    "ad ns.z.test. 300 a 192.0.2.1",
    "ad ns.z.test. 300 aaaa 2001:db8::1",
  ],
  [
    "RFC 1035 3.3.9: addresses of mail hosts",
    "@ MX",
    "NOERROR aa",
    "an z.test. 300 mx 5 mail.z.test.",
    "an z.test. 300 mx 9 mail.other.test.",
    "ad mail.z.test. 60 a 192.0.2.2",
  ],
  [
    "RFC 2782: addresses of services",
    "srv SRV",
    "NOERROR aa",
    "an srv.z.test. 300 srv 0 0 1 host.z.test.",
    "ad host.z.test. 300 a 192.0.2.3",
    "ad host.z.test. 300 a 192.0.2.4",
  ],
  ["RFC 1035 5.1: a dot within a label", "a\\046b A", "NOERROR aa", "an a\\.b.z.test. 300 a 192.0.2.41"],
  ["RFC 1035 5.1: and not between two", "a.b A", "NXDOMAIN aa", `au ${SOA}`],
  ["RFC 2181 11: any octets", "\\000\\255 A", "NOERROR aa", "an \\000\\255.z.test. 300 a 192.0.2.42"],
  // Negative answers
  ["RFC 2308 2.1: NXDOMAIN with the SOA, TTL by the minimum", "nothing A", "NXDOMAIN aa", `au ${SOA}`],
  ["RFC 2308 2.2: NODATA with the SOA", "mail TXT", "NOERROR aa", `au ${SOA}`],
  ["RFC 2308 2.2: NODATA at the top", "@ TXT", "NOERROR aa", `au ${SOA}`],
  ["RFC 8020 2: an empty non-terminal exists", "er A", "NOERROR aa", `au ${SOA}`],
  ["RFC 8020 2: and the one below it", "deep.er TXT", "NOERROR aa", `au ${SOA}`],
  ["RFC 8020 2: beside it nothing does", "x.er TXT", "NXDOMAIN aa", `au ${SOA}`],
  ["RFC 8020 2: nor below a leaf", "x.mail A", "NXDOMAIN aa", `au ${SOA}`],
  ["RFC 3597: NODATA for an unknown type", "host TYPE65400", "NOERROR aa", `au ${SOA}`],
  [
    "RFC 4035 3.1.4.1: DS at the top without the zone above: NODATA of the zone",
    "@ DS",
    "NOERROR aa",
    `au ${SOA}`,
  ],
  ["RFC 1034 4.3.1: outside of all zones", "x.nowhere.test. A", "REFUSED"],
  ["RFC 1034 4.3.1: above all zones", "test. NS", "REFUSED"],
  // Minimal ANY
  ["RFC 8482 4.2: ANY", "host ANY", "NOERROR aa", 'an host.z.test. 300 hinfo "rfc8482" ""'],
  [
    "RFC 8482 4.1: ANY at an alias is the alias",
    "c1 ANY",
    "NOERROR aa",
    "an c1.z.test. 300 cname c2.z.test.",
  ],
  ["RFC 8482: ANY at nothing", "nothing ANY", "NXDOMAIN aa", `au ${SOA}`],
  ["RFC 8482: ANY at an empty non-terminal", "er ANY", "NOERROR aa", `au ${SOA}`],
  [
    "RFC 8482: ANY below a cut is a referral",
    "x.unsigned ANY",
    "NOERROR",
    "au unsigned.z.test. 300 ns ns.other.test.",
  ],
  // CNAME
  [
    "RFC 1034 3.6.2: an alias is followed",
    "c2 A",
    "NOERROR aa",
    "an c2.z.test. 300 cname host.z.test.",
    "an host.z.test. 300 a 192.0.2.3",
    "an host.z.test. 300 a 192.0.2.4",
  ],
  [
    "RFC 1034 3.6.2: and the next one",
    "c1 TXT",
    "NOERROR aa",
    "an c1.z.test. 300 cname c2.z.test.",
    "an c2.z.test. 300 cname host.z.test.",
    'an host.z.test. 300 txt "t"',
  ],
  ["RFC 1034 3.6.2: the alias itself", "c1 CNAME", "NOERROR aa", "an c1.z.test. 300 cname c2.z.test."],
  [
    "RFC 2308 2.2.1: NODATA at the end of aliases",
    "c1 AAAA",
    "NOERROR aa",
    "an c1.z.test. 300 cname c2.z.test.",
    "an c2.z.test. 300 cname host.z.test.",
    `au ${SOA}`,
  ],
  [
    "RFC 6604 3: NXDOMAIN at the end of aliases",
    "cnone A",
    "NXDOMAIN aa",
    "an cnone.z.test. 300 cname nothing.z.test.",
    `au ${SOA}`,
  ],
  [
    "RFC 1034 4.3.2: an alias that leads out",
    "cout A",
    "NOERROR aa",
    "an cout.z.test. 300 cname www.out.test.",
  ],
  [
    "RFC 8020 2: an alias to an empty non-terminal",
    "cdeep TXT",
    "NOERROR aa",
    "an cdeep.z.test. 300 cname deep.er.z.test.",
    `au ${SOA}`,
  ],
  [
    "RFC 1034 3.6.2: a loop ends",
    "loop1 A",
    "NOERROR aa",
    "an loop1.z.test. 300 cname loop2.z.test.",
    "an loop2.z.test. 300 cname loop1.z.test.",
  ],
  ["RFC 1034 3.6.2: an alias of itself", "self A", "NOERROR aa", "an self.z.test. 300 cname self.z.test."],
  [
    "RFC 4592 2.2: an alias into a wildcard",
    "cwild TXT",
    "NOERROR aa",
    "an cwild.z.test. 300 cname any.wild.z.test.",
    'an any.wild.z.test. 300 txt "this is a wildcard"',
  ],
  [
    "RFC 1034 4.3.2: an alias to below a cut: the referral, and AA for the alias",
    "csub A",
    "NOERROR aa",
    "an csub.z.test. 300 cname www.sub.z.test.",
    "au sub.z.test. 300 ns ns.sib.z.test.",
    "au sub.z.test. 300 ns ns.sub.z.test.",
    "au sub.z.test. 300 ns ns.z.test.",
  ],
  [
    "RFC 1034 3.6.2: an alias to the top",
    "ctop A",
    "NOERROR aa",
    "an ctop.z.test. 300 cname z.test.",
    "an z.test. 300 a 192.0.2.100",
  ],
  [
    "RFC 1034 4.3.2 3a: into another zone of ours",
    "cother A",
    "NOERROR aa",
    "an cother.z.test. 300 cname host.y.test.",
    "an host.y.test. 300 a 192.0.2.90",
  ],
  [
    "RFC 1034 4.3.2 3a: whose SOA denies",
    "cother TXT",
    "NOERROR aa",
    "an cother.z.test. 300 cname host.y.test.",
    "au y.test. 30 soa ns.z.test. hm.y.test. 1 2 1 4 30",
  ],
  // Wildcards
  [
    "RFC 4592 2.2.1: host3.example MX",
    "host3.wild MX",
    "NOERROR aa",
    "an host3.wild.z.test. 300 mx 10 mail.z.test.",
    "ad mail.z.test. 60 a 192.0.2.2",
  ],
  ["RFC 4592 2.2.1: host3.example A, NODATA", "host3.wild A", "NOERROR aa", `au ${SOA}`],
  [
    "RFC 4592 2.2.1: foo.bar.example TXT",
    "foo.bar.wild TXT",
    "NOERROR aa",
    'an foo.bar.wild.z.test. 300 txt "this is a wildcard"',
  ],
  ["RFC 4592 2.2.1: host1.example MX: the name exists", "host1.wild MX", "NOERROR aa", `au ${SOA}`],
  ["RFC 4592 2.2.1: sub.*.example MX: the name exists", "sub.*.wild MX", "NOERROR aa", `au ${SOA}`],
  [
    "RFC 4592 2.2.1: _telnet._tcp.host1.example SRV: _tcp.host1 exists",
    "_telnet._tcp.host1.wild SRV",
    "NXDOMAIN aa",
    `au ${SOA}`,
  ],
  [
    "RFC 4592 2.2.1: host.subdel.example A: a referral",
    "host.subdel.wild A",
    "NOERROR",
    "au subdel.wild.z.test. 300 ns ns.other.test.",
  ],
  [
    "RFC 4592 2.2.1: ghost.*.example MX: the closest encloser is the wildcard",
    "ghost.*.wild MX",
    "NXDOMAIN aa",
    `au ${SOA}`,
  ],
  ["RFC 4592 2.2.2: host2 is an empty non-terminal", "host2.wild MX", "NOERROR aa", `au ${SOA}`],
  [
    "RFC 4592 2.3: the wildcard itself may be asked for",
    "*.wild TXT",
    "NOERROR aa",
    'an *.wild.z.test. 300 txt "this is a wildcard"',
  ],
  [
    "RFC 4592 2.1.1: what stands for it keeps the question's letters",
    "FOO.wild TXT",
    "NOERROR aa",
    'an foo.wild.z.test. 300 txt "this is a wildcard"',
  ],
  ["RFC 4592 4.1: a wildcard has no say at its own name above", "wild TXT", "NOERROR aa", `au ${SOA}`],
  [
    "RFC 4592 4.3: a wildcard alias",
    "x.cw A",
    "NOERROR aa",
    "an x.cw.z.test. 300 cname host.z.test.",
    "an host.z.test. 300 a 192.0.2.3",
    "an host.z.test. 300 a 192.0.2.4",
  ],
  [
    "RFC 4592 4.3: one that leads to another wildcard",
    "x.dw TXT",
    "NOERROR aa",
    "an x.dw.z.test. 300 cname any.wild.z.test.",
    'an any.wild.z.test. 300 txt "this is a wildcard"',
  ],
  ["RFC 4592 2.2.2: a wildcard that is an empty non-terminal", "x.ew A", "NOERROR aa", `au ${SOA}`],
  ["RFC 8482: ANY at a wildcard", "x.wild ANY", "NOERROR aa", 'an x.wild.z.test. 300 hinfo "rfc8482" ""'],
  // Delegation
  [
    "RFC 1034 4.2.1: a referral with its glue",
    "www.sub A",
    "NOERROR",
    "au sub.z.test. 300 ns ns.sib.z.test.",
    "au sub.z.test. 300 ns ns.sub.z.test.",
    "au sub.z.test. 300 ns ns.z.test.",
    "ad ns.sib.z.test. 300 a 192.0.2.23",
    "ad ns.sub.z.test. 300 a 192.0.2.21",
    "ad ns.z.test. 300 a 192.0.2.1",
    "ad ns.z.test. 300 aaaa 2001:db8::1",
  ],
  [
    "RFC 2181 6: NS of a cut is the child's: a referral",
    "unsigned NS",
    "NOERROR",
    "au unsigned.z.test. 300 ns ns.other.test.",
  ],
  ["RFC 2181 6: so is its SOA", "unsigned SOA", "NOERROR", "au unsigned.z.test. 300 ns ns.other.test."],
  [
    "RFC 2181 5.4.1: glue is no answer",
    "ns.sub A",
    "NOERROR",
    "au sub.z.test. 300 ns ns.sib.z.test.",
    "au sub.z.test. 300 ns ns.sub.z.test.",
    "au sub.z.test. 300 ns ns.z.test.",
    "ad ns.sib.z.test. 300 a 192.0.2.23",
    "ad ns.sub.z.test. 300 a 192.0.2.21",
    "ad ns.z.test. 300 a 192.0.2.1",
    "ad ns.z.test. 300 aaaa 2001:db8::1",
  ],
  [
    "RFC 9471 3.2: glue of a sibling",
    "x.sib A",
    "NOERROR",
    "au sib.z.test. 300 ns ns.sub.z.test.",
    "ad ns.sub.z.test. 300 a 192.0.2.21",
  ],
  [
    "RFC 4035 3.1.4.1: DS of a cut is the parent's",
    "sub DS",
    "NOERROR aa",
    "an sub.z.test. 300 ds 1 13 2 abcd",
  ],
  ["RFC 4035 3.1.4.1: DS of an unsigned cut: NODATA of the parent", "unsigned DS", "NOERROR aa", `au ${SOA}`],
  [
    "RFC 4035 3.1.4.1: DS below a cut: a referral",
    "x.unsigned DS",
    "NOERROR",
    "au unsigned.z.test. 300 ns ns.other.test.",
  ],
  [
    "RFC 1034 4.3.2 3b: the highest cut counts",
    "x.deeper.sub TXT",
    "NOERROR",
    "au sub.z.test. 300 ns ns.sib.z.test.",
    "au sub.z.test. 300 ns ns.sub.z.test.",
    "au sub.z.test. 300 ns ns.z.test.",
    "ad ns.sib.z.test. 300 a 192.0.2.23",
    "ad ns.sub.z.test. 300 a 192.0.2.21",
    "ad ns.z.test. 300 a 192.0.2.1",
    "ad ns.z.test. 300 aaaa 2001:db8::1",
  ],
  [
    "RFC 1034 4.2.1: glue that is not there is not made up",
    "nsrec.x A",
    "NOERROR",
    "au nsrec.x.z.test. 300 ns ns.x.z.test.",
  ],
  ["RFC 8020: beside a cut all is as ever", "x.x A", "NXDOMAIN aa", `au ${SOA}`],
  [
    "RFC 1034 4.3.2 2: the zone below is ours too: its own answer",
    "kid DNSKEY",
    "NOERROR aa",
    "an kid.z.test. 300 dnskey 257 3 13 q80=",
  ],
  ["RFC 4035 3.1.4.1: its DS is asked of the zone above", "kid DS", "NXDOMAIN aa", `au ${SOA}`],
  // DNAME
  [
    "RFC 6672 2.2: a name below is substituted",
    "x.d A",
    "NOERROR aa",
    "an d.z.test. 300 dname target.z.test.",
    "an x.d.z.test. 300 cname x.target.z.test.",
    "an x.target.z.test. 300 a 192.0.2.31",
  ],
  ["RFC 6672 2.3: the owner itself is not", "d TXT", "NOERROR aa", 'an d.z.test. 300 txt "at the owner"'],
  ["RFC 6672 2.3: nor does it stand for the target", "d A", "NOERROR aa", `au ${SOA}`],
  ["RFC 6672 3.1: the DNAME itself", "d DNAME", "NOERROR aa", "an d.z.test. 300 dname target.z.test."],
  [
    "RFC 6672 3.2: the alias that was asked for",
    "x.d CNAME",
    "NOERROR aa",
    "an d.z.test. 300 dname target.z.test.",
    "an x.d.z.test. 300 cname x.target.z.test.",
  ],
  [
    "RFC 6672 3.2: NXDOMAIN behind it",
    "n.d A",
    "NXDOMAIN aa",
    "an d.z.test. 300 dname target.z.test.",
    "an n.d.z.test. 300 cname n.target.z.test.",
    `au ${SOA}`,
  ],
  [
    "RFC 6672 3.2: a wildcard behind it",
    "q.y.d A",
    "NOERROR aa",
    "an d.z.test. 300 dname target.z.test.",
    "an q.y.d.z.test. 300 cname q.y.target.z.test.",
    "an q.y.target.z.test. 300 a 192.0.2.32",
  ],
  [
    "RFC 6672 2.2: several labels, out of the zone",
    "a.b.dout A",
    "NOERROR aa",
    "an a.b.dout.z.test. 300 cname a.b.out.test.",
    "an dout.z.test. 300 dname out.test.",
  ],
  [
    "RFC 6672 3.2: one behind another",
    "x.dchain A",
    "NOERROR aa",
    "an d.z.test. 300 dname target.z.test.",
    "an dchain.z.test. 300 dname d.z.test.",
    "an x.d.z.test. 300 cname x.target.z.test.",
    "an x.dchain.z.test. 300 cname x.d.z.test.",
    "an x.target.z.test. 300 a 192.0.2.31",
  ],
  [
    "RFC 6672 2.2: YXDOMAIN where the name grows too long",
    `${"m".repeat(63)}.mm.dlong A`,
    "YXDOMAIN aa",
    `an dlong.z.test. 300 dname ${`${"l".repeat(60)}.`.repeat(3)}test.`,
  ],
  // Host names of the map in a customer's zone, and aliases to them
  [
    "the map's own zone behind an alias",
    "cmap A",
    "NOERROR aa",
    "an cmap.z.test. 300 cname www.shop.example.",
    "an www.shop.example. 20 a 127.10.1.1",
    "an www.shop.example. 20 a 127.10.1.2",
  ],
  [
    "RFC 6604 3: nothing there",
    "cmapnone A",
    "NXDOMAIN aa",
    "an cmapnone.z.test. 300 cname nothing.shop.example.",
    "au shop.example. 60 soa ns1.shop.example. hostmaster.shop.example. 7 7200 1800 1209600 60",
  ],
  [
    "a property's addresses win in a customer's zone",
    "www.other.test. A",
    "NOERROR aa",
    "an www.other.test. 20 a 127.10.1.1",
    "an www.other.test. 20 a 127.10.1.2",
  ],
  ["everything else is the zone's", "www.other.test. TXT", "NOERROR aa", 'an www.other.test. 300 txt "own"'],
  [
    "RFC 2308 2.2: NODATA by the zone's SOA",
    "www.other.test. AAAA",
    "NOERROR aa",
    "au other.test. 30 soa ns.z.test. hm.other.test. 1 2 1 4 30",
  ],
  [
    "RFC 8020: and nothing below it",
    "x.www.other.test. A",
    "NXDOMAIN aa",
    "au other.test. 30 soa ns.z.test. hm.other.test. 1 2 1 4 30",
  ],
];

function ask(question: string, transport: "udp" | "tcp" = "udp"): readonly string[] {
  const [name = "", type = ""] = question.split(" ");
  const query = queryFor(labelsOf(name), type === "ANY" ? 255 : (typeFromText(type) ?? 0));
  const told = respond(
    { bytes: query, transport, resolverAddress: parseAddress("192.0.2.77") ?? resolver },
    state,
  );
  if (told.action !== "reply") throw new Error(told.reason);
  const read = readMessage(told.bytes);
  if (!read.ok) throw new Error(read.fault);
  const { header, answers, authorities, additionals } = read.message;
  const head = `${codes[header.rcode]}${header.isAuthoritative ? " aa" : ""}${header.isTruncated ? " tc" : ""}`;
  return [
    head,
    ...linesOf(answers).map((line) => `an ${line}`),
    ...linesOf(authorities).map((line) => `au ${line}`),
    ...linesOf(additionals).map((line) => `ad ${line}`),
  ];
}

describe("what a zone says", () => {
  it.each(vectors)("%s: %s", (section, question, ...expected) => {
    const told = ask(question);
    // An alias to below a cut names the child's servers; their addresses are looked at where the cut itself is asked for.
    const isAliasToCut = section.includes("an alias to below a cut");
    const [head, ...lines] = isAliasToCut ? told.filter((line) => !line.startsWith("ad ")) : told;
    expect([head, ...lines.toSorted()]).toEqual([expected[0], ...expected.slice(1).toSorted()]);
  });
});

/** One record of each type, at a name, at a wildcard, and asked for in capitals. */
const types: readonly (readonly [type: string, text: string])[] = [
  ["A", "192.0.2.1"],
  ["AAAA", "2001:db8::1"],
  ["PTR", "b.test."],
  ["HINFO", '"a" "b"'],
  ["MX", "1 b.test."],
  ["TXT", '"a" "b"'],
  ["RP", "a.test. b.test."],
  ["AFSDB", "1 b.test."],
  ["LOC", "1 2 3.000 n 4 5 6.000 e 7.00m 8.00m 9.00m 10.00m"],
  ["SRV", "1 2 3 b.test."],
  ["NAPTR", '1 2 "u" "e2u" "!a!b!" .'],
  ["KX", "1 b.test."],
  ["CERT", "1 2 3 q80="],
  ["SSHFP", "1 1 abcd"],
  ["DHCID", "q80="],
  ["TLSA", "3 1 1 abcd"],
  ["SMIMEA", "3 1 1 abcd"],
  ["CDS", "1 13 2 abcd"],
  ["CDNSKEY", "257 3 13 q80="],
  ["OPENPGPKEY", "q80="],
  ["SVCB", "1 b.test. port=53"],
  ["HTTPS", "1 . alpn=h2"],
  ["SPF", '"v=spf1"'],
  ["EUI48", "00-00-5e-00-53-2a"],
  ["EUI64", "00-00-5e-ef-10-00-00-2a"],
  ["URI", '1 2 "https://b/"'],
  ["CAA", '0 issue "ca"'],
  ["TYPE65280", "\\# 2 abcd"],
  ["TYPE65300", "\\# 0"],
];
const typesState = hostedContext([
  zoneFrom(
    `$ORIGIN t.test.\n$TTL 300\n@ SOA ns.b.test. h 1 2 1 4 30\n@ NS ns.b.test.\n${types
      .map(([type, text]) => `has-${type} ${type} ${text}\n*.wild-${type} 7 ${type} ${text}\n`)
      .join("")}`,
  ),
]);

describe("every type is answered as it was written (RFC 3597)", () => {
  it.each(types)("%s", (type, text) => {
    const code = typeFromText(type) ?? 0;
    const told = (labels: readonly string[], asked = code) => {
      const { message } = askHosted(typesState, queryFor([...labels, "t", "test"], asked));
      return [codes[message.header.rcode], ...linesOf(message.answers), ...linesOf(message.authorities)];
    };
    const lower = type.toLowerCase();
    expect(told([`has-${type}`])).toEqual([
      "NOERROR",
      `has-${lower}.t.test. 300 ${lower} ${text.toLowerCase()}`,
    ]);
    expect(told([`HAS-${type}`])).toEqual(told([`has-${type}`]));
    expect(told(["x", "y", `wild-${type}`])).toEqual([
      "NOERROR",
      `x.y.wild-${lower}.t.test. 7 ${lower} ${text.toLowerCase()}`,
    ]);
    const denied = ["NOERROR", "t.test. 30 soa ns.b.test. h.t.test. 1 2 1 4 30"];
    expect(told([`has-${type}`], 65_000)).toEqual(denied);
    expect(told([`wild-${type}`])).toEqual(denied);
    expect(told(["x", `has-${type}`])).toEqual(["NXDOMAIN", denied[1]]);
  });
});

describe("limits", () => {
  const many = Array.from(
    { length: 40 },
    (_, n) => `big NS ns${n}.big\nns${n}.big A 192.0.2.${n}\nns${n}.big AAAA 2001:db8::${n}\n`,
  ).join("");
  const chain = Array.from({ length: 30 }, (_, n) => `c${n} CNAME c${n + 1}\n`).join("");
  const wide = hostedContext([
    zoneFrom(
      `$ORIGIN w.test.\n$TTL 300\n@ SOA ns h 1 2 1 4 30\n@ NS ns\nns A 192.0.2.1\n${many}${chain}c30 A 192.0.2.9\n`,
    ),
  ]);

  it("RFC 9471 3.1: a referral whose glue has no room is cut, and whole over TCP", () => {
    const query = queryFor(["x", "big", "w", "test"], 1);
    const cut = askHosted(wide, query).message;
    expect([cut.header.isTruncated, cut.authorities.length, cut.additionals.length]).toEqual([true, 0, 0]);
    const whole = askHosted(wide, query, "tcp").message;
    expect([whole.header.isTruncated, whole.authorities.length, whole.additionals.length]).toEqual([
      false,
      40,
      80,
    ]);
  });

  it("a chain of aliases is followed sixteen times, and said as far", () => {
    const { decision, message } = askHosted(wide, queryFor(["c0", "w", "test"], 1));
    expect([decision.reason, message.header.rcode, message.answers.length]).toEqual(["alias-chain", 0, 16]);
  });

  const refusal = (text: string): string => {
    try {
      zoneFrom(`$ORIGIN w.test.\n$TTL 300\n@ SOA ns h 1 2 1 4 30\n@ NS ns\n${text}`);
    } catch (error) {
      return String(error);
    }
    return "taken";
  };
  const texts = (count: number): string =>
    Array.from({ length: count }, (_, n) => `t TXT "${String(n).padEnd(254, "x")}"\n`).join("");
  const types = (count: number): string =>
    Array.from({ length: count }, (_, n) => `t TYPE${300 + n} \\# 0\n`).join("");

  it("RFC 1035 4.2.2: a set is refused that no message can hold", () => {
    expect(refusal(texts(245))).toBe("taken");
    expect(refusal(texts(246))).toContain("a set that one message can hold");
  });

  it("a name has a hundred types at most: each denial goes through them", () => {
    expect(refusal(types(100))).toBe("taken");
    expect(refusal(types(101))).toContain("at most 100 types at a name");
  });

  /** 60 hosts with 60 addresses each, for mail and at a cut. */
  const hosts = Array.from({ length: 60 }, (_, host) =>
    [
      `@ MX 5 m${host}`,
      `cut NS m${host}`,
      `deep NS n${host}.deep`,
      ...Array.from(
        { length: 60 },
        (_, n) => `m${host} A 192.0.2.${n}\nn${host}.deep AAAA 2001:db8::${host}:${n}`,
      ),
    ].join("\n"),
  ).join("\n");
  const costly = hostedContext([
    zoneFrom(`$ORIGIN w.test.\n$TTL 300\n@ SOA ns h 1 2 1 4 30\n@ NS ns.test.\n${hosts}\n${texts(200)}\n`),
  ]);
  const sections = (labels: readonly string[], type: number) => {
    const { message } = askHosted(costly, queryFor([...labels, "w", "test"], type), "tcp");
    return [
      message.header.isTruncated,
      message.answers.length,
      message.authorities.length,
      message.additionals.length,
    ];
  };

  it("what is told unasked is bounded, glue that is needed is told whole or not at all", () => {
    expect(sections([], 15)).toEqual([false, 60, 0, 60]);
    expect(sections(["x", "cut"], 1)).toEqual([false, 0, 60, 120]);
    // 3,600 addresses of 28 octets are more than a message holds.
    expect(sections(["x", "deep"], 1)).toEqual([true, 0, 0, 0]);
  });

  it("of a set that has no room over UDP little is looked at, and nothing is signed", () => {
    let looks = 0;
    const name = nameFromText("t.w.test")!;
    const data = { kind: "opaque", bytes: new Uint8Array(20) } as const;
    const record = { name, type: 65_280, class: 1, ttlSeconds: 1 };
    const answers = Array.from({ length: 3_000 }, () => ({
      ...record,
      get data() {
        looks++;
        return data;
      },
    }));
    const message = { ...askHosted(costly, queryFor(["t", "w", "test"], 1)).message, answers };
    expect(writeMessage(message, 1_232)).toBeUndefined();
    expect(isSurelyOver(answers, 1_232)).toBe(true);
    expect(looks).toBeLessThan(100);
    const cache = new SignatureCache(10);
    const signers = signersOf([keySet("w.test", newKey())], cache);
    const query = queryFor(["t", "w", "test"], 16);
    query[query.length - 4] = 0x80;
    expect(askHosted({ ...costly, signers }, query).message.header.isTruncated).toBe(true);
    expect(cache.figures.signed).toBe(0);
    expect(askHosted({ ...costly, signers }, query, "tcp").message.answers).toHaveLength(201);
  });
});
