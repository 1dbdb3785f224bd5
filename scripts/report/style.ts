/** The style sheet of report, live page and video: light and dark, desktop, phone and paper. */

/** Contrast to the background: text at least 4.5 (tests/pictures/pages.test.ts measures it), curves and marks at least 3. */
const LIGHT = `
  --ground: #f4f6f8; --surface: #ffffff; --sunken: #eef1f4; --ink: #18202a; --soft: #55616e; --edge: #d8dfe6;
  --link: #1b5fb4; --good: #0b6b3a; --good-ground: #e3f4ea; --bad: #a8201a; --bad-ground: #fdeae8;
  --doubt: #7a4d00; --doubt-ground: #fdf1d8; --blue: #1f66c1; --green: #13804f; --orange: #bd5305; --purple: #7a3eb8;
  --red: #c62b23; --teal: #0b7a86; --grey: #68737f; --grid: #e3e8ed; --shade-plain-0: #f3f6f9; --shade-plain-1: #e6ecf2;
  --shade-before: #f1f4f7; --shade-fault: #fbe4e1; --shade-healed: #fdf0d3; --shade-proven: #e0f2e7;
  --terminal: #10161d; --terminal-ink: #e3e9ef; --terminal-soft: #94a3b1; --terminal-prompt: #6fd39b;`;
const DARK = `
  --ground: #0e1318; --surface: #161c23; --sunken: #1e262f; --ink: #e8edf2; --soft: #a0adb9; --edge: #2c3742;
  --link: #7fb4ff; --good: #5fd08f; --good-ground: #11301f; --bad: #ff938a; --bad-ground: #3a1715;
  --doubt: #f2bd57; --doubt-ground: #35270b; --blue: #6ba8ff; --green: #4fc98a; --orange: #ff9d4d; --purple: #c497ff;
  --red: #ff7b72; --teal: #4bc7d3; --grey: #a3aeb9; --grid: #25303a; --shade-plain-0: #19212a; --shade-plain-1: #212b36;
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
h2 { font-size: 20px; margin: 34px 0 10px; }
h3 { font-size: 18px; margin: 24px 0 8px; }
h4 { font-size: 14px; margin: 22px 0 6px; color: var(--soft); text-transform: uppercase; letter-spacing: 0.05em; }
p { margin: 8px 0; max-width: 78ch; }
p.small { max-width: none; }
code, pre, .mono { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 0.875em; }
.soft { color: var(--soft); }
.small { font-size: 14px; }
.panel { background: var(--surface); border: 1px solid var(--edge); border-radius: 10px; padding: 18px 20px; margin: 12px 0; }

.verdict { border-radius: 12px; padding: 16px 22px; border: 1px solid var(--edge); border-left-width: 8px; background: var(--surface); }
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
.bar-label { font-size: 14px; margin-top: 3px; }

ol.phases { list-style: none; margin: 10px 0; padding: 0; display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 10px; }
ol.phases li { border-top: 5px solid var(--edge); background: var(--sunken); border-radius: 0 0 8px 8px; padding: 8px 12px 10px; font-size: 14px; min-width: 0; }
ol.phases .phase-name { font-weight: 700; display: block; } ol.phases .phase-time { color: var(--soft); display: block; font-variant-numeric: tabular-nums; }
ol.phases .phase-before { border-color: var(--grey); } ol.phases .phase-fault { border-color: var(--red); background: var(--shade-fault); } ol.phases .phase-healed { border-color: var(--doubt); background: var(--shade-healed); } ol.phases .phase-proven { border-color: var(--green); background: var(--shade-proven); }
ol.phases .phase-none { opacity: 1; border-style: dashed; background: transparent; color: var(--soft); }

.stack { margin: 6px 0; }
.chart { margin: 0 0 10px; }
.chart figcaption { display: flex; flex-wrap: wrap; align-items: baseline; gap: 2px 8px; font-size: 14px; margin: 10px 0 2px; }
.chart-title { font-weight: 650; } .unit { color: var(--soft); font-size: 13px; }
.legend { display: flex; flex-wrap: wrap; gap: 0 16px; margin-left: auto; font-size: 13px; }
.key { white-space: nowrap; } .key::before { content: ""; display: inline-block; width: 24px; height: 2px; margin: 0 1px; vertical-align: 5px; background: var(--tone); print-color-adjust: exact; -webkit-print-color-adjust: exact; forced-color-adjust: none; }
.key.dashed::before { background: repeating-linear-gradient(90deg, var(--tone) 0 7px, transparent 7px 11px); } .key.dotted::before { background: repeating-linear-gradient(90deg, var(--tone) 0 2px, transparent 2px 6px); }
.plot { width: 100%; min-height: 20px; overflow: hidden; } .plot:focus-visible { outline-offset: 0; } .uplot { font-family: inherit; } .uplot .u-cursor-x { border-right: 1px solid var(--ink); }
.strip { position: relative; margin: 6px 6px 0 46px; font-size: 12px; font-weight: 600; line-height: 17px; color: var(--ink); }
.strip > span { position: absolute; white-space: nowrap; } .band-name { height: 20px; line-height: 20px; text-align: center; overflow: hidden; print-color-adjust: exact; -webkit-print-color-adjust: exact; } .mark-name { padding: 0 4px; font-weight: 400; border: 0 solid; border-left-width: 2px; } .mark-name.is-left { border-width: 0 2px 0 0; }
.band-plain-0 { background: var(--shade-plain-0); } .band-plain-1 { background: var(--shade-plain-1); } .band-before { background: var(--shade-before); } .band-fault { background: var(--shade-fault); } .band-healed { background: var(--shade-healed); } .band-proven { background: var(--shade-proven); }
.tone-blue { --tone: var(--blue); } .tone-green { --tone: var(--green); } .tone-orange { --tone: var(--orange); } .tone-purple { --tone: var(--purple); } .tone-red { --tone: var(--red); } .tone-teal { --tone: var(--teal); } .tone-grey { --tone: var(--grey); }
.mark-fault { border-color: var(--red); } .mark-effect { border-color: var(--orange); } .mark-healed { border-color: var(--blue); } .mark-recovered { border-color: var(--green); } .mark-alert { border-color: var(--purple); } .mark-scale { border-color: var(--teal); }
.axis-note { font-size: 13px; color: var(--soft); margin: 0 0 0 46px; max-width: none; }
.readout { position: fixed; z-index: 5; pointer-events: none; background: var(--surface); color: var(--ink); border: 1px solid var(--soft); border-radius: 8px; padding: 6px 10px; font-size: 13px; box-shadow: 0 4px 16px rgb(0 0 0 / 0.22); font-variant-numeric: tabular-nums; max-width: 270px; white-space: pre-line; }

.drills { background: var(--surface); border: 1px solid var(--edge); border-radius: 10px; margin: 12px 0; overflow: hidden; }
.drills-head, .drill > summary { display: grid; grid-template-columns: 12px minmax(0, 2.8fr) minmax(112px, 0.8fr) minmax(0, 1.3fr) 108px 44px; gap: 2px 14px; align-items: center; padding: 4px 16px; font-size: 14px; }
.drills-head { color: var(--soft); font-size: 12.5px; white-space: nowrap; font-weight: 600; padding: 9px 16px 7px; } .drill { margin: 0; border-top: 1px solid var(--edge); } .drill > summary { font-weight: 400; list-style: none; min-height: 32px; } .drill > summary::-webkit-details-marker { display: none; } .drill > summary:hover { background: var(--sunken); } .drill[open] > summary { background: var(--sunken); border-bottom: 1px solid var(--edge); }
.drill > summary::before { content: "▸"; color: var(--soft); } .drill[open] > summary::before { content: "▾"; }
.drill > summary h3 { margin: 0; font-size: 14.5px; text-wrap: wrap; } .drill > summary .badge { margin: 0; } .drill .count { text-align: right; font-variant-numeric: tabular-nums; } .drills-head .count { text-align: right; }
.drill .recovery { display: grid; grid-template-columns: minmax(50px, 1fr) 116px; gap: 0 10px; align-items: center; } .drill > summary .bar { height: 10px; min-width: 50px; } .drill > summary .bar-label { margin: 0; } .drill-body { padding: 14px 20px 20px; scroll-margin-top: 60px; }

.terminal { background: var(--terminal); color: var(--terminal-ink); border-radius: 10px; padding: 14px 16px; margin: 10px 0; overflow-x: auto; font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; max-height: 420px; overflow-y: auto; }
.terminal pre { margin: 0; font: inherit; } .terminal .command { font-weight: 700; } .terminal .prompt { color: var(--terminal-prompt); } .terminal .when, .terminal .who { color: var(--terminal-soft); } .terminal pre + .command { margin-top: 10px; }
details { margin: 10px 0; } summary { cursor: pointer; font-weight: 600; padding: 4px 0; } summary .badge { margin-left: 8px; }
.chips { display: flex; flex-wrap: wrap; gap: 6px; }
footer { margin-top: 48px; padding-top: 14px; border-top: 1px solid var(--edge); color: var(--soft); font-size: 14px; }

@media (max-width: 720px) {
  main { padding: 14px 14px 48px; }
  h1 { font-size: 24px; } h2 { font-size: 19px; margin-top: 28px; }
  .verdict { padding: 16px; } .verdict p { font-size: 16px; }
  .answers { grid-template-columns: 1fr; gap: 8px; } .answer { padding: 10px 14px; } .answer p.big { font-size: 22px; }
  .panel { padding: 14px; } ol.phases { grid-template-columns: 1fr 1fr; }
  .legend { margin-left: 0; width: 100%; } .if-wide { display: none; }
  dl.facts { grid-template-columns: minmax(0, 1fr); gap: 0; } dl.facts dd { margin-bottom: 8px; }
  .drills-head { display: none; } .drill > summary { grid-template-columns: 12px auto minmax(0, 1fr) auto; gap: 4px 10px; padding: 8px 14px; } .drill > summary > h3 { grid-column: 2 / 4; } .drill > summary > .lost { grid-area: 1 / 4; } .drill > summary > .lost::after { content: " lost"; } .drill > summary > .chips { grid-column: 2; } .drill > summary > .recovery { grid-column: 3 / 5; grid-template-columns: minmax(30px, 1fr) auto; }
  .drill-body { padding: 12px 14px 16px; }
  table { font-size: 14px; } th, td { padding-right: 10px; } td .bar { min-width: 74px; }
}
@media (scripting: none) { .stack > .strip, .stack > .chart, .stack > .axis-note { display: none; } }
@media print { body { background: #fff; } .terminal { max-height: none; } .drills { overflow: visible; } .panel, .chart { break-inside: avoid; } .plot, .uplot, .u-wrap, .uplot canvas { width: 100% !important; } }
`;

/** Rules for a page whose reader chooses a theme: `data-theme` of the root element. */
export const CHOSEN_THEMES = `:root[data-theme="light"] { color-scheme: light; ${LIGHT} }\n:root[data-theme="dark"] { color-scheme: dark; ${DARK} }\n`;

/** The complete style sheet. @param theme "auto" follows the setting of the reader; a video has one theme. */
export function styleSheet(theme: "auto" | "light" | "dark" = "auto"): string {
  const dark = theme === "auto" ? `@media (prefers-color-scheme: dark) { :root { color-scheme: dark; ${DARK} } }` : "";
  const first = theme === "dark" ? `color-scheme: dark; ${DARK}` : `color-scheme: light; ${LIGHT}`;
  return `:root { ${first} }\n${dark}\n${BASE}`;
}
