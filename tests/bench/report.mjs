// The machine's description, medians and ratios, and the table.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { arch, cpus, loadavg, release, totalmem } from "node:os";

import { isPinned } from "./process.mjs";

const firstLine = (command, ...parameters) => {
  try {
    return execFileSync(command, parameters, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).split("\n")[0];
  } catch {
    return "unknown";
  }
};

export function describeMachine() {
  return {
    date: new Date().toISOString(),
    processor: cpus()[0]?.model.trim() ?? "unknown",
    cores: cpus().length,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    kernel: `Linux ${release()} ${arch()}`,
    compiler: firstLine("c++", "--version"),
    node: process.version,
    congestion_control: readFileSync("/proc/sys/net/ipv4/tcp_congestion_control", "utf8").trim(),
    network_namespace: process.env.ARKE_BENCH_NAMESPACE === "yes",
    pinned: isPinned,
    load_before: Number(loadavg()[0].toFixed(2)),
  };
}

export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * Adds to each row of a measured scenario the medians over its rounds, and its ratio to the reference: the median of the
 * ratios within each round, because what disturbs a round disturbs all of it.
 */
export function summarise({ mode, rows, figure, reference }) {
  const references = rows.filter(({ name }) => reference.includes(name));
  const isComplete = references.length === reference.length && reference.length > 0;
  for (const row of rows) {
    const done = row.rounds.filter((round) => !round.error);
    const names = new Set(done.flatMap((round) => Object.keys(round)).filter((name) => typeof done[0][name] === "number"));
    row.median = {};
    for (const name of names) row.median[name] = median(done.map((round) => round[name]).filter(Number.isFinite));
    const ratios = [];
    for (const [i, round] of row.rounds.entries()) {
      const others = references.map((other) => other.rounds[i]?.[figure]);
      if (isComplete && others.every((other) => other > 0) && round[figure] > 0)
        ratios.push(round[figure] / others.reduce((sum, other) => sum + other, 0));
    }
    if (ratios.length) row.ratio = { median: median(ratios), lowest: Math.min(...ratios), highest: Math.max(...ratios) };
    row.error = row.rounds.find((round) => round.error)?.error;
    // Where our side had no time left and the server had, its figures would be those of a server with less to do.
    // At a fixed rate it spins while it waits.
    row.loadWasTheLimit = mode !== "latency" && row.median.load_cpu_share > 0.97 && row.median.cpu_share < 0.9;
  }
}

const number = (value, digits) => (Number.isFinite(value) ? value.toFixed(digits) : "");
const micro = (value) => number(value, value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3);
const whole = (value) => (Number.isFinite(value) ? Math.round(value).toString().replace(/(?<=\d)(?=(\d{3})+$)/g, ",") : "");
const ratio = (r) => (r ? number(r.median, 2) : "");
const range = (r) => (r && r.lowest !== r.highest ? `${number(r.lowest, 2)}-${number(r.highest, 2)}` : "");

function columnsOf(scenario) {
  const ratios = [["ratio", (row) => ratio(row.ratio)], ["range", (row) => range(row.ratio)]];
  if (scenario.mode === "idle") {
    return [
      ["user bytes", ({ median: m }) => whole(m.user_bytes)],
      ...ratios,
      ["kernel bytes, both ends", ({ median: m }) => whole(m.kernel_bytes_both_ends)],
    ];
  }
  return [
    [`CPU µs/${scenario.per}`, ({ median: m }) => micro(m.cpu_us)],
    ...ratios,
    ["user", ({ median: m }) => micro(m.user_us)],
    ["system", ({ median: m }) => micro(m.system_us)],
    [`${scenario.per === "delivery" ? "deliverie" : scenario.per}s/s`, ({ median: m }) => whole(m.per_second)],
    ...(scenario.mode === "latency"
      ? [
          ["p50 µs", ({ median: m }) => micro(m.p50_us)],
          ["p99 µs", ({ median: m }) => micro(m.p99_us)],
          ["p99.9 µs", ({ median: m }) => micro(m.p999_us)],
        ]
      : []),
  ];
}

export function align(lines, isTextColumn) {
  const widths = lines[0].map((_, column) => Math.max(...lines.map((line) => line[column].length)));
  return lines.map((line) =>
    line.map((cell, i) => (isTextColumn(i) ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join("  ").trimEnd(),
  );
}

export function tableOf(scenario) {
  const columns = columnsOf(scenario).filter(([, cell]) => scenario.rows.some((row) => cell(row) !== ""));
  const lines = [["", ...columns.map(([title]) => title)]];
  for (const row of scenario.rows) {
    const mark = row.loadWasTheLimit ? " (*)" : "";
    lines.push([`  ${row.label}${mark}`, ...columns.map(([, cell]) => cell(row))]);
  }
  const text = align(lines, (i) => i === 0);
  for (const [i, row] of scenario.rows.entries()) {
    if (row.error) text[i + 1] = `  ${row.label}: ${row.error}`;
  }
  const relative = scenario.reference.length ? `; ratios to ${referenceLabel(scenario)}` : "";
  text[0] = text[0].trim() ? text[0] : "";
  const notes = scenario.rows.some((row) => row.loadWasTheLimit) ? ["  (*) the load generator was the limit here"] : [];
  return [`${scenario.label}${relative}`, ...text, ...notes, ""].join("\n");
}

function referenceLabel({ rows, reference }) {
  return reference.map((name) => rows.find((row) => row.name === name)?.label ?? name).join(" + ");
}

/** What was counted: one table for system calls and one for instructions. */
export function tableOfCounts(counts) {
  const tables = [];
  for (const what of ["syscalls", "instructions"]) {
    const some = counts.filter((entry) => entry.what === what);
    if (!some.length) continue;
    tables.push(what === "syscalls" ? "system calls per message (strace)" : "user-space instructions per message (callgrind)");
    for (const scenario of new Set(some.map((entry) => entry.label))) {
      tables.push(`  ${scenario}`);
      const lines = some
        .filter((entry) => entry.label === scenario)
        .map(({ server, per, error }) => {
          if (error) return [`    ${server}`, "", error];
          const all = Object.values(per).reduce((sum, n) => sum + n, 0);
          const parts = Object.entries(per)
            .filter(([, n]) => n >= 0.0005)
            .sort(([, a], [, b]) => b - a)
            .map(([name, n]) => `${name} ${n.toFixed(3)}`);
          return [`    ${server}`, what === "syscalls" ? all.toFixed(3) : whole(all), what === "syscalls" ? parts.join(", ") : ""];
        });
      tables.push(...align(lines, (i) => i !== 1));
    }
    tables.push("");
  }
  return tables.join("\n");
}
