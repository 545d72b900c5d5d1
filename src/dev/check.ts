// The shape of one finding of the doctor.

export interface Check {
  name: string;
  ok: boolean;
  found: string;
  /** What to do; null where nothing is wrong. */
  remedy: string | null;
}

/** Builds a finding; the remedy counts only where the check failed. */
export function finding(name: string, ok: boolean, found: string, remedy: string): Check {
  return { name, ok, found, remedy: ok ? null : remedy };
}
