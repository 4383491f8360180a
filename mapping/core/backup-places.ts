import { CANDIDATES_MAX, trafficClasses } from "#kit";

/** Of a ranking that does not name every cluster so many of the last places are backups: see `backups.ts`. */
const BACKUPS_MAX = 4;
/** And at most every so many-th place. */
const PLACES_PER_BACKUP = 4;

/**
 * How many of the last places of a ranking are backups for when the region of its first place is lost.
 *
 * @param length places of the ranking, 1..64
 */
export function backupPlaces(length: number): number {
  return Math.min(BACKUPS_MAX, Math.floor(length / PLACES_PER_BACKUP));
}

/** Places of a ranking, and how many of them are backups: none where every cluster is ranked. */
export interface RankingPlaces {
  readonly places: number;
  readonly backups: number;
}

export function placesOf(clusters: number, rankingMax: number): RankingPlaces {
  if (clusters <= rankingMax) return { places: clusters, backups: 0 };
  // Where clusters are many, so many places each class has for sure, one of them for where a unit has been put.
  const sure = Math.floor((CANDIDATES_MAX - BACKUPS_MAX) / trafficClasses.length) - 1;
  const places = clusters <= CANDIDATES_MAX ? rankingMax : Math.min(rankingMax, sure);
  return { places, backups: backupPlaces(places) };
}
