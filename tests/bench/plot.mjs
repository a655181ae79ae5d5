// The ratios as an SVG of grouped horizontal bars, for light and dark pages. By hand: a plot of bars needs no library.

const width = 1040;
const margin = 24;
const gap = 40;
const column = (width - 2 * margin - gap) / 2;
const nameWidth = 150;
const barsWidth = column - nameWidth - 52;
const barHeight = 13;
const step = 16;
const headHeight = 26;
const groupGap = 14;
const longest = 2.5; // ratios beyond it are cut, and say so by their number

const palette = ["#2563eb", "#0891b2", "#65a30d", "#d97706", "#dc2626", "#9333ea", "#6b7280", "#be185d", "#92400e", "#0f766e"];

const escape = (text) => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
const at = (n) => n.toFixed(1).replace(/\.0$/, "");

const nameOf = (row) => row.short ?? row.label;

// Where a scenario has a reference of its own, a line below its title says so.
function relativeTo({ rows, reference }, common) {
  if (reference.length === 1 && reference[0] === common) return "";
  return `1.0 is ${reference.map((name) => nameOf(rows.find((row) => row.name === name))).join(" + ")}`;
}

function groupsOf(scenarios, common) {
  return scenarios
    .map((scenario) => ({
      title: scenario.label,
      relative: relativeTo(scenario, common),
      bars: scenario.rows
        .filter((row) => row.ratio)
        .map((row) => ({ name: nameOf(row), key: row.server, value: row.ratio.median })),
    }))
    .filter(({ bars }) => bars.length > 1)
    .map((group) => ({ ...group, head: headHeight + (group.relative ? 14 : 0) }))
    .map((group) => ({ ...group, height: group.head + group.bars.length * step + groupGap }));
}

export function plot({ scenarios, machine, options, title }) {
  const groups = groupsOf(scenarios, options.reference);
  const keys = [...new Set(groups.flatMap(({ bars }) => bars.map(({ key }) => key)))];
  const colour = (key) => palette[keys.indexOf(key) % palette.length];

  const total = groups.reduce((sum, { height }) => sum + height, 0);
  const top = 76;
  const bottoms = [top, top];
  const parts = [];
  let side = 0;
  for (const group of groups) {
    if (side === 0 && bottoms[0] - top + group.height / 2 > total / 2) side = 1;
    const x = margin + side * (column + gap);
    const zero = x + nameWidth;
    const y = bottoms[side];
    const barsTop = y + group.head;
    const barsBottom = barsTop + group.bars.length * step;
    parts.push(`<text class="title" x="${at(x)}" y="${at(y + 16)}">${escape(shorten(group.title, 80))}</text>`);
    if (group.relative) parts.push(`<text class="soft" x="${at(x)}" y="${at(y + 31)}">${escape(group.relative)}</text>`);
    const one = zero + barsWidth / longest;
    const values = [];
    for (const [i, bar] of group.bars.entries()) {
      const barY = barsTop + i * step;
      const length = (Math.min(bar.value, longest) / longest) * barsWidth;
      parts.push(
        `<text class="name" x="${at(zero - 6)}" y="${at(barY + 10.5)}">${escape(shorten(bar.name, 24))}</text>`,
        `<rect x="${at(zero)}" y="${at(barY)}" width="${at(length)}" height="${barHeight}" rx="2" fill="${colour(bar.key)}"/>`,
      );
      if (bar.value > longest) {
        const cut = zero + length - 12;
        parts.push(`<path class="cut" d="M${at(cut)} ${at(barY + 14)}l5 -15m4 0l-5 15"/>`);
      }
      values.push(`<text class="value" x="${at(zero + length + 5)}" y="${at(barY + 10.5)}">${bar.value.toFixed(2)}</text>`);
    }
    parts.push(`<path class="one" d="M${at(one)} ${at(barsTop - 3)}V${at(barsBottom)}"/>`, ...values);
    bottoms[side] += group.height;
  }
  const height = Math.max(...bottoms) + 34;
  const about = `${machine.processor}, ${machine.cores} cores, ${machine.kernel}, ${machine.compiler}, ${machine.date.slice(0, 10)}`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${at(height)}" width="${width}" height="${at(height)}" role="img">
<title>${escape(title)}</title>
<style>
  svg { --ink: #1f2937; --soft: #6b7280; --page: #ffffff; color-scheme: light dark; }
  @media (prefers-color-scheme: dark) { svg { --ink: #e5e7eb; --soft: #9ca3af; --page: #0d1117; } rect:not(.page) { filter: brightness(1.25); } }
  text { font: 11px system-ui, sans-serif; fill: var(--ink); }
  .page { fill: var(--page); }
  .head { font-size: 17px; font-weight: 600; }
  .soft { fill: var(--soft); }
  .title { font-weight: 600; }
  .name { text-anchor: end; }
  .value { paint-order: stroke; stroke: var(--page); stroke-width: 3px; }
  .one { stroke: var(--ink); stroke-dasharray: 2 2; fill: none; }
  .cut { stroke: var(--page); stroke-width: 2; fill: none; }
</style>
<rect class="page" width="100%" height="100%"/>
<text class="head" x="${margin}" y="32">${escape(title)}</text>
<text class="soft" x="${margin}" y="52">Shorter is better. The dashed line is 1.0; bars are cut at ${longest}.</text>
${parts.join("\n")}
<text class="soft" x="${margin}" y="${at(height - 12)}">${escape(about)}</text>
</svg>
`;
}

function shorten(text, longestText) {
  return text.length > longestText ? `${text.slice(0, longestText - 1)}…` : text;
}
