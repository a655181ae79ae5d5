// The client against the real server: node tests/js/with_server.mjs ARKE_JS_SERVER
//
// First: npm ci --ignore-scripts, in tests/peers. Clients connect by the package ws, as in Node before 22, from the packed module.
import assert from "node:assert/strict";
import { Ws as RawWs } from "../../client-js/dist/iris-ws.mjs";
import { Ws } from "../../client-js/dist/arke.mjs";
import { goThrough, table } from "../support/request_table.mjs";
import { RestartableServer } from "../support/restartable_server.mjs";
import { WebSocket, within } from "../support/program.mjs";

const [binary] = process.argv.slice(2);

const server = new RestartableServer(binary);
const open = [];

/** ws, which says when it was made. */
class DatedWebSocket extends WebSocket {
    made = Date.now();
}

function connect(options = {}) {
    const ws = new Ws(server.url, { WebSocket, ...options });
    open.push(ws);
    return ws;
}

/** The next time that a listener of that name is called, with what. */
const next = (ws, add, ...args) => within(20_000, `${add} ${args}`, new Promise(resolve => {
    const off = ws[add](...args, (...values) => {
        off?.();
        resolve(values);
    });
}));
const outcome = promise => promise.then(value => `answer ${value}`, error => `${error.code}: ${error.message}`);
const wait = ms => new Promise(resolve => setTimeout(resolve, ms));

/** The longest time that this process stood still, from now on until it is asked. */
function standstill() {
    let [longest, last] = [0, Date.now()];
    const look = setInterval(() => {
        longest = Math.max(longest, Date.now() - last - 20);
        last = Date.now();
    }, 20);
    return () => {
        clearInterval(look);
        return longest;
    };
}

const checks = {
    async "arke.v1 is what they speak, with a token in a subprotocol and a query too"() {
        const ws = connect({ protocols: async () => ["token.abc"], query: { token: "abc" } });
        await next(ws, "OnConnect");
        assert.equal(ws.protocol, "arke.v1");
        assert.equal(ws.conn.protocol, "arke.v1");
        ws.Emit("chat", "two\nlines; é 🚀");
        assert.deepEqual(await next(ws, "On", "chat"), ["two\nlines; é 🚀"]);
        ws.EmitMessage(new Uint8Array([0, 255, 10]));
        assert.deepEqual([...(await next(ws, "OnMessage"))[0]], [0, 255, 10]);
        ws.EmitMessage(new Blob(["blob"]));
        assert.equal(Buffer.from((await next(ws, "OnMessage"))[0]).toString(), "blob");
    },

    async "requests in both directions end as the table says"() {
        const errors = [];
        globalThis.reportError = error => errors.push(error.message);
        assert.deepEqual(await goThrough(table, Ws, connect()), table.ends);
        assert.deepEqual(errors, ["secret"]);
    },

    async "what only this client has: bytes, large integers, an abort, the text of a failure"() {
        const ws = connect();
        for (const [event, data, options, ends] of [
            ["bytes", new Uint8Array([0, 255]), {}, "answer 0,255"],
            ["large", 2n ** 64n - 1n, {}, "answer 18446744073709551615"],
            ["nothing", undefined, {}, "answer undefined"],
            ["throw", undefined, {}, 'failed: Ws: no answer to "throw": failed'],
            ["slow", 10_000, { signal: AbortSignal.timeout(20) }, /^aborted: /],
        ]) {
            const ended = await outcome(ws.Ask(event, data, options));
            if (ends instanceof RegExp) assert.match(ended, ends);
            else assert.equal(ended, ends);
        }
        await within(20_000, "a late answer", (async () => {
            // Where we stand still meanwhile the answer is there before we look at the clock: once more, then.
            let ended;
            do ended = await outcome(ws.Ask("slow", 50, { timeout: 5 })); while (ended === "answer 50");
            assert.match(ended, /^timeout/);
            while (ws.counts.late === 0) await outcome(ws.Ask("text", ""));
        })());
        assert.deepEqual(ws.counts, { unknown: 0, malformed: 0, late: 1, expired: 0 });
    },

    async "a disconnect with a thousand requests open, both ways: each completes once"() {
        const ws = connect({ reconnect: false });
        const observer = connect();
        ws.On("never", () => new Promise(() => {}));
        ws.Emit("ask me often", 1000);
        await next(ws, "On", "asked often");
        const ends = new Map();
        const all = Array.from({ length: 1000 }, () => ws.Ask("slow", 60_000, { timeout: 60_000 })
            .then(() => "answer", error => error.code).then(end => ends.set(end, (ends.get(end) ?? 0) + 1)));
        ws.Emit("cut");
        await within(10_000, "a thousand ends", Promise.all(all));
        assert.deepEqual([...ends], [["disconnected", 1000]]);
        await within(10_000, "a thousand ends in the server", (async () => {
            while (await observer.Ask("completed") < 1000);
        })());
        assert.equal(await observer.Ask("completed"), 1000);
    },

    async "rooms: those that the server allows, again after a reconnect, until they are left"() {
        const ws = connect({ minDelay: 10 });
        const other = connect();
        assert.equal(await outcome(ws.Join("secrets")), "refused: members only");
        await ws.Join("news");
        other.Emit("tell", "one");
        assert.deepEqual(await next(ws, "On", "told"), ["one"]);
        ws.Emit("cut");
        await next(ws, "OnReconnect");
        await ws.Ask("text", ""); // after its j
        other.Emit("tell", "two");
        assert.deepEqual(await next(ws, "On", "told"), ["two"]);
        await ws.Leave("news");
        const late = [];
        ws.On("told", text => late.push(text));
        other.Emit("tell", "three");
        await other.Ask("text", "");
        await ws.Ask("text", "");
        assert.deepEqual(late, []);
    },

    async "close codes: 1000, 1008 and an application's own end it, 1001 does not"() {
        for (const [code, comes] of [[1000, false], [1008, false], [4000, false], [1001, true]]) {
            const ws = connect({ minDelay: 10 });
            ws.Emit("end", code);
            assert.deepEqual(await next(ws, "OnDisconnect"), [code, "the end", comes]);
        }
    },

    async "the client of 2016 and today's meet on the same server"() {
        const old = new RawWs(server.url, null, { WebSocket });
        old.Emit("chat", "old");
        assert.deepEqual(await new Promise(resolve => old.On("chat", (...args) => resolve(args))), ["old"]);
        old.Disconnect();
    },

    async "a server that says nothing any more is noticed, and found again when it speaks"() {
        // The timeout is that of its handshakes too: longer than a machine stands still.
        const ws = connect({ idle: 100, timeout: 5000, minDelay: 10, maxDelay: 100 });
        await next(ws, "OnConnect");
        await wait(150);
        assert.equal(ws.state, "open"); // it was asked, and has answered
        await server.signal("SIGSTOP");
        try {
            assert.deepEqual(await next(ws, "OnDisconnect"), [1006, "the server is silent", true]);
        } finally {
            await server.signal("SIGCONT");
        }
        await next(ws, "OnReconnect");
        assert.equal(await ws.Ask("text", "here"), "here");
    },

    async "a server is killed and restarted under 200 clients: all return, spread in time; nothing twice, nothing out of date"() {
        const clients = await Promise.all(Array.from({ length: 200 }, async (_, n) => {
            const ws = connect({ timeout: 20_000, askTimeout: 60_000, WebSocket: DatedWebSocket });
            await next(ws, "OnConnect");
            await ws.Join("news");
            return { ws, n };
        }));
        for (const { ws, n } of clients) ws.Emit("count", `${n} before`);
        await Promise.all(clients.map(({ ws }) => ws.Ask("text", ""))); // so that all of it has arrived

        const lost = clients.map(({ ws }) => next(ws, "OnDisconnect"));
        const sentAndOpen = clients.map(({ ws }) => outcome(ws.Ask("slow", 60_000)));
        await server.signal("SIGKILL");
        for (const [code, , willReconnect] of await Promise.all(lost)) assert.deepEqual([code, willReconnect], [1006, true]);
        for (const end of await Promise.all(sentAndOpen)) assert.match(end, /^disconnected/);

        // When they tried, for a server that stands still lets in together whom it kept waiting.
        const returned = clients.map(({ ws }) => new Promise(resolve => ws.OnReconnect(() => resolve(ws.conn.made))));
        const waiting = clients.map(({ ws, n }) => {
            ws.Emit("count", `${n} meanwhile`);
            ws.Emit("count", `${n} in time`, { ttl: 60_000 });
            ws.Emit("count", `${n} too late`, { ttl: 1 });
            assert.equal(ws.Emit("count", `${n} volatile`, { volatile: true }), false);
            const answer = ws.Ask("text", `${n}`);
            answer.catch(() => {}); // it is awaited further down
            return answer;
        });
        const stood = standstill();
        await wait(1_500); // some have failed once or twice by then
        const restarted = Date.now();
        await server.start();
        const times = (await within(45_000, "all return", Promise.all(returned))).map(time => time - restarted);
        const still = stood();
        assert.deepEqual(await Promise.all(waiting), clients.map(({ n }) => String(n)));
        await Promise.all(clients.map(({ ws }) => ws.Join("news")));
        await server.signal("SIGTERM"); // and all that it has printed is read

        const bins = new Map();
        for (const time of times) bins.set(Math.floor(time / 250), (bins.get(Math.floor(time / 250)) ?? 0) + 1);
        console.log("    returned after the restart:");
        for (let bin = 0; bin <= Math.max(...bins.keys()); ++bin) {
            const count = bins.get(bin) ?? 0;
            console.log(`    ${String(bin * 250).padStart(6)} ms ${String(count).padStart(4)} ${"#".repeat(count)}`);
        }
        // Clients whose times have come while nothing ran come in one moment, which says nothing of the times.
        if (still < 200) {
            assert.ok(Math.max(...bins.values()) <= 100, "half of them came within a quarter of a second");
            assert.ok(Math.max(...times) - Math.min(...times) > 500, "they came all at once");
        } else {
            console.log(`    not judged: the machine stood still for ${still} ms`);
        }

        const expected = clients.flatMap(({ n }) => [`${n} before`, `${n} meanwhile`, `${n} in time`]);
        assert.deepEqual(server.counted.sort(), expected.sort());
        for (const { ws } of clients) assert.equal(ws.counts.expired, 1);
    },
};

await server.start();
let failed = false;
for (const [what, check] of Object.entries(checks)) {
    try {
        await within(60_000, what, check());
        console.log(`ok: ${what}`);
    } catch (error) {
        failed = true;
        console.error(`failed: ${what}\n`, error);
    }
    for (const ws of open.splice(0)) ws.Disconnect();
}
await server.signal("SIGKILL");
process.exit(failed ? 1 : 0);
