// System calls and user-space instructions per message: the server runs under strace or callgrind, once with N messages and
// once with twice as many. What starting, connecting and ending cost is in both, and goes out in the difference.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** calls, by name, of a summary that strace -c wrote */
function parseSummary(text) {
  const calls = {};
  for (const line of text.split("\n")) {
    const match = /^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$/.exec(line);
    if (match && match[2] !== "total") calls[match[2]] = (calls[match[2]] ?? 0) + Number(match[1]);
  }
  return calls;
}

const tools = {
  syscalls: {
    program: "strace",
    messages: 20_000,
    wrapper: (folder) => ["strace", "-f", "-c", "-o", join(folder, "strace")],
    read: (folder) => parseSummary(readFileSync(join(folder, "strace"), "utf8")),
  },
  instructions: {
    program: "valgrind",
    messages: 20_000,
    wrapper: (folder) => [
      ...["valgrind", "--tool=callgrind", "--trace-children=yes", "-q"],
      `--callgrind-out-file=${join(folder, "callgrind.%p")}`,
    ],
    read(folder) {
      let instructions = 0;
      for (const file of readdirSync(folder)) {
        const totals = /^(?:totals|summary):\s*(\d+)/m.exec(readFileSync(join(folder, file), "utf8"));
        if (totals) instructions += Number(totals[1]);
      }
      return { instructions };
    },
  },
};

/**
 * Counts for one row of a scenario. `drive(wrapper, messages)` starts the server within the wrapper, sends so many messages,
 * ends it, and gives back how many were answered. Resolves to { per, messages }: a number for each thing counted.
 */
export async function count(what, drive) {
  const tool = tools[what];
  const measure = async (messages) => {
    const folder = mkdtempSync(join(tmpdir(), "arke-bench-"));
    try {
      const answered = await drive(tool.wrapper(folder), messages);
      const counted = tool.read(folder);
      if (Object.values(counted).every((n) => n === 0)) throw new Error(`${tool.program} has written no counts`);
      return { answered, counted };
    } finally {
      rmSync(folder, { recursive: true });
    }
  };
  const few = await measure(tool.messages);
  const many = await measure(2 * tool.messages);
  const messages = many.answered - few.answered;
  const per = {};
  for (const name of Object.keys(many.counted)) per[name] = (many.counted[name] - (few.counted[name] ?? 0)) / messages;
  return { per, messages };
}

export const toolOf = (what) => tools[what].program;
