// Requests in both directions, against a server that the test plays: each completes once, whatever happens.
import assert from "node:assert/strict";
import { test } from "node:test";
import { connectedV1, connected, FakeWebSocket, page, reopen, settle } from "./support.mjs";

/** How a promise ended, as one comparable line. */
const outcome = promise => promise.then(value => `answer ${JSON.stringify(value)}`, error => `${error.name} ${error.code}: ${error.message}`);

// What happens after `Ask("buy", { item: "tea" })`, and how it ends.
const asks = [
    ["an answer", c => c.socket.deliver("an1 42"), "answer 42"],
    ["an answer of nothing", c => c.socket.deliver("av1 "), "answer undefined"],
    ["a refusal with its reason", c => c.socket.deliver("f1 refused\nsold out"), "WsError refused: sold out"],
    ["a refusal of a later version", c => c.socket.deliver("f1 tired\n"), 'WsError refused: Ws: no answer to "buy": refused'],
    ["a handler that throws", c => c.socket.deliver("f1 failed\n"), 'WsError failed: Ws: no answer to "buy": failed'],
    ["an event that nobody handles", c => c.socket.deliver("f1 unhandled\n"), 'WsError unhandled: Ws: no answer to "buy": unhandled'],
    ["a value of another type", c => c.socket.deliver("f1 wrong-type\nno order"), "WsError wrong-type: no order"],
    ["a server that is busy", c => c.socket.deliver("f1 busy\n"), 'WsError busy: Ws: no answer to "buy": busy'],
    ["no answer in time", c => c.clock.advance(10_000), 'WsError timeout: Ws: no answer to "buy": timeout'],
    ["an answer at the last moment", c => { c.clock.advance(9_999); c.socket.deliver("an1 1"); c.clock.advance(9_999); }, "answer 1"],
    ["a late answer, dropped", c => { c.clock.advance(10_000); c.socket.deliver("an1 42"); }, 'WsError timeout: Ws: no answer to "buy": timeout', { late: 1 }],
    ["an answer to somebody else", c => { c.socket.deliver("an2 42"); c.socket.deliver("an1 43"); }, "answer 43", { late: 1 }],
    ["a second answer, dropped", c => { c.socket.deliver("an1 1"); c.socket.deliver("an1 2"); c.socket.deliver("f1 refused\n"); }, "answer 1", { late: 2 }],
    ["the connection ends", c => c.socket.end(1006), 'WsError disconnected: Ws: no answer to "buy": disconnected'],
    ["Disconnect", c => { c.ws.Disconnect(); c.socket.end(1000); }, 'WsError disconnected: Ws: no answer to "buy": disconnected'],
    ["an abort", c => c.controller.abort(), 'WsError aborted: Ws: no answer to "buy": aborted'],
    ["an abort after the answer", c => { c.socket.deliver("an1 1"); c.controller.abort(); }, "answer 1"],
];

for (const [what, happens, ends, counts = {}] of asks) {
    test(`Ask ends by ${what}`, async () => {
        const controller = new AbortController();
        const c = { ...connectedV1(), controller };
        let times = 0;
        const asked = c.ws.Ask("buy", { item: "tea" }, { signal: controller.signal });
        asked.then(() => times++, () => times++);
        assert.deepEqual(c.socket.sent, ['rj1 buy\n{"item":"tea"}']);
        happens(c);
        assert.equal(await outcome(asked), ends);
        await settle();
        assert.equal(times, 1);
        assert.equal(c.ws.counts.late, counts.late ?? 0);
        assert.deepEqual(c.reported, []);
    });
}

test("the error of an abort says why, and an aborted signal sends nothing", async () => {
    const { ws, socket } = connectedV1();
    await assert.rejects(ws.Ask("buy", 1, { signal: AbortSignal.abort("the page closes") }),
        { code: "aborted", event: "buy", cause: "the page closes" });
    assert.deepEqual(socket.sent, []);
});

test("what is settled leaves no timer and no listener behind", async () => {
    const { ws, socket, clock } = connectedV1();
    const before = clock.pending;
    const listening = new Set();
    const signal = {
        aborted: false,
        addEventListener: (name, listener) => listening.add(listener),
        removeEventListener: (name, listener) => listening.delete(listener),
    };
    const asked = ws.Ask("a", 1, { signal });
    assert.deepEqual([listening.size, clock.pending], [1, before + 1]);
    socket.deliver("av1 ");
    await asked;
    assert.deepEqual([listening.size, clock.pending], [0, before]);
});

test("the timeout of one Ask, of all, and none", async () => {
    const { ws, clock } = connectedV1({ askTimeout: 50, idle: Infinity });
    const [all, one, none] = [ws.Ask("a"), ws.Ask("b", 1, { timeout: 20 }), ws.Ask("c", 1, { timeout: Infinity })].map(outcome);
    const first = await Promise.race([one, (clock.advance(20), settle())]);
    assert.match(first, /timeout/);
    clock.advance(30);
    assert.match(await all, /timeout/);
    clock.advance(3_600_000);
    assert.equal(await Promise.race([none, settle().then(() => "still open")]), "still open");
});

test("what can't be asked fails without a word to the server", async () => {
    const { ws, socket } = connectedV1();
    await assert.rejects(ws.Ask(""), { name: "TypeError" });
    await assert.rejects(ws.Ask("x", () => {}), { name: "TypeError" });
    assert.deepEqual(socket.sent, []);
});

test("a server of 2016 has no answers: unsupported, also for what has waited", async () => {
    const { ws, socket } = connected("arke.js");
    await assert.rejects(ws.Ask("buy"), { code: "unsupported" });
    await assert.rejects(ws.Join("news"), { code: "unsupported" });
    assert.deepEqual(socket.sent, []);

    const { Ws } = page("arke.js");
    const waits = new Ws("ws://x").Ask("buy");
    FakeWebSocket.last.open();
    await assert.rejects(waits, { code: "unsupported" });
});

test("a thousand that are open when the connection ends complete once each", async () => {
    const { ws, socket, clock } = connectedV1();
    const ends = [];
    for (let n = 0; n < 1000; n++) ws.Ask("buy", n).then(() => ends.push("answer"), error => ends.push(error.code));
    socket.end(1006);
    await settle();
    clock.advance(60_000);
    await settle();
    assert.deepEqual(ends, Array(1000).fill("disconnected"));
});

test("what was sent is never sent again; what had waited is sent, if its time is not over", async () => {
    const { ws, socket, clock } = connectedV1();
    const sent = outcome(ws.Ask("sent"));
    socket.end(1006);
    const waiting = ws.Ask("waiting", 1, { timeout: 60_000 });
    const impatient = outcome(ws.Ask("impatient", 1, { timeout: 1 }));
    assert.match(await sent, /disconnected/);
    const next = reopen(clock);
    assert.match(await impatient, /timeout/);
    assert.deepEqual(next.sent, ["rn2 waiting\n1"]);
    next.deliver("as2 here");
    assert.equal(await waiting, "here");
});

test("an Ask that waits is taken back by an abort; a volatile one does not wait", async () => {
    const { ws, socket, clock } = connectedV1();
    socket.end(1006);
    const controller = new AbortController();
    const waiting = outcome(ws.Ask("a", 1, { signal: controller.signal, timeout: Infinity }));
    const volatile = outcome(ws.Ask("b", 1, { volatile: true }));
    controller.abort();
    assert.match(await waiting, /aborted/);
    assert.match(await volatile, /disconnected/);
    assert.deepEqual(reopen(clock).sent, []);
});

test("when the queue is full an Ask fails as busy; after the end as disconnected", async () => {
    const { Ws } = page("arke.js");
    const ws = new Ws("ws://x", { maxQueue: 1 });
    const first = outcome(ws.Ask("first"));
    await assert.rejects(ws.Ask("second"), { code: "busy", message: /1 messages wait/ });
    ws.Disconnect();
    FakeWebSocket.last.end(1006);
    assert.match(await first, /disconnected/);
    await assert.rejects(ws.Ask("third"), { code: "disconnected" });
});

test("a request that is open for long keeps its number while others come and go", async () => {
    const { ws, socket } = connectedV1();
    const first = ws.Ask("first");
    for (let n = 0; n < 5; n++) {
        const next = ws.Ask("next");
        socket.deliver(`av${n + 2} `);
        await next;
    }
    socket.deliver("as1 at last");
    assert.equal(await first, "at last");
});

// What a listener of the server's request does, and what the server hears.
const answers = [
    ["returns a value", () => 42, "an7 42"],
    ["returns nothing", () => {}, "av7 "],
    ["returns null", () => null, "aj7 null"],
    ["returns a promise", async () => ({ price: 42 }), 'aj7 {"price":42}'],
    ["throws", () => { throw new Error("secret"); }, "f7 failed\n", ["secret"]],
    ["throws later", async () => { throw new Error("secret"); }, "f7 failed\n", ["secret"]],
    ["refuses by a throw", ({ Ws }) => { throw new Ws.Refusal("sold out"); }, "f7 refused\nsold out"],
    ["refuses by ws.refuse", ({ ws }) => ws.refuse("sold out"), "f7 refused\nsold out"],
    ["refuses later", async ({ ws }) => { throw ws.Refuse("sold out"); }, "f7 refused\nsold out"],
    ["refuses without a word", ({ ws }) => ws.refuse(), "f7 refused\n"],
    ["returns what can't be sent", () => Symbol("s"), "f7 failed\n", ["Ws: a symbol can't be sent; send a string, a number or an object"]],
];

for (const [what, handler, sent, errors = []] of answers) {
    test(`a listener that ${what} answers ${JSON.stringify(sent)}`, async () => {
        const c = connectedV1();
        c.ws.On("buy", value => {
            assert.equal(value.item, "tea");
            return handler(c);
        });
        c.socket.deliver('rj7 buy\n{"item":"tea"}');
        await settle();
        assert.deepEqual(c.socket.sent, [sent]);
        assert.deepEqual(c.reported, errors);
    });
}

test("a request that nobody handles is unhandled, also where OnAny hears it", async () => {
    const { ws, socket } = connectedV1();
    const heard = [];
    ws.OnAny((...args) => { heard.push(args); return "no answer"; });
    socket.deliver("rn7 buy\n5");
    ws.On("buy", () => 1);
    ws.Off("buy");
    socket.deliver("rn8 buy\n5");
    await settle();
    assert.deepEqual(socket.sent, ["f7 unhandled\n", "f8 unhandled\n"]);
    assert.deepEqual(heard, [["buy", 5], ["buy", 5]]);
});

test("of several listeners the first that does not return undefined answers; all are called", async () => {
    const { ws, socket, reported } = connectedV1();
    const called = [];
    ws.On("buy", () => { called.push("first"); });
    ws.On("buy", () => { called.push("second"); return "mine"; });
    ws.On("buy", () => { called.push("third"); throw new Error("too late to count"); });
    socket.deliver("rv7 buy\n");
    await settle();
    assert.deepEqual(called, ["first", "second", "third"]);
    assert.deepEqual(socket.sent, ["as7 mine"]);
    assert.deepEqual(reported, ["too late to count"]);
});

test("a thousand requests that are open when the connection ends are answered to nobody", async () => {
    const { ws, socket, clock } = connectedV1();
    const open = [];
    ws.On("buy", () => new Promise(resolve => open.push(resolve)));
    for (let n = 0; n < 1000; n++) socket.deliver(`rv${n} buy\n`);
    socket.end(1006);
    const next = reopen(clock);
    for (const resolve of open) resolve("late");
    await settle();
    assert.deepEqual([socket.sent, next.sent], [[], []]);
    assert.equal(open.length, 1000);
});

test("a listener of an event that fails later is reported", async () => {
    const { ws, socket, reported } = connectedV1();
    ws.On("chat", async () => { throw new Error("later"); });
    socket.deliver("evchat\n");
    await settle();
    assert.deepEqual(reported, ["later"]);
});
