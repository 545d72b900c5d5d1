// The labelled corpus of personal data: sentences by hand, and sentences of six locales from a seeded generator that computes
// check digits on its own. `[[type:value]]` marks what must be found, and nothing else must be.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Labelled {
  text: string;
  /** `type@start-end` */
  wanted: string[];
  /** Where the sentence is from. */
  origin: string;
}

export function readCorpus(): Labelled[] {
  const byHand = ['positives.txt', 'negatives.txt'].flatMap((name) =>
    readFileSync(join(import.meta.dirname, name), 'utf8')
      .trim()
      .split('\n')
      .map((line) => label(line, name)),
  );
  return [...byHand, ...LOCALES.flatMap(generate)];
}

export function label(marked: string, origin: string): Labelled {
  const wanted: string[] = [];
  let text = '';
  let from = 0;
  for (const { 0: mark, 1: type, 2: value = '', index } of marked.matchAll(/\[\[(\w+):(.*?)\]\]/g)) {
    text += marked.slice(from, index);
    wanted.push(`${type}@${text.length}-${text.length + value.length}`);
    text += value;
    from = index + mark.length;
  }
  return { text: text + marked.slice(from), wanted, origin };
}

/** Numerical Recipes' generator: the same items on every machine. */
function createRandom(seed: number) {
  let state = seed;
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  const below = (n: number): number => Math.floor(next() * n);
  return {
    below,
    pick: <T>(list: readonly T[]): T => list[below(list.length)] as T,
    /** `#` = a digit, `@` = 1 to 9, `Ω` = a capital, `ω` = a small letter, `*` = any of the three, `η` = a hex digit. */
    fill: (form: string): string =>
      form.replaceAll(/[#@Ωω*η]/g, (c) => {
        if (c === '#') return String(below(10));
        if (c === '@') return String(1 + below(9));
        if (c === 'η') return below(16).toString(16);
        const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ';
        if (c === 'Ω') return letters[below(26)] as string;
        if (c === 'ω') return (letters[below(26)] as string).toLowerCase();
        return `${letters}${letters.toLowerCase()}0123456789`[below(62)] as string;
      }),
  };
}
type Random = ReturnType<typeof createRandom>;

interface Locale {
  name: string;
  seed: number;
  /** `{}` is where the value goes; the list of a type is its own. */
  sentences: Record<'email' | 'phone' | 'card' | 'iban' | 'ip' | 'national_id' | 'secret', readonly string[]>;
  phones: readonly string[];
  iban: string;
  nationalId: (random: Random) => string;
  nothing: readonly string[];
}

function generate(locale: Locale): Labelled[] {
  const random = createRandom(locale.seed);
  const items: Labelled[] = [];
  const add = (type: keyof Locale['sentences'], value: string): void => {
    const sentence = random.pick(locale.sentences[type]).replace('{}', `[[${type}:${value}]]`);
    items.push(label(sentence, locale.name));
  };
  for (let i = 0; i < 12; i++) {
    add('email', emailOf(random));
    add('phone', random.fill(random.pick(locale.phones)));
    add('phone', random.fill(random.pick(locale.phones)));
    add('card', cardOf(random));
    add('iban', ibanOf(random, locale.iban));
    add('ip', ipOf(random));
    add('national_id', locale.nationalId(random));
    add('national_id', locale.nationalId(random));
    add('secret', random.fill(random.pick(SECRETS)));
    for (const sentence of [random.pick(locale.nothing), random.pick(NOTHING)])
      items.push(label(random.fill(sentence), locale.name));
  }
  return items;
}

function emailOf(random: Random): string {
  const form = random.pick([
    'ωωωω.ωωωωωω',
    'ω.ωωωωωωω',
    'ωωωωω##',
    'ωωω_ωωωω',
    'ωωωωω+ωωω',
    'Ωωωωω.Ωωωωωω',
    'ωωω-ωωωω',
  ]);
  const host = random.pick(['ωωωωωω', 'ωωω-ωωωω', 'mail.ωωωωω', 'ωωωω.co']);
  return `${random.fill(form)}@${random.fill(host)}.${random.pick(['com', 'org', 'de', 'fr', 'es', 'it', 'co.uk', 'dev', 'info', 'museum'])}`;
}

function cardOf(random: Random): string {
  const [form, groups] = random.pick([
    ['4##############', [4, 4, 4, 4]],
    ['51#############', [4, 4, 4, 4]],
    ['2720###########', [4, 4, 4, 4]],
    ['37############', [4, 6, 5]],
    ['6011###########', [4, 4, 4, 4]],
    ['3530###########', [4, 4, 4, 4]],
  ] as const);
  const body = random.fill(form);
  const digits = body + [...'0123456789'].find((check) => luhnSum(body + check) % 10 === 0);
  return group(digits, groups, random.pick(['', ' ', ' ', '-']));
}

/** Digits from the right, every second one doubled and its digits added. */
function luhnSum(digits: string): number {
  return [...digits].reverse().reduce((sum, digit, i) => {
    const doubled = i % 2 === 0 ? digit : String(2 * Number(digit));
    return sum + [...doubled].reduce((a, b) => a + Number(b), 0);
  }, 0);
}

function group(text: string, lengths: readonly number[], separator: string): string {
  const starts = lengths.map((_, i) => lengths.slice(0, i).reduce((a, b) => a + b, 0));
  return lengths.map((length, i) => text.slice(starts[i], (starts[i] as number) + length)).join(separator);
}

function ibanOf(random: Random, form: string): string {
  const [country, account] = [form.slice(0, 2), random.fill(form.slice(2))];
  const asDigits = [...`${account}${country}00`].map((c) => Number.parseInt(c, 36)).join('');
  const check = String(98 - Number(BigInt(asDigits) % 97n)).padStart(2, '0');
  const iban = `${country}${check}${account}`;
  return random.below(2) === 0 ? iban : (iban.match(/.{1,4}/g) as string[]).join(' ');
}

function ipOf(random: Random): string {
  if (random.below(4) === 0)
    return random
      .pick(['2a02:8108:hhhh::hhh1', '2600:1f18:hhhh:hhhh:hhhh:hhhh:hhhh:hhhh', '2a01:4f8:hhh:hhhh::2'])
      .replaceAll('h', () => (1 + random.below(15)).toString(16));
  return [
    random.pick([5, 31, 46, 62, 77, 81, 93, 109, 141, 151, 185, 195, 213]),
    ...Array.from({ length: 3 }, () => random.below(256)),
  ].join('.');
}

const SECRETS = [
  'AKIAΩ2ΩΩΩ3ΩΩΩ4ΩΩΩ5ΩΩ',
  'ghp_************************************',
  'sk-proj-***************4***********Q****x*******',
  'sk_live_************************',
  'AIza***********************************',
  'xoxb-############-#############-************************',
  'hf_********************4*************',
];

/** Numbers that are nobody's, in any language. */
const NOTHING = [
  '20##-0#-1# 1#:4#:0# INFO worker-# took #### ms (id @#######)',
  'ηηηηηηηη-ηηηη-4ηηη-aηηη-ηηηηηηηηηηηη',
  'commit ηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηη',
  'sha256:ηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηηη',
  '@#.#####, @#.######, -0.########',
  'v@.#.##.# (build @####.####)',
  'PR-@####/##, SKU @##-####-##, part @#####-###',
  'x = @########; y = @##########; z = @############',
  '@##,###,###.## / @.###.###,## / @## ### ###',
  '17########, 17########000, 17########.###',
  'https://ωωωωωω.example/ωωω/@#######/ωωωω-ωωω-@####?ωω=@########',
  'doi:10.@###/ωωω.20##.@######, arXiv:2#0@.#####v#',
  'id="ωωω-@##########" data-ref="ωωω_@#####_ωωωω"',
  '0xηηηηηηηηηηηηηηηη, #ηηηηηη, 0b#########',
];

const LOCALES: readonly Locale[] = [
  {
    name: 'en-US',
    seed: 11,
    sentences: {
      email: ['Send it to {} today.', 'Contact: {}', '<{}> wrote:', 'My address ({}) has changed', 'user={}'],
      phone: [
        'Call me at {} after work.',
        'Phone: {}',
        'You can text {}',
        'reach us by phone, {}, any time',
        '{} is my cell',
      ],
      card: ['I paid with {} yesterday', 'Card number: {}', 'charge {}, thanks', 'card={}'],
      iban: ['Wire it to {}', 'IBAN: {}', 'account {} please'],
      ip: ['Login from {} was denied', 'client_ip={}', 'The host {} does not answer'],
      national_id: ['SSN: {}', 'My social is {}.', '{} is on the form', 'applicant {} approved'],
      secret: ['token {}', 'The key {} leaked', 'export API_KEY={}', 'use {} for now'],
    },
    phones: [
      '(212) 5@#-####',
      '+1 415-7@#-####',
      '+13055@#####',
      '617-4@#-####',
      '1-312-6@#-####',
      '+1 (646) 3@#-####',
    ],
    iban: 'GBΩΩΩΩ##############',
    nationalId: (random) => random.fill(`${random.pick(['1##', '2##', '5##', '7##'])}-@#-@###`),
    nothing: [
      'Order @######### arrives on 0@/1#/20##',
      'Invoice @#######-## over $@,###.## is due',
      'The case number is ##-cv-@####, docket @#####',
      'ZIP @####-####, suite @##, flight UA @###',
      'There were @ ### ### visitors and @######## views',
    ],
  },
  {
    name: 'en-GB',
    seed: 22,
    sentences: {
      email: ['Please write to {} by Monday.', 'Email: {}', 'cc {}, and the team'],
      phone: ['Ring {} and ask for Tom.', 'Mobile: {}', 'Our number is {}', 'Tel {}'],
      card: ['The card {} was refused', 'Visa: {}', 'paid by {}'],
      iban: ['Transfer to {} please', 'IBAN {}', 'acct {}'],
      ip: ['{} was banned', 'from {} port 22', 'server {} is down'],
      national_id: ['NI number {}', 'Her NINO is {}.', '{} for payroll'],
      secret: ['the secret {} was committed', 'token={}', 'rotate {} now'],
    },
    phones: [
      '020 7@## ####',
      '+44 20 7@## ####',
      '07911 12####',
      '+44 7911 12####',
      '0161 496 0###',
      '+44 (0)20 7@## ####',
    ],
    iban: 'GBΩΩΩΩ##############',
    nationalId: (random) =>
      random.fill(
        `${random.pick(['AB', 'CE', 'JG', 'LM', 'PR', 'SX'])}${random.pick(['######', ' ## ## ## '])}${random.pick(['A', 'B', 'C', 'D'])}`,
      ),
    nothing: [
      'Order number @#######, dispatched @#/0@/20##',
      'Reference GB@########, VAT @## #### ##',
      'The A@## at junction ##, OS grid TQ @##### ######',
      '£@,###,### or @.## million in 20##',
      'SW1A @ΩΩ, E1# @ΩΩ, part @### of @####',
    ],
  },
  {
    name: 'de',
    seed: 33,
    sentences: {
      email: ['Schreiben Sie an {}.', 'E-Mail: {}', 'Meine Adresse {} gilt nicht mehr'],
      phone: ['Rufen Sie {} an.', 'Tel.: {}', 'Handy {}', 'erreichbar unter {}'],
      card: ['Die Karte {} wurde abgelehnt', 'Kartennummer: {}', 'bezahlt mit {}'],
      iban: ['Überweisen Sie auf {}.', 'IBAN: {}', 'Konto {} bei der Bank'],
      ip: ['Anmeldung von {} gesperrt', 'Server {} antwortet nicht', 'IP-Adresse: {}'],
      national_id: ['Steuer-ID: {}', 'Meine IdNr. lautet {}', '{} steht im Bescheid'],
      secret: ['Das Token {} ist öffentlich', 'Schlüssel: {}', 'key={}'],
    },
    phones: [
      '030 2312####',
      '+49 30 2312####',
      '0151 2345####',
      '+49 171 234####',
      '089/2180###',
      '0049 40 4281####',
      '(0221) 4710###',
    ],
    iban: 'DE##################',
    nationalId: germanTaxId,
    nothing: [
      'Bestellung @######## vom 1#.0@.20##',
      'Rechnung 20##-@#####, Kunde @####-####',
      'Artikel @#.###.### kostet @##,## €',
      'Aktenzeichen @ O ###/##, Az. @## C @###/##',
      'PLZ @####, Zimmer @##, Bahn ICE @##',
      'Es kamen @.###.### Gäste, @## ### mehr als 20##',
    ],
  },
  {
    name: 'fr',
    seed: 44,
    sentences: {
      email: ['Écrivez-moi à {} svp.', 'Courriel : {}', 'adresse {} supprimée'],
      phone: ['Appelez le {} demain.', 'Tél : {}', 'Mon portable : {}', 'joindre Marie au {}'],
      card: ['La carte {} est refusée', 'CB : {}', 'payé avec {}'],
      iban: ['Virement sur {} merci', 'IBAN : {}', 'compte {}'],
      ip: ['Connexion depuis {} refusée', 'serveur {}', 'adresse IP : {}'],
      national_id: ['Sécurité sociale : {}', 'NIR {}', 'le numéro {} est le mien'],
      secret: ['le jeton {} a fuité', 'clé : {}', 'token={}'],
    },
    phones: [
      '01 4@ ## ## ##',
      '+33 1 4@ ## ## ##',
      '06 1@ ## ## ##',
      '06.1@.##.##.##',
      '+33 6 1@ ## ## ##',
      '0033 4 7@ ## ## ##',
    ],
    iban: 'FR##########ΩΩΩΩΩ########',
    nationalId: frenchNir,
    nothing: [
      'Commande @########, livrée le 1#/0@/20##',
      'Facture F20##-@####, TVA FR@# @########',
      'SIRET @## ### ### #####, code NAF 62.01Z',
      '@ ### ### € soit @#,## % du total',
      'article L@##-#, décret 20##-@###, 75@## Paris',
    ],
  },
  {
    name: 'es',
    seed: 55,
    sentences: {
      email: ['Escríbeme a {} hoy.', 'Correo: {}', 'mi dirección {} cambió'],
      phone: ['Llámame al {} mañana.', 'Tel. {}', 'Móvil: {}', 'teléfono {} (tardes)'],
      card: ['La tarjeta {} fue rechazada', 'tarjeta: {}', 'pagué con {}'],
      iban: ['Transfiere a {} por favor', 'IBAN: {}', 'cuenta {}'],
      ip: ['Acceso desde {} bloqueado', 'servidor {}', 'la IP {} no responde'],
      national_id: ['DNI {}', 'mi NIF es {}.', 'con documento {} firmado'],
      secret: ['la clave {} se filtró', 'token={}', 'usa {} ahora'],
    },
    phones: ['612 ## ## ##', '+34 612 ## ## ##', '+34 91 7## ## ##', '912 3# ## ##', '+346123#####'],
    iban: 'ES####################',
    nationalId: (random) => {
      const digits = random.fill('########');
      const letter = 'TRWAGMYFPDXBNJZSQVHLCKE'.charAt(Number(BigInt(digits) % 23n));
      return random.pick([
        `${digits}${letter}`,
        `${digits}-${letter}`,
        `${digits.replace(/(..)(...)(...)/, '$1.$2.$3')}-${letter}`,
      ]);
    },
    nothing: [
      'Pedido @########, entregado el 1#/0@/20##',
      'Factura 20##/@####, expediente @#####/20##',
      'CP @####, sala @##, tren AVE @####',
      '@.###.### euros, un @#,## % más que en 20##',
      'artículo @##.#, ley @#/20##, BOE-A-20##-@####',
    ],
  },
  {
    name: 'it',
    seed: 66,
    sentences: {
      email: ['Scrivimi a {} oggi.', 'Email: {}', 'indirizzo {} sbagliato'],
      phone: ['Chiamami al {} domani.', 'Tel. {}', 'cellulare {}', 'telefono: {}'],
      card: ['La carta {} è stata rifiutata', 'carta: {}', 'pagato con {}'],
      iban: ['Bonifico su {} grazie', 'IBAN: {}', 'conto {}'],
      ip: ['Accesso da {} bloccato', 'server {}', 'indirizzo IP {}'],
      national_id: ['Codice fiscale {}', 'C.F. {}', 'il sottoscritto {} dichiara'],
      secret: ['la chiave {} è pubblica', 'token={}', 'usa {} adesso'],
    },
    phones: ['347 12# ####', '+39 347 12# ####', '06 6982####', '+39 02 7200####', '+393471######'],
    iban: 'ITΩ######################',
    nationalId: codiceFiscale,
    nothing: [
      'Ordine @########, spedito il 1#/0@/20##',
      'Fattura @###/20##, protocollo @#######',
      'CAP @####, partita IVA @##########, treno FR @###',
      '@.###.### euro, il @#,## % in più del 20##',
      'art. @## comma #, legge @##/20##',
    ],
  },
];

function germanTaxId(random: Random): string {
  const rest = [...'123456789'].sort(() => random.below(3) - 1);
  const body = [...rest, rest[4]].join('');
  let product = 10;
  for (const digit of body) {
    const sum = (Number(digit) + product) % 10;
    product = ((sum === 0 ? 10 : sum) * 2) % 11;
  }
  const digits = `${body}${product === 1 ? 0 : 11 - product}`;
  return random.pick([digits, digits.replace(/(..)(...)(...)(...)/, '$1 $2 $3 $4')]);
}

function frenchNir(random: Random): string {
  const body = random.fill(`${random.pick(['1', '2'])}@#0@${random.pick(['13', '33', '59', '69', '75'])}0@#1##`);
  const digits = body + String(97n - (BigInt(body) % 97n)).padStart(2, '0');
  return random.pick([digits, digits.replace(/(.)(..)(..)(..)(...)(...)(..)/, '$1 $2 $3 $4 $5 $6 $7')]);
}

function codiceFiscale(random: Random): string {
  const body = random.fill(`ΩΩΩΩΩΩ##${random.pick([...'ABCDEHLMPRST'])}1#Ω###`);
  // The table as it is published: the value of a character at an odd place.
  const values: Record<string, number> = {
    0: 1,
    1: 0,
    2: 5,
    3: 7,
    4: 9,
    5: 13,
    6: 15,
    7: 17,
    8: 19,
    9: 21,
    A: 1,
    B: 0,
    C: 5,
    D: 7,
    E: 9,
    F: 13,
    G: 15,
    H: 17,
    I: 19,
    J: 21,
    K: 2,
    L: 4,
    M: 18,
    N: 20,
    O: 11,
    P: 3,
    Q: 6,
    R: 8,
    S: 12,
    T: 14,
    U: 16,
    V: 10,
    W: 22,
    X: 25,
    Y: 24,
    Z: 23,
  };
  const sum = [...body].reduce(
    (total, c, i) => total + (i % 2 === 0 ? (values[c] as number) : Number.parseInt(c, 36) - (/\d/.test(c) ? 0 : 10)),
    0,
  );
  return body + String.fromCharCode(65 + (sum % 26));
}
