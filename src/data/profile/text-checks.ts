// What is odd about a text. Too dear for every row: asked of a sample.

const FENCE = /^\s*(`{3,}|~{3,})/gm;
/** How assistants begin when they do not answer. */
const REFUSAL =
  /^(?:i['’]?m (?:really |so |very )?sorry|sorry|i apologi[sz]e|unfortunately)?[,.]?\s*(?:but )?(?:i (?:can(?:no|['’])t|am (?:not able|unable)|won['’]t)\b|as an ai\b|(?:es )?tut mir (?:sehr )?leid|ich kann (?:dir|ihnen)? ?(?:dabei )?(?:leider )?nicht|je suis désolé|lo siento|我(?:很)?抱歉|抱歉)/i;
const REFUSAL_CHARS_MAX = 120;

export function hasOpenFence(answer: string): boolean {
  return (answer.match(FENCE)?.length ?? 0) % 2 === 1;
}

export function isRefusal(answer: string): boolean {
  return REFUSAL.test(answer.slice(0, REFUSAL_CHARS_MAX).trimStart());
}
