// What both scripts do with connections, listeners and queues; and what each does with values.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Ws as Raw } from "../../client-js/src/raw.js";
import { Ws as Values } from "../../client-js/src/index.js";
import { connected, FakeWebSocket, golden, page } from "./support.mjs";

const event = (name, tag, data) => `${golden.prefix}${name};${tag};${data}`;

for (const file of ["iris-ws.js", "arke.js"]) {
    const both = (name, body) => test(`${file}: ${name}`, body);

    both("an endpoint becomes a URL", () => {
        const { Ws } = page(file);
        for (const [endpoint, url] of [
            ["ws://example.com/chat", "ws://example.com/chat"],
            ["wss://example.com/chat", "wss://example.com/chat"],
            ["WSS://example.com/chat", "WSS://example.com/chat"],
            ["example.com:8080/chat", "ws://example.com:8080/chat"],
            ["news.example.com/chat", "ws://news.example.com/chat"],
            ["http://example.com/chat", "ws://example.com/chat"],
            ["https://example.com/chat", "wss://example.com/chat"],
            ["/chat", "ws://example.com:8080/chat"],
        ]) {
            new Ws(endpoint);
            assert.equal(FakeWebSocket.last.url, url);
        }
    });

    both("a path on a page that came by https is wss", () => {
        const { Ws } = page(file, { location: { host: "example.com", protocol: "https:" } });
        new Ws("/chat");
        assert.equal(FakeWebSocket.last.url, "wss://example.com/chat");
    });

    both("subprotocols are offered when there are any, after the client's own", () => {
        const own = file === "arke.js" ? ["arke.v1"] : [];
        const { Ws } = page(file);
        for (const none of [undefined, null, "", []]) {
            new Ws("ws://x", none);
            assert.deepEqual([...FakeWebSocket.last.protocols].flat(), own);
        }
        new Ws("ws://x", ["a", "b"]);
        assert.deepEqual([...FakeWebSocket.last.protocols].map(list => [...list]), [[...own, "a", "b"]]);
        new Ws("ws://x", "a");
        assert.deepEqual([...FakeWebSocket.last.protocols].flat(), [...own, "a"]);
    });

    both("without a WebSocket the constructor says what to pass", () => {
        const { Ws } = page(file, { WebSocket: undefined });
        assert.throws(() => new Ws("ws://x"), /pass one: new Ws\(endpoint, protocols, \{ WebSocket \}\)/);
        new Ws("ws://given", null, { WebSocket: FakeWebSocket });
        assert.equal(FakeWebSocket.last.url, "ws://given");
    });

    both("OnConnect waits for the socket, and once it is open calls at once", () => {
        const { Ws } = page(file);
        const ws = new Ws("ws://x");
        const calls = [];
        ws.OnConnect(() => calls.push("early"));
        assert.deepEqual(calls, []);
        FakeWebSocket.last.open();
        assert.deepEqual(calls, ["early"]);
        ws.OnConnect(() => calls.push("late"));
        assert.deepEqual(calls, ["early", "late"]);
    });

    both("OnDisconnect gets the code and the reason", () => {
        const { ws, socket } = connected(file);
        const calls = [];
        ws.OnDisconnect((...args) => calls.push(args));
        socket.end(1001, "the server stops");
        assert.deepEqual(calls, [[1001, "the server stops", ...(file === "arke.js" ? [true] : [])]]); // it comes back
    });

    both("Disconnect closes, with a code and a reason if given", () => {
        const { ws, socket } = connected(file);
        ws.Disconnect(4000, "bye");
        assert.deepEqual(socket.closedWith, [4000, "bye"]);
    });

    both("what is emitted before the socket is open waits in order, before what OnConnect emits", () => {
        const { Ws } = page(file);
        const ws = new Ws("ws://x");
        const socket = FakeWebSocket.last;
        ws.OnConnect(() => ws.Emit("fourth"));
        assert.equal(ws.Emit("first"), true);
        ws.EmitMessage("second");
        ws.Emit("third");
        assert.deepEqual(socket.sent, []);
        socket.open();
        assert.deepEqual(socket.sent, [event("first", 0, ""), "second", event("third", 0, ""), event("fourth", 0, "")]);
    });

    both("bytes that wait are those of the moment they were emitted", () => {
        const { Ws } = page(file);
        const ws = new Ws("ws://x");
        const bytes = new Uint8Array([9, 1, 2, 9]);
        ws.EmitMessage(bytes.subarray(1, 3));
        ws.EmitMessage(bytes.buffer);
        bytes.fill(0);
        FakeWebSocket.last.open();
        assert.deepEqual(FakeWebSocket.last.sent.map(b => [...new Uint8Array(b)]), [[1, 2], [9, 1, 2, 9]]);
    });

    both("1,024 messages may wait and one more throws", () => {
        const { Ws } = page(file);
        const ws = new Ws("ws://x");
        for (let n = 0; n < 1024; n++) ws.Emit("tick", n);
        assert.throws(() => ws.Emit("tick", 1024), /1024 messages wait .*OnConnect/);
        FakeWebSocket.last.open();
        assert.equal(FakeWebSocket.last.sent.length, 1024);
        ws.Emit("tick", 1024);
        assert.equal(FakeWebSocket.last.sent.at(-1), event("tick", 1, "1024"));
    });

    both("maxQueue sets how many may wait", () => {
        const { Ws } = page(file);
        const ws = new Ws("ws://x", null, { maxQueue: 1 });
        ws.Emit("a");
        assert.throws(() => ws.Emit("b"), { name: "RangeError" });
    });

    both("after the end an emit is dropped and says so", () => {
        const { ws, socket } = connected(file);
        socket.end();
        assert.equal(ws.Emit("chat", "x"), false);
        assert.equal(ws.EmitMessage("x"), false);
        assert.deepEqual(socket.sent, []);
    });

    both("a listener that throws is reported and does not stop the others", () => {
        const { ws, socket, reported } = connected(file);
        const calls = [];
        const bad = where => () => { throw new Error(where); };
        ws.OnConnect(bad("connect"));
        for (const add of [f => ws.On("chat", f), f => ws.OnMessage(f), f => ws.OnDisconnect(f)]) {
            add(bad(`listener ${calls.push("added")}`));
            add(() => calls.push("called"));
        }
        socket.deliver(event("chat", 0, "x"));
        socket.deliver("native");
        socket.end();
        assert.deepEqual(calls, ["added", "added", "added", "called", "called", "called"]);
        assert.deepEqual(reported, ["connect", "listener 1", "listener 2", "listener 3"]);
    });

    both("where there is no reportError the console hears it", () => {
        const errors = [];
        const { ws } = connected(file, { reportError: undefined, console: { error: e => errors.push(e.message) } });
        ws.OnConnect(() => { throw new Error("oops"); });
        assert.deepEqual(errors, ["oops"]);
    });

    both("listeners of one event run in the order they were added; those added meanwhile wait for the next", () => {
        const { ws, socket } = connected(file);
        const calls = [];
        ws.On("chat", () => { calls.push(1); ws.On("chat", () => calls.push(3)); });
        ws.On("chat", () => calls.push(2));
        socket.deliver(event("chat", 0, ""));
        assert.deepEqual(calls, [1, 2]);
    });

    both("events named like an object's own things are events", () => {
        const { ws, socket, reported } = connected(file);
        const calls = [];
        for (const name of ["__proto__", "constructor", "toString", "hasOwnProperty"]) {
            socket.deliver(event(name, 0, "nobody listens"));
            ws.On(name, () => calls.push(name));
            socket.deliver(event(name, 0, "x"));
        }
        assert.deepEqual(calls, ["__proto__", "constructor", "toString", "hasOwnProperty"]);
        assert.deepEqual(reported, []);
    });

    both("a bad event name or listener is refused by a sentence that says the mend", () => {
        const { ws, socket } = connected(file);
        for (const name of ["", undefined, null, 5, Symbol("s")]) {
            assert.throws(() => ws.Emit(name, "x"), { name: "TypeError", message: /use a string that is not empty/ });
            assert.throws(() => ws.On(name, () => {}), { name: "TypeError" });
        }
        assert.throws(() => ws.Emit("a;b", "x"), { name: "TypeError", message: /use another character/ });
        for (const add of ["OnConnect", "OnDisconnect", "OnMessage"]) {
            assert.throws(() => ws[add](null), { name: "TypeError", message: /needs a function/ });
        }
        assert.throws(() => ws.On("chat"), { name: "TypeError", message: /needs a function/ });
        assert.deepEqual(socket.sent, []);
    });

    both("a Symbol and BigInt: the one is refused, the other a number", () => {
        const { ws, socket } = connected(file);
        assert.throws(() => ws.Emit("chat", Symbol("s")), { name: "TypeError" });
        ws.Emit("chat", 9007199254740993n);
        assert.deepEqual(socket.sent, [event("chat", 1, "9007199254740993")]);
    });

    both("another prefix", () => {
        const { Ws } = page(file);
        const ws = new Ws("ws://x", null, { prefix: "go-websocket-message:" });
        const socket = FakeWebSocket.last;
        const got = [];
        ws.On("chat", data => got.push(`event ${data}`));
        ws.OnMessage(data => got.push(`native ${data}`));
        socket.open();
        ws.Emit("chat", "x");
        assert.deepEqual(socket.sent, ["go-websocket-message:chat;0;x"]);
        socket.deliver("go-websocket-message:chat;0;y");
        socket.deliver(event("chat", 0, "z"));
        assert.deepEqual(got, ["event y", `native ${event("chat", 0, "z")}`]);
    });

    both("the names in camelCase do the same", () => {
        const { Ws } = page(file);
        for (const name of ["OnConnect", "OnDisconnect", "OnMessage", "On", "Emit", "EmitMessage", "Disconnect"]) {
            assert.equal(Ws.prototype[name[0].toLowerCase() + name.slice(1)], Ws.prototype[name]);
        }
    });

    both("native messages go both ways as they are, also where they hold the prefix further in", () => {
        const { ws, socket } = connected(file);
        const got = [];
        ws.OnMessage(data => got.push(data));
        socket.deliver("plain");
        socket.deliver(` ${event("chat", 0, "x")}`);
        ws.EmitMessage("plain");
        assert.deepEqual(got, ["plain", ` ${event("chat", 0, "x")}`]);
        assert.deepEqual(socket.sent, ["plain"]);
    });
}

test("iris-ws.js hands over binary messages as the browser gives them", () => {
    const { ws, socket } = connected("iris-ws.js");
    const got = [];
    ws.OnMessage(data => got.push(data));
    const blob = new Blob(["x"]);
    socket.deliver(blob);
    assert.equal(socket.binaryType, "blob");
    assert.equal(got[0], blob);
});

test("arke.js hands over binary messages as Uint8Array", () => {
    const { ws, socket, evaluate } = connected("arke.js");
    const got = [];
    ws.OnMessage(data => got.push(data));
    socket.deliver(new Uint8Array([1, 2]).buffer);
    assert.equal(socket.binaryType, "arraybuffer");
    assert.ok(got[0] instanceof evaluate("Uint8Array"));
    assert.deepEqual([...got[0]], [1, 2]);
});

test("arke.js tags by the type of the value", () => {
    const { ws, socket } = connected("arke.js");
    const utf8 = new TextEncoder().encode("\ufeffé;");
    for (const [value, frame] of [
        ["5", "0;5"], ["", "0;"], ["true", "0;true"], [undefined, "0;"],
        [5, "1;5"], [1.5, "1;1.5"], [-0, "1;0"], [1e21, "1;1e+21"], [12345678901234567890n, "1;12345678901234567890"],
        [true, "2;true"], [false, "2;false"],
        [utf8, "3;\ufeffé;"], [utf8.buffer, "3;\ufeffé;"], [new Uint8Array(), "3;"],
        [null, "4;null"], [[], "4;[]"], [[5], "4;[5]"], [{ a: ";" }, '4;{"a":";"}'], [new Date(0), '4;"1970-01-01T00:00:00.000Z"'],
    ]) {
        ws.Emit("chat", value);
        assert.equal(socket.sent.at(-1), `${golden.prefix}chat;${frame}`);
    }
});

test("arke.js refuses what it can't send, and says what to do", () => {
    const { ws, socket } = connected("arke.js");
    for (const [value, mend] of [
        [NaN, /send a string, or null/], [Infinity, /send a string, or null/], [() => {}, /send a string, a number or an object/],
        [new Uint8Array([0xff]), /EmitMessage/], [new Uint8Array([0xff]).buffer, /EmitMessage/],
        [{ toJSON() {} }, /return a value/], [{ big: 1n }, /BigInt/],
    ]) {
        assert.throws(() => ws.Emit("chat", value), { name: "TypeError", message: mend });
    }
    assert.deepEqual(socket.sent, []);
});

test("arke.js hands over the text where it is not what its tag says", () => {
    const { ws, socket } = connected("arke.js");
    for (const [tag, data] of [
        [1, ""], [1, "true"], [1, "Infinity"], [1, "0x10"], [1, "1e999"], [1, "five"], [2, "yes"], [2, "constructor"], [4, ""], [4, "{"],
    ]) {
        let got;
        ws.On(`${tag}${data}`, value => { got = value; });
        socket.deliver(event(`${tag}${data}`, tag, data));
        assert.equal(got, data);
    }
});

test("arke.js reads numbers and booleans as the server does", () => {
    const { ws, socket } = connected("arke.js");
    let got;
    ws.On("n", value => { got = value; });
    for (const [tag, data, value] of [
        [1, " 5 ", 5], [1, "+5", 5], [1, "-9007199254740993", -9007199254740993n], [1, "+9007199254740993", 9007199254740993n],
        [1, "1.5e3", 1500], [2, " true ", true], [2, "false", false],
    ]) {
        socket.deliver(event("n", tag, data));
        assert.equal(got, value);
    }
});

test("the modules export the same two classes, and a page may extend them", () => {
    for (const Base of [Raw, Values]) {
        class Chat extends Base {
            say(text) { this.Emit("chat", text); }
        }
        const chat = new Chat("ws://x", null, { WebSocket: FakeWebSocket });
        chat.say("true");
        FakeWebSocket.last.open();
        assert.deepEqual(FakeWebSocket.last.sent, [event("chat", 0, "true")]);
    }
});
