/** The look that report, live page and video share: light and dark, desk and phone, and paper. */

/** Text stands on its ground with a contrast of 4.5 at least, curves and marks with 3 (measured by tests/pictures/pages.test.ts). */
const LIGHT = `
  --ground: #f4f6f8; --surface: #ffffff; --sunken: #eef1f4; --ink: #18202a; --soft: #55616e; --edge: #d8dfe6;
  --link: #1b5fb4; --good: #0b6b3a; --good-ground: #e3f4ea; --bad: #a8201a; --bad-ground: #fdeae8;
  --doubt: #7a4d00; --doubt-ground: #fdf1d8; --blue: #1f66c1; --green: #13804f; --orange: #bd5305; --purple: #7a3eb8;
  --red: #c62b23; --teal: #0b7a86; --grey: #68737f; --grid: #e3e8ed; --shade-a: #f3f6f9; --shade-b: #e6ecf2;
  --shade-before: #f1f4f7; --shade-fault: #fbe4e1; --shade-healed: #fdf0d3; --shade-proven: #e0f2e7;
  --terminal: #10161d; --terminal-ink: #e3e9ef; --terminal-soft: #94a3b1; --terminal-prompt: #6fd39b;`;
const DARK = `
  --ground: #0e1318; --surface: #161c23; --sunken: #1e262f; --ink: #e8edf2; --soft: #a0adb9; --edge: #2c3742;
  --link: #7fb4ff; --good: #5fd08f; --good-ground: #11301f; --bad: #ff938a; --bad-ground: #3a1715;
  --doubt: #f2bd57; --doubt-ground: #35270b; --blue: #6ba8ff; --green: #4fc98a; --orange: #ff9d4d; --purple: #c497ff;
  --red: #ff7b72; --teal: #4bc7d3; --grey: #a3aeb9; --grid: #25303a; --shade-a: #19212a; --shade-b: #212b36;
  --shade-before: #1a222b; --shade-fault: #40191a; --shade-healed: #3a2b0e; --shade-proven: #12331f;
  --terminal: #0a0e12; --terminal-ink: #dfe6ec; --terminal-soft: #93a1ae; --terminal-prompt: #6fd39b;`;

const BASE = `
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; overflow-wrap: break-word; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 24px 64px; }
a { color: var(--link); text-underline-offset: 2px; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; border-radius: 4px; }
h1, h2, h3, h4 { line-height: 1.25; margin: 0; text-wrap: balance; }
h1 { font-size: 30px; letter-spacing: -0.01em; }
h2 { font-size: 21px; margin: 44px 0 12px; }
h3 { font-size: 18px; margin: 24px 0 8px; }
h4 { font-size: 14px; margin: 22px 0 6px; color: var(--soft); text-transform: uppercase; letter-spacing: 0.05em; }
p { margin: 8px 0; max-width: 78ch; }
p.small { max-width: none; }
code, pre, .mono { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 0.875em; }
.soft { color: var(--soft); }
.small { font-size: 14px; }
.panel { background: var(--surface); border: 1px solid var(--edge); border-radius: 10px; padding: 18px 20px; margin: 12px 0; }

.verdict { border-radius: 12px; padding: 22px 24px; border: 1px solid var(--edge); border-left-width: 8px; background: var(--surface); }
.verdict p { margin: 6px 0 0; font-size: 17px; }
.verdict.good { border-color: var(--good); background: var(--good-ground); }
.verdict.bad { border-color: var(--bad); background: var(--bad-ground); }
.verdict.doubt { border-color: var(--doubt); background: var(--doubt-ground); }
.verdict .what { font-size: 14px; color: var(--ink); margin: 0 0 4px; }
.answers { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 12px; margin: 12px 0; }
.answer { background: var(--surface); border: 1px solid var(--edge); border-radius: 10px; padding: 14px 18px; }
.answer h2 { font-size: 14px; font-weight: 600; color: var(--soft); margin: 0; }
.answer p { font-size: 14px; margin: 2px 0 0; color: var(--soft); }
.answer p.big { font-size: 27px; font-weight: 700; line-height: 1.25; margin: 2px 0; color: var(--ink); }
.good-text, .answer p.good-text { color: var(--good); } .bad-text, .answer p.bad-text { color: var(--bad); } .doubt-text, .answer p.doubt-text { color: var(--doubt); }
.badge { display: inline-block; white-space: nowrap; font-size: 13px; font-weight: 650; line-height: 1.5; padding: 1px 9px; border-radius: 999px; border: 1px solid currentColor; background: var(--surface); }
.badge.good { color: var(--good); background: var(--good-ground); } .badge.bad { color: var(--bad); background: var(--bad-ground); } .badge.doubt { color: var(--doubt); background: var(--doubt-ground); }

.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 15px; }
caption { text-align: left; color: var(--soft); font-size: 14px; padding: 0 0 8px; }
th, td { text-align: left; vertical-align: top; padding: 7px 14px 7px 0; border-top: 1px solid var(--edge); }
thead th { border-top: 0; color: var(--soft); font-size: 13px; font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 600; }
td.number, th.number, table.numbers tr > :not(:first-child), table.marks tr > :first-child { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
.nowrap, table.marks tr > :nth-child(2), table.marks tr > :nth-child(3) { white-space: nowrap; }
dl.facts { display: grid; grid-template-columns: minmax(110px, max-content) minmax(0, 1fr); gap: 6px 20px; margin: 8px 0; }
dl.facts dt { color: var(--soft); } dl.facts dd { margin: 0; overflow-wrap: anywhere; }

.bar { position: relative; height: 12px; min-width: 110px; border-radius: 6px; background: var(--sunken); overflow: hidden; border: 1px solid var(--edge); }
.bar i { position: absolute; inset: 0 auto 0 0; background: var(--green); }
.bar.over i { background: repeating-linear-gradient(45deg, var(--red) 0 6px, var(--bad) 6px 10px); }
.bar b { position: absolute; top: -1px; bottom: -1px; width: 2px; background: var(--ink); }
.bar-words { font-size: 14px; margin-top: 3px; }

ol.beats { list-style: none; margin: 10px 0; padding: 0; display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 10px; }
ol.beats li { border-top: 5px solid var(--edge); background: var(--sunken); border-radius: 0 0 8px 8px; padding: 8px 12px 10px; font-size: 14px; min-width: 0; }
ol.beats .beat-name { font-weight: 700; display: block; } ol.beats .beat-time { color: var(--soft); display: block; font-variant-numeric: tabular-nums; }
ol.beats .beat-before { border-color: var(--grey); } ol.beats .beat-fault { border-color: var(--red); background: var(--shade-fault); } ol.beats .beat-healed { border-color: var(--doubt); background: var(--shade-healed); } ol.beats .beat-proven { border-color: var(--green); background: var(--shade-proven); }
ol.beats .beat-none { opacity: 1; border-style: dashed; background: transparent; color: var(--soft); }

.stack { margin: 6px 0; }
.chart { margin: 0 0 10px; }
.chart figcaption { display: flex; flex-wrap: wrap; align-items: baseline; gap: 2px 8px; font-size: 14px; margin: 10px 0 2px; }
.chart-title { font-weight: 650; } .unit { color: var(--soft); font-size: 13px; }
.legend { display: flex; flex-wrap: wrap; gap: 0 16px; margin-left: auto; font-size: 13px; }
.key { white-space: nowrap; } .key::before { content: ""; display: inline-block; width: 24px; height: 2px; margin: 0 1px; vertical-align: 5px; background: var(--tone); print-color-adjust: exact; -webkit-print-color-adjust: exact; forced-color-adjust: none; }
.key.dashed::before { background: repeating-linear-gradient(90deg, var(--tone) 0 7px, transparent 7px 11px); } .key.dotted::before { background: repeating-linear-gradient(90deg, var(--tone) 0 2px, transparent 2px 6px); }
.plot { display: grid; grid-template-columns: 46px minmax(0, 1fr); padding-right: 6px; }
.plot svg { display: block; overflow: visible; } .plot .curves { overflow: hidden; } .plot .x { width: 100%; } .plot .y { width: 46px; }
.plot .y text { text-anchor: end; transform: translateX(40px); } .plot.axis text, .plot text.band-word { text-anchor: middle; } .plot.axis .at-start { text-anchor: start; } .plot.axis .at-end { text-anchor: end; }
.plot text { font-size: 12px; fill: var(--soft); font-variant-numeric: tabular-nums; }
.band-plain-0 { fill: var(--shade-a); } .band-plain-1 { fill: var(--shade-b); } .band-before { fill: var(--shade-before); } .band-fault { fill: var(--shade-fault); } .band-healed { fill: var(--shade-healed); } .band-proven { fill: var(--shade-proven); }
.plot text.band-word { fill: var(--ink); font-weight: 600; } .plot text.mark-word { fill: var(--ink); paint-order: stroke; stroke: var(--surface); stroke-width: 4px; stroke-linejoin: round; }
.grid { stroke: var(--grid); stroke-width: 1; vector-effect: non-scaling-stroke; } .rules rect { width: 100%; height: 1px; fill: var(--grid); } .rules .zero { fill: var(--soft); }
.curve { fill: none; stroke: var(--tone); stroke-width: 2; vector-effect: non-scaling-stroke; stroke-linejoin: round; stroke-linecap: round; } .curve.dashed { stroke-dasharray: 7 4; } .curve.dotted { stroke-dasharray: 2 4; }
.tone-blue { --tone: var(--blue); } .tone-green { --tone: var(--green); } .tone-orange { --tone: var(--orange); } .tone-purple { --tone: var(--purple); } .tone-red { --tone: var(--red); } .tone-teal { --tone: var(--teal); } .tone-grey { --tone: var(--grey); }
.mark { stroke: var(--soft); stroke-width: 1; vector-effect: non-scaling-stroke; } .mark-pod, .mark-note { stroke-dasharray: 1 4; }
.mark-fault { stroke: var(--red); stroke-width: 2; } .mark-effect { stroke: var(--orange); stroke-width: 2; stroke-dasharray: 6 3; } .mark-healed { stroke: var(--blue); stroke-width: 2; stroke-dasharray: 2 3; } .mark-recovered { stroke: var(--green); stroke-width: 2; } .mark-alert { stroke: var(--purple); stroke-dasharray: 4 3; } .mark-scale { stroke: var(--teal); stroke-dasharray: 3 3; }
.limit { stroke: var(--red); stroke-width: 1.5; stroke-dasharray: 8 4; } .plot text.limit-word { fill: var(--bad); font-weight: 600; paint-order: stroke; stroke: var(--surface); stroke-width: 4px; stroke-linejoin: round; }
.plot text.nothing { font-size: 14px; } .cursor { stroke: var(--ink); stroke-width: 1; }
.axis-note { font-size: 13px; color: var(--soft); margin: 0 0 0 46px; max-width: none; }
.readout { position: fixed; z-index: 5; pointer-events: none; background: var(--surface); color: var(--ink); border: 1px solid var(--soft); border-radius: 8px; padding: 6px 10px; font-size: 13px; box-shadow: 0 4px 16px rgb(0 0 0 / 0.22); font-variant-numeric: tabular-nums; max-width: 270px; }

.terminal { background: var(--terminal); color: var(--terminal-ink); border-radius: 10px; padding: 14px 16px; margin: 10px 0; overflow-x: auto; font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; max-height: 420px; overflow-y: auto; }
.terminal pre { margin: 0; font: inherit; } .terminal .command { font-weight: 700; } .terminal .prompt { color: var(--terminal-prompt); } .terminal .when, .terminal .who { color: var(--terminal-soft); } .terminal pre + .command { margin-top: 10px; }
details { margin: 10px 0; } summary { cursor: pointer; font-weight: 600; padding: 4px 0; } summary .badge { margin-left: 8px; }
.chips { display: flex; flex-wrap: wrap; gap: 6px; }
nav.contents { columns: 2; font-size: 15px; }
footer { margin-top: 48px; padding-top: 14px; border-top: 1px solid var(--edge); color: var(--soft); font-size: 14px; }

@media (max-width: 720px) {
  main { padding: 14px 14px 48px; }
  h1 { font-size: 24px; } h2 { font-size: 19px; margin-top: 34px; }
  .verdict { padding: 16px; } .verdict p { font-size: 16px; }
  .answers { grid-template-columns: 1fr; gap: 8px; } .answer { padding: 10px 14px; } .answer p.big { font-size: 22px; }
  .panel { padding: 14px; } ol.beats { grid-template-columns: 1fr 1fr; }
  .legend { margin-left: 0; width: 100%; } .if-wide { display: none; }
  dl.facts { grid-template-columns: minmax(0, 1fr); gap: 0; } dl.facts dd { margin-bottom: 8px; }
  table { font-size: 14px; } th, td { padding-right: 10px; } td .bar { min-width: 74px; } nav.contents { columns: 1; }
}
@media print { body { background: #fff; } .terminal { max-height: none; } details > * { display: block; } .panel { break-inside: avoid; } }
`;

/** The whole style sheet. @param theme "auto" follows the person's setting; a video has one look. */
export function styleSheet(theme: "auto" | "light" | "dark" = "auto"): string {
  const dark = theme === "auto" ? `@media (prefers-color-scheme: dark) { :root { color-scheme: dark; ${DARK} } }` : "";
  const first = theme === "dark" ? `color-scheme: dark; ${DARK}` : `color-scheme: light; ${LIGHT}`;
  return `:root { ${first} }\n${dark}\n${BASE}`;
}
