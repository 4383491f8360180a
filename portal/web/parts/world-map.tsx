/** The world, live: sites by role and state, and the links that content takes. */
/* oxlint-disable jsx-a11y/prefer-tag-over-role -- SVG has no tags for these roles */
import { type GeoPermissibleObjects, geoGraticule10, geoNaturalEarth1, geoPath } from "d3-geo";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { feature } from "topojson-client";
import landTopology from "world-atlas/land-110m.json" with { type: "json" };
import type { LiveLink, LiveSite, LiveState } from "../../core/wire.ts";
import { formatMs, formatRate, formatRatio } from "../format.ts";
import { placeLabels, type Spot, spread } from "./map-layout.ts";
import { roleNames } from "./words.tsx";

type Atlas = Parameters<typeof feature>[0];
const atlas = landTopology as unknown as Atlas;
const landObject = atlas.objects["land"];
const land = (
  landObject === undefined ? { type: "Sphere" } : feature(atlas, landObject)
) as GeoPermissibleObjects;

/** What is shown: nobody runs servers south of it. */
const frame: GeoPermissibleObjects = {
  type: "MultiPoint",
  coordinates: [
    [-168, 0],
    [180, 0],
    [0, 77],
    [0, -53],
  ],
};
/** Width over height. */
const ASPECT = 2.24;
const NARROW = 560;

interface Tip {
  readonly x: number;
  readonly y: number;
  readonly title: string;
  readonly lines: readonly string[];
}

export function WorldMap({ state }: { state: LiveState }) {
  const boxRef = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(960);
  const [tip, setTip] = useState<Tip | undefined>(undefined);
  useEffect(() => {
    const parent = boxRef.current;
    if (parent === null) return;
    const observer = new ResizeObserver(() => setWidth(Math.max(280, Math.round(parent.clientWidth))));
    observer.observe(parent);
    return () => observer.disconnect();
  }, []);
  const height = Math.round(width / ASPECT);
  const isNarrow = width < NARROW;
  const radius = isNarrow ? 4 : 5.5;

  const base = useMemo(() => {
    const projection = geoNaturalEarth1().fitExtent(
      [
        [6, 6],
        [width - 6, height - 6],
      ],
      frame,
    );
    const path = geoPath(projection);
    return { projection, path, land: path(land) ?? "", graticule: path(geoGraticule10()) ?? "" };
  }, [width, height]);

  const sites = state.sites.filter((site) => site.servers.length > 0);
  // Places change with the topology, not with each second's numbers.
  const key = sites.map((site) => `${site.clusterId}@${site.latitude},${site.longitude}`).join(" ");
  const places = useMemo(() => {
    const spots = sites.map((site): Spot => {
      const [x = 0, y = 0] = base.projection([site.longitude, site.latitude]) ?? [];
      return { key: site.clusterId, x, y };
    });
    const moved = spread(spots, radius * 2.6);
    const order = ["edge", "parent", "relay", "origin", "nameserver"];
    const wanted = sites
      .toSorted((a, b) => order.indexOf(a.role) - order.indexOf(b.role))
      .flatMap((site) => {
        const spot = moved.get(site.clusterId);
        return spot === undefined ? [] : [{ ...spot, text: site.city }];
      });
    const size = isNarrow ? { character: 5, line: 10, radius } : { character: 6, line: 12, radius };
    const labels = placeLabels(wanted, [...moved.values()], { width, height }, size);
    return { moved, labels };
    // eslint-disable-next-line react/exhaustive-deps -- `key` stands for the sites' places
  }, [base, key, radius, isNarrow, width, height]);

  const byId = new Map(sites.map((site) => [site.clusterId, site]));
  const isRelayOf = new Set(state.links.flatMap((link) => (link.via !== null ? [link.via] : [])));
  const show = (event: MouseEvent | FocusEvent, title: string, lines: readonly string[]): void => {
    const parent = boxRef.current?.getBoundingClientRect();
    const target = (event.currentTarget as Element).getBoundingClientRect();
    if (parent === undefined) return;
    const [x, y] =
      "clientX" in event ? [event.clientX, event.clientY] : [target.left + target.width / 2, target.top];
    setTip({ x: x - parent.left, y: y - parent.top, title, lines });
  };
  const hide = (): void => setTip(undefined);

  return (
    <div class="map" ref={boxRef}>
      <svg
        width={width}
        height={height}
        viewBox={`0 0 ${width} ${height}`}
        role="group"
        aria-label={`World map of ${sites.length} sites and ${state.links.length} links; the tables below hold the same`}
      >
        <path class="graticule" d={base.graticule} />
        <path class="land" d={base.land} />
        <g class="links">
          {state.links
            .toSorted((a, b) => Number(a.isBusy) - Number(b.isBusy))
            .map((link) => (
              <Arc
                key={`${link.fromClusterId}|${link.toClusterId}`}
                link={link}
                byId={byId}
                draw={(points) => base.path({ type: "LineString", coordinates: points }) ?? ""}
                show={show}
                hide={hide}
              />
            ))}
        </g>
        <g class="sites">
          {sites.map((site) => {
            const spot = places.moved.get(site.clusterId);
            return spot === undefined ? null : (
              <Site
                key={site.clusterId}
                site={site}
                spot={spot}
                radius={radius}
                isCrossed={isRelayOf.has(site.clusterId)}
                show={show}
                hide={hide}
              />
            );
          })}
        </g>
        <g class={isNarrow ? "labels narrow" : "labels"} aria-hidden="true">
          {places.labels.map((label) => (
            <text key={label.key} x={label.x} y={label.y} text-anchor={label.anchor}>
              {byId.get(label.key)?.city}
            </text>
          ))}
        </g>
      </svg>
      {tip === undefined ? null : (
        <output
          class={tip.x > width * 0.7 ? "tip left" : "tip"}
          style={{ left: `${tip.x}px`, top: `${tip.y}px` }}
        >
          <b>{tip.title}</b>
          {tip.lines.map((line) => (
            <span key={line}>{line}</span>
          ))}
        </output>
      )}
      <Legend />
    </div>
  );
}

type Show = (event: MouseEvent | FocusEvent, title: string, lines: readonly string[]) => void;

function Arc(props: {
  link: LiveLink;
  byId: ReadonlyMap<string, LiveSite>;
  draw: (points: [number, number][]) => string;
  show: Show;
  hide: () => void;
}) {
  const { link, byId, draw, show, hide } = props;
  const stops = [link.fromClusterId, ...(link.via === null ? [] : [link.via]), link.toClusterId].flatMap(
    (id) => {
      const site = byId.get(id);
      return site === undefined ? [] : [site];
    },
  );
  const [from, to] = [stops[0], stops.at(-1)];
  if (from === undefined || to === undefined || stops.length < 2) return null;
  const d = draw(stops.map((site) => [site.longitude, site.latitude]));
  const via = stops.length > 2 ? stops[1]?.city : undefined;
  const lines = [
    `${formatMs(link.srttMs)} round trip${link.basis === "map" ? " (map's estimate)" : ""}${via === undefined ? ", direct" : ` via ${via}`}`,
    ...(link.directSrttMs === null ? [] : [`direct would be ${formatMs(link.directSrttMs)}`]),
    ...(link.lossRatio !== null && link.lossRatio > 0 ? [`${formatRatio(link.lossRatio)} lost`] : []),
    link.isBusy ? "carries traffic now" : "idle",
  ];
  const onEnter = (event: MouseEvent): void => show(event, `${from.city} → ${to.city}`, lines);
  return (
    <g
      class={`link ${link.kind} ${via === undefined ? "" : "relayed"} ${link.isBusy ? "busy" : ""}`}
      onMouseMove={onEnter}
      onMouseLeave={hide}
    >
      <path class="grip" d={d} />
      <path class="line" d={d} />
    </g>
  );
}

function Site(props: {
  site: LiveSite;
  spot: Spot;
  radius: number;
  isCrossed: boolean;
  show: Show;
  hide: () => void;
}) {
  const { site, spot, radius, isCrossed, show, hide } = props;
  const ready = site.servers.filter((server) => server.state === "ready").length;
  const isUnwatched = site.servers.every((server) => server.state === "unwatched");
  const isUnknown = site.servers.every((server) => server.state === "unknown");
  const state =
    isUnwatched || ready === site.servers.length
      ? "well"
      : isUnknown
        ? "unknown"
        : ready === 0 && site.servers.every((server) => server.state === "down")
          ? "down"
          : "partly";
  const requests = site.servers.reduce((sum, server) => sum + (server.requestsPerSecond ?? 0), 0);
  const lines = [
    isUnwatched ? "sends no reports" : `${ready} of ${site.servers.length} servers ready`,
    ...(site.role === "edge" || site.role === "parent" ? [`${formatRate(requests)} requests/s`] : []),
    ...site.servers
      .filter((server) => server.state !== "ready" && server.state !== "unwatched")
      .map((server) => `${server.serverId}: ${server.state}`),
  ];
  const title = `${site.city} · ${roleNames[site.role] ?? site.role}`;
  const r = site.role === "edge" || site.role === "parent" ? radius : radius * 0.8;
  return (
    <g
      class={`site ${site.role} ${state} ${isCrossed ? "crossed" : ""}`}
      transform={`translate(${spot.x} ${spot.y})`}
      tabIndex={0}
      role="img"
      aria-label={`${title}: ${lines.join(", ")}`}
      onMouseMove={(event) => show(event, title, lines)}
      onMouseLeave={hide}
      onFocus={(event) => show(event, title, lines)}
      onBlur={hide}
    >
      <circle class="halo" r={r + 3.5} />
      {site.role === "parent" ? (
        <rect class="body" x={-r} y={-r} width={2 * r} height={2 * r} rx="1.5" transform="rotate(45)" />
      ) : site.role === "origin" ? (
        <rect class="body" x={-r} y={-r} width={2 * r} height={2 * r} rx="1" />
      ) : site.role === "relay" ? (
        <path class="body" d={`M0 ${-1.25 * r}L${1.15 * r} ${0.85 * r}H${-1.15 * r}Z`} />
      ) : (
        <circle class="body" r={site.role === "nameserver" ? r * 0.8 : r} />
      )}
    </g>
  );
}

function Legend() {
  return (
    <ul class="legend" aria-label="Legend">
      {(["edge", "parent", "relay", "origin", "nameserver"] as const).map((role) => (
        <li key={role}>
          <svg width="12" height="12" viewBox="-6 -6 12 12" aria-hidden="true">
            <g class={`site ${role} well`}>
              {role === "parent" ? (
                <rect class="body" x="-3.6" y="-3.6" width="7.2" height="7.2" rx="1" transform="rotate(45)" />
              ) : role === "origin" ? (
                <rect class="body" x="-4" y="-4" width="8" height="8" rx="1" />
              ) : role === "relay" ? (
                <path class="body" d="M0 -5L4.6 3.6H-4.6Z" />
              ) : (
                <circle class="body" r={role === "nameserver" ? 3.2 : 4.4} />
              )}
            </g>
          </svg>
          {roleNames[role]}
        </li>
      ))}
      <li>
        <i class="swatch" /> partly ready
      </li>
      <li>
        <i class="swatch down" /> down
      </li>
      <li>
        <i class="stroke" /> to parent
      </li>
      <li>
        <i class="stroke origin" /> to origin
      </li>
      <li>
        <i class="stroke relayed" /> via relay
      </li>
    </ul>
  );
}
