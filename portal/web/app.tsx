/** The frame: brand, navigation, who is logged in, and the page of the route. */
import { useEffect } from "preact/hooks";
import { LogIn } from "./pages/log-in.tsx";
import { Overview } from "./pages/overview.tsx";
import { Policies } from "./pages/policies.tsx";
import { Properties } from "./pages/properties.tsx";
import { Property } from "./pages/property.tsx";
import { Purge } from "./pages/purge.tsx";
import { Mark } from "./parts/mark.tsx";
import { formatTime } from "./format.ts";
import { onLinkClick, type Route, route } from "./router.ts";
import { isExpired, isLive, live, logOut, logOutFault, startFault, viewer } from "./session.ts";

export function App() {
  useEffect(() => {
    document.addEventListener("click", onLinkClick);
    return () => document.removeEventListener("click", onLinkClick);
  }, []);
  const who = viewer.value;
  const title = who === null || isExpired.value ? "Log in" : titleOf(route.value);
  useEffect(() => {
    document.title = `${title} · Isochrone`;
  }, [title]);
  if (who === undefined) {
    return (
      <div class="starting" aria-live="polite">
        <Mark size={48} />
        {startFault.value === "" ? null : <p class="notice bad">{startFault.value}</p>}
      </div>
    );
  }
  if (who === null) return <LogIn />;
  return (
    <>
      {isExpired.value ? <LogIn isAgain={true} name={who.name} /> : null}
      <div hidden={isExpired.value} key={`${who.name} ${who.customerId ?? ""}`}>
        <Frame />
      </div>
    </>
  );
}

function titleOf(here: Route): string {
  switch (here.page) {
    case "overview":
      return "Overview";
    case "properties":
      return "Properties";
    case "property":
      return here.propertyId;
    case "policies":
      return "Policies";
    case "purge":
      return "Purge";
    case "missing":
      return "Nothing here";
  }
}

function Frame() {
  const who = viewer.value;
  if (!who) return null;
  return (
    <>
      <a class="skip" href="#content">
        Skip to content
      </a>
      <header class="bar">
        <a class="brand" href="/">
          <Mark size={24} />
          <span>Isochrone</span>
        </a>
        <nav aria-label="Pages">
          <NavLink href="/" label="Overview" isHere={route.value.page === "overview"} />
          <NavLink
            href="/properties"
            label="Properties"
            isHere={route.value.page === "properties" || route.value.page === "property"}
          />
          <NavLink href="/policies" label="Policies" isHere={route.value.page === "policies"} />
          <NavLink href="/purge" label="Purge" isHere={route.value.page === "purge"} />
        </nav>
        <div class="who">
          <Connection />
          <span
            class="account"
            title={who.customerId === null ? "Operator: sees every property" : `Customer ${who.customerId}`}
          >
            {who.name}
            {who.name === (who.customerId ?? "operator") ? null : (
              <small>{who.customerId ?? "operator"}</small>
            )}
          </span>
          <button type="button" class="quiet" onClick={() => void logOut()}>
            Log out
          </button>
        </div>
      </header>
      <main id="content" tabIndex={-1}>
        {logOutFault.value === "" ? null : (
          <p class="notice bad" role="alert">
            {logOutFault.value}
          </p>
        )}
        {live.value !== undefined && !isLive.value ? (
          <p class="notice bad" role="alert">
            The portal has sent nothing since {formatTime(live.value.atEpochMs, true)}: what is shown is from
            then. It goes on by itself when the portal answers.
          </p>
        ) : null}
        <Page />
      </main>
    </>
  );
}

function NavLink({ href, label, isHere }: { href: string; label: string; isHere: boolean }) {
  return (
    <a href={href} aria-current={isHere ? "page" : undefined}>
      {label}
    </a>
  );
}

function Connection() {
  const isHeard = isLive.value;
  const hasControl = live.value?.control === "connected";
  const [state, label] = !isHeard
    ? (["bad", "No live data"] as const)
    : hasControl
      ? (["good", "Live"] as const)
      : (["warn", "Control away"] as const);
  const title = !isHeard
    ? "The portal sends nothing; what is shown may be old"
    : hasControl
      ? "Reports of servers come in each second"
      : "Control cannot be reached: servers go on with what they have, nothing can be changed";
  return (
    <output class={`connection ${state}`} title={title}>
      <i aria-hidden="true" />
      {label}
    </output>
  );
}

function Page() {
  const here = route.value;
  switch (here.page) {
    case "overview":
      return <Overview />;
    case "properties":
      return <Properties />;
    case "property":
      return <Property key={here.propertyId} propertyId={here.propertyId} />;
    case "policies":
      return <Policies />;
    case "purge":
      return <Purge chosen={here.propertyId} />;
    case "missing":
      return (
        <>
          <h1 tabIndex={-1}>Nothing here</h1>
          <p>
            No page has this address. <a href="/">Back to the overview</a>
          </p>
        </>
      );
  }
}
