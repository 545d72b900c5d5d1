// Imports nothing, so that workflows may use it.

/** `1 host`, `2 hosts`. */
export function plural(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}
