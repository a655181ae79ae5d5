// The table of requests that all clients go through: tests/golden/requests.json, against tests/support/request_handlers.hpp.
import { readFileSync } from "node:fs";

const { client_asks, server_asks } = JSON.parse(readFileSync(new URL("../golden/requests.json", import.meta.url), "utf8"));

const ended = ({ answer, error, text }) => error ? { error, ...(text && { text }) } : { answer: answer ?? null };

/** The rows, and how each of them ends. */
export const table = { client_asks, server_asks, ends: [...client_asks, ...server_asks].map(ended) };

/** Puts every request of the table, one after another: how each ended. It names nothing outside, because it also runs in a page. */
export async function goThrough({ client_asks, server_asks }, Ws, ws) {
    const wait = ms => new Promise(resolve => setTimeout(resolve, ms));
    const ends = [];
    for (const { event, data, timeout = 5000, text } of client_asks) {
        ends.push(await ws.Ask(event, data, { timeout }).then(
            answer => ({ answer: answer ?? null }),
            // The text of a refusal is the application's; that of the others is for people.
            error => ({ error: error.code, ...(text && { text: error.message }) })));
    }
    ws.On("double", n => n * 2);
    ws.On("later", async n => { await wait(5); return n * 3; });
    ws.On("refuse", () => { throw new Ws.Refusal("sold out"); });
    ws.On("throw", () => { throw new Error("secret"); });
    ws.On("text", () => "no number");
    ws.On("slow", () => new Promise(() => {}));
    for (const { event, timeout = 5000 } of server_asks) {
        const asked = new Promise(resolve => ws.Once("asked", resolve));
        ws.Emit("ask me", { event, value: 21, timeout });
        const [, word, rest] = (await asked).match(/^(\S+) ?(.*)$/);
        ends.push(word === "answer" ? { answer: Number(rest) } : { error: word, ...(rest && { text: rest }) });
    }
    return ends;
}
