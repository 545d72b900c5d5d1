// A recipe in a few words, for lines that people read. Imports nothing, so that workflows may use it.
import type { Recipe } from './spec.ts';

/**
 * `LoRA r16`, `kto, QLoRA r16 on 4 bits`, `dpo, all weights`; plain fine-tuning is not named. Recipes of recorded histories may lack
 * fields that came later, so only those of the tuning are read.
 */
export function describeTuning(recipe: Recipe): string {
  const how = describeHow(recipe);
  return recipe.method === 'sft' ? how : `${recipe.method}, ${how}`;
}

function describeHow({ tuning, lora, qlora }: Recipe): string {
  if (tuning === 'full') return 'all weights';
  return tuning === 'lora' ? `LoRA r${lora.rank}` : `QLoRA r${lora.rank} on ${qlora.bits} bits`;
}
