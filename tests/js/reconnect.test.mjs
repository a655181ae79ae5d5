// The connection that comes back by itself: delays, what waits meanwhile, rooms, silence, and servers of 2016.
import assert from "node:assert/strict";
import { test } from "node:test";
import { connected, connectedV1, FakeWebSocket, page, reopen, settle } from "./support.mjs";

/** A page's Ws that has not connected yet; `sockets` are those that it has made. */
function connecting(options = {}, globals = {}) {
    const p = page("arke.js", globals);
    const first = FakeWebSocket.made.length;
    const ws = new p.Ws("ws://x", options);
    return { ...p, ws, get sockets() { return FakeWebSocket.made.slice(first); } };
}

const offers = socket => [...socket.protocols].flat().join();

/** Ends the newest attempt again and again; the delays that were waited in between. `random` is what Math.random says. */
function delays(c, count, random = "0.999999999") {
    c.evaluate(`Math.random = () => ${random}`);
    return Array.from({ length: count }, () => {
        do FakeWebSocket.last.end(1006); while (c.ws.state === "connecting"); // with arke.v1, without
        const delay = c.clock.next;
        c.clock.advance(delay);
        return Math.round(delay);
    });
}

test("delays double from one second to thirty, each anywhere between nothing and that", () => {
    assert.deepEqual(delays(connecting(), 8), [1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
    assert.deepEqual(delays(connecting(), 3, "0.5"), [500, 1000, 2000]);
    assert.deepEqual(delays(connecting({ minDelay: 10, maxDelay: 50 }), 4), [10, 20, 40, 50]);
});

test("a connection that lasted begins again from the shortest; one that did not, goes on", () => {
    const c = connectedV1();
    assert.deepEqual(delays(c, 3), [1000, 2000, 4000]);
    FakeWebSocket.last.open("arke.v1");
    c.clock.advance(4_999);
    assert.deepEqual(delays(c, 1), [8000]);
    FakeWebSocket.last.open("arke.v1");
    c.clock.advance(5_000);
    assert.deepEqual(delays(c, 1), [1000]);
});

for (const [code, comes] of [[1001, true], [1005, true], [1006, true], [1011, true], [1012, true], [1013, true], [1000, false], [1008, false],
    [4000, false], [4999, false]]) {
    test(`after ${code} it ${comes ? "comes back" : "stays away"}`, () => {
        const { ws, socket, clock } = connectedV1();
        const heard = [];
        ws.OnDisconnect((...args) => heard.push(args));
        socket.end(code, "why");
        assert.deepEqual(heard, [[code, "why", comes]]);
        assert.equal(ws.state, comes ? "waiting" : "closed");
        assert.equal(ws.conn, null);
        assert.equal(clock.pending, comes ? 1 : 0);
    });
}

test("options.reconnect decides: no, yes, or when", () => {
    const heard = [];
    const decide = says => (...args) => { heard.push(args); return says; };
    for (const [reconnect, state, next] of [
        [false, "closed", Infinity], [true, "waiting", undefined], [decide(false), "closed", Infinity], [decide(1234), "waiting", 1234],
        [decide(0), "waiting", 1], [decide(true), "waiting", undefined], [decide(undefined), "closed", Infinity],
    ]) {
        const { ws, socket, clock } = connectedV1({ reconnect });
        socket.end(1006, "why");
        assert.equal(ws.state, state);
        if (next !== undefined) assert.equal(clock.next, next);
    }
    assert.deepEqual(heard, Array(5).fill([1006, "why", 1]));
    const { ws, socket } = connectedV1({ reconnect: code => code === 4000 });
    socket.end(4000);
    assert.equal(ws.state, "waiting");
});

test("options.reconnect that throws is reported and ends it", () => {
    const { ws, socket, reported } = connectedV1({ reconnect() { throw new Error("oops"); } });
    socket.end(1006);
    assert.equal(ws.state, "closed");
    assert.deepEqual(reported, ["oops"]);
});

test("what is told of an outage: its beginning, its end, and the last word", () => {
    const c = connectedV1({ reconnect: (code, reason, attempt) => attempt < 6 });
    const heard = [];
    c.ws.OnConnect(() => heard.push("connect"));
    c.ws.OnReconnect(attempts => heard.push(`reconnect ${attempts}`));
    c.ws.OnDisconnect((code, reason, willReconnect) => heard.push(`disconnect ${code} ${willReconnect}`));
    delays(c, 3);
    FakeWebSocket.last.open("arke.v1");
    assert.deepEqual(heard, ["connect", "disconnect 1006 true", "connect", "reconnect 3"]);
    delays(c, 2);
    do FakeWebSocket.last.end(1006); while (c.ws.state === "connecting");
    assert.deepEqual(heard.slice(4), ["disconnect 1006 true", "disconnect 1006 false"]);
    assert.equal(c.ws.state, "closed");
});

test("Disconnect never comes back, whatever it was doing", async () => {
    const endings = {
        open: () => connectedV1(),
        connecting: () => connecting(),
        waiting: () => { const c = connectedV1(); c.socket.end(1006); return c; },
        "asking for a token": () => connecting({ query: () => new Promise(() => {}) }),
    };
    for (const [state, make] of Object.entries(endings)) {
        const { ws, clock } = make();
        const heard = [];
        ws.OnDisconnect((...args) => heard.push(args));
        ws.Disconnect();
        ws.Disconnect();
        if (ws.conn) FakeWebSocket.last.end(1000);
        clock.advance(3_600_000);
        assert.equal(ws.state, "closed", state);
        assert.deepEqual(heard, [[1000, "", false]], state);
        assert.equal(clock.pending, 0, state);
        assert.equal(ws.Emit("x"), false);
        ws.Disconnect();
        assert.equal(heard.length, 1);
    }
});

test("a close that nobody answers ends by itself", () => {
    const { ws, socket, clock } = connectedV1({ timeout: 3000 });
    const heard = [];
    ws.OnDisconnect((...args) => heard.push(args));
    ws.Disconnect(4000, "bye");
    assert.equal(ws.Emit("x"), false);
    clock.advance(3000);
    assert.deepEqual(heard, [[1006, "the close was not answered", false]]);
    socket.end(4000); // too late to matter
    assert.equal(heard.length, 1);
});

test("a code that must not be sent changes nothing", () => {
    const { ws, socket } = connectedV1();
    socket.close = () => { throw new RangeError("no such code"); };
    assert.throws(() => ws.Disconnect(1006), RangeError);
    assert.equal(ws.state, "open");
    assert.equal(ws.Emit("x"), true);
});

test("Disconnect inside OnDisconnect is the end, and OnDisconnect hears that", () => {
    const { ws, socket, clock } = connectedV1();
    const heard = [];
    ws.OnDisconnect((code, reason, willReconnect) => {
        heard.push(willReconnect);
        ws.Disconnect();
    });
    socket.end(1006);
    assert.deepEqual(heard, [true, false]);
    assert.equal(clock.pending, 0);
});

test("Connect tries at once where it waits, and again after the end", () => {
    const { ws, socket } = connectedV1();
    ws.Connect();
    socket.end(1006);
    ws.Connect();
    assert.equal(ws.state, "connecting");
    FakeWebSocket.last.open("arke.v1");
    FakeWebSocket.last.end(1000);
    assert.equal(ws.state, "closed");
    ws.Connect();
    FakeWebSocket.last.open("arke.v1");
    assert.equal(ws.Emit("x"), true);
    assert.deepEqual(FakeWebSocket.last.sent, ["evx\n"]);
});

test("after a Connect that follows on the end, OnDisconnect hears again that the first attempt fails", () => {
    const c = connecting();
    const heard = [];
    c.ws.OnDisconnect((...args) => heard.push(args));
    c.sockets[0].open("arke.v1");
    c.sockets[0].end(1000);
    c.ws.Connect();
    FakeWebSocket.last.end(1006);
    assert.deepEqual(heard, [[1000, "", false], [1006, "", true]]);
});

test("an attempt that leads nowhere is given up after the timeout", () => {
    const c = connecting({ timeout: 4000 });
    c.clock.advance(4000); // with arke.v1
    c.clock.advance(4000); // without
    assert.equal(c.ws.state, "waiting");
    assert.deepEqual(c.sockets.map(socket => socket.closedWith), [[], []]);
    c.sockets[0].open("arke.v1"); // too late to matter
    assert.equal(c.ws.state, "waiting");
});

// ---- what waits

test("what is emitted meanwhile is sent once, in order, after what OnConnect says again", () => {
    const { ws, socket, clock } = connectedV1();
    ws.OnConnect(() => ws.Emit("hello", "Ann"));
    ws.OnReconnect(() => ws.Emit("again"));
    ws.Emit("sent");
    socket.end(1006);
    ws.Emit("one");
    ws.EmitMessage("two");
    ws.Emit("three", new Uint8Array([1]));
    const second = reopen(clock);
    const said = second.sent.map(frame => typeof frame === "string" ? frame : Buffer.from(frame).toString("latin1"));
    assert.deepEqual(said, ["eshello\nAnn", "evagain\n", "evone\n", "mtwo", "exthree\n\x01"]);
    second.end(1006);
    assert.deepEqual(reopen(clock).sent, ["eshello\nAnn", "evagain\n"]);
    assert.deepEqual(socket.sent, ["eshello\nAnn", "evsent\n"]);
});

test("what is emitted while the close is on its way waits for the next connection", () => {
    const { ws, socket, clock } = connectedV1();
    socket.readyState = 2; // the other end has begun to close
    assert.equal(ws.Emit("x"), true);
    socket.end(1001);
    assert.deepEqual(socket.sent, []);
    assert.deepEqual(reopen(clock).sent, ["evx\n"]);
});

test("a ttl that has passed: not sent, and counted", () => {
    const { ws, socket, clock } = connectedV1();
    socket.end(1006);
    clock.advance(0);
    ws.Emit("short", 1, { ttl: 100 });
    ws.EmitMessage("short too", { ttl: 100 });
    ws.Emit("long", 2, { ttl: 3_600_000 });
    ws.Emit("endless", 3);
    clock.sleep(200);
    assert.deepEqual(reopen(clock).sent, ["enlong\n2", "enendless\n3"]);
    assert.equal(ws.counts.expired, 2);
    ws.Emit("now", 4, { ttl: 0 }); // for what is sent at once a ttl means nothing
    assert.equal(FakeWebSocket.last.sent.at(-1), "ennow\n4");
});

test("volatile: sent at once or not at all", () => {
    const { ws, socket, clock } = connectedV1();
    assert.equal(ws.Emit("a", 1, { volatile: true }), true);
    socket.end(1006);
    assert.equal(ws.Emit("b", 2, { volatile: true }), false);
    assert.equal(ws.EmitMessage("c", { volatile: true }), false);
    assert.deepEqual([...socket.sent, ...reopen(clock).sent], ["ena\n1"]);
});

test("a full queue drops what is out of date before it refuses", () => {
    const { ws, socket, clock } = connectedV1({ maxQueue: 2 });
    socket.end(1006);
    ws.Emit("a", 1, { ttl: 10 });
    ws.Emit("b");
    assert.throws(() => ws.Emit("c"), { name: "RangeError", message: /make them volatile/ });
    clock.sleep(10);
    ws.Emit("c");
    assert.equal(ws.counts.expired, 1);
    assert.deepEqual(reopen(clock).sent, ["evb\n", "evc\n"]);
});

test("what waits when all is over is dropped, and nothing keeps a clock", () => {
    const { ws, socket, clock } = connectedV1({ reconnect: (code, reason, attempt) => attempt < 2 });
    socket.end(1006);
    ws.Emit("x");
    clock.advance(clock.next);
    do FakeWebSocket.last.end(1006); while (ws.state === "connecting");
    assert.equal(ws.state, "closed");
    assert.equal(clock.pending, 0);
    ws.Connect();
    FakeWebSocket.last.open("arke.v1");
    assert.deepEqual(FakeWebSocket.last.sent, []);
});

// ---- rooms

test("a room is asked for, and again after each reconnect until it is left", async () => {
    const { ws, socket, clock } = connectedV1();
    const joined = ws.Join("news");
    assert.deepEqual(socket.sent, ["j1 news"]);
    socket.deliver("av1 ");
    assert.equal(await joined, undefined);
    socket.end(1006);
    ws.Emit("x");
    const second = reopen(clock);
    assert.deepEqual(second.sent, ["j2 news", "evx\n"]);
    second.deliver("av2 ");
    const left = ws.Leave("news");
    assert.equal(second.sent.at(-1), "l3 news");
    second.deliver("av3 ");
    await left;
    second.end(1006);
    assert.deepEqual(reopen(clock).sent, []);
});

test("a room that is refused is not asked for again", async () => {
    const { ws, socket, clock, reported } = connectedV1();
    const joined = ws.Join("secret");
    socket.deliver("f1 refused\nmembers only");
    await assert.rejects(joined, { name: "WsError", code: "refused", event: "secret", message: "members only" });
    socket.end(1006);
    assert.deepEqual(reopen(clock).sent, []);
    assert.deepEqual(reported, []);
});

test("a room that is refused the second time is reported, and let go", async () => {
    const { ws, socket, clock, reported } = connectedV1();
    ws.Join("news");
    socket.deliver("av1 ");
    await settle();
    socket.end(1006);
    const second = reopen(clock);
    second.deliver("f2 refused\nnot any more");
    await settle();
    assert.deepEqual(reported, ["not any more"]);
    second.end(1006);
    assert.deepEqual(reopen(clock).sent, []);
});

test("a Join that was not yet answered is asked again, for it does no harm twice", async () => {
    const { ws, socket, clock } = connectedV1();
    const joined = ws.Join("news", { timeout: 60_000 });
    const left = ws.Leave("other", { timeout: 60_000 });
    ws.Emit("x");
    socket.end(1006);
    const second = reopen(clock);
    assert.deepEqual(second.sent, ["j3 news", "l4 other"]);
    second.deliver("av3 ");
    second.deliver("av4 ");
    await Promise.all([joined, left]);
    second.end(1006);
    assert.deepEqual(reopen(clock).sent, ["j5 news"]);
});

test("a room that was left just before the connection broke is not entered again", async () => {
    const { ws, socket, clock } = connectedV1();
    const joined = ws.Join("news");
    socket.deliver("av1 ");
    await joined;
    ws.Leave("news");
    socket.end(1006);
    assert.deepEqual(reopen(clock).sent, ["l3 news"]);
});

// ---- silence

test("after 25 s of silence it asks; what answers is enough, whatever it is", () => {
    const { ws, socket, clock } = connectedV1();
    clock.advance(24_999);
    assert.deepEqual(socket.sent, []);
    clock.advance(1);
    assert.deepEqual(socket.sent, ["p"]);
    clock.advance(9_999);
    socket.deliver("q");
    clock.advance(24_999);
    assert.deepEqual(socket.sent, ["p"]);
    socket.deliver("evtick\n");
    clock.advance(24_999);
    assert.deepEqual(socket.sent, ["p"]);
    clock.advance(1);
    assert.deepEqual(socket.sent, ["p", "p"]);
    assert.equal(ws.state, "open");
});

test("no answer within ten seconds: the connection is given up and made anew", () => {
    const { ws, socket, clock } = connectedV1();
    const heard = [];
    ws.OnDisconnect((...args) => heard.push(args));
    const asked = ws.Ask("x", 1, { timeout: Infinity });
    asked.catch(error => heard.push(error.code));
    clock.advance(34_999);
    assert.equal(ws.state, "open");
    clock.advance(1);
    assert.deepEqual(heard, [[1006, "the server is silent", true]]);
    assert.deepEqual(socket.closedWith, []);
    socket.deliver("evlate\n"); // the old socket is nobody's any more
    socket.end(1006);
    assert.equal(heard.length, 1);
    reopen(clock);
    assert.equal(ws.state, "open");
});

test("idle and timeout are options", () => {
    const { socket, ws, clock } = connectedV1({ idle: 30, timeout: 20 });
    clock.advance(30);
    assert.deepEqual(socket.sent, ["p"]);
    clock.advance(20);
    assert.equal(ws.state, "waiting");
});

test("a laptop that wakes asks at once, and gives the answer its time", () => {
    const { socket, ws, clock } = connectedV1();
    clock.advance(2_000);
    clock.sleep(3_600_000);
    clock.advance(3_000); // the next look at the clock
    assert.deepEqual(socket.sent, ["p"]);
    clock.advance(9_999);
    assert.equal(ws.state, "open");
    clock.sleep(3_600_000); // asleep again, before an answer
    clock.advance(1);
    assert.deepEqual(socket.sent, ["p", "p"]);
    assert.equal(ws.state, "open");
    clock.advance(10_000);
    assert.equal(ws.state, "waiting");
});

// Each look came late, so each asked again, for ever.
test("in a hidden tab, where timers come once a minute, a dead connection is given up all the same", () => {
    const c = connectedV1();
    const heard = [];
    c.ws.OnDisconnect(code => heard.push(code));
    const minute = () => {
        c.clock.sleep(60_000);
        c.clock.advance(c.clock.next);
    };
    for (let n = 0; n < 10; n++) {
        minute();
        c.socket.deliver("q");
    }
    assert.deepEqual(heard, []);
    for (let n = 0; n < 4; n++) minute();
    assert.deepEqual(heard, [1006]);
});

test("a clock that is set back does not make it deaf", () => {
    const { socket, clock } = connectedV1();
    clock.sleep(-3_600_000);
    clock.advance(31_000);
    assert.deepEqual(socket.sent, ["p"]);
});

/** Globals of a page that hears of its network and of being looked at. */
function pageEvents() {
    const listeners = new Map();
    const addEventListener = (name, listener) => listeners.set(name, listener);
    const removeEventListener = (name, listener) => { if (listeners.get(name) === listener) listeners.delete(name); };
    const document = { visibilityState: "visible", addEventListener, removeEventListener };
    const happens = type => listeners.get(type)({ type });
    return { listeners, document, happens, globals: { addEventListener, removeEventListener, document } };
}

test("when the network is back, or the page looked at, it asks, or tries at once", () => {
    const { listeners, globals, document, happens } = pageEvents();
    const { ws, socket } = connectedV1({}, globals);
    happens("online");
    assert.deepEqual(socket.sent, ["p"]);
    socket.deliver("q");
    happens("visibilitychange");
    assert.deepEqual(socket.sent, ["p", "p"]);
    document.visibilityState = "hidden";
    happens("visibilitychange");
    assert.deepEqual(socket.sent, ["p", "p"]);
    happens("online"); // also behind another page
    assert.deepEqual(socket.sent, ["p", "p", "p"]);
    socket.end(1006);
    happens("visibilitychange");
    assert.equal(ws.state, "waiting");
    document.visibilityState = "visible";
    happens("visibilitychange");
    assert.equal(ws.state, "connecting");
    FakeWebSocket.last.open("arke.v1");
    ws.Disconnect();
    FakeWebSocket.last.end(1000);
    assert.equal(listeners.size, 0);
    ws.Connect();
    assert.deepEqual([...listeners.keys()], ["online", "visibilitychange"]);
});

test("with the protocol of 2016 there is nothing to ask with", () => {
    const { happens, globals } = pageEvents();
    const { socket, ws, clock } = connected("arke.js", globals);
    happens("online");
    clock.advance(3_600_000);
    assert.deepEqual(socket.sent, []);
    assert.equal(ws.state, "open");
});

// ---- servers that know no arke.v1, and servers that change

test("a handshake that fails is tried again at once without a subprotocol, and that is remembered", () => {
    const c = connecting();
    const heard = [];
    c.ws.OnDisconnect((...args) => heard.push(args));
    c.ws.OnConnect(() => heard.push(c.ws.protocol));
    c.ws.Emit("chat", 5);
    c.sockets[0].end(1006);
    assert.deepEqual(c.sockets.map(offers), ["arke.v1", ""]);
    c.sockets[1].open();
    assert.deepEqual(heard, ["iris"]);
    assert.deepEqual(c.sockets[1].sent, ["iris-websocket-message:chat;1;5"]);
    c.sockets[1].end(1006);
    c.clock.advance(c.clock.next);
    assert.deepEqual(c.sockets.map(offers), ["arke.v1", "", ""]);
});

test("the page's own subprotocols are offered in both", () => {
    const c = connecting({ protocols: ["chat.v2", "token.abc"] });
    c.sockets[0].end(1006);
    assert.deepEqual(c.sockets.map(offers), ["arke.v1,chat.v2,token.abc", "chat.v2,token.abc"]);
});

test("a server that chooses the page's own subprotocol speaks that of 2016", () => {
    const c = connecting({ protocols: "chat.v2" });
    c.sockets[0].open("chat.v2");
    c.ws.Emit("chat", "x");
    assert.deepEqual(c.sockets[0].sent, ["iris-websocket-message:chat;0;x"]);
});

test("a server that has spoken arke.v1 is not asked for less, until it has failed three times", () => {
    const c = connecting();
    c.sockets[0].open("arke.v1");
    assert.equal(c.ws.protocol, "arke.v1");
    for (let n = 0; n < 3; n++) {
        FakeWebSocket.last.end(1006);
        c.clock.advance(c.clock.next);
    }
    assert.deepEqual(c.sockets.map(offers), ["arke.v1", "arke.v1", "arke.v1", "arke.v1"]);
    FakeWebSocket.last.end(1006);
    assert.deepEqual(c.sockets.map(offers).slice(4), [""]);
    FakeWebSocket.last.open(); // it was set back to an older version, or has just come back: it is asked once more
    assert.equal(c.ws.state, "waiting");
    assert.ok(c.clock.next <= 1000);
    c.clock.advance(c.clock.next);
    FakeWebSocket.last.end(1006);
    assert.deepEqual(c.sockets.map(offers).slice(4), ["", "arke.v1", ""]);
    FakeWebSocket.last.open();
    assert.equal(c.ws.protocol, "iris");
    assert.equal(c.ws.state, "open");
});

// It stayed with the protocol of 2016, and every Ask failed.
test("a server that comes back between the two attempts is not taken for one of 2016", () => {
    const c = connecting();
    const heard = [];
    c.ws.OnDisconnect((...args) => heard.push(args));
    c.sockets[0].open("arke.v1");
    for (let n = 0; n < 3; n++) {
        FakeWebSocket.last.end(1006);
        c.clock.advance(c.clock.next);
    }
    FakeWebSocket.last.end(1006);
    const bare = FakeWebSocket.last;
    assert.equal(offers(bare), "");
    c.ws.Emit("chat", 5);
    bare.open();
    assert.deepEqual([bare.closedWith, bare.sent, heard.length], [[], [], 1]);
    const socket = reopen(c.clock);
    assert.equal(c.ws.protocol, "arke.v1");
    assert.deepEqual(socket.sent, ["enchat\n5"]);
});

test("failures count since the last time that it worked", () => {
    const c = connecting();
    for (let n = 0; n < 4; n++) {
        FakeWebSocket.last.open("arke.v1");
        FakeWebSocket.last.end(1006);
        c.clock.advance(c.clock.next);
        FakeWebSocket.last.end(1006);
        c.clock.advance(c.clock.next);
    }
    assert.deepEqual([...new Set(c.sockets.map(offers))], ["arke.v1"]);
});

test("after some failures of both, arke.v1 is tried again: the server may be a newer one", () => {
    const c = connecting();
    c.sockets[0].end(1006);
    c.sockets[1].open();
    c.sockets[1].end(1006);
    for (let n = 0; n < 3; n++) {
        c.clock.advance(c.clock.next);
        do FakeWebSocket.last.end(1006); while (c.ws.state === "connecting");
    }
    c.clock.advance(c.clock.next);
    assert.equal(offers(FakeWebSocket.last), "arke.v1");
    FakeWebSocket.last.open("arke.v1");
    assert.equal(c.ws.protocol, "arke.v1");
});

test("names with a semicolon go to a new server; an old one is spared them, and the page told", () => {
    const { ws, socket } = connectedV1();
    ws.Emit("a;b");
    assert.deepEqual(socket.sent, ["eva;b\n"]);
    const c = connecting();
    c.ws.Emit("a;b");
    c.ws.Emit("bytes", new Uint8Array([0xff]));
    c.ws.Emit("after");
    c.sockets[0].open();
    assert.deepEqual(c.sockets[0].sent, ["iris-websocket-message:after;0;"]);
    assert.deepEqual(c.reported.map(text => /use another character|EmitMessage/.test(text)), [true, true]);
});

// ---- what the handshake carries

test("a query is added to the address, also to one that has a query", () => {
    for (const [url, want] of [["ws://x/a", "ws://x/a?token=a%26b&n=5"], ["ws://x/a?b=c", "ws://x/a?b=c&token=a%26b&n=5"]]) {
        const { Ws } = page("arke.js");
        new Ws(url, { query: { token: "a&b", n: 5 } });
        assert.equal(FakeWebSocket.last.url, want);
    }
});

test("functions make address, query and subprotocols anew before each attempt, also later", async () => {
    let n = 0;
    const c = connecting({ query: async () => ({ token: ++n }), protocols: () => [`token.${n}`] });
    assert.equal(c.ws.conn, null);
    await settle();
    assert.equal(c.sockets[0].url, "ws://x?token=1");
    c.sockets[0].open("arke.v1");
    c.sockets[0].end(1006);
    c.clock.advance(c.clock.next);
    await settle();
    assert.equal(c.sockets[1].url, "ws://x?token=2");

    const { Ws } = page("arke.js");
    new Ws(() => "/elsewhere");
    await settle();
    assert.equal(FakeWebSocket.last.url, "ws://example.com:8080/elsewhere");
});

test("a function that fails is an attempt that failed: reported, and tried again", async () => {
    let fails = true;
    const c = connecting({ query: () => { if (fails) throw new Error("no token"); return {}; } });
    const heard = [];
    c.ws.OnDisconnect((...args) => heard.push(args));
    await settle();
    await settle();
    assert.deepEqual(heard, [[1006, "Error: no token", true]]);
    assert.ok(c.reported.every(text => text === "no token") && c.reported.length > 0);
    assert.equal(c.ws.state, "waiting");
    fails = false;
    c.clock.advance(c.clock.next);
    await settle();
    assert.equal(c.sockets.length, 1);
});

test("a function that answers too late is not listened to", async () => {
    let tell;
    const c = connecting({ query: () => new Promise(resolve => { tell = resolve; }), timeout: 100 });
    const first = tell;
    c.clock.advance(100);
    first({ token: "old" });
    await settle();
    assert.equal(c.sockets.length, 0);
    assert.equal(c.ws.state, "connecting"); // the second try, without arke.v1
});
