/** The overview: what the CDN does now. */
import { useState } from "preact/hooks";
import type { LiveSite, LiveState } from "../../core/wire.ts";
import { formatBits, formatBytes, formatMs, formatRate, formatRatio, NONE } from "../format.ts";
import { Graphs } from "../parts/graph.tsx";
import { roleNames, StateWord } from "../parts/words.tsx";
import { WorldMap } from "../parts/world-map.tsx";
import { live, viewer } from "../session.ts";

export function Overview() {
  const state = live.value;
  if (state === undefined) {
    return (
      <>
        <h1 tabIndex={-1}>Overview</h1>
        <p class="muted">Waiting for the first state…</p>
      </>
    );
  }
  return (
    <>
      <div class="title">
        <h1 tabIndex={-1}>Overview</h1>
        <span class="muted">
          {state.world ?? "no topology yet"}
          {state.mapVersion === null ? "" : ` · map ${state.mapVersion}`}
        </span>
      </div>
      {state.control === "disconnected" ? (
        <output class="notice warn">
          Control cannot be reached. Servers go on with the documents that they have; this page shows what was
          last known.
        </output>
      ) : null}
      <Cards state={state} />
      <section class="panel map-panel" aria-label="World map">
        <WorldMap state={state} />
      </section>
      <Graphs propertyId={null} />
      <div class="columns">
        <Sites state={state} />
        <Links state={state} />
      </div>
    </>
  );
}

function Cards({ state }: { state: LiveState }) {
  const { totals } = state;
  const errors = totals.errorsPerSecond;
  const down = totals.serversWatched - totals.serversUp;
  return (
    <dl class="cards">
      <Card
        name="Requests"
        value={formatRate(totals.requestsPerSecond)}
        unit="/s"
        sub={
          errors === null
            ? "not known"
            : errors > 0
              ? `${formatRate(errors)}/s failed (5xx)`
              : "no 5xx, last 10 s"
        }
        isBad={errors !== null && errors > 0}
      />
      <Card name="Hit ratio" value={formatRatio(totals.hitRatio)} sub="of requests, last 10 s" />
      <Card
        name="To users"
        value={totals.bytesPerSecond === null ? NONE : formatBits(totals.bytesPerSecond)}
        sub="last 10 s"
      />
      <Card
        name="Servers up"
        value={state.control === "disconnected" ? NONE : `${totals.serversUp}`}
        unit={` / ${totals.serversWatched}`}
        sub={
          state.control === "disconnected"
            ? "not known: control is away"
            : down === 0
              ? "all ready"
              : `${down} not ready`
        }
        isBad={state.control === "connected" && down > 0}
      />
    </dl>
  );
}

function Card(props: { name: string; value: string; unit?: string; sub: string; isBad?: boolean }) {
  return (
    <div class="panel card">
      <dt>{props.name}</dt>
      <dd>
        <strong>
          {props.value}
          {props.unit === undefined ? null : <small>{props.unit}</small>}
        </strong>
        <span class={props.isBad === true ? "sub bad" : "sub"}>{props.sub}</span>
      </dd>
    </div>
  );
}

const roleOrder = ["edge", "parent", "relay", "origin", "nameserver", "service"];

function Sites({ state }: { state: LiveState }) {
  const [opened, setOpened] = useState<string | undefined>(undefined);
  const isOperator = viewer.value?.customerId === null;
  const sites = state.sites
    .filter((site) => site.servers.length > 0)
    .toSorted((a, b) => roleOrder.indexOf(a.role) - roleOrder.indexOf(b.role) || (a.city < b.city ? -1 : 1));
  return (
    <section class="panel">
      <h2>Sites</h2>
      <div class="scroll">
        <table>
          <thead>
            <tr>
              <th>City</th>
              <th>Role</th>
              <th>Servers</th>
              <th class="number">Req/s</th>
              <th class="number">Hit ratio</th>
            </tr>
          </thead>
          <tbody>
            {sites.map((site) => (
              <SiteRows
                key={site.clusterId}
                site={site}
                isOpen={opened === site.clusterId}
                isOperator={isOperator}
                toggle={() => setOpened(opened === site.clusterId ? undefined : site.clusterId)}
              />
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function SiteRows(props: { site: LiveSite; isOpen: boolean; isOperator: boolean; toggle: () => void }) {
  const { site, isOpen, isOperator, toggle } = props;
  const rates = site.servers.map((server) => server.requestsPerSecond).filter((rate) => rate !== null);
  const requests = rates.length === 0 ? null : rates.reduce((sum, rate) => sum + rate, 0);
  const hits = site.servers.reduce(
    (sum, server) => sum + (server.requestsPerSecond ?? 0) * (server.hitRatio ?? 0),
    0,
  );
  return (
    <>
      <tr>
        <td>
          <button type="button" class="row-toggle" aria-expanded={isOpen} onClick={toggle}>
            {site.city} <small class="muted wide-only">{site.clusterId}</small>
          </button>
        </td>
        <td>
          <span class={`role ${site.role}`}>{roleNames[site.role] ?? site.role}</span>
        </td>
        <td class="dots">
          {site.servers.map((server) => (
            <i
              key={server.serverId}
              class={`dot ${server.state}`}
              title={`${server.serverId}: ${server.state}`}
            />
          ))}
          <span class="visually-hidden">
            {site.servers.filter((server) => server.state === "ready").length} of {site.servers.length} ready
          </span>
        </td>
        <td class="number">{formatRate(requests)}</td>
        <td class="number">{requests === null || requests === 0 ? NONE : formatRatio(hits / requests)}</td>
      </tr>
      {isOpen
        ? site.servers.map((server) => (
            <tr key={server.serverId} class="sub-row">
              <td>
                {server.serverId}
                {isOperator && server.details !== undefined ? (
                  <small class="muted">
                    {" "}
                    {server.details.address}:{server.details.port}
                  </small>
                ) : null}
              </td>
              <td colSpan={2}>
                <StateWord state={server.state} />
                {server.state === "down" && server.reportAgeMs !== null ? (
                  <small class="muted"> silent for {Math.round(server.reportAgeMs / 1_000)} s</small>
                ) : null}
                {server.details === undefined || server.details.cacheObjects === null ? null : (
                  <small class="muted">
                    {" "}
                    · {formatBytes(server.details.cacheBytes)} in {server.details.cacheObjects} objects
                  </small>
                )}
              </td>
              <td class="number">{formatRate(server.requestsPerSecond)}</td>
              <td class="number">{formatRatio(server.hitRatio)}</td>
            </tr>
          ))
        : null}
    </>
  );
}

function Links({ state }: { state: LiveState }) {
  const cityOf = new Map(state.sites.map((site) => [site.clusterId, site.city]));
  const links = state.links.toSorted(
    (a, b) => Number(b.isBusy) - Number(a.isBusy) || (b.srttMs ?? 0) - (a.srttMs ?? 0),
  );
  return (
    <section class="panel">
      <h2>Links in use</h2>
      {links.length === 0 ? (
        <p class="muted">None: there is no map yet, or no property is in force.</p>
      ) : (
        <div class="scroll">
          <table>
            <thead>
              <tr>
                <th>From</th>
                <th>To</th>
                <th>Path</th>
                <th class="number">Round trip</th>
                <th class="number wide-only">Saved</th>
              </tr>
            </thead>
            <tbody>
              {links.map((link) => (
                <tr key={`${link.fromClusterId}|${link.toClusterId}`} class={link.isBusy ? "" : "idle"}>
                  <td>{cityOf.get(link.fromClusterId) ?? link.fromClusterId}</td>
                  <td>{cityOf.get(link.toClusterId) ?? link.toClusterId}</td>
                  <td>
                    {link.via === null ? (
                      <span class="muted">direct</span>
                    ) : (
                      <span class="role relay">
                        <span class="wide-only">via </span>
                        {cityOf.get(link.via) ?? link.via}
                      </span>
                    )}
                  </td>
                  <td
                    class="number"
                    title={
                      link.basis === "map"
                        ? "the map's estimate"
                        : link.basis === "none"
                          ? "not measured"
                          : "measured"
                    }
                  >
                    {link.basis === "map" ? "≈ " : ""}
                    {formatMs(link.srttMs)}
                  </td>
                  <td class="number wide-only">
                    {link.directSrttMs === null || link.srttMs === null
                      ? ""
                      : formatMs(link.directSrttMs - link.srttMs)}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}
