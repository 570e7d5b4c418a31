// Finds sections of the book: MiniSearch scores words, and this script knows which words mean the
// same, what readers misspell, and which pages come first. search.js loads it on the first search.
(() => {
  const { pages, sections, terms } = window.cnnbookSearchData;

  // A chapter explains; a list of claims, a solution or a signature only mentions.
  const WEIGHT = {
    chapter: 1, glossary: 0.75, home: 0.8, reference: 0.6, api: 0.5, solution: 0.4, claims: 0.3,
  };
  // So do some sections of a chapter, by their addresses.
  const MINOR = {
    references: 0.25, exercises: 0.6, "check-yourself": 0.6, "common-misreadings": 0.7,
    "what-the-source-says-and-what-we-found": 0.4,
  };
  // A heading says what a section is about. The glossary names the section that explains a term.
  const BOOST = { name: 6, taught: 5, heading: 4, title: 1.5, text: 1, code: 0.25 };
  const CONCEPT = 2.5; // weight of a term, under whatever name
  const IN_CONCEPT = 0.4; // of one word of it
  const JOINED = 1.5; // of “drop out” written as one word
  // What was typed may be the whole name of something, which then comes before all that mentions it.
  const WHOLE = { title: 3e6, heading: 2e6, term: 1.5e6 };
  const BEGIN = new Set(["api", "glossary"]); // whose first sentence says what they are about
  // “VGG-16 parameters” asks for the chapter called “VGG: …”, not for one that compares with it.
  const SUBJECT = 2;
  // “Chapter 5” asks for that chapter, and “solutions” for those, of that chapter if it is named.
  const CHAPTER = 8;
  const SOLUTIONS = 5;
  const PAGES = 12;
  const SECTIONS = 3; // of one page
  const SNIPPET = 180; // characters

  const STOP = new Set([...window.cnnbookStop, ...(
    "how what why when where which who whose does do did has have had can could should would i me " +
    "my you your we our from than then so its am were been being many much there about between " +
    "vs versus use using used mean means work works explain explained define definition meaning"
  ).split(" ")]);
  const PARTICLE = /(에서|으로|이란|하는|하기|은|는|이|가|을|를|의|에|로|와|과|란)$/;
  const KOREAN = /[\uac00-\ud7a3]/;
  const WORD = /\d+(?:\.\d+)+|[\p{L}\p{N}_]+(?:-[\p{L}\p{N}_]+)*/gu;

  const stemmer = new window.cnnbookStemmer();
  const stem = (word) => /^[a-z]{3,}$/.test(word) ? stemmer.stemWord(word) : word;

  // One spelling for each: 1×1, 1 x 1 and “1 by 1”; dashes; thousands.
  const plain = (text) => text.normalize("NFKC").toLowerCase()
    .replace(/[‐-―−]/g, "-")
    .replace(/(?<![\p{L}-])(pre|non|multi|mini|over|under|sub)-(?=[a-z]{3})/gu, "$1")
    .replace(/(\d)\s*(?:[×x*]|(?<=\s)by(?=\s))\s*(?=\d)/g, "$1x")
    .replace(/(\d),(?=\d{3}(?!\d))/g, "$1");

  // A word and its parts: pre-trained, grad_cam, vgg16.
  const known = new Map();
  const understood = (word) => {
    let found = known.get(word);
    if (!found) {
      const parts = /^\d/.test(word) ? [word] : word.split(/[-_]+/).filter(Boolean)
        .flatMap((part) => /^([a-z]{3,})(\d+)$/.exec(part)?.slice(1) ?? [part]);
      found = { parts, stems: parts.map(stem), joined: parts.length > 1 && stem(parts.join("")) };
      known.set(word, found);
    }
    return found;
  };
  const read = (text) => [...plain(text).matchAll(WORD)].map(([word]) => understood(word));

  // The names of a term, by their first word, longest first.
  const names = new Map();
  terms.forEach(([all], number) => {
    for (const name of all) {
      const sequence = read(name).flatMap((word) => word.parts);
      const spellings = [sequence];
      if (KOREAN.test(name) && sequence.length > 1) spellings.push([sequence.join("")]);
      for (const spelling of spellings) {
        const words = spelling.map(stem);
        if (!names.has(words[0])) names.set(words[0], []);
        names.get(words[0]).push({ words, number });
      }
    }
  });
  for (const list of names.values()) list.sort((a, b) => b.words.length - a.words.length);

  // Where terms are named in a sequence of stems: [start, end, number of the term].
  const named = (words) => {
    const found = [];
    for (let i = 0; i < words.length;) {
      const name = names.get(words[i])?.find(
        (candidate) => candidate.words.every((word, k) => word === words[i + k]));
      if (name) found.push([i, i + name.words.length, name.number]);
      i += name ? name.words.length : 1;
    }
    return found;
  };
  const sign = (number) => `§${number}`;

  const vocabulary = new Set();
  const tokens = (text) => {
    const words = read(text);
    const flat = words.flatMap((word) => word.stems);
    const all = flat.filter((word) => !STOP.has(word));
    for (const { joined } of words) if (joined) all.push(joined);
    for (const [, , number] of named(flat)) all.push(sign(number));
    for (const token of all) vocabulary.add(token);
    return all;
  };

  const index = new window.MiniSearch({
    fields: Object.keys(BOOST),
    tokenize: tokens,
    processTerm: (token) => token,
  });
  const taught = new Map();
  for (const [all, places] of terms) {
    for (const section of places) taught.set(section, [...(taught.get(section) ?? []), ...all]);
  }
  // “Chapter 6”, and “answers to chapter 6”.
  const numberOf = (url) => /(\d\d)-[^/]*$/.exec(url)?.[1];
  const title = ([url, name, kind]) => {
    const answers = kind === "solution" ? "answers to the exercises of" : "";
    return numberOf(url) ? `${name} ${answers} chapter ${Number(numberOf(url))}` : name;
  };
  // How much more a page counts if it is of the chapter, and of the kind, that a query names.
  const naming = (query) => {
    const chapter = /\b(?:chapter|ch\.?)\s*(\d+)/.exec(plain(query))?.[1];
    const isAnswer = /\b(?:solution|answer)s?\b/.test(plain(query));
    return ([url, , kind]) => {
      const isSolution = kind === "solution";
      return (chapter && Number(numberOf(url)) === Number(chapter) ? CHAPTER : 1)
        * (isSolution && isAnswer ? SOLUTIONS : 1)
        / (isSolution && chapter && !isAnswer ? SOLUTIONS : 1);
    };
  };
  // A function is found by the last part of its name, if that is all that was typed: “depth” is
  // rarely one, “grad_cam” and “cnnbook.training.fit(” are.
  const called = (written) => `ƒ${written.replaceAll("_", "").toLowerCase()}`;
  const name = (page, heading) => {
    const last = pages[page][2] === "api" && /\.(\w+)$/.exec(heading)?.[1];
    return last ? called(last) : "";
  };
  const ready = index.addAllAsync(sections.map(([page, , heading, text, code], id) => ({
    id, heading, text, code,
    name: name(page, heading),
    title: title(pages[page]),
    taught: (taught.get(id) ?? []).join(". "),
  })), { chunkSize: 40 });

  // What has which name: the numbers of sections, and how much the name counts.
  const whole = new Map();
  // Korean terms are written with and without spaces.
  const spelled = (text) => (plain(text).replaceAll("-", " ").match(WORD)?.join(" ") ?? "")
    .replace(/([\uac00-\ud7a3]) (?=[\uac00-\ud7a3])/g, "$1");
  const call = (text, id, kind) => {
    const page = pages[sections[id][0]];
    const key = spelled(text);
    if (!whole.has(key)) whole.set(key, new Map());
    const score = WHOLE[kind] * WEIGHT[page[2]];
    whole.get(key).set(id, Math.max(score, whole.get(key).get(id) ?? 0));
  };
  // What a chapter is about: what its title says before the colon.
  const subjects = pages.map(([, name, kind]) =>
    kind === "chapter" && name.includes(":")
      ? read(name.split(":")[0]).flatMap((word) => word.stems).filter((word) => !/^\d/.test(word))
      : []);
  const entries = new Map();
  sections.forEach(([page, anchor, heading], id) => {
    if (!anchor) call(pages[page][1], id, "title");
    else call(heading, id, "heading");
    if (pages[page][2] === "glossary") entries.set(heading.split(" (")[0], id);
  });
  for (const [all, places] of terms) {
    const explained = [...places, entries.get(all[0])].filter((id) => id !== undefined);
    for (const id of explained) for (const term of all) call(term, id, "term");
  }

  // What to look for: groups of tokens, one group for each word that a reader typed.
  const wanted = (query) => {
    const flat = read(query).flatMap((word) => word.parts).map((word) => {
      const isKnown = vocabulary.has(word) || names.has(word);
      const bare = KOREAN.test(word) && !isKnown ? word.replace(PARTICLE, "") : word;
      return bare.length > 1 ? bare : word;
    });
    const groups = flat.map((word, i) => new Map([[
      stem(word),
      // The 5 of “chapter 5” says which page (naming), not what is on it.
      !/^\d+$/.test(word) ? 1 : /^ch(apter)?$/.test(flat[i - 1] ?? "") ? 0.05 : 0.6,
    ]]));
    for (const [start, end, number] of named(flat.map(stem))) {
      for (let i = start; i < end; i++) {
        if (end - start > 1) groups[i].set(stem(flat[i]), IN_CONCEPT);
        groups[i].set(sign(number), CONCEPT);
      }
    }
    flat.slice(1).forEach((word, i) => {
      const joined = stem(flat[i] + word);
      const number = named([joined])[0]?.[2];
      for (const group of [groups[i], groups[i + 1]]) {
        if (vocabulary.has(joined)) group.set(joined, JOINED);
        if (number !== undefined) group.set(sign(number), CONCEPT);
      }
    });
    const code = /^(?:\w+\.)*([a-z_]\w*)(?:\(.*)?$/i.exec(query.trim())?.[1];
    if (code && vocabulary.has(called(code))) groups.at(-1).set(called(code), CONCEPT);
    const telling = groups.filter((group, i) => !STOP.has(flat[i]) || group.size > 1);
    return telling.length ? telling : groups;
  };

  const find = (query) => {
    const groups = wanted(query);
    if (!groups.length) return { pages: [], marks: new Set() };
    const weights = new Map();
    for (const group of groups) {
      for (const [token, weight] of group) weights.set(token, Math.max(weight, weights.get(token) ?? 0));
    }
    const isKnown = (group) => [...group.keys()].some((token) => vocabulary.has(token));
    const unknown = new Set(groups.filter((g) => !isKnown(g)).flatMap((g) => [...g.keys()]));
    const last = /[\p{L}\p{N}]$/u.test(query) ? [...groups.at(-1).keys()][0] : "";
    const rows = index.search([...weights.keys()].join(" "), {
      tokenize: (text) => text.split(" "),
      processTerm: (token) => token,
      boost: BOOST,
      boostTerm: (token) => weights.get(token),
      prefix: (token) => token.length > 1 && (unknown.has(token) || token === last),
      fuzzy: (token) => unknown.has(token) && token.length > 3 ? 0.3 : false,
      weights: { fuzzy: 0.4, prefix: 0.4 },
    });
    const wholes = whole.get(spelled(query));
    const typed = new Set(read(query).flatMap((word) => word.stems));
    const isSubject = (page) =>
      subjects[page].length > 0 && subjects[page].every((word) => typed.has(word));
    const asked = naming(query);
    const best = new Map();
    const marks = new Set();
    for (const row of rows) {
      const matched = new Set(row.queryTerms);
      const met = groups.filter((group) => [...group.keys()].some((t) => matched.has(t))).length;
      const [page, anchor] = sections[row.id];
      const weight = WEIGHT[pages[page][2]] * (MINOR[anchor] ?? 1);
      const score = row.score * weight * (met / groups.length) ** 2 + (wholes?.get(row.id) ?? 0);
      for (const token of row.terms) marks.add(token);
      if (!best.has(page)) best.set(page, []);
      best.get(page).push({ id: row.id, score });
    }
    const ranked = [...best].map(([page, list]) => {
      list.sort((a, b) => b.score - a.score);
      const score = list.slice(0, 4).reduce((sum, { score: s }, i) => sum + s * 0.25 ** i, 0);
      const factor = (isSubject(page) ? SUBJECT : 1) * asked(pages[page]);
      return { page, list: list.slice(0, SECTIONS), score: factor * score };
    }).sort((a, b) => b.score - a.score).slice(0, PAGES);
    return {
      marks,
      pages: ranked.map(({ page, list }) => ({
        url: pages[page][0], title: pages[page][1], kind: pages[page][2],
        sections: list.map(({ id }) => {
          const [, anchor, heading, text] = sections[id];
          return { anchor, heading, parts: snippet(text, marks, BEGIN.has(pages[page][2])) };
        }),
      })),
    };
  };

  // The part of a text with the most of what was looked for, or its begin, as
  // [words, whether to mark them].
  const snippet = (text, marks, fromBegin) => {
    const words = [...text.matchAll(/\S+/g)].map((word) => ({ at: word.index, text: word[0] }));
    const all = words.map(({ text: word }) => read(word));
    const flat = all.map((list) => list.flatMap((word) => word.stems));
    const hit = all.map((list) => list.some(
      ({ stems, joined }) => marks.has(joined) || stems.some((word) => marks.has(word))));
    const sequence = flat.flatMap((list, i) => list.map((word) => [word, i]));
    for (const [start, end, number] of named(sequence.map(([word]) => word))) {
      if (marks.has(sign(number))) {
        for (let k = start; k < end; k++) hit[sequence[k][1]] = true;
      }
    }
    let start = 0, most = -1;
    for (let i = 0, j = 0, count = 0; i < words.length && !(fromBegin && i); i++) {
      while (j < words.length && words[j].at + words[j].text.length - words[i].at <= SNIPPET) {
        count += hit[j++];
      }
      if (count > most) [start, most] = [i, count];
      count -= j > i ? hit[i] : 0;
      if (j <= i) j = i + 1;
    }
    // Begin with the sentence, if it begins nearby.
    for (let i = start; i > 0 && words[start].at - words[i].at < 60; i--) {
      if (/[.?!:]$/.test(words[i - 1].text)) { start = i; break; }
    }
    const pieces = start ? [["… ", false]] : [];
    let i = start;
    for (; i < words.length && words[i].at + words[i].text.length - words[start].at <= SNIPPET; i++) {
      const previous = pieces.at(-1);
      if (previous && previous[1] === hit[i]) previous[0] += `${words[i].text} `;
      else pieces.push([`${words[i].text} `, hit[i]]);
    }
    if (i < words.length) pieces.push(["…", false]);
    return pieces;
  };

  window.cnnbookSearch = { ready, find };
})();
