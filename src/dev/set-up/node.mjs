// Which Node runs the TypeScript sources: this one when it is new enough, else the one from the Python environment.
import { wheelNode } from './places.mjs';

/** First versions that strip types without a flag, by major version; every major above the last has it. */
const FIRST_MINOR = { 22: 18, 23: 6 };
const MAJOR_MAX_LISTED = 23;

export function isNodeNewEnough(version = process.versions.node) {
  const [major, minor] = version.split('.').map(Number);
  if (major > MAJOR_MAX_LISTED) return true;
  return FIRST_MINOR[major] !== undefined && minor >= FIRST_MINOR[major];
}

export function findNode() {
  return isNodeNewEnough() ? process.execPath : wheelNode();
}
