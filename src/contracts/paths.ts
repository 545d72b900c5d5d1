// Fields of nested objects by their path, such as `train.lora.rank`. Imports nothing, so that workflows may use it.

/** `data.sources[0].uri` → its parts. */
export function partsOf(path: string): string[] {
  return path.replaceAll(/\[(\d+)\]/g, '.$1').split('.');
}

/** A copy with the field set; what is missing on the way becomes objects. */
export function setPath(input: unknown, path: string[], value: unknown): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return value;
  if (Array.isArray(input) && /^\d+$/.test(key)) {
    return Object.assign([...input], { [key]: setPath(input[Number(key)], rest, value) });
  }
  const below = typeof input === 'object' && input !== null && !Array.isArray(input) ? input : {};
  return { ...below, [key]: setPath((below as Record<string, unknown>)[key], rest, value) };
}
