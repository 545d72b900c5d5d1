// Rows that are dropped for their length or their language, and those that are too short to tell.
import { expect, test } from 'vitest';
import { FiltersSchema, LANGUAGES } from '../../src/contracts/privacy-rules.ts';
import { createFilters } from '../../src/data/filters.ts';
import { loadLanguages } from '../../src/data/language.ts';
import type { Content } from '../../src/data/mapping.ts';

const chat = (user: string, assistant: string): Content => ({
  messages: [
    { role: 'system', content: 'x'.repeat(1000) },
    { role: 'user', content: user },
    { role: 'assistant', content: assistant },
  ],
});

test('the characters of the texts count, the system message does not', () => {
  const filter = createFilters(FiltersSchema.parse({ minChars: 10, maxChars: 20 }), null);
  expect(filter(chat('1234', '56789'))).toMatchObject({
    code: 'too_short',
    message: expect.stringContaining('9 characters'),
  });
  expect(filter(chat('12345', '67890'))).toBeNull();
  expect(filter(chat('1234567890', '12345678901'))).toMatchObject({
    code: 'too_long_text',
    message: expect.stringContaining('21 characters'),
  });
  expect(createFilters(FiltersSchema.parse({}), null)(chat('', ''))).toBeNull();
});

const SENTENCES = {
  en: 'Could you please tell me how the weather will be tomorrow in the mountains?',
  de: 'Könntest du mir bitte sagen, wie das Wetter morgen in den Bergen sein wird?',
  fr: 'Pourriez-vous me dire quel temps il fera demain dans les montagnes ?',
  es: '¿Podrías decirme qué tiempo hará mañana en las montañas, por favor?',
  it: 'Potresti dirmi per favore che tempo farà domani in montagna?',
  zh: '请告诉我明天山区的天气怎么样，我们打算去爬山。',
  ja: '明日の山の天気を教えていただけますか、登山に行く予定です。',
  ru: 'Скажите, пожалуйста, какая погода будет завтра в горах?',
};

test('languages that are not named are dropped; what is too short to tell, code and placeholders stay', async () => {
  const languageOf = await loadLanguages();
  for (const [language, sentence] of Object.entries(SENTENCES)) expect(languageOf(sentence), sentence).toBe(language);
  const filter = createFilters(FiltersSchema.parse({ languages: ['en', 'de'] }), languageOf);
  expect(filter(chat('Ok', SENTENCES.en))).toBeNull();
  expect(filter(chat(SENTENCES.de, 'Ja'))).toBeNull();
  expect(filter(chat(SENTENCES.fr, 'Oui'))).toMatchObject({
    code: 'lang_excluded',
    message: expect.stringContaining('is fr'),
  });
  expect(filter(chat('Merci !', 'De rien'))).toBeNull();
  expect(filter(chat('Zeig den Code', '```python\nfor eintrag in liste_der_dinge: print(eintrag)\n```'))).toBeNull();
  expect(languageOf('<EMAIL_3f9a2c> <NATIONAL_ID> https://example.org/ein/langer/pfad/mit/worten')).toBeNull();
});

test('the languages that a spec may name are those that can be told', async () => {
  const { eld } = await import('eld/extrasmall');
  expect([...LANGUAGES]).toEqual(Object.values(eld.info().Languages).sort());
});
