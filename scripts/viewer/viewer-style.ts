/** Style of the dashboards, in addition to that of every page. */
import { CHOSEN_THEMES } from "../report/style.ts";

export const VIEWER_STYLE = `${CHOSEN_THEMES}
main.viewer { max-width: none; padding: 0 16px 48px; }
.viewer h1 { font-size: 24px; margin: 12px 0 0; }
.top { position: sticky; top: 0; z-index: 4; background: var(--ground); border-bottom: 1px solid var(--edge); padding: 8px 0; display: flex; flex-wrap: wrap; gap: 8px 16px; align-items: center; justify-content: space-between; }
.top nav { display: flex; flex-wrap: wrap; gap: 2px 4px; } .top nav a { padding: 4px 10px; border-radius: 6px; text-decoration: none; font-size: 14px; } .top nav a[aria-current] { background: var(--surface); border: 1px solid var(--edge); color: var(--ink); font-weight: 650; }
.controls { display: flex; flex-wrap: wrap; gap: 6px 10px; align-items: center; font-size: 14px; } .controls label { color: var(--soft); }
.controls select, .controls input, .controls button { font: inherit; color: var(--ink); background: var(--surface); border: 1px solid var(--edge); border-radius: 6px; padding: 4px 8px; min-height: 32px; } .controls input { width: 130px; } .controls button { cursor: pointer; }
.choices { position: relative; margin: 0; } .choices > summary { font-weight: 400; border: 1px solid var(--edge); background: var(--surface); border-radius: 6px; padding: 4px 8px; max-width: 240px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; } .choices .list { position: absolute; z-index: 6; background: var(--surface); border: 1px solid var(--soft); border-radius: 8px; padding: 8px 12px; max-height: 60vh; overflow: auto; min-width: 180px; box-shadow: 0 4px 16px rgb(0 0 0 / 0.22); } .choices .list label { display: block; white-space: nowrap; color: var(--ink); padding: 3px 0; }
.target { margin-left: 8px; }
.row { margin: 14px 0; } .row > summary h2 { display: inline; margin: 0; font-size: 17px; }
.grid { display: grid; grid-template-columns: repeat(24, minmax(0, 1fr)); gap: 10px; margin-top: 8px; }
.tile { background: var(--surface); border: 1px solid var(--edge); border-radius: 8px; padding: 8px 12px; min-height: var(--height); display: flex; flex-direction: column; min-width: 0; position: relative; }
.tile > header { display: flex; align-items: baseline; gap: 6px; } .tile h3 { font-size: 14px; margin: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.about { margin: 0; } .about > summary { list-style: none; color: var(--soft); border: 1px solid currentColor; border-radius: 50%; width: 16px; height: 16px; padding: 0; font: italic 600 11px/14px Georgia, serif; text-align: center; } .about > summary::-webkit-details-marker { display: none; } .about p { position: absolute; z-index: 3; left: 8px; right: 8px; background: var(--surface); border: 1px solid var(--soft); border-radius: 8px; padding: 8px 12px; font-size: 14px; box-shadow: 0 4px 16px rgb(0 0 0 / 0.22); }
.tile .unit { line-height: 18px; height: 18px; } .tile .state { margin-left: auto; font-size: 12px; color: var(--bad); overflow: hidden; text-overflow: ellipsis; }
.tile .body { flex: 1; min-height: 0; min-width: 0; overflow: hidden; } .tile-table .body, .tile-logs .body { overflow: auto; max-height: max(420px, var(--height)); }
.tile .empty { color: var(--soft); font-size: 14px; padding: 20px 0; text-align: center; }
.tile-stat .big { font-size: clamp(20px, 2.4vw, 34px); font-weight: 700; line-height: 1.2; white-space: nowrap; } .tile-stat .big small { font-size: 0.5em; font-weight: 600; } .tile-stat svg { width: 100%; height: 34px; display: block; }
.legend-table { font-size: 12.5px; width: 100%; } .legend-table td, .legend-table th { padding: 1px 8px 1px 0; border: 0; } .legend-table td.number, .legend-table th.number { text-align: right; } .legend-table button { all: unset; cursor: pointer; } .legend-table button:focus-visible { outline: 2px solid var(--link); } .legend-table tr.off { opacity: 0.4; } .legend-scroll { max-height: 92px; overflow: auto; }
.swatch { display: inline-block; width: 14px; height: 3px; vertical-align: 4px; margin-right: 6px; background: var(--tone); }
.tile table.data { font-size: 14px; } .tile table.data td { padding: 4px 10px 4px 0; }
.log { display: grid; grid-template-columns: 96px 58px 170px minmax(0, 1fr); gap: 0 8px; font: 12.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; border-top: 1px solid var(--edge); padding: 2px 0; margin: 0; } .log > summary { display: contents; font-weight: 400; cursor: pointer; } .log .text { overflow-wrap: anywhere; white-space: pre-wrap; } .log .pod, .log .when { color: var(--soft); overflow: hidden; text-overflow: ellipsis; white-space: nowrap; } .log dl { grid-column: 1 / -1; display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 0 14px; margin: 4px 0 8px 96px; } .log dd { margin: 0; overflow-wrap: anywhere; }
.level-error { color: var(--bad); font-weight: 700; } .level-warn { color: var(--doubt); font-weight: 700; } .level-info, .level-debug, .level-unknown { color: var(--soft); }
@media (max-width: 900px) { .grid { grid-template-columns: repeat(2, minmax(0, 1fr)); } .tile { grid-column: span 2 !important; } .tile-stat { grid-column: span 1 !important; min-height: 0; } .log { grid-template-columns: 92px 52px minmax(0, 1fr); } .log .text { grid-column: 1 / -1; } .log dl { margin-left: 0; } .top { position: static; } .legend-scroll { max-height: 150px; } }
`;
